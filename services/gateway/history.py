"""The log for people: pages of it in both directions, filtered, and what happens from now on. Shell."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from nats.aio.client import Client

from events import log
from events.client import Entry
from events.domain import (
    AccountCreated,
    AccountDeleted,
    ApiTokenIssued,
    DomainEvent,
    MachineDeleted,
    MachineRegistered,
    NetworkCreated,
    NetworkDeleted,
    PolicyCreated,
    PolicyDeleted,
    RouteCreated,
    RouteDeleted,
    VipCreated,
    VipDeleted,
)
from events.log import LoggedEvent
from services.gateway.naming import NameOf
from services.gateway.wanted import Wanted

CHUNK = 1000
"""How many events are read at once."""

SCANNED = 20_000
"""At most so many events are looked through for one page; a page may then be short, or empty, and not the last."""

SILENCE = 2.0
"""After so many seconds without an event a follower is told that there was none."""

CLOCKS_APART = timedelta(minutes=1)
"""So far the times in the log may be out of order, where one control plane took over from another."""

_PENDING = 4
_REMEMBERED = 64


@dataclass(frozen=True)
class Stretch:
    """Events found, where to go on (None at the log's end), and how far the log goes."""

    events: list[LoggedEvent]
    next: int | None
    last_sequence: int
    scanned: int = 0
    """How many places of the log were looked through."""


def names_in(events: list[LoggedEvent], known: NameOf) -> NameOf:
    """`known`, and for what it does not know the names that these events tell."""
    told: dict[UUID, str] = {}
    for logged in events:
        event = logged.event
        if isinstance(event, NetworkCreated | NetworkDeleted):
            told[event.network_id] = event.name
        elif isinstance(event, MachineRegistered | MachineDeleted):
            told[event.machine_id] = event.hostname
        elif isinstance(event, AccountCreated | AccountDeleted):
            told[event.account_id] = event.name
        elif isinstance(event, ApiTokenIssued):
            told[event.token_id] = event.name
        elif isinstance(event, RouteCreated | RouteDeleted):
            told[event.route_id] = event.name
        elif isinstance(event, VipCreated | VipDeleted):
            told[event.vip_id] = event.name
        elif isinstance(event, PolicyCreated | PolicyDeleted):
            told[event.policy_id] = event.name
    return lambda item: known(item) or told.get(item)


async def oldest_first(client: Client, after: int, limit: int, wanted: Wanted) -> Stretch:
    """The first `limit` wanted events after a position. Raises `UnavailableError`, `UnreadableEventError`."""
    end = await log.last_sequence(client)
    first, last = await _bounds(client, wanted, end)
    start = place = max(after, first - 1)
    found: list[LoggedEvent] = []
    size = limit
    while place < last and place - start < SCANNED:
        stop = min(place + size, last)
        for logged in await log.read(client, place, size, stop, wanted.may_match):
            if wanted.matches(logged.event):
                found.append(logged)
                if len(found) == limit:
                    place = logged.sequence
                    return Stretch(found, place if place < last else None, end, place - start)
        place, size = stop, CHUNK
    return Stretch(found, place if place < last else None, end, max(0, place - start))


async def newest_first(client: Client, before: int | None, limit: int, wanted: Wanted, lowest: int = 1) -> Stretch:
    """The last `limit` wanted events before a position or the end, from `lowest` on, newest first. Raises like
    `oldest_first`."""
    end = await log.last_sequence(client)
    first, last = await _bounds(client, wanted, end)
    first = max(first, lowest)
    start = place = min(last + 1, end + 1 if before is None else before)
    found: list[LoggedEvent] = []
    size = limit
    while place > first and start - place < SCANNED:
        bottom = max(first - 1, place - 1 - size)
        for logged in reversed(await log.read(client, bottom, size, place - 1, wanted.may_match)):
            if wanted.matches(logged.event):
                found.append(logged)
                if len(found) == limit:
                    place = logged.sequence
                    return Stretch(found, place if place > first else None, end, start - place)
        place, size = bottom + 1, CHUNK
    return Stretch(found, place if place > first else None, end, max(0, start - place))


async def last_before(
    client: Client, sequence: int, may_match: Callable[[Entry], bool], matches: Callable[[DomainEvent], bool]
) -> tuple[LoggedEvent | None, bool]:
    """The last event before a position that matches, and whether, where there is none, all the log was looked through.
    Raises like `oldest_first`."""
    place = sequence
    while place > 1 and sequence - place < SCANNED:
        bottom = max(0, place - 1 - CHUNK)
        for logged in reversed(await log.read(client, bottom, CHUNK, place - 1, may_match)):
            if matches(logged.event):
                return logged, True
        place = bottom + 1
    return None, place <= 1


class Recent:
    """The newest events for those who look again and again: of a log that has grown, only what is new is read."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Wanted, int], Stretch] = OrderedDict()

    async def page(self, client: Client, before: int | None, limit: int, wanted: Wanted) -> Stretch:
        """As `newest_first`. Raises like that."""
        if before is None:
            return await self.newest(client, limit, wanted)
        return await newest_first(client, before, limit, wanted)

    async def newest(self, client: Client, limit: int, wanted: Wanted) -> Stretch:
        """As `newest_first` from the log's end. Raises like that."""
        key = (wanted, limit)
        # It stays while what is new is read: all pages that show it ask at once when something happens.
        known = self._known.get(key)
        if known is None:
            stretch = await newest_first(client, None, limit, wanted)
        else:
            stretch = _joined(await newest_first(client, None, limit, wanted, known.last_sequence + 1), known, limit)
        self._known[key] = stretch
        self._known.move_to_end(key)
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return stretch


def _joined(newer: Stretch, older: Stretch, limit: int) -> Stretch:
    """Two stretches as one. What was left between them, where there is more than is looked through, counts as next."""
    if newer.next is not None:
        return newer
    found = (newer.events + older.events)[:limit]
    following = older.next
    if len(newer.events) + len(older.events) > limit:
        following = found[-1].sequence
    return Stretch(found, following, newer.last_sequence, newer.scanned + older.scanned)


async def _bounds(client: Client, wanted: Wanted, end: int) -> tuple[int, int]:
    """Between which positions, both included, the log has the wanted times."""
    first = 1 if wanted.since is None else await first_at(client, _moved(wanted.since, -CLOCKS_APART), end)
    last = end if wanted.until is None else await first_at(client, _moved(wanted.until, CLOCKS_APART), end) - 1
    return first, last


def _moved(time: datetime, by: timedelta) -> datetime:
    """`time`, moved; itself where the calendar ends before that."""
    try:
        return time + by
    except OverflowError:
        return time


async def first_at(client: Client, time: datetime, end: int) -> int:
    """The position of the first event that is not from before `time`; after the end where there is none."""
    low, high = 1, end + 1
    while low < high:
        middle = (low + high) // 2
        found = await log.first_from(client, middle)
        if found is not None and found.sequence <= end and found.event.time < time:
            low = found.sequence + 1
        else:
            high = middle
    return low


async def follow(
    client: Client, after: int, wanted: Wanted, closing: asyncio.Event
) -> AsyncGenerator[LoggedEvent | None]:
    """The wanted events after a position and those to come, until `closing` is set; None after each `SILENCE`
    seconds without anything."""
    arrived: asyncio.Queue[list[LoggedEvent]] = asyncio.Queue(_PENDING)
    reading = asyncio.create_task(_read(client, after, arrived))
    closed = asyncio.create_task(closing.wait())
    coming = asyncio.create_task(arrived.get())
    try:
        while True:
            done, _ = await asyncio.wait(
                {reading, closed, coming}, timeout=SILENCE, return_when=asyncio.FIRST_COMPLETED
            )
            if closed.done():
                return
            if not done:
                yield None
                continue
            if not coming.done():
                reading.result()
            events, coming = coming.result(), asyncio.create_task(arrived.get())
            for logged in events:
                if wanted.matches(logged.event):
                    yield logged
    finally:
        for task in (reading, closed, coming):
            task.cancel()


async def _read(client: Client, after: int, arrived: asyncio.Queue[list[LoggedEvent]]) -> None:
    async with aclosing(log.follow(client, after)) as batches:
        async for batch in batches:
            await arrived.put(batch)
