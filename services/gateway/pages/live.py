"""`/live`: tells open pages when something that they show has changed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from services.gateway.http.changes import Served
from services.gateway.http.guard import VIEWER, Calling, GuardedRoute

SILENCE = 15.0
"""After so many seconds without news a comment is sent, so that both ends notice a lost connection."""

_ACCESS = "access"

TOPICS = 80
"""So many topics one may listen to."""

Topic = Annotated[str, Query(pattern=r"^[a-z]+(:[0-9a-f-]{36})?$")]
Since = Annotated[float | None, Query(ge=0, allow_inf_nan=False)]

router = APIRouter(prefix="/live", route_class=GuardedRoute)


def _who(gateway: Served, caller: Calling) -> str:
    """Who listens. Raises `RateLimitedError` where the same has too many streams open, before this one begins."""
    who = "" if caller.speaker is None else str(caller.speaker.token.token_id)
    gateway.pulse.check_room(who)
    return who


@router.get("", response_class=EventSourceResponse, include_in_schema=False, dependencies=[VIEWER])
async def listen(
    gateway: Served,
    caller: Calling,
    who: Annotated[str, Depends(_who)],
    topic: Annotated[list[Topic], Query(min_length=1, max_length=TOPICS)],
    since: Since = None,
) -> AsyncIterator[ServerSentEvent]:
    """An event `begin`, then `change` whenever one of the topics has changed, at most two a second; at once, if one has
    changed `since` then (in seconds since 1970). The stream ends when the caller's token does."""
    wanted = frozenset(topic)
    # Who may listen may have changed with the access list: that is looked at then, not only with the next news.
    async with aclosing(gateway.pulse.listen(wanted | {_ACCESS}, gateway.closing, SILENCE, who, since)) as news:
        yield ServerSentEvent(event="begin", raw_data="")
        async for topics in news:
            if not caller.still_counts(gateway):
                return
            if told := topics & wanted:
                yield ServerSentEvent(event="change", raw_data=" ".join(sorted(told)))
            elif not topics:
                yield ServerSentEvent(comment="nothing yet")
