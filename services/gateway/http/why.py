"""`/api/v1/why/…`: why things are as they are, or were."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.http.changes import Served, json_response
from services.gateway.http.documents import viewing
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.http.moments import Viewed
from services.gateway.http.why_schemas import AddressWhyQuery, PairWhyQuery, RouteWhyQuery, Why, WhyStep
from services.gateway.why.address import address_chains, machine_chains
from services.gateway.why.finding import explained
from services.gateway.why.known import Known
from services.gateway.why.pair import PATH, PEER, pair_chains, shared
from services.gateway.why.route import networks_about, route_chains
from services.gateway.why.steps import Step
from services.gateway.why.teller import Teller

router = APIRouter(prefix="/api/v1/why", tags=["why"], route_class=GuardedRoute)


@router.get("/peer", response_model=Why, responses=viewing(), dependencies=[VIEWER])
async def why_peer(gateway: Served, seen: Viewed, query: Annotated[PairWhyQuery, Query()]) -> Response:
    """Explain why a machine is another's peer, or is not: for each field of its record the last event that set it, the
    command and who gave it. Without `network`, in all networks that both are in, or one of them was."""
    return await _answer(gateway, seen, lambda tell: pair_chains(tell, PEER, query.machine, query.peer, query.network))


@router.get("/path", response_model=Why, responses=viewing(), dependencies=[VIEWER])
async def why_path(gateway: Served, seen: Viewed, query: Annotated[PairWhyQuery, Query()]) -> Response:
    """Explain why a machine reaches another as it does, or not at all: what both reported, the choice of the way and
    what others were worse, and how both came into the network."""
    await seen.look_into(shared(seen.mirror, query.machine, query.peer, query.network))
    return await _answer(gateway, seen, lambda tell: pair_chains(tell, PATH, query.machine, query.peer, query.network))


@router.get("/address", response_model=Why, responses=viewing(), dependencies=[VIEWER])
async def why_address(gateway: Served, seen: Viewed, query: Annotated[AddressWhyQuery, Query()]) -> Response:
    """Explain why an address is a machine's, or nobody's; or why a machine has the addresses that it has."""
    address, machine = query.address, query.machine

    def chains(tell: Teller) -> list[Step]:
        if address is not None:
            return address_chains(tell, address, query.network)
        assert machine is not None
        return machine_chains(tell, machine, query.network)

    return await _answer(gateway, seen, chains)


@router.get("/route", response_model=Why, responses=viewing(), dependencies=[VIEWER])
async def why_route(gateway: Served, seen: Viewed, query: Annotated[RouteWhyQuery, Query()]) -> Response:
    """Explain why a prefix is announced, or is not; and with `machine`, why that has a route to it, or none: what was
    reported, by which session it comes, and which policy lets it pass."""
    about = networks_about(Teller(seen, Known()), query.prefix, query.machine, query.network)
    await seen.look_into(about)
    return await _answer(gateway, seen, lambda tell: route_chains(tell, query.prefix, query.machine, query.network))


async def _answer(gateway: Served, seen: Viewed, chains: Callable[[Teller], list[Step]]) -> Response:
    def build(known: Known) -> list[Step]:
        return chains(Teller(seen, known))

    items = tuple(_view(step) for step in await explained(gateway.client, build))
    return json_response(Why(items=items, log_position=seen.mirror.position))


def _view(step: Step) -> WhyStep:
    return WhyStep(
        what=step.what,
        text=step.text,
        time=step.time,
        subject=step.subject or None,
        revision=step.revision,
        stream=step.stream or None,
        position=step.position,
        uuids=step.uuids,
        follows_from=tuple(map(_view, step.follows_from)),
    )
