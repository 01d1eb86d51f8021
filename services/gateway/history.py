"""The log for people: pages of it in both directions, filtered, and what happens from now on. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

from nats.aio.client import Client

from events import log
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
from services.gateway.words import machines_of, networks_of

CHUNK = 1000
"""How many events are read at once."""

SCANNED = 20_000
"""At most so many events are looked through for one page; a page may then be short, or empty, and not the last."""

SILENCE = 2.0
"""After so many seconds without an event a follower is told that there was none."""

_PENDING = 4


@dataclass(frozen=True)
class Stretch:
    """Events found, where to go on (None at the log's end), and how far the log goes."""

    events: list[LoggedEvent]
    next: int | None
    last_sequence: int


def about(network_id: UUID | None, machine_id: UUID | None) -> Callable[[DomainEvent], bool]:
    """Whether an event is about this network and this machine; None stands for any."""

    def matches(event: DomainEvent) -> bool:
        return (network_id is None or network_id in networks_of(event)) and (
            machine_id is None or machine_id in machines_of(event)
        )

    return matches


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


async def oldest_first(client: Client, after: int, limit: int, matches: Callable[[DomainEvent], bool]) -> Stretch:
    """The first `limit` matching events after a position. Raises `UnavailableError`, `UnreadableEventError`."""
    end = await log.last_sequence(client)
    found: list[LoggedEvent] = []
    start = after
    while len(found) < limit and after < end and after - start < SCANNED:
        chunk = await log.read(client, after, CHUNK, end)
        for logged in chunk:
            after = logged.sequence
            if matches(logged.event):
                found.append(logged)
                if len(found) == limit:
                    break
        if not chunk:
            break
    return Stretch(found, after if after < end else None, end)


async def newest_first(
    client: Client, before: int | None, limit: int, matches: Callable[[DomainEvent], bool]
) -> Stretch:
    """The last `limit` matching events before a position or the end, newest first. Raises like `oldest_first`."""
    end = await log.last_sequence(client)
    top = end + 1 if before is None else min(before, end + 1)
    found: list[LoggedEvent] = []
    start = top
    while len(found) < limit and top > 1 and start - top < SCANNED:
        bottom = max(0, top - 1 - CHUNK)
        for logged in reversed(await log.read(client, bottom, CHUNK, top - 1)):
            if matches(logged.event):
                found.append(logged)
                if len(found) == limit:
                    return Stretch(found, logged.sequence if logged.sequence > 1 else None, end)
        top = bottom + 1
    return Stretch(found, top if top > 1 else None, end)


async def follow(
    client: Client, after: int, matches: Callable[[DomainEvent], bool], closing: asyncio.Event
) -> AsyncGenerator[LoggedEvent | None]:
    """The matching events after a position and those to come, until `closing` is set; None after each `SILENCE`
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
                if matches(logged.event):
                    yield logged
    finally:
        for task in (reading, closed, coming):
            task.cancel()


async def _read(client: Client, after: int, arrived: asyncio.Queue[list[LoggedEvent]]) -> None:
    async with aclosing(log.follow(client, after)) as batches:
        async for batch in batches:
            await arrived.put(batch)
