"""`/live`: tells open pages when something that they show has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.gateway.http.changes import Served
from services.gateway.http.guard import VIEWER, Calling, GuardedRoute

SILENCE = 15.0
"""After so many seconds without news a comment is sent, so that both ends notice a lost connection."""

Topic = Annotated[str, Query(pattern=r"^[a-z]+(:[0-9a-f-]{36})?$")]

router = APIRouter(prefix="/live", route_class=GuardedRoute)


@router.get("", response_class=EventSourceResponse, include_in_schema=False, dependencies=[VIEWER])
async def listen(
    gateway: Served, caller: Calling, topic: Annotated[list[Topic], Query(min_length=1, max_length=20)]
) -> AsyncIterator[ServerSentEvent]:
    """An event `change` whenever one of the topics has changed, at most two a second, and one at the beginning: what
    happened while nobody listened is not told. The stream ends when the caller's token does."""
    yield ServerSentEvent(event="begin", raw_data="")
    async with aclosing(gateway.pulse.listen(topic, gateway.closing, SILENCE)) as news:
        async for topics in news:
            if not caller.still_counts(gateway):
                return
            if topics:
                yield ServerSentEvent(event="change", raw_data=" ".join(sorted(topics)))
            else:
                yield ServerSentEvent(comment="nothing yet")
