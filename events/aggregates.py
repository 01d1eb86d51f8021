"""Reading one aggregate's events out of the log, however long the log is. Shell.

The server finds the messages of a subject by its index, so that the cost goes with the aggregate's own events, about
80,000 a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

from nats.aio.client import Client

from events.client import Entry
from events.direct import direct_get
from events.domain import DomainEvent
from events.errors import UnavailableError
from events.feed import newest_sequence
from events.log import LoggedEvent, read_entry
from events.subjects import LOG_STREAM, log_subject

BATCH = 1000
"""So many events are asked for at once."""

_TRIES = 3
_LAG_SECONDS = 0.1
_WIDER = 4


class Part(NamedTuple):
    """Some of an aggregate's events, in their order."""

    events: list[LoggedEvent]
    """Those that were to be kept."""
    looked_at: int
    """How many there were with the others."""
    last: int
    """The position of the last one that was looked at."""


class Last(NamedTuple):
    """What a search backwards came to."""

    event: LoggedEvent | None
    is_whole: bool
    """Where there is none: whether all was looked at that was to be."""


async def history(
    client: Client,
    aggregate_id: UUID,
    after: int = 0,
    stop: int | None = None,
    keep: Callable[[Entry], bool] = lambda entry: True,
) -> AsyncGenerator[Part]:
    """The events of an aggregate after a position of the log, up to and including `stop`, part by part; only those that
    `keep` is true of are decoded.

    Raises `UnavailableError`, and `UnreadableEventError`.
    """
    subject = log_subject(aggregate_id)
    newest = await newest_sequence(client, LOG_STREAM, subject)
    end = newest if stop is None else min(newest, stop)
    tries = 0
    while after < end:
        request = {"seq": after + 1, "next_by_subj": subject, "batch": BATCH}
        entries = sorted((await direct_get(client, LOG_STREAM, request)).entries)
        if not entries:
            # One of several servers may not have yet what the leader has.
            tries += 1
            if tries == _TRIES:
                raise UnavailableError("The log does not answer.", hint="Ask again.")
            await asyncio.sleep(_LAG_SECONDS)
            continue
        tries, after = 0, entries[-1].sequence
        here = [entry for entry in entries if entry.sequence <= end]
        yield Part([read_entry(entry) for entry in here if keep(entry)], len(here), min(after, end))


async def last(
    client: Client,
    aggregate_id: UUID,
    until: int,
    keep: Callable[[Entry], bool],
    matches: Callable[[DomainEvent], bool],
    *,
    first: int = 1,
    most: int = 40_000,
) -> Last:
    """The last event of an aggregate that matches, from the positions `first` to `until`, both included. It looks at
    about `most` events, the newest, at half a second for as many.

    Raises like `history`.
    """
    looked_at, width, top = 0, BATCH, until
    while top >= first and looked_at < most:
        bottom, before = max(first, top - width + 1), looked_at
        found: LoggedEvent | None = None
        async with aclosing(history(client, aggregate_id, bottom - 1, top, keep)) as parts:
            async for part in parts:
                looked_at += part.looked_at
                found = next((logged for logged in reversed(part.events) if matches(logged.event)), found)
        if found is not None:
            return Last(found, True)
        top = bottom - 1
        # What is rare in the log is found in few steps, what is not stays within bounds.
        width = width * _WIDER if looked_at - before < BATCH else width
    return Last(None, top < first)
