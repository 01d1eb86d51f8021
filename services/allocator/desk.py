"""Where decisions are made: a view of the aggregates on which events are tried before they are written. Pure.

Several commands may be decided on one desk, each seeing what those before it recorded; what a refused command did is
taken back. Nothing is written here: the events go to the log together, or not at all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple, Protocol, cast
from uuid import UUID

from events.commands import Command, Outcome
from events.domain import ACCESS_ID, REGISTRY_ID, ROUTING_ID, Assignment, DomainEvent, MachinesAssigned
from events.errors import IdTakenError
from services.allocator.access import Access
from services.allocator.aggregates import (
    AGGREGATE_OF,
    Aggregate,
    Machine,
    Network,
    Registry,
    evolve,
)
from services.allocator.routing import Routing


class Placed(NamedTuple):
    """An event and its position in the log."""

    position: int
    event: DomainEvent


class Archive(Protocol):
    """What the log tells of how the aggregates came to be."""

    def between(self, first: int, last: int) -> list[Placed]:
        """The events from position `first` to `last`, at most as many as fit in one change and one more."""

    def neighbours(self, first: int, last: int) -> list[Placed]:
        """The event before the position `first` and the one after `last`, where there are such."""

    def before(self, event: DomainEvent) -> Aggregate:
        """The event's aggregate as it was before it. Reads the aggregate's history, from a snapshot if it can."""

    def since(self, aggregate_id: UUID, version: int = 0) -> list[Placed]:
        """The events of an aggregate after a version, in order."""


class Library(Protocol):
    """Where a desk gets the aggregates that it has not touched, and the archive."""

    @property
    def archive(self) -> Archive:
        """Where a decision that needs more than the present reads what was."""

    def find(self, kind: type[Aggregate], aggregate_id: UUID, *, assume_new: bool = False) -> Aggregate | None:
        """The newest known state of an aggregate, or None if it has no events.

        With `assume_new` it may say None of one that is not at hand: the log refuses a first event where one stands
        already, and the command is then decided anew.
        """


@dataclass(frozen=True, slots=True)
class Decided:
    """What one accepted command came to."""

    command: Command
    events: tuple[DomainEvent, ...]
    assignments: tuple[Assignment, ...]

    def outcome(self, sequence: int) -> Outcome:
        """What it came to, for who gave the command."""
        return Outcome(
            command_id=self.command.command_id,
            sequence=sequence,
            changed=bool(self.events),
            assignments=self.assignments,
        )


@dataclass
class Desk:
    """One desk, for the commands that are decided together."""

    library: Library
    clock: Callable[[], datetime]
    changed: dict[UUID, Aggregate] = field(default_factory=dict)
    """Every aggregate that the recorded events touch, as it is after them."""
    events: list[DomainEvent] = field(default_factory=list)
    """The recorded events of all commands, in order."""
    _command: Command | None = None
    _now: datetime | None = None
    _known: tuple[Assignment, ...] = ()

    def decide(self, command: Command, decider: Callable[[Desk, Any], None]) -> Decided:
        """Let `decider` decide the command. Raises its refusal; the desk is then as it was before."""
        before, recorded = dict(self.changed), len(self.events)
        self._command, self._known, self._now = command, (), self.clock()
        try:
            decider(self, command)
        except BaseException:
            self.changed = before
            del self.events[recorded:]
            raise
        events = tuple(self.events[recorded:])
        return Decided(command, events, self._known + assignments_of(events))

    def now(self) -> datetime:
        """When the command at hand is decided: one moment for all that follows from it."""
        return cast(datetime, self._now)

    @property
    def registry(self) -> Registry:
        """The account's registry."""
        return cast(Registry, self._find(Registry, REGISTRY_ID) or Registry(REGISTRY_ID))

    @property
    def access(self) -> Access:
        """The account's access list."""
        return cast(Access, self._find(Access, ACCESS_ID) or Access(ACCESS_ID))

    @property
    def routing(self) -> Routing:
        """The account's routing list."""
        return cast(Routing, self._find(Routing, ROUTING_ID) or Routing(ROUTING_ID))

    def network(self, network_id: UUID) -> Network:
        """A network's roster, empty if nobody was ever assigned."""
        return cast(Network, self._find(Network, network_id) or Network(network_id))

    def machine(self, machine_id: UUID, *, assume_new: bool = False) -> Machine | None:
        """A machine, also a deleted one; None if it was never registered. With `assume_new` only for a decision that
        records its first event if there is none."""
        return cast("Machine | None", self._find(Machine, machine_id, assume_new=assume_new))

    def record(self, event_type: type[DomainEvent], aggregate_id: UUID, **fields: Any) -> None:
        """Record an event of the command at hand as the aggregate's next."""
        command = cast(Command, self._command)
        kind = cast("type[Aggregate]", AGGREGATE_OF[event_type])
        aggregate = self._find(kind, aggregate_id, assume_new=True) or kind(aggregate_id)
        event = event_type(
            originator_id=aggregate_id,
            originator_version=aggregate.version + 1,
            previous_hash=aggregate.last_hash,
            time=self.now(),
            actor=command.actor,
            command_id=command.command_id,
            **fields,
        )
        self.changed[aggregate_id] = evolve(aggregate, event)
        self.events.append(event)

    def answer(self, assignments: tuple[Assignment, ...]) -> None:
        """Have assignments in the answer that stood before the command came."""
        self._known = assignments

    def _find(self, kind: type[Aggregate], aggregate_id: UUID, *, assume_new: bool = False) -> Aggregate | None:
        found = self.changed.get(aggregate_id)
        if found is None:
            found = self.library.find(kind, aggregate_id, assume_new=assume_new)
        if found is not None and not isinstance(found, kind):
            raise id_taken(aggregate_id, _NAMES[type(found)])
        return found


_NAMES: dict[type[Aggregate], str] = {
    Registry: "the registry",
    Access: "the access list",
    Routing: "the routing list",
    Network: "a network",
    Machine: "a machine",
}


def id_taken(taken: UUID, owner: str) -> IdTakenError:
    """The refusal of an id that belongs to `owner`, something else than is meant."""
    return IdTakenError(f"The id {taken} belongs to {owner}.", hint="Check the id; for something new choose a new one.")


def assignments_of(events: tuple[DomainEvent, ...]) -> tuple[Assignment, ...]:
    """The assignments that the events made."""
    return tuple(
        assignment for event in events if isinstance(event, MachinesAssigned) for assignment in event.assignments
    )
