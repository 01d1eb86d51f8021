"""`/api/v1/mesh-networks/…/bgp` and `/api/v1/machines/…/bgp`: BGP speakers, sessions and routes."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.errors import NotFoundError
from services.gateway.http.bgp_schemas import MachineBgp, NetworkBgp, Rib, RibQuery, SessionPage, SessionQuery
from services.gateway.http.bgp_views import BgpViews
from services.gateway.http.changes import PLAIN, Gateway, Served, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.peerings import find_sessions, page_of_routes

router = APIRouter(prefix="/api/v1", tags=["BGP"], route_class=GuardedRoute)


@router.get(
    "/mesh-networks/{uuid}/bgp", response_model=NetworkBgp, responses=reading(404), dependencies=[VIEWER, PLAIN]
)
async def show_network_bgp(gateway: Served, uuid: UUID) -> Response:
    """Show how the machines of a mesh network speak BGP: reflectors, and how many sessions there are and would be."""
    return json_response(_views(gateway).network(uuid, gateway.tracks.plan(uuid)))


@router.get(
    "/mesh-networks/{uuid}/bgp/sessions", response_model=SessionPage, responses=reading(404), dependencies=[VIEWER]
)
async def list_bgp_sessions(gateway: Served, uuid: UUID, query: Annotated[SessionQuery, Query()]) -> Response:
    """List the BGP sessions of a mesh network, each once, or a machine's as it finds them.

    With `state` a page may be short, or even empty, and not be the last: `next` alone says whether there is more.
    """
    found, following = find_sessions(
        gateway.mirror, gateway.tracks.bgp, uuid, query.machine, query.state, limit=query.limit, after=query.after
    )
    views = _views(gateway)
    items = tuple(views.session(uuid, each) for each in found)
    return json_response(SessionPage(items=items, next=following))


@router.get("/machines/{uuid}/bgp", response_model=MachineBgp, responses=reading(404), dependencies=[VIEWER, PLAIN])
async def show_machine_bgp(gateway: Served, uuid: UUID) -> Response:
    """Show a machine's BGP speaker in each of its networks: its state, what it announces, and its virtual IPs."""
    gateway.mirror.machine(uuid)
    views = _views(gateway)
    network_ids = gateway.mirror.networks_of(uuid)
    items = tuple(views.speaker(network_id, uuid, gateway.tracks.plan(network_id)) for network_id in network_ids)
    return json_response(MachineBgp(items=items, total=len(items)))


@router.get(
    "/machines/{uuid}/mesh-networks/{network_uuid}/rib",
    response_model=Rib,
    responses=reading(404),
    dependencies=[VIEWER],
)
async def show_rib(gateway: Served, uuid: UUID, network_uuid: UUID, query: Annotated[RibQuery, Query()]) -> Response:
    """List the routes that a machine's BGP speaker knows in a mesh network (its RIB)."""
    machine = gateway.mirror.machine(uuid)[1]
    network, record = gateway.mirror.network(network_uuid)
    if uuid not in network.members:
        raise NotFoundError(f"{machine.hostname} is not in {record.name}.", hint="Assign it first.")
    routes, total = gateway.tracks.bgp.routes(network_uuid, uuid)
    page, following = page_of_routes(routes, query.limit, query.after)
    views = _views(gateway)
    items = tuple(views.route(network_uuid, route) for route in page)
    return json_response(Rib(items=items, total=max(total, len(routes)), next=following))


def _views(gateway: Gateway) -> BgpViews:
    return BgpViews(gateway.mirror, gateway.tracks.bgp, gateway.presence, gateway.now())
