"""`/api/v1/log/export`: the whole log, and what machines have reported, as one file."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from services.gateway.archiving import archive
from services.gateway.http.changes import PLAIN, Gateway, Served
from services.gateway.http.documents import reading
from services.gateway.http.guard import ADMIN, Caller, Calling, GuardedRoute

router = APIRouter(prefix="/api/v1/log", tags=["events"], route_class=GuardedRoute)

_MEDIA_TYPE = "application/gzip"


@router.get(
    "/export",
    response_class=Response,
    responses=reading() | {200: {"content": {_MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}}}},
    dependencies=[ADMIN, PLAIN],
)
async def export_log(gateway: Served, caller: Calling) -> Response:
    """Export the log: every event, the checkpoints, and the reports of the last 30 days. The file tells by itself
    whether it is whole; `wireloom log import` takes it, on another server too. It ends amid the log when the caller's
    token does."""
    name = f"wireloom-{datetime.now(UTC):%Y%m%d-%H%M%S}.log.gz"
    return StreamingResponse(
        _pieces(gateway, caller),
        media_type=_MEDIA_TYPE,
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


async def _pieces(gateway: Gateway, caller: Caller) -> AsyncGenerator[bytes]:
    async with aclosing(archive(gateway.client, gateway.identity, version("wireloom"))) as pieces:
        async for piece in pieces:
            if gateway.closing.is_set() or not caller.still_counts(gateway):
                return
            yield piece
