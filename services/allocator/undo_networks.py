"""What takes back the events of networks and of who is in them. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address
from uuid import UUID

from events.commands import DeleteNetwork, RenameNetwork, SetRouteReflectorMode
from events.domain import (
    ACCESS_ID,
    REGISTRY_ID,
    ROUTING_ID,
    Assignment,
    BootstrapTokenCreated,
    DefaultNetworkSet,
    DomainEvent,
    GatewaySet,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    PolicyCreated,
    PolicyUpdated,
    ReflectorsPinned,
    RouteReflectorModeSet,
)
from services.allocator import networks
from services.allocator.desk import Placed
from services.allocator.lookups import assignment_of, require_free_id
from services.allocator.members import ASSIGNMENTS_PER_EVENT
from services.allocator.undo_case import Case, Touches, is_about, network_deleted


def created(case: Case, placed: Placed, event: NetworkCreated) -> None:
    """The network goes again, if it is as it was made and nothing came to be in it; the default before is one again."""
    entry = case.network(placed, event.network_id)
    network_id, desk = entry.network_id, case.desk
    if entry.name != event.name:
        raise case.changed(placed, f"The network {event.name} was renamed", _renamed(network_id))
    if entry.route_reflector_mode != event.route_reflector_mode:
        raise case.changed(placed, "The route reflector mode was changed", _mode_set(network_id))
    if (desk.registry.default_network_id == network_id) != event.is_default:
        raise case.changed(placed, "The default network was changed", _moves_default)
    _require_unused(case, placed, event)
    before = case.registry_before(event).default_network_id if event.is_default else None
    if before is not None:
        _require_default(case, placed, before)
    networks.delete_network(desk, DeleteNetwork(network_id=network_id, **case.given))
    if before is not None:
        desk.record(DefaultNetworkSet, REGISTRY_ID, network_id=before, previous_network_id=None)


def renamed(case: Case, placed: Placed, event: NetworkRenamed) -> None:
    """The name before, if nobody has it now."""
    entry = case.network(placed, event.network_id)
    if entry.name != event.name:
        raise case.changed(placed, f"The network {event.name} was renamed again", _renamed(event.network_id))
    _require_name(case, placed, event.previous_name, but_for=event.network_id)
    command = RenameNetwork(network_id=event.network_id, name=event.previous_name, **case.given)
    networks.rename_network(case.desk, command)


def default_set(case: Case, placed: Placed, event: DefaultNetworkSet) -> None:
    """The default before, if it is still there."""
    if case.desk.registry.default_network_id != event.network_id:
        raise case.changed(placed, "The default network was changed again", _moves_default)
    if event.previous_network_id is not None:
        _require_default(case, placed, event.previous_network_id)
    case.desk.record(
        DefaultNetworkSet,
        REGISTRY_ID,
        network_id=event.previous_network_id,
        previous_network_id=event.network_id,
    )


def mode_set(case: Case, placed: Placed, event: RouteReflectorModeSet) -> None:
    """The mode before."""
    entry = case.network(placed, event.network_id)
    if entry.route_reflector_mode != event.enabled:
        raise case.changed(placed, "The route reflector mode was changed again", _mode_set(event.network_id))
    command = SetRouteReflectorMode(network_id=event.network_id, enabled=not event.enabled, **case.given)
    networks.set_route_reflector_mode(case.desk, command)


def deleted(case: Case, placed: Placed, event: NetworkDeleted) -> None:
    """The network as it was, with the same id, and in it all who were, at their addresses. Their agents announce their
    keys anew."""
    desk, network_id = case.desk, event.network_id
    registry = case.registry_before(event)
    entry = registry.networks[network_id]
    again = case.later(placed, network_deleted(network_id))
    if again is not None:
        raise case.since(f"The network {entry.name} came back and was deleted again", again)
    if network_id in desk.registry.networks:
        raise case.changed(placed, f"The network {entry.name} was created again", _created(network_id))
    require_free_id(desk, network_id)
    was_default = registry.default_network_id == network_id
    if was_default and desk.registry.default_network_id is not None:
        raise case.changed(placed, "Another network was made the default one", _moves_default)
    _require_name(case, placed, entry.name)
    overlapping = desk.registry.overlapping(entry.network_cidr)
    if overlapping is not None:
        what = f"The network {overlapping.name} ({overlapping.network_cidr}) took addresses of {entry.network_cidr}"
        raise case.changed(placed, what, _created(overlapping.network_id))
    members = desk.network(network_id).members.items()
    assignments = sorted((assignment_of(*member) for member in members), key=lambda each: each.address)
    _require_machines(case, placed, assignments)
    networks.record_creation(desk, entry, was_default)
    for start in range(0, len(assignments), ASSIGNMENTS_PER_EVENT):
        _record_assigned(case, network_id, tuple(assignments[start : start + ASSIGNMENTS_PER_EVENT]))


def assigned(case: Case, placed: Placed, event: MachinesAssigned) -> None:
    """The machines leave again, if each is where it was put."""
    entry = case.network(placed, event.network_id)
    members = case.desk.network(event.network_id).members
    for assignment in event.assignments:
        member = members.get(assignment.machine_id)
        if member is None or IPv4Address(member.address) != assignment.address:
            hostname = _hostname(case, assignment.machine_id)
            left = _moves(MachinesUnassigned, machine_id=assignment.machine_id)
            raise case.changed(placed, f"The machine {hostname} left the network {entry.name}", left)
    case.desk.record(MachinesUnassigned, event.network_id, network_id=event.network_id, assignments=event.assignments)


def unassigned(case: Case, placed: Placed, event: MachinesUnassigned) -> None:
    """The machines come back, each to the address that it had, if nobody has it now."""
    entry = case.network(placed, event.network_id)
    _require_machines(case, placed, event.assignments)
    network = case.desk.network(event.network_id)
    for assignment in event.assignments:
        joined = _moves(MachinesAssigned, machine_id=assignment.machine_id)
        if assignment.machine_id in network.members:
            hostname = _hostname(case, assignment.machine_id)
            raise case.changed(placed, f"The machine {hostname} was assigned to {entry.name} again", joined)
        if int(assignment.address) in network.taken:
            holder = next(each for each, has in network.members.items() if has.address == int(assignment.address))
            what = f"{assignment.address} in the network {entry.name} was given to {_hostname(case, holder)}"
            raise case.changed(placed, what, _moves(MachinesAssigned, address=assignment.address))
    _record_assigned(case, event.network_id, event.assignments)


def _record_assigned(case: Case, network_id: UUID, assignments: tuple[Assignment, ...]) -> None:
    case.desk.record(MachinesAssigned, network_id, network_id=network_id, assignments=assignments)


def _require_unused(case: Case, placed: Placed, event: NetworkCreated) -> None:
    """That nobody is in the network that was created, and nothing names it. Raises `CannotUndoError`."""
    network_id, desk, name = event.network_id, case.desk, event.name
    if desk.network(network_id).members:
        raise case.changed(
            placed, f"Machines were assigned to the network {name}", is_about(MachinesAssigned), network_id
        )
    if desk.routing.names_network(network_id):
        what = f"The network {name} was named by a route policy, a gateway or pinned route reflectors"
        raise case.changed(placed, what, _names(network_id), ROUTING_ID)
    now = desk.now()
    for token in desk.access.bootstrap_tokens.values():
        counts = not token.revoked and not token.is_used_up and token.expires_at > now
        if token.network_id == network_id and counts:
            made = case.later(placed, is_about(BootstrapTokenCreated, token_id=token.token_id), ACCESS_ID)
            if made is not None:  # else it is of a time before the network was deleted, and created again
                raise case.since(f"A bootstrap token for the network {name} was made", made)


def _require_default(case: Case, placed: Placed, network_id: UUID) -> None:
    if network_id not in case.desk.registry.networks:
        raise case.changed(placed, "The default network before it was deleted", network_deleted(network_id))


def _require_name(case: Case, placed: Placed, name: str, but_for: UUID | None = None) -> None:
    holder = case.desk.registry.names.get(name.lower())
    if holder is None or holder == but_for:
        return

    def took(event: DomainEvent) -> bool:
        return isinstance(event, NetworkCreated | NetworkRenamed) and event.name.lower() == name.lower()

    raise case.changed(placed, f"The name {name} was given to another network", took)


def _require_machines(case: Case, placed: Placed, assignments: Sequence[Assignment]) -> None:
    """That all these machines may be in a network still. Raises `CannotUndoError`."""
    for assignment in assignments:
        machine_id = assignment.machine_id
        machine = case.machine(placed, machine_id)
        if case.desk.access.is_revoked(machine_id):
            revoked = is_about(MachineRevoked, machine_id=machine_id)
            raise case.changed(placed, f"The machine {machine.hostname} was revoked", revoked, ACCESS_ID)


def _hostname(case: Case, machine_id: UUID) -> str:
    machine = case.desk.machine(machine_id)
    return str(machine_id) if machine is None else machine.hostname


def _created(network_id: UUID) -> Touches:
    return is_about(NetworkCreated, network_id=network_id)


def _renamed(network_id: UUID) -> Touches:
    return is_about(NetworkRenamed, network_id=network_id)


def _mode_set(network_id: UUID) -> Touches:
    return is_about(RouteReflectorModeSet, network_id=network_id)


def _moves_default(event: DomainEvent) -> bool:
    created_as_default = isinstance(event, NetworkCreated) and event.is_default
    return created_as_default or isinstance(event, DefaultNetworkSet | NetworkDeleted)


def _moves(event_type: type[MachinesAssigned | MachinesUnassigned], **fields: object) -> Touches:
    """True of the events that have an assignment with these fields."""

    def touches(event: DomainEvent) -> bool:
        return isinstance(event, event_type) and any(
            all(getattr(each, name) == value for name, value in fields.items()) for each in event.assignments
        )

    return touches


def _names(network_id: UUID) -> Touches:
    """True of the events that had something in the routing list name a network."""

    def touches(event: DomainEvent) -> bool:
        if isinstance(event, PolicyCreated | PolicyUpdated | GatewaySet):
            return network_id in event.network_ids
        return isinstance(event, ReflectorsPinned) and event.network_id == network_id

    return touches
