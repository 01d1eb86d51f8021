"""Reading the ledger of addresses from the log, page by page. Shell.

Of the log only the registry's events and those of the networks that are asked about are read, and of machines that an
answer names their own. That costs about a second for each 80,000 events of a network; a page keeps itself alone in
memory, and reading ends where all of its holdings have ended, or are known to go on.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass
from uuid import UUID

import orjson
from nats.aio.client import Client

from events.aggregates import history
from events.client import Entry
from events.domain import REGISTRY_ID, MachineDeleted, MachineRegistered, MachineRenamed
from events.errors import InvalidInputError, NotFoundError
from events.log import LoggedEvent
from events.subjects import machine_membership
from services.gateway.ledger import Asked, Holding, Life, Place, Roll, lives_of
from services.gateway.mirror import Mirror
from services.gateway.wanted import kind_of

_AT_ONCE = 50
_NAMING = frozenset({MachineRegistered.kind, MachineRenamed.kind, MachineDeleted.kind})


@dataclass(frozen=True)
class Names:
    """What a machine was called, from which position of the log on; and where it was deleted."""

    names: tuple[tuple[int, str], ...]
    deleted: int | None = None

    def at(self, position: int) -> str:
        """Its hostname at a position of the log."""
        return self.names[max(0, bisect_right(self.names, position, key=lambda named: named[0]) - 1)][1]

    @property
    def now(self) -> str | None:
        """Its hostname; None if it was deleted."""
        return None if self.deleted is not None else self.names[-1][1]


@dataclass(frozen=True)
class LedgerPage:
    """Some holdings, and what is to be said of them."""

    holdings: list[Holding]
    next: str | None
    """The cursor of the next page; None after the last."""
    lives: dict[UUID, Life]
    machines: dict[UUID, Names]
    position: int
    """Up to this position the log was heeded."""


async def read_page(
    client: Client, mirror: Mirror, asked: Asked, network_id: UUID | None, *, limit: int, after: str | None
) -> LedgerPage:
    """The first `limit` holdings after a cursor, in the order of the networks' creation and of when they began.

    Raises `NotFoundError` for a network or machine that there never was, `InvalidInputError` for a cursor that no such
    list made, `UnavailableError` and `UnreadableEventError`.
    """
    begin, place = _read(after) if after is not None else (0, (0, -1))
    end = mirror.position
    lives = lives_of(await _all(client, REGISTRY_ID, end))
    first, last = await _life_of(client, asked.machine_id, end) if asked.machine_id is not None else (1, end)
    if network_id is not None and network_id not in lives:
        raise NotFoundError(f"There never was a mesh network {network_id}.", hint="List the mesh networks there are.")
    been_in = _been_in(mirror, asked.machine_id)
    found: list[Holding] = []
    following: str | None = None
    for item, life in sorted(lives.items(), key=lambda pair: pair[1].created.sequence):
        created = life.created.sequence
        if created < begin or network_id not in (None, item) or created > last or not asked.concerns(life):
            continue
        if been_in is not None and life.deleted is None and item not in been_in:
            continue
        if len(found) == limit:
            following = _write(created, (0, -1))
            break
        roll = Roll(item, asked, limit - len(found), place if created == begin else (0, -1), _is_held_in(mirror))
        start = first if asked.at is not None else max(first, roll.after[0])
        await _fill(client, roll, life, start, min(end, last))
        holdings = roll.holdings
        found += holdings
        if roll.more:
            following = _write(created, holdings[-1].place)
            break
    machines = await _names(client, {holding.machine_id for holding in found}, end)
    return LedgerPage(found, following, lives, machines, end)


async def _fill(client: Client, roll: Roll, life: Life, first: int, last: int) -> None:
    async with aclosing(history(client, roll.network_id, first - 1, last, roll.asked.may_tell)) as parts:
        async for part in parts:
            for logged in part.events:
                roll.take(logged)
            if roll.is_done(part.last):
                return
            await asyncio.sleep(0)
    if life.deleted is not None:
        roll.deleted(life.deleted)


def _is_held_in(mirror: Mirror) -> Callable[[Holding], bool]:
    def is_held(holding: Holding) -> bool:
        network = mirror.networks.get(holding.network_id)
        member = network.members.get(holding.machine_id) if network is not None else None
        return member is not None and member.assigned_at == holding.began.event.time

    return is_held


def _been_in(mirror: Mirror, machine_id: UUID | None) -> set[UUID] | None:
    """The networks that there are and that a machine is or was in; None where that is not known."""
    if machine_id is None or not mirror.has_machine(machine_id):
        return None
    return {item for item in mirror.networks if mirror.record(machine_membership(machine_id, item)) is not None}


async def _life_of(client: Client, machine_id: UUID, end: int) -> tuple[int, int]:
    """From which position to which one a machine can have been in networks. Raises `NotFoundError`."""
    events = await _all(client, machine_id, end, _is_naming)
    if not events:
        raise NotFoundError(f"There never was a machine {machine_id}.", hint="List the machines there are.")
    newest = events[-1]
    return events[0].sequence, newest.sequence if isinstance(newest.event, MachineDeleted) else end


async def _names(client: Client, machine_ids: Iterable[UUID], end: int) -> dict[UUID, Names]:
    waiting = sorted(machine_ids)
    found: dict[UUID, Names] = {}
    for start in range(0, len(waiting), _AT_ONCE):
        some = waiting[start : start + _AT_ONCE]
        told = await asyncio.gather(*(_all(client, item, end, _is_naming) for item in some))
        found |= {item: _named(events) for item, events in zip(some, told, strict=True)}
    return found


def _named(events: Iterable[LoggedEvent]) -> Names:
    names: list[tuple[int, str]] = []
    deleted = None
    for logged in events:
        if isinstance(logged.event, MachineRegistered | MachineRenamed):
            names.append((logged.sequence, logged.event.hostname))
        elif isinstance(logged.event, MachineDeleted):
            deleted = logged.sequence
    return Names(tuple(names), deleted)


def _is_naming(entry: Entry) -> bool:
    return kind_of(entry) in _NAMING


async def _all(
    client: Client, aggregate_id: UUID, end: int, keep: Callable[[Entry], bool] = lambda entry: True
) -> list[LoggedEvent]:
    found: list[LoggedEvent] = []
    async with aclosing(history(client, aggregate_id, 0, end, keep)) as parts:
        async for part in parts:
            found += part.events
    return found


def _write(created: int, place: Place) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([created, *place])).decode().rstrip("=")


def _read(cursor: str) -> tuple[int, Place]:
    try:
        place = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        created, position, index = place
        if [type(part) for part in place] != [int, int, int]:
            raise TypeError
        return created, (position, index)
    except (binascii.Error, ValueError, TypeError) as error:
        raise InvalidInputError(
            "The cursor in `after` does not belong to this list.",
            hint="Give `next` of the page before; leave it out for the first page.",
            field="after",
        ) from error
