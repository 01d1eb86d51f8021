"""The whole state derived from the log alone, and where STATE differs from it."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass

from nats.aio.client import Client

from events import log, state
from events.feed import last_sequence
from events.subjects import LOG_STREAM
from services.topology.core import Topology
from services.topology.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Difference:
    """A STATE subject that does not hold what follows from the log; None where one of them holds nothing."""

    subject: str
    expected: bytes | None
    found: bytes | None


async def rebuild(client: Client, until: int | None = None) -> dict[str, bytes]:
    """What STATE must hold, by the log up to its position `until` (by default the whole), computed in memory.

    Raises `UnavailableError`, and `InternalError` where the log cannot be read.
    """
    end = await last_sequence(client, LOG_STREAM) if until is None else until
    shelf = Shelf()
    await replay(client, end, shelf)
    return shelf.contents()


async def replay(client: Client, until: int, shelf: Shelf | None = None) -> Topology:
    """The topology at the position `until` of the log, made from the events alone; the `shelf` takes what it derives.

    Raises as `rebuild` does.
    """
    topology = Topology()
    if until == 0:
        return topology
    async with aclosing(log.follow(client, 0)) as arrivals:
        async for arrived in arrivals:
            for logged in arrived:
                if logged.sequence <= until:
                    derived = topology.apply(logged.sequence, logged.event)
                    if shelf is not None:
                        shelf.take(derived)
            if arrived[-1].sequence >= until:
                break
    return topology


async def compare(client: Client) -> list[Difference]:
    """Where STATE differs from what follows from the log up to the position that STATE has reached.

    Raises as `rebuild` does. While STATE is being written, purges that are under way count as differences.
    """
    dump = await state.load(client)
    found = dict(dump.entries)
    expected = await rebuild(client, until=dump.position)
    return [
        Difference(subject, expected.get(subject), found.get(subject))
        for subject in sorted(expected.keys() | found.keys())
        if expected.get(subject) != found.get(subject)
    ]
