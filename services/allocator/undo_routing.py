"""What takes back the events of the routing list. What was before is read from the list's history. Pure."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rpds import HashTrieMap

from events.commands import Command, DeletePolicy, DeleteRoute, DeleteVip
from events.domain import (
    ROUTING_ID,
    DomainEvent,
    GatewaySet,
    MachineUnrouted,
    NetworkUnrouted,
    PolicyCreated,
    PolicyDeleted,
    PolicyUpdated,
    ReflectorsPinned,
    RouteCreated,
    RouteDeleted,
    RouteUpdated,
    VipCreated,
    VipDeleted,
    VipUpdated,
)
from services.allocator import policies, routes
from services.allocator.desk import Desk, Placed
from services.allocator.lookups import find_machine, find_network, require_not_revoked
from services.allocator.routing import PolicySet, Route, Routing, Vip, without_network
from services.allocator.undo_case import Case, Touches, is_about

Item = Route | Vip | PolicySet
_Unrouted = (MachineUnrouted, NetworkUnrouted)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Routes, virtual IPs or route policies: how to find, check, write and delete them."""

    name: str
    id_field: str
    items: Callable[[Routing], HashTrieMap[UUID, Any]]
    require: Callable[[Desk, Any], None]
    record: Callable[[Desk, Any, Any], None]
    delete: Callable[[Desk, Any], None]
    delete_command: type[Command]
    created: type[DomainEvent]
    updated: type[DomainEvent]
    deleted: type[DomainEvent]

    def id_of(self, event: DomainEvent) -> UUID:
        """The item that an event is about."""
        item_id: UUID = getattr(event, self.id_field)
        return item_id

    def touched(self, item_id: UUID) -> Touches:
        """True of the events that may have changed an item."""
        return is_about(self.created, self.updated, self.deleted, *_Unrouted, **{self.id_field: item_id})


_ROUTES = _Kind(
    "route",
    "route_id",
    lambda routing: routing.routes,
    routes.require_route,
    routes.record_route,
    routes.delete_route,
    DeleteRoute,
    RouteCreated,
    RouteUpdated,
    RouteDeleted,
)
_VIPS = _Kind(
    "virtual IP",
    "vip_id",
    lambda routing: routing.vips,
    routes.require_vip,
    routes.record_vip,
    routes.delete_vip,
    DeleteVip,
    VipCreated,
    VipUpdated,
    VipDeleted,
)
_POLICIES = _Kind(
    "route policy",
    "policy_id",
    lambda routing: routing.policies,
    policies.require_policy,
    policies.record_policy,
    policies.delete_policy,
    DeletePolicy,
    PolicyCreated,
    PolicyUpdated,
    PolicyDeleted,
)
_KINDS: dict[type[DomainEvent], _Kind] = {
    event_type: kind
    for kind in (_ROUTES, _VIPS, _POLICIES)
    for event_type in (kind.created, kind.updated, kind.deleted)
}


def created(case: Case, placed: Placed, event: DomainEvent) -> None:
    """The item goes again, if it is as it was made."""
    kind = _KINDS[type(event)]
    _require_as_set(case, placed, event, kind)
    kind.delete(case.desk, kind.delete_command.model_validate({kind.id_field: kind.id_of(event), **case.given}))


def updated(case: Case, placed: Placed, event: DomainEvent) -> None:
    """The item as it was before, if it is as it was set and that may still be."""
    kind = _KINDS[type(event)]
    _require_as_set(case, placed, event, kind)
    _put(case, kind, kind.updated, kind.items(case.routing_before(event))[kind.id_of(event)])


def deleted(case: Case, placed: Placed, event: DomainEvent) -> None:
    """The item as it was, with the same id, if that may still be."""
    kind, item_id = _KINDS[type(event)], _KINDS[type(event)].id_of(event)
    item = kind.items(case.routing_before(event))[item_id]
    if item_id in kind.items(case.desk.routing):
        raise case.changed(placed, f"The {kind.name} {item.name} was created again", kind.touched(item_id))
    again = case.later(placed, is_about(kind.deleted, **{kind.id_field: item_id}))
    if again is not None:
        raise case.since(f"The {kind.name} {item.name} came back and was deleted again", again)
    _put(case, kind, kind.created, item)


def gateway_set(case: Case, placed: Placed, event: GatewaySet) -> None:
    """Between which networks the machine was a gateway before."""
    if case.desk.routing.gateways.get(event.machine_id, ()) != event.network_ids:
        set_again = is_about(GatewaySet, *_Unrouted, machine_id=event.machine_id)
        raise case.changed(placed, "It was changed again between which networks the machine is a gateway", set_again)
    _set_gateway(case, event.machine_id, case.routing_before(event).gateways.get(event.machine_id, ()))


def reflectors_pinned(case: Case, placed: Placed, event: ReflectorsPinned) -> None:
    """The network's pinned route reflectors before."""
    case.network(placed, event.network_id)
    if case.desk.routing.reflectors.get(event.network_id, ()) != event.machine_ids:
        pinned = is_about(ReflectorsPinned, *_Unrouted, network_id=event.network_id)
        raise case.changed(placed, "The network's route reflectors were pinned again", pinned)
    _pin(case, event.network_id, case.routing_before(event).reflectors.get(event.network_id, ()))


def network_unrouted(case: Case, placed: Placed, event: NetworkUnrouted) -> None:
    """All policies and gateways that named the network name it again, and its reflectors are pinned again."""
    gone, before, now = event.network_id, case.routing_before(event), case.desk.routing
    without = without_network(before, gone)
    for policy_id, policy_set in before.policies.items():
        if gone in policy_set.network_ids:
            known = now.policies.get(policy_id)
            if known is None or known.network_ids != without.policies[policy_id].network_ids:
                raise case.changed(
                    placed, f"The route policy {policy_set.name} was changed", _POLICIES.touched(policy_id)
                )
            _put(case, _POLICIES, PolicyUpdated, _with_networks(known, policy_set.network_ids))
    for machine_id, network_ids in before.gateways.items():
        if gone in network_ids:
            if now.gateways.get(machine_id, ()) != without.gateways.get(machine_id, ()):
                set_again = is_about(GatewaySet, *_Unrouted, machine_id=machine_id)
                raise case.changed(placed, "A gateway of the network was changed", set_again)
            _set_gateway(case, machine_id, network_ids)
    if gone in before.reflectors:
        _pin(case, gone, before.reflectors[gone])


def _require_as_set(case: Case, placed: Placed, event: DomainEvent, kind: _Kind) -> None:
    """That an item is as an event set it. Raises `CannotUndoError`."""
    item_id = kind.id_of(event)
    item = kind.items(case.desk.routing).get(item_id)
    if item is None:
        gone = is_about(kind.deleted, **{kind.id_field: item_id})
        raise case.changed(placed, f"The {kind.name} was deleted", gone)
    if any(getattr(event, name) != getattr(item, name) for name in item.__slots__):
        raise case.changed(placed, f"The {kind.name} {item.name} was changed", kind.touched(item_id))


def _put(case: Case, kind: _Kind, event_type: type[DomainEvent], item: Item) -> None:
    kind.require(case.desk, item)
    kind.record(case.desk, event_type, item)


def _with_networks(known: PolicySet, network_ids: tuple[UUID, ...]) -> PolicySet:
    return PolicySet(known.policy_id, known.name, known.description, known.policy, network_ids, known.machine_ids)


def _set_gateway(case: Case, machine_id: UUID, network_ids: tuple[UUID, ...]) -> None:
    if network_ids:
        require_not_revoked(case.desk, find_machine(case.desk, machine_id).id)
    for network_id in network_ids:
        find_network(case.desk, network_id)
    case.desk.record(GatewaySet, ROUTING_ID, machine_id=machine_id, network_ids=network_ids)


def _pin(case: Case, network_id: UUID, machine_ids: tuple[UUID, ...]) -> None:
    for machine_id in machine_ids:
        require_not_revoked(case.desk, find_machine(case.desk, machine_id).id)
    case.desk.record(ReflectorsPinned, ROUTING_ID, network_id=network_id, machine_ids=machine_ids)
