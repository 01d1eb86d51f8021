"""Reading the LOG stream: how far it goes, a part of it, and what comes. A shell, without the `eventsourcing` library.

Whoever was told that an event was written finds it here, on three servers too: how far the log goes is asked of its
leader, and reading waits until it has come that far. Sequences rise, but not always by one.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

from nats.aio.client import Client

from events import feed
from events.client import Entry, header
from events.codec import UnreadableEventError, decode, digest
from events.direct import direct_get, next_at
from events.domain import DomainEvent
from events.ending import end as end_tasks
from events.errors import InternalError, UnavailableError
from events.state import last_message
from events.subjects import EVENT_HEADER, LOG_PREFIX, LOG_STREAM

BATCH = 1000
"""At most so many events are handed on at once."""

_ALL = f"{LOG_PREFIX}.>"
_AHEAD = 3
"""So many batches are asked for before they are needed."""

_LOOKS = 5
"""So often the log's end is looked for where it seems to lie before what STATE was derived from."""
_LOOK_SECONDS = 0.2

_EVENT = EVENT_HEADER.encode()
_SUBJECT_START = len(LOG_PREFIX) + 1


class LoggedEvent(NamedTuple):
    """An event with its place in the log, and its digest (`events.codec.digest`)."""

    sequence: int
    event: DomainEvent
    digest: str


class LogDamagedError(InternalError):
    """Raised where the log lacks events that it had: a bus drops a message whose bytes on the disk were damaged."""

    code = "log-damaged"
    title = "The log has lost events"


async def require_whole(client: Client) -> None:
    """Whoever decides must see every event: an aggregate without its newest one looks like another, or like none.

    Raises `LogDamagedError` where a position of the log is empty, the server says that it lost some when it started, or
    STATE was derived from more events than there are; `UnavailableError`.
    """
    # STATE before the log: others write to both meanwhile. And a server that has just come to lead may take a moment to
    # know the end.
    try:
        derived = await last_message(client)
    except feed.StreamMissingError:
        derived = None
    for left in reversed(range(_LOOKS)):
        info = (await feed.jetstream(client, f"STREAM.INFO.{LOG_STREAM}", {}))["state"]
        missing = info["last_seq"] - info["messages"]
        behind = (derived.position if derived is not None else 0) - info["last_seq"]
        if missing <= 0 and behind <= 0 and not info.get("lost"):
            return
        if missing > 0 or info.get("lost") or not left:
            break
        await asyncio.sleep(_LOOK_SECONDS)
    lacking = f"{missing:,} of its {info['last_seq']:,} events" if missing > 0 else "events at its end"
    raise LogDamagedError(
        f"The log lacks {lacking}. Nothing is decided on what is left.",
        hint="Restore it from an export or a copy of the bus's folder; `wireloom log verify` says what is missing. "
        "If an older log was put there on purpose, delete the stream STATE.",
    )


async def last_sequence(client: Client) -> int:
    """The sequence of the newest event, 0 in an empty log. Raises `UnavailableError`."""
    return await feed.last_sequence(client, LOG_STREAM)


async def read(
    client: Client,
    after: int,
    limit: int,
    stop: int | None = None,
    keep: Callable[[Entry], bool] = lambda entry: True,
) -> list[LoggedEvent]:
    """The first `limit` events after the sequence `after`, up to and including `stop`; fewer where the log ends. Only
    those that `keep` is true of are looked at.

    Raises `UnavailableError`, and `UnreadableEventError` for an event that cannot be read.
    """
    end = await last_sequence(client)
    if stop is not None:
        end = min(end, stop)
    found: list[LoggedEvent] = []
    if end <= after or limit <= 0:
        return found
    async with aclosing(feed.entries(client, LOG_STREAM, after)) as batches:
        async for batch in batches:
            kept = [entry for entry in batch if entry.sequence <= end and keep(entry)]
            found += [read_entry(entry) for entry in kept[: limit - len(found)]]
            if batch[-1].sequence >= end or len(found) >= limit:
                break
    return found


async def first_from(client: Client, sequence: int) -> LoggedEvent | None:
    """The first event at a sequence or later, None where there is none yet. Raises as `read` does."""
    entry = await next_at(client, LOG_STREAM, _ALL, sequence)
    return None if entry is None else read_entry(entry)


async def between(client: Client, after: int, until: int) -> AsyncGenerator[list[LoggedEvent]]:
    """The events after the sequence `after` up to `until`, to which the log must have come: each once and in order, at
    most `BATCH` at once. Nothing but these is sent by the server, so this is for parts of a long log.

    Raises as `read` does.
    """
    coming: deque[asyncio.Task[list[Entry]]] = deque()
    place = after
    try:
        while place < until or coming:
            while place < until and len(coming) < _AHEAD:
                stop = min(place + BATCH, until)
                coming.append(asyncio.create_task(_stretch(client, place, stop)))
                place = stop
            entries = await coming[0]
            coming.popleft()
            if entries:
                yield [read_entry(entry) for entry in entries]
    finally:
        await end_tasks(coming)


async def _stretch(client: Client, after: int, until: int) -> list[Entry]:
    """The messages of the log after `after` up to `until`, at most `BATCH` sequences."""
    request = {"seq": after + 1, "next_by_subj": _ALL, "batch": until - after}
    found = [entry for entry in (await direct_get(client, LOG_STREAM, request)).entries if entry.sequence <= until]
    if len(found) == until - after:
        return found
    # The server that answered lags behind, something was lost on the way, or the log has no such sequences.
    found.clear()
    if await last_sequence(client) < until:
        raise UnavailableError(f"The log does not reach {until}.", hint="Ask again.")
    newest = await feed.newest_sequence(client, LOG_STREAM, _ALL)
    if newest <= after:
        return found
    async with aclosing(feed.entries(client, LOG_STREAM, after)) as batches:
        while not found or found[-1].sequence < min(until, newest):
            found += await anext(batches)
    return [entry for entry in found if entry.sequence <= until]


async def follow(client: Client, after: int) -> AsyncGenerator[list[LoggedEvent]]:
    """The events after the sequence `after`, then those to come, without end: each once and in order, across lost
    connections and server restarts. What has arrived comes together, at most `BATCH` at once.

    Raises `UnavailableError` when the connection is closed for good, and `UnreadableEventError`.
    """
    async with aclosing(feed.entries(client, LOG_STREAM, after)) as batches:
        async for batch in batches:
            for first in range(0, len(batch), BATCH):
                yield [read_entry(entry) for entry in batch[first : first + BATCH]]


def read_entry(entry: Entry) -> LoggedEvent:
    """The event that a message of the LOG stream holds. Raises `UnreadableEventError`."""
    version_text, _, topic = (header(entry.headers, _EVENT) or b"").decode().partition(" ")
    try:
        originator_id = UUID(entry.subject[_SUBJECT_START:])
        version = int(version_text)
    except ValueError as error:
        raise UnreadableEventError(
            f"The message {entry.sequence} of the log, on {entry.subject}, is not an event.",
            hint="Only the allocator may write there: verify the log.",
        ) from error
    event = decode(originator_id, version, topic, entry.data)
    return LoggedEvent(entry.sequence, event, digest(originator_id, version, topic, entry.data))
