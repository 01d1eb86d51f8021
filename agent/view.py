"""What one network's interface should be like, from the network's records and what probes find. Pure.

A `NetworkView` takes one record at a time and says what it changes on the interface, at a cost that does not grow with
the network; the whole desired state is drawn up only to compare it with the interface as it is.

A peer's endpoint is the address at which probes reach it; where they do not, its transit address on the first of its
ways whose first transit machine they reach; else where they reached it last, or the first of its candidates. A new
peer is *awaited* first (`agent.meeting`): while probes look for it, WireGuard knows no endpoint of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from uuid import UUID

from agent.desired import DEFAULT_MTU, KEEPALIVE, Desired, DesiredPeer, Locality
from agent.device import NO_CHANGES, Changes, Peer, PeerChange, Route, merged
from agent.lingering import Lingering
from agent.meeting import Meetings, begins
from agent.members import NOTHING, Increment, Member
from agent.paths import Paths, Shift, Turn, Way, nested_mtu
from agent.traffic import Silence
from events.fields import split_endpoint
from events.records import PathRecord, PeerRecord, RelayRecord

Mesh = tuple[IPv4Network, IPv6Network]
"""A network's range, and the prefix of its transit addresses."""


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
        self.meshes: Mapping[UUID, Mesh] = {network_id: (network_cidr, self._transit)}
        """What is inside of the networks that this machine is in, this one among them: no peer is sent to there. A peer
        could else lead the packets of two networks round and round through each other."""
        self._astray: set[UUID] = set()
        self._silence = Silence()
        self._lingering = Lingering()
        self.looked_at: float | None = None
        """When `watch` was called last."""
        self.awaited = Meetings()
        """Whom WireGuard has no endpoint of yet."""
        self._unmet: set[str] = set()
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
        self.awaited.over(machine_id)
        gone = PeerChange(member.public_key, remove=True)
        turned = self._choose_all(self.paths.through(machine_id))
        return Increment(merged(Changes(remove_routes=routes, peers=(gone,)), *turned))

    def put_path(self, record: PathRecord) -> Increment:
        """There are other ways to a peer."""
        return self._replace_ways(record, until_found=False)

    def _replace_ways(self, record: PathRecord, *, until_found: bool) -> Increment:
        peer_id = record.peer_id
        if peer_id == self.machine_id:
            return NOTHING
        if peer_id in self.members:
            self.members[peer_id].shunned = frozenset()
        self._lingering.end(peer_id)
        left = self.paths.left_by(record) if self.is_probed else ()
        if left:
            self._lingering.begin(record, left, until_found=until_found)
        return Increment(self._put_ways(record, left))

    def _put_ways(self, record: PathRecord, besides: tuple[Way, ...] = ()) -> Changes:
        peer_id = record.peer_id
        had_route, member = self._mesh_route(peer_id), self.members.get(peer_id)
        changes = self._obey(self.paths.put(record, besides, member.way if member is not None else None))
        route = self._mesh_route(peer_id)
        moved = Changes(add_routes=route - had_route, remove_routes=had_route - route)
        return merged(changes, moved, self._choose(peer_id))

    def _is_lost(self, machine_id: UUID) -> bool:
        member = self.members.get(machine_id)
        return member is not None and member.is_lost

    def _end_lingering(self, peer_id: UUID) -> Changes:
        record = self._lingering.end(peer_id)
        return self._put_ways(record) if record is not None else NO_CHANGES

    def drop_path(self, peer_id: UUID) -> Increment:
        """There need be no way to a peer through transit machines any more."""
        return self._replace_ways(self.paths.none(peer_id), until_found=True)

    def put_relay(self, record: RelayRecord) -> Increment:
        """Other transit addresses lie behind a peer."""
        return Increment(self._obey(self.paths.put_relay(record)))

    def drop_relay(self, peer_id: UUID) -> Increment:
        """No transit addresses of others lie behind a peer."""
        return Increment(self._obey(self.paths.drop_relay(peer_id)))

    def forget_paths(self) -> Iterator[Increment]:
        """No ways and relays count any more, from now on."""
        for peer_id in self.paths.reached():
            self._lingering.end(peer_id)
            yield Increment(self._put_ways(self.paths.none(peer_id)))
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
        member.last_direct = endpoint or member.last_direct
        if former == endpoint and was_lost == member.is_lost:
            return NOTHING
        changes = self._choose(machine_id)
        if endpoint and member.way is None and not changes.peers and machine_id not in self.awaited:
            changes = Changes(peers=self._towards(machine_id, endpoint))
        if was_lost != member.is_lost or not former:
            through = sorted(self.paths.through(machine_id))
            changes = merged(changes, *self._choose_all(through))
            if member.is_lost:
                moved = {change.public_key for change in changes.peers}
                changes = merged(changes, *(self._call_back(each) for each in through if self._may_stray(each, moved)))
        return Increment(changes)

    def watch(self, now: float, peers: Mapping[str, Peer]) -> Increment:
        """The peers as they are on the interface, looked at again and again, at `now` in seconds.

        Brings back who is led astray: a peer answers where packets came from, so one that has not found the direct path
        yet draws this machine along. Leaves ways that lead nowhere, although their first transit is there. And awaits
        nobody for long.
        """
        self._unmet = {key for key, peer in peers.items() if not peer.last_handshake}
        self.looked_at = now
        before = (self.unreached, self.paths.reached())
        settled = [
            self._end_lingering(each)
            if self._lingering.is_over(now, each, is_lost=self._is_lost(each))
            else self._choose(each)
            for each in self._lingering.peers()
        ]
        late = [self._call(machine_id) for machine_id in self._late(now, peers)]
        astray, nested = set(), {}
        for machine_id, member in self.members.items():
            peer = peers.get(member.public_key)
            if peer is not None and member.direct and peer.endpoint and self._is_nested(peer.endpoint):
                astray.add(machine_id)
            if peer is not None and member.way is not None:
                nested[member.public_key] = peer
        back, self._astray = astray & self._astray, astray
        called = [self._towards(each, self.members[each].direct) for each in sorted(back)]
        changes = Changes(peers=tuple(change for pair in called for change in pair))
        silent = sorted(self._by_key[key] for key in self._silence.look(now, nested))
        left = (self._leave_way(each, peers[self.members[each].public_key].endpoint) for each in silent)
        changes = merged(*settled, *late, changes, *left)
        return Increment(changes, reached_otherwise=before != (self.unreached, self.paths.reached()))

    @property
    def unreached(self) -> frozenset[UUID]:
        """Who is reached neither directly nor by any way."""
        return frozenset(each for each, member in self.members.items() if member.is_lost and member.way is None)

    @property
    def is_expecting(self) -> bool:
        """Whether somebody is awaited, so that `watch` should be called again soon."""
        return bool(self.awaited)

    def present(self, public_keys: Iterable[str]) -> None:
        """These peers have endpoints, from before this program began: they need not be awaited."""
        for machine_id in filter(None, map(self._by_key.get, public_keys)):
            self.awaited.over(machine_id)

    def unprobed(self) -> None:
        """Nothing is probed after all. The interface is to be compared then."""
        self.is_probed = False
        for machine_id in self.awaited:
            self.awaited.over(machine_id)
        for peer_id in self._lingering.peers():
            self._end_lingering(peer_id)

    def _late(self, now: float, peers: Mapping[str, Peer]) -> Iterator[UUID]:
        """Who has been awaited for too long. Those who came are awaited no more."""
        for machine_id in self.awaited:
            member = self.members[machine_id]
            if member.public_key in peers and member.public_key not in self._unmet:
                self.awaited.over(machine_id)
            elif self.awaited.is_late(now, machine_id, self._is_found(member)):
                yield machine_id

    def _is_found(self, member: Member) -> bool:
        """Whether probes have found where a member's packets go, or the first part of its way."""
        transit = self.members.get(member.way.first) if member.way is not None else None
        return bool(member.direct or (transit is not None and transit.direct))

    def _call(self, machine_id: UUID) -> Changes:
        """Have WireGuard shake hands with a member at once. It may have tried elsewhere just now, or nowhere, and only
        a peer that is made anew is tried again at once; where there was no handshake, nothing is lost by that."""
        self.awaited.over(machine_id)
        member = self.members[machine_id]
        self._unmet.discard(member.public_key)
        return Changes(peers=(PeerChange(member.public_key, remove=True), self._made(machine_id)))

    def _made(self, machine_id: UUID) -> PeerChange:
        """A member that WireGuard does not know. With keepalives it tries an endpoint at once."""
        member = self.members[machine_id]
        return PeerChange(
            member.public_key,
            endpoint=None if machine_id in self.awaited else next(self._endpoints(machine_id, member), None),
            keepalive=KEEPALIVE,
            add_allowed_ips=self.allowed_ips(machine_id),
        )

    def _towards(self, machine_id: UUID, endpoint: str) -> tuple[PeerChange, ...]:
        """Another endpoint, and a packet to it at once, from which the peer learns where to answer: WireGuard sends a
        keepalive when keepalives are switched on."""
        key = self.members[machine_id].public_key
        if key not in self._unmet:
            return PeerChange(key, endpoint=endpoint, keepalive=0), PeerChange(key, keepalive=KEEPALIVE)
        if begins(self.public_key, key):
            return self._call(machine_id).peers
        self.awaited.expect(machine_id)
        return PeerChange(key, remove=True), self._made(machine_id)

    def _may_stray(self, machine_id: UUID, moved: Collection[str]) -> bool:
        """Whether a member's packets may go elsewhere than by the way in use, which is there, and to which it was not
        just `moved`."""
        member = self.members.get(machine_id)
        if member is None or member.way is None or member.public_key in moved:
            return False
        return not self._is_lost(member.way.first)

    def _call_back(self, machine_id: UUID) -> Changes:
        """Have packets go by the way in use: WireGuard answers where packets came from last, and so may use another, of
        which those at both ends believe that the other has left it."""
        member = self.members[machine_id]
        if member.way is None or member.public_key in self._unmet:
            return NO_CHANGES
        return Changes(peers=self._towards(machine_id, member.nested(member.way)))

    def _leave_way(self, machine_id: UUID, endpoint: str | None) -> Changes:
        """What is sent to the member's endpoint comes to nothing. If the way in use leads there, take another, and this
        one only when none is left."""
        member = self.members[machine_id]
        former = member.way
        if former is not None and endpoint and member.public_key not in self._unmet:
            host, _ = split_endpoint(endpoint)
            if str(host) != former.peer_address:
                return self._call_back(machine_id)
        if former is not None:
            others = set(self.paths.ways(machine_id)) - member.shunned - {former}
            member.shunned = (member.shunned | {former}) if others else frozenset((former,))
        changes = self._choose(machine_id)
        return changes if member.way != former else merged(changes, self._call_back(machine_id))

    # -- the whole

    @property
    def keys(self) -> Mapping[str, UUID]:
        """Whose each public key is."""
        return self._by_key

    def may_be(self, endpoint: str) -> bool:
        """Whether a peer can be at an endpoint at all."""
        return endpoint in self._usable((endpoint,))

    def _usable(self, endpoints: tuple[str, ...]) -> Iterator[str]:
        for endpoint in self.locality.usable(endpoints):
            address, _ = split_endpoint(endpoint)
            if not any(address in inside for mesh in self.meshes.values() for inside in mesh):
                yield endpoint

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
                    is_awaited=machine_id in self.awaited,
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
        # An agent that is stopped answers no probes, but its tunnel is there.
        yield from self._usable((member.last_direct,))
        yield from self._usable(member.endpoints)
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
        route = self._mesh_route(machine_id)
        if self.is_probed:
            self.awaited.expect(machine_id)
        changes = Changes(add_routes=route, remove_routes=loser - route, peers=(self._made(machine_id),))
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
        if member.way is not None and member.port != port and machine_id not in self.awaited:
            peers += self._towards(machine_id, member.nested(member.way))
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

    def is_held(self, machine_id: UUID) -> bool:
        """Whether the way in use stays so for now, although it is named no more."""
        way = self.members[machine_id].way
        return way is not None and self._lingering.holds(self.looked_at, machine_id, way)

    def _way(self, machine_id: UUID) -> Way | None:
        """The way that a member's packets should go, where it is not reached directly: the first whose first transit
        machine is not lost and that has not proved to lead nowhere; the first of all where there is none."""
        if self.members[machine_id].direct:
            return None
        member = self.members[machine_id]
        ways = [way for way in self.paths.ways(machine_id) if not self._lingering.is_leaving(machine_id, way)]
        if member.way is not None and self.is_held(machine_id):
            ways.insert(0, member.way)
        for way in ways:
            transit = self.members.get(way.first)
            if transit is not None and not transit.is_lost and way not in member.shunned:
                return way
        return ways[0] if ways else None

    def _choose(self, machine_id: UUID) -> Changes:
        """Send a member's packets where they should go now, if that is elsewhere than before."""
        member = self.members.get(machine_id)
        if member is None:
            return NO_CHANGES
        former, member.way = member.way, self._way(machine_id)
        turned = NO_CHANGES
        if member.way is not None and member.way != former:
            turned = self._obey(self.paths.prefer(machine_id, member.way))
        if machine_id in self.awaited:
            is_turn = self._is_found(member) and begins(self.public_key, member.public_key)
            return merged(turned, self._call(machine_id)) if is_turn else turned
        if member.way == former:
            return NO_CHANGES
        endpoint = next(self._endpoints(machine_id, member), None)
        return merged(turned, Changes(peers=self._towards(machine_id, endpoint))) if endpoint else turned

    def _choose_all(self, machine_ids: Iterable[UUID]) -> Iterator[Changes]:
        return (self._choose(machine_id) for machine_id in sorted(machine_ids))
