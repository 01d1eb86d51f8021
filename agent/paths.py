"""Ways through transit machines in one network, as addresses and allowed IPs. Pure.

A peer that is reached through transit machines has, for each way, the transit address that the last transit of the way
knows it by (`events.transit`). WireGuard packets to that address travel inside this machine's tunnel to the first
transit of the way: so the address is one of the first transit's allowed IPs here. Of a transit machine itself, *relays*
tell which transit addresses lie behind which of its peers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from uuid import UUID

from agent.device import Route
from events.records import PathRecord, RelayRecord
from events.transit import MAX_HOPS, transit_address, transit_prefix

NESTING_OVERHEAD = 80
"""Bytes that WireGuard over IPv6 takes of a packet: so much smaller is what travels in a tunnel inside a tunnel."""

_BLOCK = 16
"""WireGuard fills packets up to a multiple of this, if they stay within the interface's MTU: not within a route's, in
wireguard-go."""


def nested_mtu(mtu: int) -> int:
    """The MTU of what travels in a tunnel inside a tunnel whose interface has the MTU `mtu`: with it, nothing has to be
    fragmented, filled up or not."""
    return (mtu - NESTING_OVERHEAD) // _BLOCK * _BLOCK


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a peer through transit machines, the nearest first."""

    transits: tuple[UUID, ...]
    peer_address: str
    """Where the peer is reached by this way, and what its packets come from."""
    own_address: str
    """Where this machine is reached by this way, and what its packets come from."""

    @property
    def first(self) -> UUID:
        """The transit machine next to this one."""
        return self.transits[0]


@dataclass(frozen=True, slots=True)
class Shift:
    """An allowed IP that belongs to another machine than before. None for nobody."""

    allowed_ip: str
    before: UUID | None
    after: UUID | None


@dataclass(frozen=True, slots=True)
class Turn:
    """What changes when ways change."""

    shifts: tuple[Shift, ...] = ()
    add_addresses: frozenset[str] = frozenset()
    remove_addresses: frozenset[str] = frozenset()
    add_routes: frozenset[Route] = frozenset()
    remove_routes: frozenset[Route] = frozenset()


class Paths:
    """The ways and relays of one machine in one network. Mutable, in memory only. What a change costs follows from the
    ways that change, not from how many there are."""

    def __init__(self, network_id: UUID, machine_id: UUID) -> None:
        """`machine_id` is this machine's own."""
        self.prefix = str(transit_prefix(network_id))
        self._network_id = network_id
        self._machine_id = machine_id
        self._ways: dict[UUID, tuple[Way, ...]] = {}
        self._through: dict[UUID, set[UUID]] = {}
        self._addresses: Counter[str] = Counter()
        self._routes: dict[UUID, frozenset[Route]] = {}
        self._leads: dict[str, UUID] = {}
        self._relays: dict[UUID, frozenset[str]] = {}
        self._relayed: dict[str, set[UUID]] = {}
        self._owner: dict[str, UUID] = {}
        self._behind: dict[UUID, set[str]] = {}

    # -- what is

    def ways(self, peer_id: UUID) -> tuple[Way, ...]:
        """The ways to a peer, in order of preference."""
        return self._ways.get(peer_id, ())

    def reached(self) -> tuple[UUID, ...]:
        """The peers that there are ways to."""
        return tuple(self._ways)

    def relaying(self) -> tuple[UUID, ...]:
        """The peers that others lie behind for the sake of others."""
        return tuple(self._relays)

    def through(self, transit_id: UUID) -> frozenset[UUID]:
        """The peers that have a way which begins with this transit."""
        return frozenset(self._through.get(transit_id, ()))

    def behind(self, machine_id: UUID) -> frozenset[str]:
        """The allowed IPs that a peer has because others are reached through it."""
        return frozenset(self._behind.get(machine_id, ()))

    def static(self, peer_id: UUID) -> str:
        """The allowed IP that a peer has where this machine is a transit: its address next to this machine."""
        return _cidr(str(transit_address(self._network_id, peer_id, self._machine_id)))

    @property
    def addresses(self) -> frozenset[str]:
        """The transit addresses that this machine has: one for each transit next to it on a way."""
        return frozenset(map(_cidr, self._addresses))

    @property
    def routes(self) -> Iterator[Route]:
        """The routes to the transit addresses of peers."""
        for routes in self._routes.values():
            yield from routes

    # -- what changes

    def left_by(self, record: PathRecord) -> tuple[Way, ...]:
        """The ways to a peer that a record names no more."""
        named = set(self._fit(record))
        return tuple(way for way in self.ways(record.peer_id) if way not in named)

    def put(self, record: PathRecord, besides: tuple[Way, ...] = (), in_use: Way | None = None) -> Turn:
        """There are these ways to a peer, and no others `besides`. Where several lead to one address, it goes on to
        lead by the one in use."""
        peer_id, ways = record.peer_id, (*self._fit(record), *besides)
        before = self._ways.pop(peer_id, ())
        for first in {way.first for way in before}:
            self._through[first].discard(peer_id)
            if not self._through[first]:
                del self._through[first]
        if ways:
            self._ways[peer_id] = ways
        for way in ways:
            self._through.setdefault(way.first, set()).add(peer_id)
        add_addresses, remove_addresses = self._readdress(before, ways)
        ordered = (in_use, *ways) if in_use is not None and in_use in ways else ways
        add_routes, remove_routes = self._reroute(peer_id, ordered)
        shifts = self._lead(ordered, {way.peer_address for way in before})
        return Turn(shifts, add_addresses, remove_addresses, add_routes, remove_routes)

    def prefer(self, peer_id: UUID, way: Way) -> Turn:
        """One of the ways to a peer is the one in use: where several lead to one address, it leads there."""
        ways = self.ways(peer_id)
        ordered = (way, *(other for other in ways if other != way))
        add_routes, remove_routes = self._reroute(peer_id, ordered)
        shifts = self._lead(ordered, {way.peer_address for way in ways})
        return Turn(shifts, add_routes=add_routes, remove_routes=remove_routes)

    def none(self, peer_id: UUID) -> PathRecord:
        """That there is no way to a peer through transit machines, as a record says it."""
        return PathRecord(network_id=self._network_id, machine_id=self._machine_id, peer_id=peer_id, ways=())

    def put_relay(self, record: RelayRecord) -> Turn:
        """These transit addresses lie behind a peer, and no others."""
        addresses = frozenset(
            str(transit_address(self._network_id, machine_id, via))
            for machine_id, via in record.behind
            if self._machine_id not in {machine_id, via}
        )
        return self._relay(record.peer_id, addresses)

    def drop_relay(self, peer_id: UUID) -> Turn:
        """No transit addresses of others lie behind a peer."""
        return self._relay(peer_id, frozenset())

    # -- how

    def _fit(self, record: PathRecord) -> Iterator[Way]:
        for transits in dict.fromkeys(record.ways):
            ends = {self._machine_id, record.peer_id}
            if transits and len(transits) <= MAX_HOPS and len({*transits, *ends}) == len(transits) + 2:
                yield Way(
                    transits,
                    str(transit_address(self._network_id, record.peer_id, transits[-1])),
                    str(transit_address(self._network_id, self._machine_id, transits[0])),
                )

    def _readdress(self, before: tuple[Way, ...], ways: tuple[Way, ...]) -> tuple[frozenset[str], frozenset[str]]:
        """An address stays for as long as any way needs it."""
        had, has = {way.own_address for way in before}, {way.own_address for way in ways}
        new = {address for address in has - had if address not in self._addresses}
        self._addresses.update(has - had)
        self._addresses.subtract(had - has)
        gone = {address for address in had - has if not self._addresses[address]}
        for address in gone:
            del self._addresses[address]
        return frozenset(map(_cidr, new)), frozenset(map(_cidr, gone))

    def _reroute(self, peer_id: UUID, ways: tuple[Way, ...]) -> tuple[frozenset[Route], frozenset[Route]]:
        sources: dict[str, str] = {}
        for way in ways:
            sources.setdefault(way.peer_address, way.own_address)
        routes = frozenset(Route(_cidr(address), source=source) for address, source in sources.items())
        before = self._routes.pop(peer_id, frozenset())
        if routes:
            self._routes[peer_id] = routes
        return routes - before, before - routes

    def _lead(self, ways: tuple[Way, ...], before: set[str]) -> tuple[Shift, ...]:
        leads: dict[str, UUID] = {}
        for way in ways:
            leads.setdefault(way.peer_address, way.first)
        for address in before - set(leads):
            self._leads.pop(address, None)
        self._leads.update(leads)
        return tuple(self._settle(before | set(leads)))

    def _relay(self, peer_id: UUID, addresses: frozenset[str]) -> Turn:
        before = self._relays.pop(peer_id, frozenset())
        if addresses:
            self._relays[peer_id] = addresses
        for address in before - addresses:
            self._relayed[address].discard(peer_id)
            if not self._relayed[address]:
                del self._relayed[address]
        for address in addresses - before:
            self._relayed.setdefault(address, set()).add(peer_id)
        return Turn(tuple(self._settle(before ^ addresses)))

    def _settle(self, addresses: Iterable[str]) -> Iterator[Shift]:
        """Whom each address belongs to now. What others need comes before what this machine needs for itself."""
        for address in sorted(addresses):
            relayed = self._relayed.get(address)
            after = min(relayed) if relayed else self._leads.get(address)
            before = self._owner.pop(address, None)
            if after is not None:
                self._owner[address] = after
            if before == after:
                continue
            if before is not None:
                self._behind[before].discard(_cidr(address))
                if not self._behind[before]:
                    del self._behind[before]
            if after is not None:
                self._behind.setdefault(after, set()).add(_cidr(address))
            yield Shift(_cidr(address), before, after)


def _cidr(address: str) -> str:
    return f"{address}/128"
