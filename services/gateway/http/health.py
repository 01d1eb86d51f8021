"""`/healthz`, `/readyz` and `/metrics`: how the gateway is, for those who watch over it."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse, Response

from events.errors import UnavailableError
from events.log import last_sequence
from services.gateway.http.changes import Gateway, json_response
from services.gateway.http.guard import ANYBODY, VIEWER, GuardedRoute
from services.gateway.http.schemas import Readiness

router = APIRouter(tags=["health"], route_class=GuardedRoute)

_CATCH_UP = 1.0


@router.get("/healthz", response_class=PlainTextResponse, dependencies=[ANYBODY])
async def alive() -> Response:
    """Whether the process answers at all."""
    return PlainTextResponse("ok\n")


@router.get("/readyz", response_model=Readiness, responses={503: {"model": Readiness}}, dependencies=[ANYBODY])
async def ready(request: Request) -> Response:
    """Whether the control plane can do its work: the bus, the derived state, the allocator."""
    gateway: Gateway = request.app.state.gateway
    bus = gateway.client.is_connected
    mirror, allocator = False, False
    if bus:
        mirror, allocator = await asyncio.gather(_mirror_is_current(gateway), gateway.commander.answers())
    view = Readiness(ready=bus and mirror and allocator, bus=bus, mirror=mirror, allocator=allocator)
    return json_response(view, 200 if view.ready else 503)


@router.get("/metrics", response_class=PlainTextResponse, dependencies=[VIEWER])
async def metrics(request: Request) -> Response:
    """Measurements in the Prometheus text format."""
    gateway: Gateway = request.app.state.gateway
    measured, mirror = gateway.metrics, gateway.mirror
    measured.mirror_position.set(gateway.follower.position)
    end = await _log_end(gateway)
    if end is not None:
        measured.mirror_lag.set(max(0, end - gateway.follower.position))
    measured.networks.set(len(mirror.network_ids))
    measured.machines.set(len(mirror.by_hostname.rows))
    measured.agents_online.set(gateway.presence.online_count(gateway.now()))
    return Response(measured.exposition(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def _mirror_is_current(gateway: Gateway) -> bool:
    end = await _log_end(gateway)
    return end is not None and gateway.follower.loaded.is_set() and await gateway.follower.wait_for(end, _CATCH_UP)


async def _log_end(gateway: Gateway) -> int | None:
    try:
        async with asyncio.timeout(_CATCH_UP):
            return await last_sequence(gateway.client)
    except (UnavailableError, TimeoutError):
        return None
