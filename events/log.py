"""Reading the LOG stream: how far it goes, a part of it, and what comes. A shell, without the `eventsourcing` library.

Whoever was told that an event was written finds it here, on three servers too: how far the log goes is asked of its
leader, and reading waits until it has come that far. Sequences rise, but not always by one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

from nats.aio.client import Client

from events import feed
from events.client import Entry, header
from events.codec import UnreadableEventError, decode, digest
from events.domain import DomainEvent
from events.subjects import EVENT_HEADER, LOG_PREFIX, LOG_STREAM

BATCH = 1000
"""At most so many events are handed on at once."""

_EVENT = EVENT_HEADER.encode()
_SUBJECT_START = len(LOG_PREFIX) + 1


class LoggedEvent(NamedTuple):
    """An event with its place in the log, and its digest (`events.codec.digest`)."""

    sequence: int
    event: DomainEvent
    digest: str


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
