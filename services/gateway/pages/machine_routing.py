"""Tab of a machine's page: its BGP speakers, their sessions, and the routes that they know."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.http.bgp_views import BgpViews
from services.gateway.http.guard import VIEWER
from services.gateway.pages.looking import Looking
from services.gateway.pages.machine import some_networks, tab_page
from services.gateway.pages.page import PageRoute, address
from services.gateway.peerings import find_sessions, page_of_routes

router = APIRouter(prefix="/machines/{uuid}", route_class=PageRoute, include_in_schema=False)

_SESSIONS = 25
_ROUTES = 25


@router.get("/routing", dependencies=[VIEWER])
async def show_routing(
    visit: Looking,
    uuid: UUID,
    *,
    network: str = "",
    sessions: str | None = None,
    routes: str | None = None,
    start: int = 0,
) -> Response:
    """Its speaker in each network, and of one of them the sessions and routes."""
    seen = visit.seen
    mirror, tracks = seen.mirror, seen.tracks
    network_ids, paging = await some_networks(visit, uuid, "routing", start)
    views = BgpViews(mirror, tracks.bgp, seen.presence, seen.now())
    speakers = [views.speaker(item, uuid, tracks.plan(item)) for item in network_ids]
    chosen = next((item for item in mirror.networks_of(uuid) if str(item) == network), None)
    chosen = chosen or next(iter(network_ids), None)
    if chosen is None:
        return tab_page(visit, uuid, "routing", speakers=[], chosen=None, **paging)
    await seen.look_into([chosen])
    found, more_sessions = find_sessions(mirror, tracks.bgp, chosen, uuid, None, limit=_SESSIONS, after=sessions)
    known, total = tracks.bgp.routes(chosen, uuid)
    some, more_routes = page_of_routes(known, _ROUTES, routes)
    here, query = f"/machines/{uuid}/routing", {"network": chosen, "start": start or None}
    return tab_page(
        visit,
        uuid,
        "routing",
        "bgp",
        "network",
        speakers=speakers,
        chosen=chosen,
        chosen_name=mirror.network(chosen)[1].name,
        sessions=[views.session(chosen, each) for each in found],
        sessions_total=len(tracks.bgp.sessions(chosen, uuid)),
        sessions_first=address(here, **query, routes=routes) if sessions else None,
        sessions_next=address(here, **query, sessions=more_sessions, routes=routes) if more_sessions else None,
        routes=[views.route(chosen, each) for each in some],
        routes_total=max(total, len(known)),
        routes_first=address(here, **query, sessions=sessions) if routes else None,
        routes_next=address(here, **query, sessions=sessions, routes=more_routes) if more_routes else None,
        **paging,
    )
