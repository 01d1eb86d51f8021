"""Finding the events that a chain needs. Shell.

Each need is a few requests: an event at a position is fetched by it, one at a time is found by bisection, and the last
of its kind is looked for backwards among its aggregate's own events, `LOOKED_AT` of them at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import aclosing
from datetime import datetime
from ipaddress import IPv4Address
from typing import TypeVar

from nats.aio.client import Client

from events.aggregates import history, last
from events.client import Entry
from events.direct import next_at
from events.domain import REGISTRY_ID, MachinesAssigned, MachinesUnassigned
from events.errors import UnavailableError
from events.log import LoggedEvent, read_entry
from events.subjects import LOG_PREFIX, LOG_STREAM
from services.gateway.history import CLOCKS_APART
from services.gateway.ledger import lives_of
from services.gateway.wanted import kind_of
from services.gateway.why.known import Answer, At, Found, Known, LastOf, Need, Networks, Taken, Timed

LOOKED_AT = 10_000
"""At most so many of an aggregate's events are looked through for one that is needed."""

_ROUNDS = 12
_EVERY = f"{LOG_PREFIX}.*"
_MOVES = (MachinesAssigned.kind, MachinesUnassigned.kind)

Chain = TypeVar("Chain")


async def explained(client: Client, build: Callable[[Known], Chain]) -> Chain:
    """What `build` makes of all that it needs. Raises what it does, `UnavailableError` and `UnreadableEventError`."""
    known = Known()
    for _ in range(_ROUNDS):
        known.missing.clear()
        chain = build(known)
        if not known.missing:
            return chain
        needs = list(known.missing)
        found = await asyncio.gather(*(_find(client, need) for need in needs))
        known.answers |= dict(zip(needs, found, strict=True))
    raise UnavailableError("The chain has no end.", hint="Ask about less: name the network and the machine.")


async def _find(client: Client, need: Need) -> Answer:
    match need:
        case At(position):
            entry = await next_at(client, LOG_STREAM, _EVERY, position)
            return Found(read_entry(entry) if entry is not None and entry.sequence == position else None)
        case Timed():
            return Found(await _timed(client, need))
        case LastOf():
            return await _last(client, need)
        case Networks(until):
            events: list[LoggedEvent] = []
            async with aclosing(history(client, REGISTRY_ID, 0, until)) as parts:
                async for part in parts:
                    events += part.events
            return lives_of(events)
        case Taken():
            return await _taken(client, need)


async def _last(client: Client, need: LastOf) -> Found:
    """Where it lies too far back, what is found soon after `first` instead: most machines announce once, when they were
    assigned. Whether it is the last is not known then."""
    keep = _keeps(need.kinds, need.mention)
    answer = await last(client, need.aggregate_id, need.until, keep, need.matches, first=need.first, most=LOOKED_AT)
    if answer.event is not None or answer.is_whole or need.first == 1:
        return Found(*answer)
    async with aclosing(history(client, need.aggregate_id, need.first - 1, need.until, keep)) as parts:
        async for part in parts:
            return Found(part.events[-1] if part.events else None, is_whole=False)
    return Found(is_whole=False)


async def _timed(client: Client, need: Timed) -> LoggedEvent | None:
    start = await _first_at(client, need.time - CLOCKS_APART)
    looked_at = 0
    async with aclosing(history(client, need.aggregate_id, start - 1, None, _keeps(need.kinds, need.mention))) as parts:
        async for part in parts:
            looked_at += part.looked_at
            for logged in part.events:
                if logged.event.time == need.time:
                    return logged
            if looked_at >= LOOKED_AT:
                break
    return None


async def _first_at(client: Client, time: datetime) -> int:
    """The position of the first event that is not from before a time, as far as clocks agree."""
    low, high = 1, 1
    # How long the log is shows as soon as nothing follows.
    while (entry := await next_at(client, LOG_STREAM, _EVERY, high)) is not None and _time_of(entry) < time:
        low, high = entry.sequence + 1, high * 2
    while low < high:
        middle = (low + high) // 2
        entry = await next_at(client, LOG_STREAM, _EVERY, middle)
        if entry is not None and _time_of(entry) < time:
            low = entry.sequence + 1
        else:
            high = middle
    return low


def _time_of(entry: Entry) -> datetime:
    return read_entry(entry).event.time


async def _taken(client: Client, need: Taken) -> frozenset[IPv4Address] | None:
    taken: set[IPv4Address] = set()
    looked_at = 0
    async with aclosing(history(client, need.network_id, 0, need.position - 1, _keeps(_MOVES, ""))) as parts:
        async for part in parts:
            looked_at += part.looked_at
            if looked_at > LOOKED_AT:
                return None
            for event in (logged.event for logged in part.events):
                if isinstance(event, MachinesAssigned):
                    taken.update(each.address for each in event.assignments)
                elif isinstance(event, MachinesUnassigned):
                    taken.difference_update(each.address for each in event.assignments)
    return frozenset(taken)


def _keeps(kinds: Iterable[str], mention: str) -> Callable[[Entry], bool]:
    named, wanted = mention.encode(), frozenset(kinds)
    return lambda entry: kind_of(entry) in wanted and named in entry.data
