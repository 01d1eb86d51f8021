"""The aggregates, and how events change them (the access list's in `access`, the routing list's in `routing`). Pure,
immutable.

Because an aggregate never changes, a decision can be tried on the newest one and thrown away when somebody else wrote
first; and a snapshot can be taken while work goes on.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

from rpds import HashTrieMap

from events import codec
from events.domain import (
    GENESIS_HASH,
    DefaultNetworkSet,
    DomainEvent,
    KeyRotationRequested,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    RouteReflectorModeSet,
)
from events.errors import InternalError
from events.fields import TransitMode
from services.allocator import access, routing
from services.allocator.access import Access
from services.allocator.addresses import AddressSet
from services.allocator.routing import Routing


class BrokenHistoryError(InternalError):
    """Raised when an aggregate's events in the log are not an unbroken chain: one is missing, doubled or altered."""

    code = "broken-history"
    title = "The log's history is broken"


@dataclass(frozen=True, slots=True)
class NetworkEntry:
    """What the registry knows of one network."""

    network_id: UUID
    name: str
    network_cidr: IPv4Network
    route_reflector_mode: bool


@dataclass(frozen=True, slots=True)
class Registry:
    """The account's networks: their unique names, their ranges, and the one default."""

    id: UUID
    version: int = 0
    last_hash: str = GENESIS_HASH
    networks: HashTrieMap[UUID, NetworkEntry] = field(default_factory=HashTrieMap)
    names: HashTrieMap[str, UUID] = field(default_factory=HashTrieMap)
    """Network ids by name, in lower case: names that differ in case only count as the same."""
    ranges: tuple[tuple[int, int, UUID], ...] = ()
    """First and last address of each network, as integers, in order; they never overlap."""
    default_network_id: UUID | None = None

    @property
    def size(self) -> int:
        """How many networks there are."""
        return len(self.networks)

    def overlapping(self, network_cidr: IPv4Network) -> NetworkEntry | None:
        """A network that shares addresses with the range, if there is one."""
        first, last = int(network_cidr.network_address), int(network_cidr.broadcast_address)
        place = bisect_left(self.ranges, first, key=lambda known: known[1])
        if place < len(self.ranges) and self.ranges[place][0] <= last:
            return self.networks[self.ranges[place][2]]
        return None


@dataclass(frozen=True, slots=True)
class Member:
    """A machine's place in a network, its address as an integer; the key is None until the machine has announced it."""

    address: int
    public_key: str | None = None
    listen_port: int = 0
    endpoints: tuple[str, ...] = ()
    key_generation: int = 0
    """How often the machine was told to make itself a new key here."""


@dataclass(frozen=True, slots=True)
class Network:
    """A network's roster: who is in it, and at which address."""

    id: UUID
    version: int = 0
    last_hash: str = GENESIS_HASH
    members: HashTrieMap[UUID, Member] = field(default_factory=HashTrieMap)
    taken: AddressSet = field(default_factory=AddressSet)
    keys: HashTrieMap[str, UUID] = field(default_factory=HashTrieMap)
    """Who has announced which public key."""

    @property
    def size(self) -> int:
        """How many members it has."""
        return len(self.members)


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine, by its hostname; kept after its deletion so that its id stays spent."""

    id: UUID
    version: int = 0
    last_hash: str = GENESIS_HASH
    hostname: str = ""
    agent_version: str = ""
    transit: TransitMode = "auto"
    """Whether others' traffic may go through it."""
    deleted: bool = False


Aggregate = Registry | Access | Routing | Network | Machine


def evolve(aggregate: Aggregate, event: DomainEvent) -> Aggregate:
    """The aggregate after the event. Raises `BrokenHistoryError` if the event does not come next in its history."""
    if event.originator_version != aggregate.version + 1 or event.previous_hash != aggregate.last_hash:
        raise BrokenHistoryError(
            f"Event {event.originator_version} of {aggregate.id} does not follow event {aggregate.version}.",
            hint="The log was altered or is damaged; restore it from a backup.",
        )
    changed: Aggregate = _CHANGES[type(event)](aggregate, event)
    return replace(changed, version=event.originator_version, last_hash=codec.digest_of(event))


def blank(event: DomainEvent) -> Aggregate:
    """The aggregate of the event's kind, before its first event."""
    return AGGREGATE_OF[type(event)](event.originator_id)


def project(aggregate: Aggregate | None, events: Iterable[DomainEvent]) -> Aggregate | None:
    """The aggregate after all the events; None if there is none and no event either."""
    for event in events:
        aggregate = evolve(aggregate or blank(event), event)
    return aggregate


def _network_created(registry: Registry, event: NetworkCreated) -> Registry:
    entry = NetworkEntry(event.network_id, event.name, event.network_cidr, event.route_reflector_mode)
    ranges = list(registry.ranges)
    network = event.network_cidr
    insort(ranges, (int(network.network_address), int(network.broadcast_address), event.network_id))
    return replace(
        registry,
        networks=registry.networks.insert(event.network_id, entry),
        names=registry.names.insert(event.name.lower(), event.network_id),
        ranges=tuple(ranges),
        default_network_id=event.network_id if event.is_default else registry.default_network_id,
    )


def _network_renamed(registry: Registry, event: NetworkRenamed) -> Registry:
    entry = replace(registry.networks[event.network_id], name=event.name)
    names = registry.names.remove(event.previous_name.lower()).insert(event.name.lower(), event.network_id)
    return replace(registry, networks=registry.networks.insert(event.network_id, entry), names=names)


def _default_network_set(registry: Registry, event: DefaultNetworkSet) -> Registry:
    return replace(registry, default_network_id=event.network_id)


def _route_reflector_mode_set(registry: Registry, event: RouteReflectorModeSet) -> Registry:
    entry = replace(registry.networks[event.network_id], route_reflector_mode=event.enabled)
    return replace(registry, networks=registry.networks.insert(event.network_id, entry))


def _network_deleted(registry: Registry, event: NetworkDeleted) -> Registry:
    is_default = registry.default_network_id == event.network_id
    return replace(
        registry,
        networks=registry.networks.remove(event.network_id),
        names=registry.names.remove(event.name.lower()),
        ranges=tuple(known for known in registry.ranges if known[2] != event.network_id),
        default_network_id=None if is_default else registry.default_network_id,
    )


def _machines_assigned(network: Network, event: MachinesAssigned) -> Network:
    members, taken, keys = network.members, network.taken, network.keys
    for assignment in event.assignments:
        address = int(assignment.address)
        known = members.get(assignment.machine_id)
        if known is None:
            taken = taken.add(address)
        elif known.public_key is not None:
            # Of a network that was deleted and created again: its roster had stayed.
            keys = keys.remove(known.public_key)
        members = members.insert(assignment.machine_id, Member(address))
    return replace(network, members=members, taken=taken, keys=keys)


def _machines_unassigned(network: Network, event: MachinesUnassigned) -> Network:
    members, taken, keys = network.members, network.taken, network.keys
    for assignment in event.assignments:
        member = members[assignment.machine_id]
        members = members.remove(assignment.machine_id)
        taken = taken.remove(member.address)
        if member.public_key is not None:
            keys = keys.remove(member.public_key)
    return replace(network, members=members, taken=taken, keys=keys)


def _membership_registered(network: Network, event: MembershipRegistered) -> Network:
    before = network.members[event.machine_id]
    keys = network.keys.remove(before.public_key) if before.public_key is not None else network.keys
    member = replace(before, public_key=event.public_key, listen_port=event.listen_port, endpoints=event.endpoints)
    return replace(
        network,
        members=network.members.insert(event.machine_id, member),
        keys=keys.insert(event.public_key, event.machine_id),
    )


def _key_rotation_requested(network: Network, event: KeyRotationRequested) -> Network:
    member = replace(network.members[event.machine_id], key_generation=event.generation)
    return replace(network, members=network.members.insert(event.machine_id, member))


def _machine_registered(machine: Machine, event: MachineRegistered) -> Machine:
    return replace(machine, hostname=event.hostname, agent_version=event.agent_version)


def _machine_renamed(machine: Machine, event: MachineRenamed) -> Machine:
    return replace(machine, hostname=event.hostname)


def _machine_agent_updated(machine: Machine, event: MachineAgentUpdated) -> Machine:
    return replace(machine, agent_version=event.agent_version)


def _machine_transit_set(machine: Machine, event: MachineTransitSet) -> Machine:
    return replace(machine, transit=event.transit)


def _machine_deleted(machine: Machine, _: MachineDeleted) -> Machine:
    return replace(machine, deleted=True)


_CHANGES: dict[type[DomainEvent], Callable[[Any, Any], Any]] = {
    NetworkCreated: _network_created,
    NetworkRenamed: _network_renamed,
    DefaultNetworkSet: _default_network_set,
    RouteReflectorModeSet: _route_reflector_mode_set,
    NetworkDeleted: _network_deleted,
    MachinesAssigned: _machines_assigned,
    MachinesUnassigned: _machines_unassigned,
    MembershipRegistered: _membership_registered,
    KeyRotationRequested: _key_rotation_requested,
    MachineRegistered: _machine_registered,
    MachineRenamed: _machine_renamed,
    MachineAgentUpdated: _machine_agent_updated,
    MachineTransitSet: _machine_transit_set,
    MachineDeleted: _machine_deleted,
    **access.CHANGES,
    **routing.CHANGES,
}

AGGREGATE_OF: dict[type[DomainEvent], Callable[[UUID], Aggregate]] = {
    **dict.fromkeys(
        (NetworkCreated, NetworkRenamed, DefaultNetworkSet, RouteReflectorModeSet, NetworkDeleted), Registry
    ),
    **dict.fromkeys((MachinesAssigned, MachinesUnassigned, MembershipRegistered, KeyRotationRequested), Network),
    **dict.fromkeys(
        (MachineRegistered, MachineRenamed, MachineAgentUpdated, MachineTransitSet, MachineDeleted), Machine
    ),
    **dict.fromkeys(access.CHANGES, Access),
    **dict.fromkeys(routing.CHANGES, Routing),
}
"""Which aggregate an event belongs to."""
