"""`/api/v1/log/export`: the whole log, and what machines have reported, as one file."""

from __future__ import annotations

from datetime import UTC, datetime
from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from services.gateway.archiving import archive
from services.gateway.http.changes import PLAIN, Served
from services.gateway.http.documents import reading
from services.gateway.http.guard import ADMIN, GuardedRoute

router = APIRouter(prefix="/api/v1/log", tags=["events"], route_class=GuardedRoute)

_MEDIA_TYPE = "application/gzip"


@router.get(
    "/export",
    response_class=Response,
    responses=reading() | {200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    dependencies=[ADMIN, PLAIN],
)
async def export_log(gateway: Served) -> Response:
    """Export the log: every event, the checkpoints, and the reports of the last 30 days. The file tells by itself
    whether it is whole; `wireloom log import` takes it, on another server too."""
    name = f"wireloom-{datetime.now(UTC):%Y%m%d-%H%M%S}.log.gz"
    pieces = archive(gateway.client, gateway.identity, version("wireloom"))
    return StreamingResponse(
        pieces, media_type=_MEDIA_TYPE, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )
