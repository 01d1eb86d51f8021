"""The decisions about networks. Pure."""

from __future__ import annotations

from uuid import UUID

from events import cidr
from events.commands import (
    CreateNetwork,
    DeleteNetwork,
    RenameNetwork,
    SetDefaultNetwork,
    SetRouteReflectorMode,
)
from events.domain import (
    REGISTRY_ID,
    ROUTING_ID,
    DefaultNetworkSet,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    NetworkUnrouted,
    RouteReflectorModeSet,
)
from events.errors import CidrOverlapError, InUseError, NameTakenError, RouteOverlapError
from events.fields import check_network_name
from services.allocator.aggregates import NetworkEntry
from services.allocator.desk import Desk, id_taken
from services.allocator.lookups import find_network, require_free_id


def create_network(desk: Desk, command: CreateNetwork) -> None:
    """A new network with a name of its own and a range that no other network, route or virtual IP touches."""
    name = check_network_name(command.name)
    network_cidr = cidr.parse_network_cidr(command.network_cidr)
    _require_free_name(desk, name)
    require_free_id(desk, command.network_id)
    if desk.network(command.network_id).version:
        raise id_taken(command.network_id, "a deleted network")
    record_creation(
        desk, NetworkEntry(command.network_id, name, network_cidr, command.route_reflector_mode), command.is_default
    )


def record_creation(desk: Desk, entry: NetworkEntry, is_default: bool) -> None:
    """Record that a network is there, if its range is free: its name and id must be. Raises `CidrOverlapError`,
    `RouteOverlapError`."""
    network_cidr = entry.network_cidr
    overlapping = desk.registry.overlapping(network_cidr)
    if overlapping is not None:
        raise CidrOverlapError(
            f"{network_cidr} shares addresses with {overlapping.network_cidr} of the network {overlapping.name}.",
            hint="Choose a range that no other network of the account touches.",
            field="network_cidr",
        )
    claimed = desk.routing.overlapping(network_cidr)
    if claimed is not None:
        prefix, owner = claimed
        raise RouteOverlapError(
            f"{network_cidr} shares addresses with {prefix} of {desk.routing.claimant(owner)}.",
            hint="Choose a range that no route or virtual IP touches, or take the prefix out of there first.",
            field="network_cidr",
        )
    desk.record(
        NetworkCreated,
        REGISTRY_ID,
        network_id=entry.network_id,
        name=entry.name,
        network_cidr=network_cidr,
        route_reflector_mode=entry.route_reflector_mode,
        is_default=is_default,
    )


def rename_network(desk: Desk, command: RenameNetwork) -> None:
    """Another name, again unique; a name that differs in case only may be taken by the network itself."""
    entry = find_network(desk, command.network_id)
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
        find_network(desk, command.network_id)
    if command.network_id != before:
        desk.record(DefaultNetworkSet, REGISTRY_ID, network_id=command.network_id, previous_network_id=before)


def set_route_reflector_mode(desk: Desk, command: SetRouteReflectorMode) -> None:
    """On or off; nothing happens where it is so already."""
    entry = find_network(desk, command.network_id)
    if entry.route_reflector_mode != command.enabled:
        desk.record(RouteReflectorModeSet, REGISTRY_ID, network_id=entry.network_id, enabled=command.enabled)


def delete_network(desk: Desk, command: DeleteNetwork) -> None:
    """The network goes, and no route policy or the like names it; its assignments go with it, which needs force."""
    entry = find_network(desk, command.network_id)
    machine_count = len(desk.network(entry.network_id).members)
    if machine_count and not command.force:
        raise InUseError(
            f"{_machines(machine_count)} still assigned to the network {entry.name}.",
            hint="Unassign them first, or delete it with force (--force, force=true), which unassigns them all.",
        )
    if desk.routing.names_network(entry.network_id):
        desk.record(NetworkUnrouted, ROUTING_ID, network_id=entry.network_id)
    desk.record(
        NetworkDeleted,
        REGISTRY_ID,
        network_id=entry.network_id,
        name=entry.name,
        machine_count=machine_count,
    )


def _require_free_name(desk: Desk, name: str, but_for: UUID | None = None) -> None:
    holder = desk.registry.names.get(name.lower())
    if holder is not None and holder != but_for:
        raise NameTakenError(
            f"There is a network named {desk.registry.networks[holder].name} already.",
            hint="Choose another name; names that differ only in case count as the same.",
            field="name",
        )


def _machines(count: int) -> str:
    return "1 machine is" if count == 1 else f"{count} machines are"
