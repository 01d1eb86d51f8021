"""The decisions: each command, with the state it meets, into events or a refusal. Pure.

A decider looks first and records last: once it has recorded an event it refuses no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from events import cidr
from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateNetwork,
    DeleteMachine,
    DeleteNetwork,
    RegisterMachine,
    RegisterMembership,
    RenameMachine,
    RenameNetwork,
    SetDefaultNetwork,
    SetRouteReflectorMode,
    UnassignMachine,
)
from events.domain import (
    REGISTRY_ID,
    Assignment,
    DefaultNetworkSet,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    RouteReflectorModeSet,
)
from events.errors import (
    AddressUnavailableError,
    CidrOverlapError,
    InUseError,
    KeyTakenError,
    MachineDeletedError,
    NameTakenError,
    NetworkFullError,
    NotFoundError,
)
from events.fields import check_hostname, check_network_name
from services.allocator.aggregates import Machine, Member, Network, NetworkEntry
from services.allocator.desk import Desk, id_taken

ASSIGNMENTS_PER_EVENT = 500
"""So many at most stand in one event; more become several events of one atomic change."""

MAX_BATCH_EVENTS = 1000
"""JetStream takes so many messages at most in one atomic batch."""


def create_network(desk: Desk, command: CreateNetwork) -> None:
    """A new network with a name of its own and a range that no other network touches."""
    registry = desk.registry
    name = check_network_name(command.name)
    network_cidr = cidr.parse_network_cidr(command.network_cidr)
    _require_free_name(desk, name)
    if command.network_id == REGISTRY_ID or command.network_id in registry.networks:
        raise id_taken(command.network_id, "the registry" if command.network_id == REGISTRY_ID else "a network")
    if desk.network(command.network_id).version:
        raise id_taken(command.network_id, "a deleted network")
    overlapping = registry.overlapping(network_cidr)
    if overlapping is not None:
        raise CidrOverlapError(
            f"{network_cidr} shares addresses with {overlapping.network_cidr} of the network {overlapping.name}.",
            hint="Choose a range that no other network of the account touches.",
            field="network_cidr",
        )
    desk.record(
        NetworkCreated,
        REGISTRY_ID,
        network_id=command.network_id,
        name=name,
        network_cidr=network_cidr,
        route_reflector_mode=command.route_reflector_mode,
        is_default=command.is_default,
    )


def rename_network(desk: Desk, command: RenameNetwork) -> None:
    """Another name, again unique; a name that differs in case only may be taken by the network itself."""
    entry = _network_entry(desk, command.network_id)
    name = check_network_name(command.name)
    if name == entry.name:
        return
    _require_free_name(desk, name, but_for=entry.network_id)
    desk.record(NetworkRenamed, REGISTRY_ID, network_id=entry.network_id, name=name, previous_name=entry.name)


def set_default_network(desk: Desk, command: SetDefaultNetwork) -> None:
    """One default at most: setting one clears the other."""
    before = desk.registry.default_network_id
    if command.only_if_default not in (None, before):
        return
    if command.network_id is not None:
        _network_entry(desk, command.network_id)
    if command.network_id != before:
        desk.record(DefaultNetworkSet, REGISTRY_ID, network_id=command.network_id, previous_network_id=before)


def set_route_reflector_mode(desk: Desk, command: SetRouteReflectorMode) -> None:
    """On or off; nothing happens where it is so already."""
    entry = _network_entry(desk, command.network_id)
    if entry.route_reflector_mode != command.enabled:
        desk.record(RouteReflectorModeSet, REGISTRY_ID, network_id=entry.network_id, enabled=command.enabled)


def delete_network(desk: Desk, command: DeleteNetwork) -> None:
    """The network goes, by one event; its assignments go with it, which needs force."""
    entry = _network_entry(desk, command.network_id)
    machine_count = len(desk.network(entry.network_id).members)
    if machine_count and not command.force:
        raise InUseError(
            f"{_machines(machine_count)} still assigned to the network {entry.name}.",
            hint="Unassign them first, or delete it with force (--force, force=true), which unassigns them all.",
        )
    desk.record(
        NetworkDeleted,
        REGISTRY_ID,
        network_id=entry.network_id,
        name=entry.name,
        machine_count=machine_count,
    )


def register_machine(desk: Desk, command: RegisterMachine) -> None:
    """A new machine; a known one keeps its hostname."""
    if command.machine_id == REGISTRY_ID or command.machine_id in desk.registry.networks:
        raise id_taken(command.machine_id, "the registry" if command.machine_id == REGISTRY_ID else "a network")
    hostname = check_hostname(command.hostname)
    machine = desk.machine(command.machine_id, assume_new=True)
    if machine is None:
        desk.record(
            MachineRegistered,
            command.machine_id,
            machine_id=command.machine_id,
            hostname=hostname,
            agent_version=command.agent_version,
        )
    elif machine.deleted:
        raise _deleted(machine)
    elif command.agent_version and command.agent_version != machine.agent_version:
        desk.record(MachineAgentUpdated, machine.id, machine_id=machine.id, agent_version=command.agent_version)


def rename_machine(desk: Desk, command: RenameMachine) -> None:
    """Another hostname; several machines may have the same."""
    machine = _machine(desk, command.machine_id)
    hostname = check_hostname(command.hostname)
    if hostname != machine.hostname:
        desk.record(
            MachineRenamed,
            machine.id,
            machine_id=machine.id,
            hostname=hostname,
            previous_hostname=machine.hostname,
        )


def delete_machine(desk: Desk, command: DeleteMachine) -> None:
    """The machine goes, and by force out of all its networks, in one atomic change."""
    machine = _machine(desk, command.machine_id)
    memberships = [
        (entry, network.members[machine.id])
        for entry in desk.registry.networks.values()
        if machine.id in (network := desk.network(entry.network_id)).members
    ]
    if memberships and not command.force:
        names = ", ".join(sorted(entry.name for entry, _ in memberships)[:5])
        raise InUseError(
            f"The machine {machine.hostname} is still assigned to {names}.",
            hint="Unassign it first, or delete it with force (--force, force=true), which unassigns it everywhere.",
        )
    if len(memberships) >= MAX_BATCH_EVENTS:
        raise InUseError(
            f"The machine {machine.hostname} is in {len(memberships)} networks, too many to leave in one change.",
            hint=f"Unassign it until it is in fewer than {MAX_BATCH_EVENTS}.",
        )
    for entry, member in memberships:
        desk.record(
            MachinesUnassigned,
            entry.network_id,
            network_id=entry.network_id,
            assignments=(_assignment(machine.id, member),),
        )
    desk.record(MachineDeleted, machine.id, machine_id=machine.id, hostname=machine.hostname)


def assign_machine(desk: Desk, command: AssignMachine) -> None:
    """The requested address if it is free, else the lowest free one; a machine that is assigned keeps its own."""
    entry = _network_entry(desk, command.network_id)
    machine = _machine(desk, command.machine_id)
    network = desk.network(entry.network_id)
    member = network.members.get(machine.id)
    if member is None:
        _require_room(entry, network, 1)
        address = _requested(entry, network, command.address)
        desk.record(
            MachinesAssigned,
            entry.network_id,
            network_id=entry.network_id,
            assignments=(Assignment(machine_id=machine.id, address=address),),
        )
    elif command.address is not None and int(command.address) != member.address:
        raise AddressUnavailableError(
            f"{machine.hostname} is in {entry.name} already, at {IPv4Address(member.address)}.",
            hint="An address does not change while the machine stays: unassign it first.",
            field="address",
        )
    else:
        desk.answer((_assignment(machine.id, member),))


def assign_machines(desk: Desk, command: AssignMachines) -> None:
    """All of them or none, each at the lowest free address; those in the network already keep theirs."""
    entry = _network_entry(desk, command.network_id)
    network = desk.network(entry.network_id)
    asked = list(dict.fromkeys(command.machine_ids))
    present = [machine_id for machine_id in asked if machine_id in network.members]
    joining = [machine_id for machine_id in asked if machine_id not in network.members]
    _require_machines(desk, joining)
    _require_room(entry, network, len(joining))
    desk.answer(tuple(_assignment(machine_id, network.members[machine_id]) for machine_id in present))
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


def unassign_machine(desk: Desk, command: UnassignMachine) -> None:
    """The machine leaves, and its address is free again."""
    entry = _network_entry(desk, command.network_id)
    member = _member(desk, entry, command.machine_id)
    desk.record(
        MachinesUnassigned,
        entry.network_id,
        network_id=entry.network_id,
        assignments=(_assignment(command.machine_id, member),),
    )


def register_membership(desk: Desk, command: RegisterMembership) -> None:
    """The machine's own key, port and endpoint candidates; no two machines of a network share a key."""
    entry = _network_entry(desk, command.network_id)
    member = _member(desk, entry, command.machine_id)
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


DECIDERS: dict[type[Command], Callable[[Desk, Any], None]] = {
    CreateNetwork: create_network,
    RenameNetwork: rename_network,
    SetDefaultNetwork: set_default_network,
    SetRouteReflectorMode: set_route_reflector_mode,
    DeleteNetwork: delete_network,
    RegisterMachine: register_machine,
    RenameMachine: rename_machine,
    DeleteMachine: delete_machine,
    AssignMachine: assign_machine,
    AssignMachines: assign_machines,
    UnassignMachine: unassign_machine,
    RegisterMembership: register_membership,
}
"""Which function decides which command."""


def _network_entry(desk: Desk, network_id: UUID) -> NetworkEntry:
    entry = desk.registry.networks.get(network_id)
    if entry is None:
        raise NotFoundError(
            f"There is no network with the id {network_id}.",
            hint="List the networks to find its id; it may have been deleted.",
            field="network_id",
        )
    return entry


def _machine(desk: Desk, machine_id: UUID) -> Machine:
    machine = desk.machine(machine_id)
    if machine is None:
        raise NotFoundError(
            f"There is no machine with the id {machine_id}.",
            hint="List the machines to find its id; a machine is registered when its agent first runs.",
            field="machine_id",
        )
    if machine.deleted:
        raise _deleted(machine)
    return machine


def _member(desk: Desk, entry: NetworkEntry, machine_id: UUID) -> Member:
    member = desk.network(entry.network_id).members.get(machine_id)
    if member is None:
        raise NotFoundError(
            f"The machine {machine_id} is not assigned to the network {entry.name}.",
            hint="Assign it first.",
            field="machine_id",
        )
    return member


def _require_machines(desk: Desk, machine_ids: Sequence[UUID]) -> None:
    unknown = []
    for machine_id in machine_ids:
        machine = desk.machine(machine_id)
        if machine is None or machine.deleted:
            unknown.append(str(machine_id))
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise NotFoundError(
            f"There are no machines with the ids {', '.join(unknown[:5])}{more}. No machine was assigned.",
            hint="List the machines to find their ids.",
            field="machine_ids",
        )


def _require_free_name(desk: Desk, name: str, but_for: UUID | None = None) -> None:
    holder = desk.registry.names.get(name.lower())
    if holder is not None and holder != but_for:
        raise NameTakenError(
            f"There is a network named {desk.registry.networks[holder].name} already.",
            hint="Choose another name; names that differ only in case count as the same.",
            field="name",
        )


def _require_room(entry: NetworkEntry, network: Network, wanted: int) -> None:
    capacity = cidr.capacity(entry.network_cidr)
    free = capacity - network.taken.count
    if wanted > free:
        raise NetworkFullError(
            f"The network {entry.name} ({entry.network_cidr}) has room for {capacity} machines; {free} of its "
            f"addresses are free and {wanted} would be needed.",
            hint="Unassign machines that are not needed, or create a network with a larger CIDR.",
        )


def _requested(entry: NetworkEntry, network: Network, wanted: IPv4Address | None) -> IPv4Address:
    lowest = IPv4Address(network.taken.lowest_free(int(entry.network_cidr.network_address) + 1))
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


def _assignment(machine_id: UUID, member: Member) -> Assignment:
    return Assignment(machine_id=machine_id, address=IPv4Address(member.address))


def _deleted(machine: Machine) -> MachineDeletedError:
    return MachineDeletedError(
        f"The machine {machine.hostname} ({machine.id}) was deleted.",
        hint="A deleted machine's id is not used again: let the machine take a new id and register anew.",
        field="machine_id",
    )


def _machines(count: int) -> str:
    return "1 machine is" if count == 1 else f"{count} machines are"
