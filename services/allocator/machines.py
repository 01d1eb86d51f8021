"""The decisions about machines. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from events.commands import DeleteMachine, EnrolMachine, RegisterMachine, RenameMachine, RevokeMachine, SetTransit
from events.domain import (
    ACCESS_ID,
    ROUTING_ID,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachineRevoked,
    MachinesUnassigned,
    MachineTransitSet,
    MachineUnrouted,
)
from events.errors import ConflictError, InUseError
from events.fields import check_hostname
from services.allocator.access import Identity
from services.allocator.aggregates import Machine, Member, NetworkEntry
from services.allocator.desk import Desk
from services.allocator.lookups import (
    MAX_BATCH_EVENTS,
    assignment_of,
    deleted,
    find_machine,
    memberships,
    require_free_id,
    require_not_revoked,
)

OTHER_EVENTS = 3
"""So many events besides leaving networks come with a machine's deletion."""


def register_machine(desk: Desk, command: RegisterMachine) -> None:
    """A new machine; a known one keeps its hostname."""
    require_free_id(desk, command.machine_id)
    hostname = check_hostname(command.hostname)
    machine = desk.machine(command.machine_id, assume_new=command.machine_id not in desk.access.identities)
    if machine is not None and machine.deleted:
        raise deleted(machine)
    require_not_revoked(desk, command.machine_id)
    record_presence(desk, machine, command, hostname)


def record_presence(
    desk: Desk, machine: Machine | None, command: RegisterMachine | EnrolMachine, hostname: str
) -> None:
    """Record what is new of a machine: itself, or another version of its agent."""
    if machine is None:
        desk.record(
            MachineRegistered,
            command.machine_id,
            machine_id=command.machine_id,
            hostname=hostname,
            agent_version=command.agent_version,
        )
    elif command.agent_version and command.agent_version != machine.agent_version:
        desk.record(MachineAgentUpdated, machine.id, machine_id=machine.id, agent_version=command.agent_version)


def rename_machine(desk: Desk, command: RenameMachine) -> None:
    """Another hostname; several machines may have the same."""
    machine = find_machine(desk, command.machine_id)
    hostname = check_hostname(command.hostname)
    if hostname != machine.hostname:
        desk.record(
            MachineRenamed,
            machine.id,
            machine_id=machine.id,
            hostname=hostname,
            previous_hostname=machine.hostname,
        )


def set_transit(desk: Desk, command: SetTransit) -> None:
    """Whether others' traffic may go through the machine, in every network that it is or will be in."""
    machine = find_machine(desk, command.machine_id)
    if command.transit != machine.transit:
        desk.record(MachineTransitSet, machine.id, machine_id=machine.id, transit=command.transit)


def delete_machine(desk: Desk, command: DeleteMachine) -> None:
    """The machine goes, and by force out of all its networks, in one atomic change; its key counts no more, and
    no route or the like names it."""
    machine = find_machine(desk, command.machine_id)
    places = list(memberships(desk, machine.id))
    if places and not command.force:
        names = ", ".join(sorted(entry.name for entry, _ in places)[:5])
        raise InUseError(
            f"The machine {machine.hostname} is still assigned to {names}.",
            hint="Unassign it first, or delete it with force (--force, force=true), which unassigns it everywhere.",
        )
    _require_one_change(machine, len(places))
    _record_leaving(desk, machine, places)
    identity = desk.access.identities.get(machine.id)
    if identity is not None and not identity.revoked:
        _record_revocation(desk, identity)
    desk.record(MachineDeleted, machine.id, machine_id=machine.id, hostname=machine.hostname)


def revoke_machine(desk: Desk, command: RevokeMachine) -> None:
    """The machine leaves all its networks and its key counts no more, in one atomic change; it stays known."""
    machine = find_machine(desk, command.machine_id)
    identity = desk.access.identities.get(machine.id)
    if identity is None:
        raise ConflictError(
            f"The machine {machine.hostname} has not enrolled, so it has no key that could be revoked.",
            hint="Delete it instead.",
            field="machine_id",
        )
    if identity.revoked:
        return
    places = list(memberships(desk, machine.id))
    _require_one_change(machine, len(places))
    _record_leaving(desk, machine, places)
    _record_revocation(desk, identity)


def _require_one_change(machine: Machine, network_count: int) -> None:
    if network_count + OTHER_EVENTS > MAX_BATCH_EVENTS:
        raise InUseError(
            f"The machine {machine.hostname} is in {network_count} networks, too many to leave in one change.",
            hint=f"Unassign it until it is in at most {MAX_BATCH_EVENTS - OTHER_EVENTS}.",
        )


def _record_leaving(desk: Desk, machine: Machine, places: Sequence[tuple[NetworkEntry, Member]]) -> None:
    for entry, member in places:
        desk.record(
            MachinesUnassigned,
            entry.network_id,
            network_id=entry.network_id,
            assignments=(assignment_of(machine.id, member),),
        )
    if desk.routing.names_machine(machine.id):
        desk.record(MachineUnrouted, ROUTING_ID, machine_id=machine.id)


def _record_revocation(desk: Desk, identity: Identity) -> None:
    desk.record(MachineRevoked, ACCESS_ID, machine_id=identity.machine_id, identity_key=identity.identity_key)
