"""What several decisions look up or require. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from uuid import UUID

from events import cidr
from events.domain import ACCESS_ID, REGISTRY_ID, ROUTING_ID, Assignment, MachinesAssigned
from events.errors import (
    MachineDeletedError,
    MachineRevokedError,
    NetworkFullError,
    NotFoundError,
)
from services.allocator.aggregates import Machine, Member, Network, NetworkEntry
from services.allocator.desk import Desk, id_taken

MAX_BATCH_EVENTS = 1000
"""JetStream takes so many messages at most in one atomic batch."""


def find_network(desk: Desk, network_id: UUID) -> NetworkEntry:
    """A network that exists. Raises `NotFoundError`."""
    entry = desk.registry.networks.get(network_id)
    if entry is None:
        raise NotFoundError(
            f"There is no network with the id {network_id}.",
            hint="List the networks to find its id; it may have been deleted.",
            field="network_id",
        )
    return entry


def find_machine(desk: Desk, machine_id: UUID) -> Machine:
    """A machine that exists, though it may be revoked. Raises `NotFoundError`, `MachineDeletedError`."""
    machine = desk.machine(machine_id)
    if machine is None:
        raise NotFoundError(
            f"There is no machine with the id {machine_id}.",
            hint="List the machines to find its id; a machine is registered when its agent first runs.",
            field="machine_id",
        )
    if machine.deleted:
        raise deleted(machine)
    return machine


def find_member(desk: Desk, entry: NetworkEntry, machine_id: UUID) -> Member:
    """A machine's place in a network. Raises `NotFoundError`."""
    member = desk.network(entry.network_id).members.get(machine_id)
    if member is None:
        raise NotFoundError(
            f"The machine {machine_id} is not assigned to the network {entry.name}.",
            hint="Assign it first.",
            field="machine_id",
        )
    return member


def memberships(desk: Desk, machine_id: UUID) -> Iterator[tuple[NetworkEntry, Member]]:
    """Every network that a machine is in, and its place there, in the order of the networks' ids: what is decided must
    not hang on who decides it."""
    for _, entry in sorted(desk.registry.networks.items()):
        member = desk.network(entry.network_id).members.get(machine_id)
        if member is not None:
            yield entry, member


def require_free_id(desk: Desk, new_id: UUID) -> None:
    """That no network, token, account, route, virtual IP or route policy has this id, and that it is not reserved.
    Raises `IdTakenError`.

    One id names one thing: who has an id on the bus hears what is said to it there.
    """
    if new_id == REGISTRY_ID:
        raise id_taken(new_id, "the registry")
    if new_id == ACCESS_ID:
        raise id_taken(new_id, "the access list")
    if new_id == ROUTING_ID:
        raise id_taken(new_id, "the routing list")
    if new_id in desk.registry.networks:
        raise id_taken(new_id, "a network")
    if desk.access.is_used(new_id):
        raise id_taken(new_id, "a token or an account, or did")
    if desk.routing.is_used(new_id):
        raise id_taken(new_id, "a route, a virtual IP or a route policy, or did")


def require_not_revoked(desk: Desk, machine_id: UUID) -> None:
    """That a machine was not revoked. Raises `MachineRevokedError`."""
    if desk.access.is_revoked(machine_id):
        raise revoked(machine_id)


def require_room(entry: NetworkEntry, network: Network, wanted: int) -> None:
    """That so many machines more fit into a network. Raises `NetworkFullError`."""
    capacity = cidr.capacity(entry.network_cidr)
    free = capacity - network.taken.count
    if wanted > free:
        raise NetworkFullError(
            f"The network {entry.name} ({entry.network_cidr}) has room for {capacity} machines; {free} of its "
            f"addresses are free and {wanted} would be needed.",
            hint="Unassign machines that are not needed, or create a network with a larger CIDR.",
        )


def lowest_free(entry: NetworkEntry, network: Network) -> IPv4Address:
    """The lowest address of a network that nobody has; it must have room."""
    return IPv4Address(network.taken.lowest_free(int(entry.network_cidr.network_address) + 1))


def record_assignment(desk: Desk, entry: NetworkEntry, machine_id: UUID, address: IPv4Address) -> None:
    """Record that a machine joins a network."""
    desk.record(
        MachinesAssigned,
        entry.network_id,
        network_id=entry.network_id,
        assignments=(Assignment(machine_id=machine_id, address=address),),
    )


def assignment_of(machine_id: UUID, member: Member) -> Assignment:
    """A member as events and answers name it."""
    return Assignment(machine_id=machine_id, address=IPv4Address(member.address))


def deleted(machine: Machine) -> MachineDeletedError:
    """The refusal of a machine that was deleted."""
    return MachineDeletedError(
        f"The machine {machine.hostname} ({machine.id}) was deleted.",
        hint="A deleted machine's id is not used again: let the machine take a new id and register anew.",
        field="machine_id",
    )


def revoked(machine_id: UUID) -> MachineRevokedError:
    """The refusal of a machine that was revoked."""
    return MachineRevokedError(
        f"The machine {machine_id} was revoked, for good.",
        hint="If it is to come back, delete what its agent keeps, and let it join as a new machine with a new token.",
        field="machine_id",
    )
