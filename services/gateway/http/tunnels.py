"""`/api/v1/machines/{uuid}/tunnels`: handshakes and traffic of a machine's tunnels, asked of its agent."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.http.changes import Served, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.http.tunnel_schemas import TunnelQuery, Tunnels
from services.gateway.http.tunnel_views import TunnelViews

router = APIRouter(prefix="/api/v1/machines", tags=["machines"], route_class=GuardedRoute)


@router.get("/{uuid}/tunnels", response_model=Tunnels, responses=reading(404, 409, 429), dependencies=[VIEWER])
async def show_tunnels(gateway: Served, uuid: UUID, query: Annotated[TunnelQuery, Query()]) -> Response:
    """Show a machine's WireGuard interfaces: their peers, handshakes and traffic.

    The machine's agent is asked, so the answer may take two seconds; what it told less than five seconds ago is told
    again. Where it does not answer, `code` is `agent-silent`.
    """
    if query.mesh_network_uuid is not None:
        gateway.mirror.network(query.mesh_network_uuid)
    report = await gateway.tunnels.of(uuid)
    views = TunnelViews(gateway.mirror, gateway.presence, gateway.now())
    return json_response(views.tunnels(uuid, report, query.mesh_network_uuid))
