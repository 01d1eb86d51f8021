"""One undo as it is decided: the command's events, the state they meet now, and the refusals. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from uuid import UUID

from events.commands import Undo
from events.domain import REGISTRY_ID, DomainEvent, MachineDeleted, NetworkDeleted
from events.errors import CannotUndoError
from services.allocator.aggregates import Machine, NetworkEntry, Registry
from services.allocator.desk import Desk, Placed
from services.allocator.routing import Routing

Touches = Callable[[Any], bool]
"""Whether an event changed the thing that an undo is about."""


@dataclass(frozen=True, slots=True)
class Case:
    """An undo at hand."""

    desk: Desk
    command: Undo
    events: tuple[Placed, ...]
    """What the other command did, in order."""

    @property
    def given(self) -> dict[str, Any]:
        """What a command has that is decided in the undo's name."""
        return {"command_id": self.command.command_id, "actor": self.command.actor}

    def network(self, placed: Placed, network_id: UUID) -> NetworkEntry:
        """A network that is still there. Raises `CannotUndoError`."""
        entry = self.desk.registry.networks.get(network_id)
        if entry is None:
            raise self.changed(placed, "The network was deleted", network_deleted(network_id), REGISTRY_ID)
        return entry

    def machine(self, placed: Placed, machine_id: UUID) -> Machine:
        """A machine that is still there. Raises `CannotUndoError`."""
        machine = self.desk.machine(machine_id)
        if machine is None or machine.deleted:
            name = machine_id if machine is None else machine.hostname
            raise self.changed(placed, f"The machine {name} was deleted", is_about(MachineDeleted), machine_id)
        return machine

    def registry_before(self, event: DomainEvent) -> Registry:
        """The registry as it was before one of its events."""
        return cast(Registry, self.desk.library.archive.before(event))

    def routing_before(self, event: DomainEvent) -> Routing:
        """The routing list as it was before one of its events."""
        return cast(Routing, self.desk.library.archive.before(event))

    def later(self, placed: Placed, touches: Touches, aggregate_id: UUID | None = None) -> Placed | None:
        """The last event after `placed` that touches something; of the same aggregate, where no other is named.

        Reads the aggregate's events since; of another one, all."""
        own = placed.event.originator_id
        version = placed.event.originator_version if aggregate_id in (None, own) else 0
        events = self.desk.library.archive.since(aggregate_id or own, version)
        return next(
            (each for each in reversed(events) if each.position > placed.position and touches(each.event)), None
        )

    def changed(self, placed: Placed, what: str, touches: Touches, aggregate_id: UUID | None = None) -> CannotUndoError:
        """The refusal where `what` has happened since the event, with who did it."""
        later = self.later(placed, touches, aggregate_id)
        if later is None:
            return CannotUndoError(f"{what} since event {placed.position}.", hint="Look at the log: wireloom log")
        return self.since(what, later)

    def since(self, what: str, later: Placed) -> CannotUndoError:
        """The refusal for what a later event did."""
        return CannotUndoError(
            f"{what} since: event {later.position}, by {later.event.actor} at {shown(later.event.time)}.",
            hint=f"Undo that first, if it can be: wireloom undo {later.event.command_id}",
        )


def shown(moment: datetime) -> str:
    """A time for people."""
    return moment.strftime("%Y-%m-%d %H:%M UTC")


def is_about(*event_types: type[DomainEvent], **fields: object) -> Touches:
    """True of the events of these types whose fields are these."""

    def touches(event: DomainEvent) -> bool:
        return isinstance(event, event_types) and all(
            getattr(event, name, value) == value for name, value in fields.items()
        )

    return touches


def network_deleted(network_id: UUID) -> Touches:
    """True of a network's deletion."""
    return is_about(NetworkDeleted, network_id=network_id)
