"""Which events of the log a chain needs. Pure.

A chain is built from what is known. What it asks for and is not known yet is noted as a *need*; whoever has the log
(`services.gateway.why.finding`) finds that, and the chain is built again, until nothing is missing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Address
from uuid import UUID

from events.domain import DomainEvent
from events.log import LoggedEvent
from services.gateway.ledger import Life


@dataclass(frozen=True)
class At:
    """The event at this position of the log."""

    position: int


@dataclass(frozen=True)
class Timed:
    """The event of an aggregate that has this time, is of one of these kinds, and names `mention`."""

    aggregate_id: UUID
    time: datetime
    kinds: tuple[str, ...]
    mention: str


@dataclass(frozen=True)
class LastOf:
    """The last event of an aggregate up to a position, of one of these kinds, that names `mention`."""

    aggregate_id: UUID
    until: int
    kinds: tuple[str, ...]
    mention: str = ""
    first: int = 1
    """From this position on."""

    def matches(self, event: DomainEvent) -> bool:
        """Whether it is one of them; that it names `mention` is for who has its text."""
        return event.kind in self.kinds


@dataclass(frozen=True)
class Networks:
    """Every network that there was up to a position."""

    until: int


@dataclass(frozen=True)
class Taken:
    """The addresses of a network that were taken right before a position."""

    network_id: UUID
    position: int


Need = At | Timed | LastOf | Networks | Taken


@dataclass(frozen=True)
class Found:
    """The event that was needed, if any; and whether all was looked through that might have it."""

    event: LoggedEvent | None = None
    is_whole: bool = True


Answer = Found | dict[UUID, Life] | frozenset[IPv4Address] | None
"""What a need comes to. `Taken` has None where that would take too long."""


class Known:
    """What was found."""

    def __init__(self) -> None:
        self.answers: dict[Need, Answer] = {}
        self.missing: dict[Need, None] = {}
        """What was asked for and is not known yet, in that order."""

    def at(self, position: int) -> LoggedEvent | None:
        """The event at a position."""
        return self._found(At(position)).event

    def timed(self, aggregate_id: UUID, time: datetime, kinds: tuple[str, ...], mention: UUID) -> Found:
        """See `Timed`."""
        return self._found(Timed(aggregate_id, time, kinds, str(mention)))

    def last(self, need: LastOf) -> Found:
        """See `LastOf`."""
        return self._found(need)

    def networks(self, until: int) -> dict[UUID, Life]:
        """See `Networks`."""
        answer = self._answer(Networks(until))
        return answer if isinstance(answer, dict) else {}

    def taken(self, network_id: UUID, position: int) -> frozenset[IPv4Address] | None:
        """See `Taken`; None where it is not known."""
        answer = self._answer(Taken(network_id, position))
        return answer if isinstance(answer, frozenset) else None

    def _found(self, need: Need) -> Found:
        answer = self._answer(need)
        return answer if isinstance(answer, Found) else Found()

    def _answer(self, need: Need) -> Answer:
        if need not in self.answers:
            self.missing[need] = None
            return None
        return self.answers[need]
