"""`/api/v1/events`: the log, page by page and as it grows."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent
from starlette.responses import Response

from events import log
from events.log import LoggedEvent
from services.gateway import history
from services.gateway.http.changes import Served, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, Calling, GuardedRoute
from services.gateway.http.schemas import Event, EventPage, EventQuery, Position, StreamQuery
from services.gateway.mirror import Mirror
from services.gateway.naming import NameOf
from services.gateway.wanted import Wanted, actors_called
from services.gateway.words import fields_of, in_words, machines_of, networks_of

router = APIRouter(prefix="/api/v1/events", tags=["events"], route_class=GuardedRoute)

LastEventId = Annotated[Position, Header(description="As `after`; browsers send it when they reconnect.")]


@router.get("", response_model=EventPage, responses=reading(), dependencies=[VIEWER])
async def list_events(gateway: Served, query: Annotated[EventQuery, Query()]) -> Response:
    """List what happened: with `after` oldest first, else newest first.

    All filters must be true of an event. With one a page may be short, or even empty, and not be the last: `next` alone
    says whether there is more.
    """
    wanted = wanted_by(query, gateway.mirror)
    if query.after is not None:
        stretch = await history.oldest_first(gateway.client, query.after, query.limit, wanted)
    else:
        stretch = await history.newest_first(gateway.client, query.before, query.limit, wanted)
    name_of = history.names_in(stretch.events, gateway.mirror.name_of)
    items = tuple(event_view(logged, name_of) for logged in stretch.events)
    return json_response(EventPage(items=items, next=stretch.next, last_sequence=stretch.last_sequence))


async def _start(gateway: Served, query: Annotated[StreamQuery, Query()], last_event_id: LastEventId = None) -> int:
    """Where a stream begins. Raises `UnavailableError` before anything was answered."""
    if last_event_id is not None:
        return last_event_id
    return query.after if query.after is not None else await log.last_sequence(gateway.client)


@router.get("/stream", response_class=EventSourceResponse, responses=reading(), dependencies=[VIEWER])
async def follow_events(
    gateway: Served, caller: Calling, query: Annotated[StreamQuery, Query()], start: Annotated[int, Depends(_start)]
) -> AsyncIterator[ServerSentEvent]:
    """Follow what happens, as server-sent events: `id` is the log position, `data` one event as in the list.

    A comment is sent when nothing happens for two seconds, so that both ends notice a lost connection soon, and a
    program that waits in a read can be interrupted. The stream ends when the caller's token does.
    """
    wanted = wanted_by(query, gateway.mirror)
    async for logged in history.follow(gateway.client, start, wanted, gateway.closing):
        if not caller.still_counts(gateway):
            return
        if logged is None:
            yield ServerSentEvent(comment="nothing yet")
            continue
        view = event_view(logged, gateway.mirror.name_of)
        yield ServerSentEvent(id=str(logged.sequence), raw_data=view.model_dump_json())


def wanted_by(query: StreamQuery, mirror: Mirror) -> Wanted:
    """Which events a query means."""
    return Wanted(
        network=query.network,
        machine=query.machine,
        actors=frozenset() if query.actor is None else actors_called(query.actor, mirror),
        kinds=frozenset(query.kind),
        since=query.since,
        until=query.until,
    )


def event_view(logged: LoggedEvent, name_of: NameOf) -> Event:
    """An event of the log as the API's object."""
    event = logged.event
    return Event(
        sequence=logged.sequence,
        time=event.time,
        kind=event.kind,
        actor=event.actor,
        command_id=event.command_id,
        network_uuids=networks_of(event),
        machine_uuids=machines_of(event),
        text=in_words(event, name_of),
        data=fields_of(event),
    )
