"""The decisions about who is in which network, at which address and with which key. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from uuid import UUID

from events import cidr
from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    Outcome,
    RegisterMembership,
    RotateKeys,
    UnassignMachine,
)
from events.domain import (
    Assignment,
    KeyRotationRequested,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
)
from events.errors import AddressUnavailableError, ConflictError, KeyTakenError, MachineRevokedError, NotFoundError
from services.allocator.aggregates import Network, NetworkEntry
from services.allocator.desk import Desk
from services.allocator.lookups import (
    MAX_BATCH_EVENTS,
    assignment_of,
    find_machine,
    find_member,
    find_network,
    lowest_free,
    memberships,
    record_assignment,
    require_not_revoked,
    require_room,
)

ASSIGNMENTS_PER_EVENT = 500
"""So many at most stand in one event; more become several events of one atomic change."""


def assign_machine(desk: Desk, command: AssignMachine) -> None:
    """The requested address if it is free, else the lowest free one; a machine that is assigned keeps its own."""
    entry = find_network(desk, command.network_id)
    machine = find_machine(desk, command.machine_id)
    require_not_revoked(desk, machine.id)
    network = desk.network(entry.network_id)
    member = network.members.get(machine.id)
    if member is None:
        require_room(entry, network, 1)
        address = _requested(entry, network, command.address)
        record_assignment(desk, entry, machine.id, address)
    elif command.address is not None and int(command.address) != member.address:
        raise AddressUnavailableError(
            f"{machine.hostname} is in {entry.name} already, at {IPv4Address(member.address)}.",
            hint="An address does not change while the machine stays: unassign it first.",
            field="address",
        )
    else:
        desk.answer((assignment_of(machine.id, member),))


def assign_machines(desk: Desk, command: AssignMachines) -> None:
    """All of them or none, each at the lowest free address; those in the network already keep theirs."""
    entry = find_network(desk, command.network_id)
    network = desk.network(entry.network_id)
    asked = list(dict.fromkeys(command.machine_ids))
    present = [machine_id for machine_id in asked if machine_id in network.members]
    joining = [machine_id for machine_id in asked if machine_id not in network.members]
    _require_machines(desk, joining)
    require_room(entry, network, len(joining))
    desk.answer(tuple(assignment_of(machine_id, network.members[machine_id]) for machine_id in present))
    taken, first = network.taken, int(entry.network_cidr.network_address) + 1
    assignments = []
    for machine_id in joining:
        first = taken.lowest_free(first)
        taken = taken.add(first)
        assignments.append(Assignment(machine_id=machine_id, address=IPv4Address(first)))
    for start in range(0, len(assignments), ASSIGNMENTS_PER_EVENT):
        desk.record(
            MachinesAssigned,
            entry.network_id,
            network_id=entry.network_id,
            assignments=tuple(assignments[start : start + ASSIGNMENTS_PER_EVENT]),
        )


def answer_again(desk: Desk, command: Command, outcome: Outcome) -> Outcome:
    """The answer to a command that was executed before, with those whom it found in the network already: the log does
    not tell of them."""
    if not isinstance(command, AssignMachines):
        return outcome
    told = {assignment.machine_id for assignment in outcome.assignments}
    members = desk.network(command.network_id).members
    present = tuple(
        assignment_of(machine_id, members[machine_id])
        for machine_id in dict.fromkeys(command.machine_ids)
        if machine_id not in told and machine_id in members
    )
    return outcome.model_copy(update={"assignments": present + outcome.assignments}) if present else outcome


def unassign_machine(desk: Desk, command: UnassignMachine) -> None:
    """The machine leaves, and its address is free again."""
    entry = find_network(desk, command.network_id)
    member = find_member(desk, entry, command.machine_id)
    desk.record(
        MachinesUnassigned,
        entry.network_id,
        network_id=entry.network_id,
        assignments=(assignment_of(command.machine_id, member),),
    )


def register_membership(desk: Desk, command: RegisterMembership) -> None:
    """The machine's own key, port and endpoint candidates; no two machines of a network share a key."""
    entry = find_network(desk, command.network_id)
    require_not_revoked(desk, command.machine_id)
    member = find_member(desk, entry, command.machine_id)
    owner = desk.network(entry.network_id).keys.get(command.public_key)
    if owner is not None and owner != command.machine_id:
        raise KeyTakenError(
            f"Another machine of the network {entry.name} has announced the public key {command.public_key}.",
            hint="Make a new key on the machine: a key must never be copied from one machine to another.",
            field="public_key",
        )
    announced = (command.public_key, command.listen_port, command.endpoints)
    if announced != (member.public_key, member.listen_port, member.endpoints):
        desk.record(
            MembershipRegistered,
            entry.network_id,
            network_id=entry.network_id,
            machine_id=command.machine_id,
            public_key=command.public_key,
            listen_port=command.listen_port,
            endpoints=command.endpoints,
        )


def rotate_keys(desk: Desk, command: RotateKeys) -> None:
    """The machine is told to make itself a new key, in one network or in all that it is in."""
    machine = find_machine(desk, command.machine_id)
    require_not_revoked(desk, machine.id)
    if command.network_id is not None:
        entry = find_network(desk, command.network_id)
        places = [(entry, find_member(desk, entry, machine.id))]
    else:
        places = list(memberships(desk, machine.id))
    if not places:
        raise NotFoundError(
            f"The machine {machine.hostname} is in no network, so it has no key to rotate.",
            hint="Assign it to a network first.",
            field="machine_id",
        )
    if len(places) > MAX_BATCH_EVENTS:
        raise ConflictError(
            f"The machine {machine.hostname} is in {len(places)} networks, too many to rotate its keys at once.",
            hint="Rotate them network by network.",
        )
    for entry, member in places:
        desk.record(
            KeyRotationRequested,
            entry.network_id,
            network_id=entry.network_id,
            machine_id=machine.id,
            generation=member.key_generation + 1,
        )


def _require_machines(desk: Desk, machine_ids: Sequence[UUID]) -> None:
    unknown, revoked = [], []
    for machine_id in machine_ids:
        machine = desk.machine(machine_id)
        if machine is None or machine.deleted:
            unknown.append(machine_id)
        elif desk.access.is_revoked(machine_id):
            revoked.append(machine_id)
    if unknown:
        raise NotFoundError(
            f"There are no machines with the ids {_some(unknown)}. No machine was assigned.",
            hint="List the machines to find their ids.",
            field="machine_ids",
        )
    if revoked:
        raise MachineRevokedError(
            f"These machines were revoked: {_some(revoked)}. No machine was assigned.",
            hint="Leave them out.",
            field="machine_ids",
        )


def _some(ids: Sequence[UUID]) -> str:
    more = f" and {len(ids) - 5} more" if len(ids) > 5 else ""
    return ", ".join(map(str, ids[:5])) + more


def _requested(entry: NetworkEntry, network: Network, wanted: IPv4Address | None) -> IPv4Address:
    lowest = lowest_free(entry, network)
    if wanted is None:
        return lowest
    if cidr.host_index(entry.network_cidr, wanted) is None:
        raise AddressUnavailableError(
            f"{wanted} is not an address that the network {entry.name} ({entry.network_cidr}) can assign.",
            hint=f"The lowest free one is {lowest}.",
            field="address",
        )
    if int(wanted) in network.taken:
        raise AddressUnavailableError(
            f"{wanted} is taken in the network {entry.name}.",
            hint=f"The lowest free one is {lowest}.",
            field="address",
        )
    return wanted
