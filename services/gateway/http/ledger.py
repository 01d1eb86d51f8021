"""`/api/v1/ledger`: who held an address, from when to when."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.instants import parse_instant
from events.log import LoggedEvent
from services.gateway.http.changes import Served, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.http.ledger_schemas import LedgerEntry, LedgerEvent, LedgerPage, LedgerQuery
from services.gateway.ledger import Asked, Holding
from services.gateway.ledger_reading import LedgerPage as Found
from services.gateway.ledger_reading import read_page

router = APIRouter(prefix="/api/v1/ledger", tags=["ledger"], route_class=GuardedRoute)


@router.get("", response_model=LedgerPage, responses=reading(404), dependencies=[VIEWER])
async def list_holdings(gateway: Served, query: Annotated[LedgerQuery, Query()]) -> Response:
    """List who held an address of a mesh network, from when to when: now, or with `at` at another moment, and of
    networks and machines that were deleted too.

    A page may be short, or even empty, and not be the last: `next` alone says whether there is more.
    """
    position = None
    if query.at is not None:
        position, _ = await gateway.pasts.place(parse_instant(query.at, gateway.now()))
    asked = Asked(query.address, query.machine, position)
    found = await read_page(gateway.client, gateway.mirror, asked, query.network, limit=query.limit, after=query.after)
    items = tuple(_entry(found, holding) for holding in found.holdings)
    return json_response(LedgerPage(items=items, next=found.next, last_sequence=found.position))


def _entry(found: Found, holding: Holding) -> LedgerEntry:
    life, machine = found.lives[holding.network_id], found.machines[holding.machine_id]
    began, ended = holding.began, holding.ended
    return LedgerEntry(
        wg_ip_address=holding.address,
        mesh_network_uuid=holding.network_id,
        mesh_network_name=life.name_at(began.sequence),
        mesh_network_name_now=life.name_now,
        machine_uuid=holding.machine_id,
        hostname=machine.at(began.sequence),
        hostname_now=machine.now,
        held_from=began.event.time,
        held_until=ended.event.time if ended is not None else None,
        began=_event(began),
        ended=_event(ended) if ended is not None else None,
    )


def _event(logged: LoggedEvent) -> LedgerEvent:
    event = logged.event
    return LedgerEvent.model_validate(
        {
            "sequence": logged.sequence,
            "kind": event.kind,
            "time": event.time,
            "actor": event.actor,
            "command_id": event.command_id,
        }
    )
