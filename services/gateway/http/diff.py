"""`/api/v1/diff`: what changed between two moments."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.errors import InvalidInputError, NotFoundError
from events.fields import shown
from events.instants import parse_instant
from services.gateway.diff import effects
from services.gateway.diff_sides import Sides
from services.gateway.http.changes import Gateway, Served, json_response
from services.gateway.http.diff_schemas import Diff, DiffQuery, DiffSide
from services.gateway.http.diff_views import named_view, parts
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.past import Past

router = APIRouter(prefix="/api/v1/diff", tags=["diff"], route_class=GuardedRoute)

LOOKED_INTO = 50
"""Of so many networks the paths and sessions are compared at once."""


@router.get("", response_model=Diff, responses=reading(404), dependencies=[VIEWER])
async def show_diff(gateway: Served, query: Annotated[DiffQuery, Query()]) -> Response:
    """Tell what changed between two moments: networks, machines, addresses, peers, paths, BGP sessions, routing.

    What was changed and changed back is not told. `from` may be after `to`: then it is told what would undo the
    changes. Without `network` the paths and BGP sessions are those of the first 50 networks, by name.
    """
    now = gateway.now()
    before = await _moment(gateway, "from", query.from_, now)
    after = await _moment(gateway, "to", query.to, now)
    only = None if query.network is None else _network(before, after, query.network)
    sides = Sides(before, after, only)
    found = await effects(
        before,
        after,
        sides.network_ids[:LOOKED_INTO],
        only=only,
        whole=query.whole,
        most=query.limit,
    )
    return json_response(
        Diff(
            from_=_side(before),
            to=_side(after),
            left_out=tuple(named_view(sides.network(each)) for each in sides.network_ids[LOOKED_INTO:]),
            **parts(found),
        )
    )


async def _moment(gateway: Gateway, field: str, said: str, now: datetime) -> Past:
    """The mesh at the moment that a parameter says. Raises what is wrong with it, as of that parameter."""
    try:
        return await gateway.pasts.at(parse_instant(said, now))
    except (InvalidInputError, NotFoundError) as error:
        error.field = field
        raise


def _network(before: Past, after: Past, said: str) -> UUID:
    """The network that has this uuid or name at the later side, else at the other. Raises `NotFoundError`."""
    for side in (after, before):
        for network_id, network in side.mirror.networks.items():
            if network.record is not None and said.lower() in (str(network_id), network.record.name.lower()):
                return network_id
    raise NotFoundError(
        f"There is no network {shown(said)} at either of the two moments.",
        hint="Check its name at one of them, or give its uuid.",
        field="network",
    )


def _side(past: Past) -> DiffSide:
    return DiffSide(
        position=past.position,
        time=past.time if past.time.year > 1 else None,
        reports_since=None if past.is_complete else past.reports_since,
    )
