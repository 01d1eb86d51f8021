"""What changed in a mesh network between two moments."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from itertools import groupby
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.errors import InvalidInputError, NotFoundError, WireloomError
from events.instants import parse_instant
from services.gateway.diff import effects
from services.gateway.diff_sides import Sides
from services.gateway.differences import Change, Difference
from services.gateway.http.guard import VIEWER
from services.gateway.pages.looking import moment_said
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address, fault_of
from services.gateway.pages.timeline import in_full
from services.gateway.past import Past

router = APIRouter(prefix="/networks/{uuid}/changes", route_class=PageRoute, include_in_schema=False)

_MOST = 300
"""So many changes are shown."""

_TITLES = {
    "network": "The network itself",
    "machine": "Machines",
    "address": "Addresses",
    "peer": "Peers",
    "path": "Paths",
    "session": "BGP sessions",
    "route": "Routes",
    "vip": "Virtual IPs",
    "policy": "Route policies",
    "gateway": "Gateways",
    "announcement": "Announcements",
}
_SPANS = (
    ("the last hour", timedelta(hours=1)),
    ("the last day", timedelta(days=1)),
    ("the last week", timedelta(days=7)),
)
_NOW = "now"

Said = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True)
class Side:
    """One of the two moments."""

    at: str
    """As addresses have it; empty for the present."""
    text: str
    exists: bool
    """Whether there was the network."""


@dataclass(frozen=True)
class Part:
    """What changed of one kind."""

    title: str
    changes: list[Change]


@router.get("", dependencies=[VIEWER])
async def show_changes(
    visit: Visiting, uuid: UUID, begin: Annotated[Said, Query(alias="from")] = "", to: Said = ""
) -> Response:
    """What is otherwise at one moment than at another; by default, now than a day ago."""
    begin, to = begin.strip() or "1 day ago", to.strip() or _NOW
    try:
        before, after = await _moment(visit, begin, "from"), await _moment(visit, to, "to")
    except (InvalidInputError, NotFoundError) as error:
        return await _page(visit, uuid, begin, to, fault=fault_of(error))
    return await _page(visit, uuid, begin, to, moments=(before, after))


async def _page(
    visit: Visit,
    uuid: UUID,
    begin: str,
    to: str,
    *,
    moments: tuple[Past, Past] | None = None,
    fault: Fault | None = None,
) -> Response:
    found, sides, name = Difference(), None, visit.gateway.mirror.name_of(uuid)
    if moments is not None:
        both = Sides(*moments, uuid)
        if not both.network_ids:
            raise NotFoundError("There was no such network at either moment.", hint="Choose others.")
        name = both.network(uuid).name
        found = await effects(*moments, both.network_ids, only=uuid, most=_MOST)
        sides = (_side(moments[0], begin, uuid), _side(moments[1], to, uuid))
    elif name is None:
        raise NotFoundError("There is no such network.", hint="See those that there are.")
    return visit.page(
        "network_changes.html",
        status=fault.status if fault else 200,
        uuid=uuid,
        name=name,
        sides=sides,
        begin=begin,
        to=to,
        found=found,
        parts=_parts(found),
        fault=fault,
        spans=[
            (text, address(visit.request.url.path, **{"from": f"{_hours(span)} hours ago"})) for text, span in _SPANS
        ],
        swapped=address(visit.request.url.path, **{"from": to, "to": begin}),
    )


async def _moment(visit: Visit, said: str, field: str) -> Past:
    try:
        return await visit.gateway.pasts.at(parse_instant(said, visit.gateway.now()))
    except WireloomError as error:
        error.field = field
        raise


def _side(past: Past, said: str, uuid: UUID) -> Side:
    is_now = said.lower() == _NOW
    network = past.mirror.networks.get(uuid)
    return Side(
        at="" if is_now else moment_said(past, is_position=said.isdigit()),
        text="now" if is_now else in_full(past.time) if past.position else "the beginning",
        exists=network is not None and network.record is not None,
    )


def _parts(found: Difference) -> list[Part]:
    return [Part(_TITLES[what], list(changes)) for what, changes in groupby(found.changes, key=lambda each: each.what)]


def _hours(span: timedelta) -> int:
    return round(span.total_seconds() / 3600)
