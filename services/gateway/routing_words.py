"""What happened to routes, virtual IPs, route policies, gateways and pinned reflectors, in words. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from events.domain import (
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
from services.gateway.naming import NameOf, count, listed, machine_name, network_name


def _route(event: RouteCreated | RouteUpdated, name_of: NameOf) -> str:
    prefixes = listed([str(prefix) for prefix in event.prefixes])
    machines = listed(_machines(event.machine_ids, name_of)) or "no machine"
    return f"{_verb(event)} route {event.name}: {prefixes} behind {machines}{_off(event.enabled)}"


def _route_deleted(event: RouteDeleted, name_of: NameOf) -> str:
    return f"deleted route {event.name}"


def _vip(event: VipCreated | VipUpdated, name_of: NameOf) -> str:
    machines = listed(_machines(event.machine_ids, name_of), ", then ") or "no machine"
    check = event.health_check
    checked = f", checked by {check.type} every {check.interval_seconds} s" if check.type != "none" else ""
    return f"{_verb(event)} virtual IP {event.name}: {event.address} on {machines}{checked}{_off(event.enabled)}"


def _vip_deleted(event: VipDeleted, name_of: NameOf) -> str:
    return f"deleted virtual IP {event.name}"


def _policy(event: PolicyCreated | PolicyUpdated, name_of: NameOf) -> str:
    targets = [network_name(item, name_of) for item in event.network_ids] + _machines(event.machine_ids, name_of)
    what = f"{event.policy.direction}, {count(len(event.policy.rules), 'rule')}, else {event.policy.default_action}"
    return f"{_verb(event)} route policy {event.name} for {listed(targets) or 'nobody'}: {what}"


def _policy_deleted(event: PolicyDeleted, name_of: NameOf) -> str:
    return f"deleted route policy {event.name}"


def _gateway_set(event: GatewaySet, name_of: NameOf) -> str:
    machine = machine_name(event.machine_id, name_of)
    if not event.network_ids:
        return f"had {machine} be a gateway no more"
    return f"made {machine} a gateway between {listed([network_name(item, name_of) for item in event.network_ids])}"


def _reflectors_pinned(event: ReflectorsPinned, name_of: NameOf) -> str:
    network = network_name(event.network_id, name_of)
    if not event.machine_ids:
        return f"had the route reflectors of {network} be chosen"
    return f"pinned {listed(_machines(event.machine_ids, name_of))} as route reflectors of {network}"


def _machine_unrouted(event: MachineUnrouted, name_of: NameOf) -> str:
    return f"took {machine_name(event.machine_id, name_of)} out of all routes, virtual IPs, route policies and gateways"


def _network_unrouted(event: NetworkUnrouted, name_of: NameOf) -> str:
    return f"took {network_name(event.network_id, name_of)} out of all route policies and gateways"


def _verb(event: DomainEvent) -> str:
    return "created" if event.kind.endswith("created") else "changed"


def _off(enabled: bool) -> str:
    return "" if enabled else ", disabled"


def _machines(machine_ids: tuple[UUID, ...], name_of: NameOf) -> list[str]:
    return [machine_name(item, name_of) for item in machine_ids]


WORDS: dict[type[DomainEvent], Callable[[Any, NameOf], str]] = {
    RouteCreated: _route,
    RouteUpdated: _route,
    RouteDeleted: _route_deleted,
    VipCreated: _vip,
    VipUpdated: _vip,
    VipDeleted: _vip_deleted,
    PolicyCreated: _policy,
    PolicyUpdated: _policy,
    PolicyDeleted: _policy_deleted,
    GatewaySet: _gateway_set,
    ReflectorsPinned: _reflectors_pinned,
    MachineUnrouted: _machine_unrouted,
    NetworkUnrouted: _network_unrouted,
}
