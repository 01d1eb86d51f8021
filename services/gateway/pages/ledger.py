"""Who held which address of a mesh network, from when to when; also of one that was deleted."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.http.guard import VIEWER
from services.gateway.ledger import Asked, Holding
from services.gateway.ledger_reading import LedgerPage, read_page
from services.gateway.pages.lines import Who, who
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address

router = APIRouter(prefix="/networks/{uuid}/addresses", route_class=PageRoute, include_in_schema=False)

_PAGE = 50


@dataclass(frozen=True)
class Held:
    """A holding, for people."""

    holding: Holding
    hostname: str
    """As it was called when this began."""
    hostname_now: str | None
    href: str
    """The machine's page, as it was then."""
    by: Who
    ended_by: Who | None


@router.get("", dependencies=[VIEWER])
async def list_holdings(
    visit: Visiting,
    uuid: UUID,
    search: Annotated[str, Query(max_length=200)] = "",
    after: Annotated[str | None, Query(max_length=1000)] = None,
) -> Response:
    """Who held the addresses of a network, or one of them, the oldest first."""
    gateway, fault = visit.gateway, None
    wanted: IPv4Address | None = None
    try:
        wanted = IPv4Address(search.strip()) if search.strip() else None
    except AddressValueError:
        fault = Fault(f"{search.strip()} is no IPv4 address.", "Write one whole, such as 172.16.0.9.", "search")
    found = await read_page(gateway.client, gateway.mirror, Asked(wanted), uuid, limit=_PAGE, after=after)
    here = f"/networks/{uuid}/addresses"
    return visit.page(
        "network_addresses.html",
        uuid=uuid,
        name=found.lives[uuid].name_now or found.lives[uuid].name_at(found.position),
        is_gone=found.lives[uuid].deleted is not None,
        holdings=[] if fault else [_held(visit, found, each) for each in found.holdings],
        search=search,
        fault=fault,
        first=address(here, search=search) if after else None,
        next=address(here, search=search, after=found.next) if found.next and not fault else None,
    )


def _held(visit: Visit, found: LedgerPage, holding: Holding) -> Held:
    mirror, machine, began = visit.gateway.mirror, found.machines[holding.machine_id], holding.began
    ended = holding.ended
    return Held(
        holding=holding,
        hostname=machine.at(began.sequence),
        hostname_now=machine.now,
        href=f"/machines/{holding.machine_id}?at={began.sequence}",
        by=who(began.event.actor, mirror, mirror.name_of),
        ended_by=who(ended.event.actor, mirror, mirror.name_of) if ended is not None else None,
    )
