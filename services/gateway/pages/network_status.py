"""How far the machines of a network have applied what was decided: who lags, and how soon the last changes came."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.http.guard import VIEWER
from services.gateway.pages.network import head_of, status_now
from services.gateway.pages.page import PageRoute, Visiting

router = APIRouter(prefix="/networks/{uuid}/status", route_class=PageRoute, include_in_schema=False)

_NAMED = 100
_CHANGES = 20


@router.get("", dependencies=[VIEWER])
async def show_status(visit: Visiting, uuid: UUID) -> Response:
    """Who has applied what."""
    status = status_now(visit.gateway, uuid)
    return visit.page(
        "network_status.html",
        **head_of(visit, uuid, "status"),
        standing=status,
        laggards=status.laggards[:_NAMED],
        changes=status.changes[:_CHANGES],
    )
