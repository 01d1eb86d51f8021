"""The decisions about how routes travel: route policies, gateways, and pinned route reflectors. Pure."""

from __future__ import annotations

from uuid import UUID

from events.commands import CreatePolicy, DeletePolicy, PinReflectors, SetGateway, UpdatePolicy
from events.domain import (
    ROUTING_ID,
    GatewaySet,
    PolicyCreated,
    PolicyDeleted,
    PolicyUpdated,
    ReflectorsPinned,
)
from events.errors import ConflictError, InvalidInputError, NotMemberError, PolicyTakenError
from events.routing import MIN_REFLECTORS, network_asn
from services.allocator.aggregates import Machine, NetworkEntry
from services.allocator.desk import Desk
from services.allocator.lookups import find_machine, find_network, require_not_revoked
from services.allocator.routes import find_item, require_machines, require_name, require_new_item, require_once
from services.allocator.routing import PolicySet


def create_policy(desk: Desk, command: CreatePolicy) -> None:
    """A new route policy, with a name of its own."""
    require_new_item(desk, command.policy_id)
    policy_set = PolicySet(
        command.policy_id,
        command.name,
        command.description,
        command.policy,
        command.network_ids,
        command.machine_ids,
    )
    require_policy(desk, policy_set)
    record_policy(desk, PolicyCreated, policy_set)


def update_policy(desk: Desk, command: UpdatePolicy) -> None:
    """What is given changes; nothing happens where all is so already."""
    before = find_item(desk.routing.policies, command.policy_id, "route policy", "policy_id")
    policy_set = PolicySet(
        before.policy_id,
        before.name if command.name is None else command.name,
        before.description if command.description is None else command.description,
        before.policy if command.policy is None else command.policy,
        before.network_ids if command.network_ids is None else command.network_ids,
        before.machine_ids if command.machine_ids is None else command.machine_ids,
    )
    if policy_set != before:
        require_policy(desk, policy_set)
        record_policy(desk, PolicyUpdated, policy_set)


def delete_policy(desk: Desk, command: DeletePolicy) -> None:
    """The route policy goes."""
    policy_set = find_item(desk.routing.policies, command.policy_id, "route policy", "policy_id")
    desk.record(PolicyDeleted, ROUTING_ID, policy_id=policy_set.policy_id, name=policy_set.name)


def set_gateway(desk: Desk, command: SetGateway) -> None:
    """Routes and traffic cross at the machine, between networks that it is in and that BGP can tell apart."""
    machine = find_machine(desk, command.machine_id)
    require_once(command.network_ids, "network", "network_ids")
    if command.network_ids:
        require_not_revoked(desk, machine.id)
        entries = [find_network(desk, network_id) for network_id in command.network_ids]
        for entry in entries:
            _require_member(desk, entry, machine, "network_ids")
        _require_crossable(machine, entries)
    if command.network_ids != desk.routing.gateways.get(machine.id, ()):
        desk.record(GatewaySet, ROUTING_ID, machine_id=machine.id, network_ids=command.network_ids)


def pin_reflectors(desk: Desk, command: PinReflectors) -> None:
    """Members of the network, two at least; with none, they are chosen."""
    entry = find_network(desk, command.network_id)
    require_once(command.machine_ids, "machine", "machine_ids")
    for machine_id in command.machine_ids:
        _require_member(desk, entry, find_machine(desk, machine_id), "machine_ids")
    if 0 < len(command.machine_ids) < MIN_REFLECTORS:
        raise InvalidInputError(
            f"The network {entry.name} cannot have a single pinned route reflector: all routes would go with it.",
            hint=f"Pin at least {MIN_REFLECTORS} machines, or none to have them chosen.",
            field="machine_ids",
        )
    if command.machine_ids != desk.routing.reflectors.get(entry.network_id, ()):
        desk.record(ReflectorsPinned, ROUTING_ID, network_id=entry.network_id, machine_ids=command.machine_ids)


def require_policy(desk: Desk, policy_set: PolicySet) -> None:
    require_name(desk.routing.policies, policy_set, "route policy")
    require_once(policy_set.network_ids, "network", "network_ids")
    for network_id in policy_set.network_ids:
        entry = find_network(desk, network_id)
        _require_only_policy(desk, policy_set, network_id, f"The network {entry.name}", "network_ids")
    require_machines(desk, policy_set.machine_ids)
    for machine_id in policy_set.machine_ids:
        machine = find_machine(desk, machine_id)
        _require_only_policy(desk, policy_set, machine_id, f"The machine {machine.hostname}", "machine_ids")


def _require_only_policy(desk: Desk, policy_set: PolicySet, target_id: UUID, target: str, field: str) -> None:
    direction = policy_set.policy.direction
    other = desk.routing.policy_of(target_id, direction, but_for=policy_set.policy_id)
    if other is not None:
        raise PolicyTakenError(
            f"{target} has a route policy for {direction} already: {other.name}.",
            hint="Take it out of that one first, or put the rules together in one policy.",
            field=field,
        )


def _require_member(desk: Desk, entry: NetworkEntry, machine: Machine, field: str) -> None:
    if machine.id not in desk.network(entry.network_id).members:
        raise NotMemberError(
            f"The machine {machine.hostname} is not in the network {entry.name}.",
            hint="Assign it first, or leave it out.",
            field=field,
        )


def _require_crossable(machine: Machine, entries: list[NetworkEntry]) -> None:
    if len(entries) < 2:
        raise InvalidInputError(
            f"{machine.hostname} cannot be a gateway with one network only: there is nothing to cross to.",
            hint="Name two networks at least, or none to have it be no gateway.",
            field="network_ids",
        )
    numbers: dict[int, NetworkEntry] = {}
    for entry in entries:
        other = numbers.setdefault(network_asn(entry.network_id), entry)
        if other is not entry:
            raise ConflictError(
                f"The networks {other.name} and {entry.name} have the same AS number by chance, so that BGP cannot "
                "tell them apart.",
                hint="Create one of them anew: a network's AS number follows from its id.",
                field="network_ids",
            )


def record_policy(desk: Desk, event_type: type[PolicyCreated | PolicyUpdated], policy_set: PolicySet) -> None:
    desk.record(
        event_type,
        ROUTING_ID,
        policy_id=policy_set.policy_id,
        name=policy_set.name,
        description=policy_set.description,
        policy=policy_set.policy,
        network_ids=policy_set.network_ids,
        machine_ids=policy_set.machine_ids,
    )
