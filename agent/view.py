"""What one network's interface should be like, from the network's records and what probes find. Pure.

A `NetworkView` takes one record at a time and says what it changes on the interface, at a cost that does not grow with
the network; the whole desired state is drawn up only to compare it with the interface as it is.

A peer's endpoint is the address at which probes reach it; where they do not, its transit address on the first of its
ways whose first transit machine they reach; and while nothing is known, the first of its candidates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from uuid import UUID

from agent.desired import DEFAULT_MTU, KEEPALIVE, Desired, DesiredPeer, Locality
from agent.device import NO_CHANGES, Changes, Peer, PeerChange, Route, merged
from agent.paths import Paths, Shift, Turn, Way, nested_mtu
from agent.traffic import Silence
from events.fields import split_endpoint
from events.records import PathRecord, PeerRecord, RelayRecord


@dataclass(slots=True)
class Member:
    """Another member of the network, from its newest record."""

    public_key: str
    address: IPv4Address
    hostname: str
    endpoints: tuple[str, ...]
    listen_port: int = 0
    """The UDP port of its WireGuard on the machine itself; 0 for not known."""
    direct: str = ""
    """Where probes reach it; empty where they do not, or do not yet."""
    is_lost: bool = False
    """Whether probes say that they do not reach it."""
    way: Way | None = None
    """The way that its packets go, where they do not go directly."""
    shunned: frozenset[Way] = frozenset()
    """The ways that lead nowhere, as far as is known."""
    withdrawn: frozenset[str] = frozenset()
    formerly: str = ""
    """The key that it had before."""
    allowed_ip: str | None = None
    """None once a newer record has given its address to somebody else."""

    @property
    def port(self) -> int:
        """The port that packets through transit machines go to: where it is not told, that of its own addresses, which
        come last among its candidates."""
        if self.listen_port or not self.endpoints:
            return self.listen_port
        return split_endpoint(self.endpoints[-1])[1]

    def nested(self, way: Way) -> str:
        """Its endpoint by a way."""
        return f"[{way.peer_address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class Increment:
    """What one record, or one finding of the probes, means for the interface."""

    changes: Changes = NO_CHANGES
    compare: bool = False
    """Whether what to do depends on the interface as it is (an endpoint that may have roamed)."""
    refusal: str = ""
    """Why the record is not obeyed, if it is not."""

    @property
    def peers(self) -> tuple[PeerChange, ...]:
        """What changes about peers."""
        return self.changes.peers


NOTHING = Increment()


class NetworkView:
    """The members of one network as this machine should see them. Mutable, in memory only."""

    def __init__(
        self, network_id: UUID, machine_id: UUID, network_cidr: IPv4Network, address: IPv4Address, public_key: str
    ) -> None:
        """`machine_id`, `address` and `public_key` are this machine's own."""
        self.machine_id = machine_id
        self.network_cidr = network_cidr
        self.address = address
        self.public_key = public_key
        self.next_public_key = ""
        """The key that this machine is about to use; empty for none."""
        self.mtu = DEFAULT_MTU
        self.locality = Locality()
        self.is_probed = False
        """Whether probes find the peers' endpoints: their records then only name candidates."""
        self.mark = 0
        """What the packets of WireGuard itself are marked with."""
        self.vips: frozenset[str] = frozenset()
        """The addresses of virtual IPs that were given to this machine."""
        self.is_transit = False
        """Whether others' traffic may go through this machine."""
        self.own: PeerRecord | None = None
        """This machine as the others see it."""
        self.members: dict[UUID, Member] = {}
        self.paths = Paths(network_id, machine_id)
        self._transit = IPv6Network(self.paths.prefix)
        self._learnt: dict[str, UUID] = {}
        self._learnt_from: dict[UUID, set[str]] = {}
        self._astray: set[UUID] = set()
        self._silence = Silence()
        self._by_address: dict[IPv4Address, UUID] = {}
        self._by_key: dict[str, UUID] = {}

    # -- what records say

    def put(self, record: PeerRecord) -> Increment:
        """Take in a member's newest record. A record that cannot be obeyed counts as the member's absence."""
        if record.machine_id == self.machine_id:
            self.own = record
            return NOTHING
        refusal = self._refusal(record)
        if refusal:
            return replace(self.drop(record.machine_id), refusal=refusal)
        old = self.members.get(record.machine_id)
        if old is None:
            return self._add(record)
        if old.public_key != record.public_key:
            return self._change_key(old, record)
        return self._update(old, record)

    def drop(self, machine_id: UUID) -> Increment:
        """A member is gone."""
        if machine_id == self.machine_id:
            self.own = None
        member = self.members.get(machine_id)
        if member is None:
            return NOTHING
        routes = self._mesh_route(machine_id)
        del self.members[machine_id]
        del self._by_key[member.public_key]
        if member.allowed_ip is not None:
            del self._by_address[member.address]
        gone = PeerChange(member.public_key, remove=True)
        turned = self._choose_all(self.paths.through(machine_id))
        return Increment(merged(Changes(remove_routes=routes, peers=(gone,)), *turned))

    def put_path(self, record: PathRecord) -> Increment:
        """There are other ways to a peer."""
        peer_id = record.peer_id
        if peer_id == self.machine_id:
            return NOTHING
        if peer_id in self.members:
            self.members[peer_id].shunned = frozenset()
        had_route = self._mesh_route(peer_id)
        changes = self._obey(self.paths.put(record))
        route = self._mesh_route(peer_id)
        moved = Changes(add_routes=route - had_route, remove_routes=had_route - route)
        return Increment(merged(changes, moved, self._choose(peer_id)))

    def drop_path(self, peer_id: UUID) -> Increment:
        """There is no way to a peer through transit machines."""
        return self.put_path(self.paths.none(peer_id))

    def put_relay(self, record: RelayRecord) -> Increment:
        """Other transit addresses lie behind a peer."""
        return Increment(self._obey(self.paths.put_relay(record)))

    def drop_relay(self, peer_id: UUID) -> Increment:
        """No transit addresses of others lie behind a peer."""
        return Increment(self._obey(self.paths.drop_relay(peer_id)))

    def forget_paths(self) -> Iterator[Increment]:
        """No ways and relays count any more."""
        for peer_id in self.paths.reached():
            yield self.drop_path(peer_id)
        for peer_id in self.paths.relaying():
            yield self.drop_relay(peer_id)

    def learn(self, owners: Mapping[str, UUID]) -> Increment:
        """These prefixes lie behind members, and no others: a prefix that was behind another one moves over."""
        before, self._learnt = self._learnt, dict(owners)
        self._learnt_from = {}
        for prefix, machine_id in owners.items():
            self._learnt_from.setdefault(machine_id, set()).add(prefix)
        moved = sorted(prefix for prefix in before.keys() | owners.keys() if before.get(prefix) != owners.get(prefix))
        shifts = tuple(Shift(prefix, before.get(prefix), owners.get(prefix)) for prefix in moved)
        return Increment(self._obey(Turn(shifts)))

    # -- what probes find

    def found(self, machine_id: UUID, endpoint: str) -> Increment:
        """Probes reach a peer best at this endpoint; empty: they reach it nowhere."""
        member = self.members.get(machine_id)
        if member is None:
            return NOTHING
        was_lost, former = member.is_lost, member.direct
        member.direct, member.is_lost = endpoint, not endpoint
        if former == endpoint and was_lost == member.is_lost:
            return NOTHING
        changes = self._choose(machine_id)
        if endpoint and member.way is None and not changes.peers:
            changes = Changes(peers=_towards(member.public_key, endpoint))
        if was_lost != member.is_lost:
            changes = merged(changes, *self._choose_all(self.paths.through(machine_id)))
        return Increment(changes)

    def watch(self, now: float, peers: Mapping[str, Peer]) -> Increment:
        """The peers as they are on the interface, looked at again and again, at `now` in seconds.

        Brings back who is led astray: a peer answers where packets came from, so one that has not found the direct path
        yet draws this machine along. And leaves ways that lead nowhere, although their first transit is there.
        """
        astray, nested = set(), {}
        for machine_id, member in self.members.items():
            peer = peers.get(member.public_key)
            if peer is not None and member.direct and peer.endpoint and self._is_nested(peer.endpoint):
                astray.add(machine_id)
            if peer is not None and member.way is not None:
                nested[member.public_key] = peer
        back, self._astray = astray & self._astray, astray
        called = (_towards(self.members[each].public_key, self.members[each].direct) for each in sorted(back))
        changes = Changes(peers=tuple(change for pair in called for change in pair))
        silent = sorted(self._by_key[key] for key in self._silence.look(now, nested))
        return Increment(merged(changes, *map(self._leave_way, silent)))

    def _leave_way(self, machine_id: UUID) -> Changes:
        """The way in use leads nowhere: take another, and this one only when none is left."""
        member = self.members[machine_id]
        if member.way is not None:
            others = set(self.paths.ways(machine_id)) - member.shunned - {member.way}
            member.shunned = (member.shunned | {member.way}) if others else frozenset((member.way,))
        return self._choose(machine_id)

    # -- the whole

    @property
    def keys(self) -> Mapping[str, UUID]:
        """Whose each public key is."""
        return self._by_key

    def is_inside(self, address: IPv4Address | IPv6Address) -> bool:
        """Whether an address is one of the network's own."""
        return address in self.network_cidr or address in self._transit

    def _is_nested(self, endpoint: str) -> bool:
        return split_endpoint(endpoint)[0] in self._transit

    def desired(self, private_key: str, listen_port: int) -> Desired:
        """The whole interface as it should be."""
        routes = {*self.paths.routes}
        for machine_id in self.members:
            routes |= self._mesh_route(machine_id)
        if self.is_transit:
            routes.add(Route(self.paths.prefix))
        return Desired(
            private_key=private_key,
            listen_port=listen_port,
            mtu=self.mtu,
            address=f"{self.address}/32",
            route=str(self.network_cidr),
            peers={
                member.public_key: DesiredPeer(
                    allowed_ips=self.allowed_ips(machine_id),
                    endpoints=tuple(dict.fromkeys(self._endpoints(machine_id, member))),
                    withdrawn=member.withdrawn,
                    formerly=member.formerly,
                )
                for machine_id, member in self.members.items()
            },
            transit_prefix=self.paths.prefix,
            transit_addresses=self.paths.addresses,
            transit_routes=frozenset(routes),
            mark=self.mark,
            vips=self.vips,
        )

    def allowed_ips(self, machine_id: UUID) -> frozenset[str]:
        """A member's, as they stand on the interface."""
        allowed_ip = self.members[machine_id].allowed_ip
        mesh = () if allowed_ip is None else (allowed_ip,)
        static = (self.paths.static(machine_id),) if self.is_transit else ()
        return self.paths.behind(machine_id).union(mesh, static, self._learnt_from.get(machine_id, ()))

    def _endpoints(self, machine_id: UUID, member: Member) -> Iterator[str]:
        ways = [member.nested(way) for way in self.paths.ways(machine_id)]
        if member.direct:
            yield member.direct
        elif member.way is not None:
            yield member.nested(member.way)
            yield from ways
        yield from self.locality.usable(member.endpoints)
        yield from ways

    def _mesh_route(self, machine_id: UUID) -> frozenset[Route]:
        """What is sent to a peer through transit machines is smaller."""
        member = self.members.get(machine_id)
        if member is None or member.allowed_ip is None or not self.paths.ways(machine_id):
            return frozenset()
        return frozenset((Route(member.allowed_ip, mtu=nested_mtu(self.mtu)),))

    # -- members

    def _refusal(self, record: PeerRecord) -> str:
        if record.address == self.address:
            return "it claims this machine's own address"
        if record.address not in self.network_cidr:
            return f"its address {record.address} lies outside {self.network_cidr}"
        if record.public_key in {self.public_key, self.next_public_key}:
            return "it claims this machine's own public key"
        if self._by_key.get(record.public_key, record.machine_id) != record.machine_id:
            return "it claims another member's public key"
        return ""

    def _add(self, record: PeerRecord) -> Increment:
        machine_id = record.machine_id
        member = Member(record.public_key, record.address, record.hostname, record.endpoints, record.listen_port)
        self.members[machine_id] = member
        self._by_key[record.public_key] = machine_id
        loser = self._take_address(machine_id, member)
        member.way = self._way(machine_id)
        added = PeerChange(
            record.public_key,
            endpoint=next(self._endpoints(machine_id, member), None),
            keepalive=KEEPALIVE,
            add_allowed_ips=self.allowed_ips(machine_id),
        )
        route = self._mesh_route(machine_id)
        changes = Changes(add_routes=route, remove_routes=loser - route, peers=(added,))
        return Increment(merged(changes, *self._choose_all(self.paths.through(machine_id))))

    def _change_key(self, member: Member, record: PeerRecord) -> Increment:
        """What to do depends on where the member was reached with its old key."""
        del self._by_key[member.public_key]
        member.formerly, member.public_key = member.public_key, record.public_key
        self._by_key[record.public_key] = record.machine_id
        self._update(member, record)
        return Increment(compare=True)

    def _update(self, member: Member, record: PeerRecord) -> Increment:
        machine_id = record.machine_id
        before, route, port = self.allowed_ips(machine_id), self._mesh_route(machine_id), member.port
        member.hostname, member.listen_port = record.hostname, record.listen_port
        compare = member.endpoints != record.endpoints
        if compare:
            member.withdrawn = frozenset(member.endpoints) - frozenset(record.endpoints)
            member.endpoints = record.endpoints
        loser: frozenset[Route] = frozenset()
        if member.allowed_ip is None or member.address != record.address:
            if member.allowed_ip is not None:
                del self._by_address[member.address]
            member.address = record.address
            loser = self._take_address(machine_id, member)
        after, new_route = self.allowed_ips(machine_id), self._mesh_route(machine_id)
        peers: list[PeerChange] = []
        if before != after:
            peers += [PeerChange(record.public_key, add_allowed_ips=after - before, remove_allowed_ips=before - after)]
        if member.way is not None and member.port != port:
            peers += _towards(member.public_key, member.nested(member.way))
        changes = Changes(add_routes=new_route - route, remove_routes=(route | loser) - new_route, peers=tuple(peers))
        return Increment(changes, compare and not self.is_probed)

    def _take_address(self, machine_id: UUID, member: Member) -> frozenset[Route]:
        """Returns the route that whoever had the address before has no more."""
        holder, route = self._by_address.get(member.address), frozenset[Route]()
        if holder is not None and holder != machine_id:
            route = self._mesh_route(holder)
            self.members[holder].allowed_ip = None
        self._by_address[member.address] = machine_id
        member.allowed_ip = f"{member.address}/32"
        return route

    # -- ways

    def _obey(self, turn: Turn) -> Changes:
        adds: dict[UUID, set[str]] = {}
        removes: dict[UUID, set[str]] = {}
        for shift in turn.shifts:
            if shift.after is not None and shift.after in self.members:
                adds.setdefault(shift.after, set()).add(shift.allowed_ip)
            elif shift.before is not None and shift.before in self.members:
                removes.setdefault(shift.before, set()).add(shift.allowed_ip)
        peers = tuple(
            PeerChange(
                self.members[machine_id].public_key,
                add_allowed_ips=frozenset(adds.get(machine_id, ())),
                remove_allowed_ips=frozenset(removes.get(machine_id, ())),
            )
            for machine_id in dict.fromkeys((*adds, *removes))
        )
        return Changes(
            add_addresses=turn.add_addresses,
            remove_addresses=turn.remove_addresses,
            add_routes=turn.add_routes,
            remove_routes=turn.remove_routes,
            peers=peers,
        )

    def _way(self, machine_id: UUID) -> Way | None:
        """The way that a member's packets should go, where it is not reached directly: the first whose first transit
        machine is not lost and that has not proved to lead nowhere; the first of all where there is none."""
        if self.members[machine_id].direct:
            return None
        ways, shunned = self.paths.ways(machine_id), self.members[machine_id].shunned
        for way in ways:
            transit = self.members.get(way.first)
            if transit is not None and not transit.is_lost and way not in shunned:
                return way
        return ways[0] if ways else None

    def _choose(self, machine_id: UUID) -> Changes:
        """Send a member's packets where they should go now, if that is elsewhere than before."""
        member = self.members.get(machine_id)
        if member is None:
            return NO_CHANGES
        former, member.way = member.way, self._way(machine_id)
        if member.way == former:
            return NO_CHANGES
        if member.way is not None:
            turned = self._obey(self.paths.prefer(machine_id, member.way))
            return merged(turned, Changes(peers=_towards(member.public_key, member.nested(member.way))))
        endpoint = next(self._endpoints(machine_id, member), None)
        return Changes(peers=_towards(member.public_key, endpoint)) if endpoint else NO_CHANGES

    def _choose_all(self, machine_ids: Iterable[UUID]) -> Iterator[Changes]:
        return (self._choose(machine_id) for machine_id in sorted(machine_ids))


def _towards(public_key: str, endpoint: str) -> tuple[PeerChange, ...]:
    """Another endpoint, and a packet to it at once, from which the peer learns where to answer: WireGuard sends a
    keepalive when keepalives are switched on."""
    return PeerChange(public_key, endpoint=endpoint, keepalive=0), PeerChange(public_key, keepalive=KEEPALIVE)
