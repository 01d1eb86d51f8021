"""What a machine is to do about BGP, from all that it was told and all that it found out. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from agent.bgp.intent import Announced, BgpIntent, Neighbour, NetworkIntent, Owner
from agent.bgp.words import Words
from events.peering import BgpPlan
from events.records import AnnouncementRecord, RoutingRecord
from events.routing import Direction, Policy, check_route_prefix, network_asn


@dataclass(frozen=True, slots=True)
class Place:
    """A machine's place in a network, as far as BGP needs it."""

    network_id: UUID
    cidr: IPv4Network
    interface: str
    address: IPv4Address
    """The machine's own."""
    members: Mapping[UUID, IPv4Address]
    """The others."""
    words: Words = field(default_factory=Words)
    narrow: frozenset[UUID] = frozenset()
    """The members that are reached through transit machines."""
    narrow_mtu: int = 0
    lost: frozenset[UUID] = frozenset()
    """The members that are not reached in any way, as far as is known."""


@dataclass(frozen=True, slots=True)
class Hop:
    """Where the kernel sends what goes to a learnt prefix."""

    interface: str
    gateway: IPv4Address


def intent_of(
    machine_id: UUID, places: Iterable[Place], routing: RoutingRecord | None, healthy: Collection[UUID]
) -> BgpIntent:
    """What the speaker is to do. `healthy` are the virtual IPs that this machine can answer for."""
    ordered = sorted(places, key=lambda place: place.network_id)
    meshes = [place.cidr for place in ordered]
    announced = tuple(_announced(routing, healthy))
    crossing = sorted({place.network_id for place in ordered}.intersection(routing.gateway if routing else ()))
    return BgpIntent(
        networks=tuple(_network(machine_id, place, meshes, routing, announced) for place in ordered),
        crossing=tuple(crossing) if len(crossing) > 1 else (),
    )


def _network(
    machine_id: UUID,
    place: Place,
    meshes: Sequence[IPv4Network],
    routing: RoutingRecord | None,
    announced: tuple[Announced, ...],
) -> NetworkIntent:
    plan = BgpPlan.of(place.words.plan)
    members = _neighbours(place, place.members)
    return NetworkIntent(
        network_id=place.network_id,
        asn=network_asn(place.network_id),
        cidr=place.cidr,
        interface=place.interface,
        address=place.address,
        stage=plan.stage,
        is_reflector=machine_id in plan.reflectors,
        reflectors=_neighbours(place, plan.reflectors),
        members=members,
        owners=tuple(_owners(place, members, meshes)),
        announced=announced,
        import_policy=_policy("import", routing, place.words),
        export_policy=_policy("export", routing, place.words),
        narrow=tuple(sorted(place.members[each] for each in place.narrow if each in place.members)),
        narrow_mtu=place.narrow_mtu if place.narrow else 0,
    )


def _neighbours(place: Place, machine_ids: Iterable[UUID]) -> tuple[Neighbour, ...]:
    there = [Neighbour(each, place.members[each]) for each in machine_ids if each in place.members]
    return tuple(sorted(there, key=lambda neighbour: neighbour.address))


def _owners(place: Place, members: Iterable[Neighbour], meshes: Sequence[IPv4Network]) -> Iterator[Owner]:
    for member in members:
        record = place.words.announcements.get(member.machine_id)
        prefixes = allowed(record, meshes) if record is not None else frozenset()
        if prefixes:
            yield Owner(member.address, tuple(sorted(prefixes)))


def allowed(record: AnnouncementRecord, meshes: Sequence[IPv4Network]) -> frozenset[IPv4Network]:
    """What a member may announce, as far as this machine would ever believe it: what no mesh may carry, or what is one
    of the machine's own meshes, is refused whoever says it."""
    vips = (IPv4Network(vip.address) for vip in record.vips)
    return frozenset(each for each in (*record.prefixes, *vips, *record.crossing) if _is_believable(each, meshes))


def _is_believable(prefix: IPv4Network, meshes: Sequence[IPv4Network]) -> bool:
    try:
        check_route_prefix(prefix)
    except ValueError:
        return False
    return not any(prefix.overlaps(mesh) for mesh in meshes)


def _announced(routing: RoutingRecord | None, healthy: Collection[UUID]) -> Iterator[Announced]:
    if routing is None:
        return
    vips = [Announced(IPv4Network(v.address), v.local_pref) for v in routing.vips if v.vip_id in healthy]
    yield from sorted((*map(Announced, routing.prefixes), *vips), key=lambda announced: announced.prefix)


def _policy(direction: Direction, routing: RoutingRecord | None, words: Words) -> Policy | None:
    """The machine's own; where it has none, the network's."""
    own = routing.policies if routing is not None else ()
    return next((policy for policy in own if policy.direction == direction), words.policies.get(direction))


def vip_addresses(routing: RoutingRecord | None) -> frozenset[str]:
    """The addresses of virtual IPs that the machine's interfaces have, healthy or not: a service can be bound to them,
    and be checked there."""
    return frozenset(f"{vip.address}/32" for vip in routing.vips) if routing is not None else frozenset()


def owners_of(place: Place, routes: Mapping[IPv4Network, Hop], meshes: Sequence[IPv4Network]) -> dict[str, UUID]:
    """Which member each learnt prefix that leads into a network belongs to: its allowed IPs there.

    The kernel's routes are what BIRD's filters have let in. Here the same is asked a second time: whether the record of
    whoever has the next hop's address allows it.
    """
    members = {address: machine_id for machine_id, address in place.members.items()}
    known: dict[UUID, frozenset[IPv4Network]] = {}
    owners: dict[str, UUID] = {}
    for prefix, hop in routes.items():
        machine_id = members.get(hop.gateway) if hop.interface == place.interface else None
        record = place.words.announcements.get(machine_id) if machine_id is not None else None
        if machine_id is None or record is None:
            continue
        if machine_id not in known:
            known[machine_id] = allowed(record, meshes)
        if prefix in known[machine_id]:
            owners[str(prefix)] = machine_id
    return owners


def sessions_planned(machine_id: UUID, place: Place) -> int:
    """How many BGP sessions this machine is to have in a network. Two reflectors have one with each other, though each
    is the other's client."""
    sessions = BgpPlan.of(place.words.plan).sessions(machine_id, {machine_id, *place.members})
    return len({(peer_id, purpose == "mesh") for peer_id, purpose in sessions})
