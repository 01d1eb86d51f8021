"""The routing list: routes, virtual IPs, route policies, gateways, pinned reflectors; and how events change it. Pure,
immutable.

Nothing that ever had an id is forgotten, so that no id is used twice; of what was deleted only the id stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import Any
from uuid import UUID

from rpds import HashTrieMap, HashTrieSet

from events.domain import (
    GENESIS_HASH,
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
from events.routing import Direction, HealthCheck, Policy


@dataclass(frozen=True, slots=True)
class Route:
    """Prefixes, and the machines that they lie behind."""

    route_id: UUID
    name: str
    enabled: bool
    prefixes: tuple[IPv4Network, ...]
    machine_ids: tuple[UUID, ...]

    @property
    def item_id(self) -> UUID:
        """Its id."""
        return self.route_id

    @property
    def claimed(self) -> tuple[IPv4Network, ...]:
        """The prefixes that nobody else may have."""
        return self.prefixes


@dataclass(frozen=True, slots=True)
class Vip:
    """A virtual IP, and the machines that answer for it in order of preference."""

    vip_id: UUID
    name: str
    enabled: bool
    address: IPv4Address
    health_check: HealthCheck
    machine_ids: tuple[UUID, ...]

    @property
    def item_id(self) -> UUID:
        """Its id."""
        return self.vip_id

    @property
    def claimed(self) -> tuple[IPv4Network, ...]:
        """Its address, as a prefix that nobody else may have."""
        return (IPv4Network(self.address),)


@dataclass(frozen=True, slots=True)
class PolicySet:
    """A route policy, and what it is for."""

    policy_id: UUID
    name: str
    description: str
    policy: Policy
    network_ids: tuple[UUID, ...]
    machine_ids: tuple[UUID, ...]

    @property
    def item_id(self) -> UUID:
        """Its id."""
        return self.policy_id


@dataclass(frozen=True, slots=True)
class Routing:
    """The routing list."""

    id: UUID
    version: int = 0
    last_hash: str = GENESIS_HASH
    routes: HashTrieMap[UUID, Route] = field(default_factory=HashTrieMap)
    vips: HashTrieMap[UUID, Vip] = field(default_factory=HashTrieMap)
    policies: HashTrieMap[UUID, PolicySet] = field(default_factory=HashTrieMap)
    gateways: HashTrieMap[UUID, tuple[UUID, ...]] = field(default_factory=HashTrieMap)
    """Between which networks, by machine."""
    reflectors: HashTrieMap[UUID, tuple[UUID, ...]] = field(default_factory=HashTrieMap)
    """The pinned ones, by network."""
    deleted: HashTrieSet[UUID] = field(default_factory=HashTrieSet)
    claims: HashTrieMap[IPv4Network, UUID] = field(default_factory=HashTrieMap)
    """Which route or virtual IP has a prefix."""

    @property
    def size(self) -> int:
        """How many items there are."""
        return len(self.routes) + len(self.vips) + len(self.policies) + len(self.gateways) + len(self.reflectors)

    def is_used(self, item_id: UUID) -> bool:
        """Whether a route, virtual IP or route policy has this id, or had it."""
        return any(item_id in items for items in (self.routes, self.vips, self.policies, self.deleted))

    def claimant(self, item_id: UUID) -> str:
        """A route or virtual IP, in words."""
        route = self.routes.get(item_id)
        return f"the route {route.name}" if route is not None else f"the virtual IP {self.vips[item_id].name}"

    def overlapping(self, network_cidr: IPv4Network) -> tuple[IPv4Network, UUID] | None:
        """A prefix that shares addresses with the range, and whose it is; None where there is none."""
        found = ((prefix, owner) for prefix, owner in self.claims.items() if prefix.overlaps(network_cidr))
        return min(found, default=None)

    def policy_of(self, target_id: UUID, direction: Direction, but_for: UUID) -> PolicySet | None:
        """The policy that a network or machine has for a direction, apart from the one named."""
        for known in self.policies.values():
            if known.policy_id != but_for and known.policy.direction == direction and target_id in _targets(known):
                return known
        return None

    def prefix_count(self, machine_id: UUID, but_for: UUID) -> int:
        """How many prefixes lie behind a machine by other routes than the one named."""
        return sum(
            len(route.prefixes)
            for route in self.routes.values()
            if route.route_id != but_for and machine_id in route.machine_ids
        )

    def vip_count(self, machine_id: UUID, but_for: UUID) -> int:
        """For how many virtual IPs but the one named a machine may answer."""
        return sum(1 for vip in self.vips.values() if vip.vip_id != but_for and machine_id in vip.machine_ids)

    def names_machine(self, machine_id: UUID) -> bool:
        """Whether anything here is about a machine."""
        if machine_id in self.gateways:
            return True
        return any(machine_id in named for named in self._machine_lists())

    def names_network(self, network_id: UUID) -> bool:
        """Whether anything here is about a network."""
        if network_id in self.reflectors:
            return True
        lists = (*(known.network_ids for known in self.policies.values()), *self.gateways.values())
        return any(network_id in named for named in lists)

    def _machine_lists(self) -> Iterator[tuple[UUID, ...]]:
        for items in (self.routes, self.vips, self.policies):
            yield from (item.machine_ids for item in items.values())
        yield from self.reflectors.values()


def _targets(known: PolicySet) -> tuple[UUID, ...]:
    return known.network_ids + known.machine_ids


def _with_route(routing: Routing, event: RouteCreated | RouteUpdated) -> Routing:
    route = Route(event.route_id, event.name, event.enabled, event.prefixes, event.machine_ids)
    claims = _claims(routing, routing.routes.get(event.route_id), route)
    return replace(
        routing,
        routes=routing.routes.insert(event.route_id, route),
        claims=claims,
        deleted=routing.deleted.discard(event.route_id),
    )


def _without_route(routing: Routing, event: RouteDeleted) -> Routing:
    return replace(
        routing,
        routes=routing.routes.remove(event.route_id),
        claims=_claims(routing, routing.routes[event.route_id], None),
        deleted=routing.deleted.insert(event.route_id),
    )


def _with_vip(routing: Routing, event: VipCreated | VipUpdated) -> Routing:
    vip = Vip(event.vip_id, event.name, event.enabled, event.address, event.health_check, event.machine_ids)
    claims = _claims(routing, routing.vips.get(event.vip_id), vip)
    return replace(
        routing,
        vips=routing.vips.insert(event.vip_id, vip),
        claims=claims,
        deleted=routing.deleted.discard(event.vip_id),
    )


def _without_vip(routing: Routing, event: VipDeleted) -> Routing:
    return replace(
        routing,
        vips=routing.vips.remove(event.vip_id),
        claims=_claims(routing, routing.vips[event.vip_id], None),
        deleted=routing.deleted.insert(event.vip_id),
    )


def _with_policy(routing: Routing, event: PolicyCreated | PolicyUpdated) -> Routing:
    known = PolicySet(
        event.policy_id, event.name, event.description, event.policy, event.network_ids, event.machine_ids
    )
    return replace(
        routing,
        policies=routing.policies.insert(event.policy_id, known),
        deleted=routing.deleted.discard(event.policy_id),
    )


def _without_policy(routing: Routing, event: PolicyDeleted) -> Routing:
    return replace(
        routing,
        policies=routing.policies.remove(event.policy_id),
        deleted=routing.deleted.insert(event.policy_id),
    )


def _gateway_set(routing: Routing, event: GatewaySet) -> Routing:
    return replace(routing, gateways=_set(routing.gateways, event.machine_id, event.network_ids))


def _reflectors_pinned(routing: Routing, event: ReflectorsPinned) -> Routing:
    return replace(routing, reflectors=_set(routing.reflectors, event.network_id, event.machine_ids))


def _machine_unrouted(routing: Routing, event: MachineUnrouted) -> Routing:
    gone = event.machine_id
    return replace(
        routing,
        routes=_each_without(routing.routes, "machine_ids", gone),
        vips=_each_without(routing.vips, "machine_ids", gone),
        policies=_each_without(routing.policies, "machine_ids", gone),
        gateways=routing.gateways.discard(gone),
        reflectors=_lists_without(routing.reflectors, gone),
    )


def without_network(routing: Routing, gone: UUID) -> Routing:
    """The routing list with a network taken out."""
    return replace(
        routing,
        policies=_each_without(routing.policies, "network_ids", gone),
        gateways=_lists_without(routing.gateways, gone),
        reflectors=routing.reflectors.discard(gone),
    )


def _claims(routing: Routing, before: Route | Vip | None, after: Route | Vip | None) -> HashTrieMap[IPv4Network, UUID]:
    claims = routing.claims
    if before is not None:
        for prefix in before.claimed:
            claims = claims.remove(prefix)
    if after is not None:
        for prefix in after.claimed:
            claims = claims.insert(prefix, after.item_id)
    return claims


def _set(
    lists: HashTrieMap[UUID, tuple[UUID, ...]], item_id: UUID, named: tuple[UUID, ...]
) -> HashTrieMap[UUID, tuple[UUID, ...]]:
    return lists.insert(item_id, named) if named else lists.discard(item_id)


def _lists_without(lists: HashTrieMap[UUID, tuple[UUID, ...]], gone: UUID) -> HashTrieMap[UUID, tuple[UUID, ...]]:
    for item_id, named in lists.items():
        if gone in named:
            lists = _set(lists, item_id, tuple(each for each in named if each != gone))
    return lists


def _each_without(items: HashTrieMap[UUID, Any], which: str, gone: UUID) -> HashTrieMap[UUID, Any]:
    """The items, each without `gone` in its list named `which`."""
    for item_id, item in items.items():
        named: tuple[UUID, ...] = getattr(item, which)
        if gone in named:
            items = items.insert(item_id, replace(item, **{which: tuple(each for each in named if each != gone)}))
    return items


CHANGES: dict[type[DomainEvent], Callable[[Any, Any], Routing]] = {
    RouteCreated: _with_route,
    RouteUpdated: _with_route,
    RouteDeleted: _without_route,
    VipCreated: _with_vip,
    VipUpdated: _with_vip,
    VipDeleted: _without_vip,
    PolicyCreated: _with_policy,
    PolicyUpdated: _with_policy,
    PolicyDeleted: _without_policy,
    GatewaySet: _gateway_set,
    ReflectorsPinned: _reflectors_pinned,
    MachineUnrouted: _machine_unrouted,
    NetworkUnrouted: lambda routing, event: without_network(routing, event.network_id),
}
"""How each of its events changes the routing list."""
