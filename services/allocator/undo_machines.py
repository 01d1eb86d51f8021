"""What takes back the events of machines. Pure."""

from __future__ import annotations

from typing import cast
from uuid import UUID

from events.commands import DeleteMachine, RenameMachine, SetTransit
from events.domain import (
    ACCESS_ID,
    ROUTING_ID,
    DomainEvent,
    MachineEnrolled,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachineTransitSet,
)
from events.errors import CannotUndoError
from services.allocator import machines
from services.allocator.aggregates import Machine
from services.allocator.desk import Placed
from services.allocator.lookups import memberships
from services.allocator.undo_case import Case, Touches, is_about


def registered(case: Case, placed: Placed, event: MachineRegistered) -> None:
    """The machine is deleted, if it is no more than a name yet: nothing happened to it, and no agent speaks as it."""
    machine = case.machine(placed, event.machine_id)
    desk = case.desk
    if event.actor == f"machine:{machine.id}":
        raise CannotUndoError(
            f"The machine {machine.hostname} made itself known; it would come to nothing but its id being spent.",
            hint="Unassign it where it is not wanted, or delete it: wireloom machine delete",
        )
    if machine.id in desk.access.identities:
        enrolled = is_about(MachineEnrolled, machine_id=machine.id)
        raise case.changed(placed, f"The machine {machine.hostname} enrolled", enrolled, ACCESS_ID)
    place = next(memberships(desk, machine.id), None)
    if place is not None:
        entry, _ = place
        what = f"The machine {machine.hostname} was assigned to the network {entry.name}"
        raise case.changed(placed, what, _assigns(machine.id), entry.network_id)
    if desk.routing.names_machine(machine.id):
        what = f"The machine {machine.hostname} was named by a route, a virtual IP, a policy or the like"
        raise case.changed(placed, what, _names(machine.id), ROUTING_ID)
    if (machine.hostname, machine.agent_version, machine.transit) != (event.hostname, event.agent_version, "auto"):
        raise case.changed(placed, f"The machine {event.hostname} was changed", is_about(DomainEvent))
    machines.delete_machine(desk, DeleteMachine(machine_id=machine.id, **case.given))


def renamed(case: Case, placed: Placed, event: MachineRenamed) -> None:
    """The hostname before."""
    machine = case.machine(placed, event.machine_id)
    if machine.hostname != event.hostname:
        raise case.changed(placed, f"The machine {event.hostname} was renamed again", is_about(MachineRenamed))
    command = RenameMachine(machine_id=machine.id, hostname=event.previous_hostname, **case.given)
    machines.rename_machine(case.desk, command)


def transit_set(case: Case, placed: Placed, event: MachineTransitSet) -> None:
    """What was said before about traffic through it."""
    machine = case.machine(placed, event.machine_id)
    if machine.transit != event.transit:
        what = f"It was changed again whether traffic may go through the machine {machine.hostname}"
        raise case.changed(placed, what, is_about(MachineTransitSet))
    before = cast(Machine, case.desk.library.archive.before(event)).transit
    machines.set_transit(case.desk, SetTransit(machine_id=machine.id, transit=before, **case.given))


def _assigns(machine_id: UUID) -> Touches:
    def touches(event: DomainEvent) -> bool:
        return isinstance(event, MachinesAssigned) and any(each.machine_id == machine_id for each in event.assignments)

    return touches


def _names(machine_id: UUID) -> Touches:
    def touches(event: DomainEvent) -> bool:
        return machine_id in (*getattr(event, "machine_ids", ()), getattr(event, "machine_id", None))

    return touches
