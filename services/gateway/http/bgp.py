"""`/api/v1/mesh-networks/…/bgp` and `/api/v1/machines/…/bgp`: BGP speakers, sessions and routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.errors import NotFoundError
from services.gateway.http.bgp_schemas import MachineBgp, NetworkBgp, Rib, RibQuery, SessionPage, SessionQuery
from services.gateway.http.bgp_views import BgpViews
from services.gateway.http.changes import json_response
from services.gateway.http.documents import viewing
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.peerings import find_sessions, page_of_routes
from services.gateway.seen import Seen

router = APIRouter(prefix="/api/v1", tags=["BGP"], route_class=GuardedRoute)


@router.get(
    "/mesh-networks/{uuid}/bgp", response_model=NetworkBgp, responses=viewing(), dependencies=[VIEWER, PLAIN_AT]
)
async def show_network_bgp(seen: Viewed, uuid: UUID) -> Response:
    """Show how the machines of a mesh network speak BGP: reflectors, and how many sessions there are and would be."""
    await seen.look_into([uuid])
    return json_response(_views(seen).network(uuid, seen.tracks.plan(uuid)))


@router.get(
    "/mesh-networks/{uuid}/bgp/sessions", response_model=SessionPage, responses=viewing(), dependencies=[VIEWER]
)
async def list_bgp_sessions(seen: Viewed, uuid: UUID, query: Annotated[SessionQuery, Query()]) -> Response:
    """List the BGP sessions of a mesh network, each once, or a machine's as it finds them.

    With `state` a page may be short, or even empty, and not be the last: `next` alone says whether there is more.
    """
    await seen.look_into([uuid])
    found, following = find_sessions(
        seen.mirror, seen.tracks.bgp, uuid, query.machine, query.state, limit=query.limit, after=query.after
    )
    views = _views(seen)
    items = tuple(views.session(uuid, each) for each in found)
    return json_response(SessionPage(items=items, next=following))


@router.get("/machines/{uuid}/bgp", response_model=MachineBgp, responses=viewing(), dependencies=[VIEWER, PLAIN_AT])
async def show_machine_bgp(seen: Viewed, uuid: UUID) -> Response:
    """Show a machine's BGP speaker in each of its networks: its state, what it announces, and its virtual IPs."""
    seen.mirror.machine(uuid)
    views = _views(seen)
    network_ids = seen.mirror.networks_of(uuid)
    await seen.look_into(network_ids)
    items = tuple(views.speaker(network_id, uuid, seen.tracks.plan(network_id)) for network_id in network_ids)
    return json_response(MachineBgp(items=items, total=len(items)))


@router.get(
    "/machines/{uuid}/mesh-networks/{network_uuid}/rib",
    response_model=Rib,
    responses=viewing(),
    dependencies=[VIEWER],
)
async def show_rib(seen: Viewed, uuid: UUID, network_uuid: UUID, query: Annotated[RibQuery, Query()]) -> Response:
    """List the routes that a machine's BGP speaker knows in a mesh network (its RIB)."""
    machine = seen.mirror.machine(uuid)[1]
    network, record = seen.mirror.network(network_uuid)
    if uuid not in network.members:
        raise NotFoundError(f"{machine.hostname} is not in {record.name}.", hint="Assign it first.")
    await seen.look_into([network_uuid])
    routes, total = seen.tracks.bgp.routes(network_uuid, uuid)
    page, following = page_of_routes(routes, query.limit, query.after)
    views = _views(seen)
    items = tuple(views.route(network_uuid, route) for route in page)
    return json_response(Rib(items=items, total=max(total, len(routes)), next=following))


def _views(seen: Seen) -> BgpViews:
    return BgpViews(seen.mirror, seen.tracks.bgp, seen.presence, seen.now())
