"""The derivation at one position of the log, made from another and the events between. A shell, but for `Moment`."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from nats.aio.client import Client

from events import log
from events.domain import DomainEvent
from events.log import LoggedEvent
from events.records import SubjectRecord
from events.state import decode_record
from services.topology.core import Topology
from services.topology.restore import restore
from services.topology.shelf import Shelf

_AT_ONCE = 100
"""So many events are derived from before others may run: a few milliseconds."""


@dataclass(slots=True)
class Moment:
    """The derivation at one position of the log."""

    position: int = 0
    topology: Topology = field(default_factory=Topology)
    shelf: Shelf = field(default_factory=Shelf)

    def apply(self, events: Sequence[LoggedEvent]) -> None:
        """Let events happen. The moment is another then."""
        for logged in events:
            self.shelf.take(self.topology.apply(logged.sequence, logged.event))
            self.position = logged.sequence

    def suppose(self, events: Sequence[DomainEvent]) -> None:
        """Let events happen that did not."""
        for event in events:
            self.position += 1
            self.shelf.take(self.topology.apply(self.position, event))


def moment_of(position: int, contents: Mapping[str, bytes]) -> Moment:
    """The moment at which STATE held this, at no cost to whoever holds it too. Raises `DamagedStateError`."""
    records = [SubjectRecord(subject=subject, record=decode_record(payload)) for subject, payload in contents.items()]
    topology, undone = restore(records)
    assert not undone, "what a shelf holds is purged"
    topology.position = position
    return Moment(position, topology, Shelf(contents))


async def advance(client: Client, moment: Moment, until: int, rest: float = 0.0) -> LoggedEvent | None:
    """Let all events happen up to a position to which the log has come; returns the last of them, None for none. After
    each few, others may run, and for `rest` times as long as these took nothing happens here.

    Raises `UnavailableError`, and `InternalError` where the log cannot be read.
    """
    last: LoggedEvent | None = None
    now = asyncio.get_running_loop().time
    async with aclosing(log.between(client, moment.position, until)) as batches:
        async for batch in batches:
            for start in range(0, len(batch), _AT_ONCE):
                began = now()
                moment.apply(batch[start : start + _AT_ONCE])
                await asyncio.sleep(rest * (now() - began))
            last = batch[-1]
    moment.position = until
    return last
