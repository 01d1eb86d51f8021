"""What one network's interface should be like, from the network's records. Pure.

A `NetworkView` takes one record at a time and says what it changes on the interface, at a cost that does not grow with
the network; the whole desired state is drawn up only to compare it with the interface as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface
from uuid import UUID

from agent.device import PeerChange
from events.fields import split_endpoint
from events.records import PeerRecord

KEEPALIVE = 25
"""Seconds between keepalives: shorter than the usual 30 s after which a NAT forgets a UDP mapping."""

DEFAULT_MTU = 1420
"""1,500 less WireGuard's overhead over IPv6: 40 + 8 + 32."""


@dataclass(frozen=True, slots=True)
class Locality:
    """Where this machine stands in the networks underneath."""

    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    """Its global-scope addresses on interfaces that are not Wireloom's."""
    families: frozenset[int] = frozenset({4, 6})
    """The IP versions for which it has a route."""

    def usable(self, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        """The endpoints that this machine can send to, best first: those in one of its own subnets, then the others
        in the order given. Its own addresses never lead to another machine, and what is no endpoint leads nowhere."""
        near, far = [], []
        for endpoint in endpoints:
            try:
                address, _ = split_endpoint(endpoint)
            except ValueError:
                continue
            if any(address == own.ip for own in self.addresses):
                continue
            if any(address in own.network for own in self.addresses):
                near.append(endpoint)
            elif address.version in self.families:
                far.append(endpoint)
        return (*near, *far)


@dataclass(frozen=True, slots=True)
class DesiredPeer:
    """A peer as it should be."""

    allowed_ips: frozenset[str]
    endpoints: tuple[str, ...] = ()
    """Where it may be reached, best first."""
    withdrawn: frozenset[str] = frozenset()
    """Where it said it can be reached, and does no longer."""
    formerly: str = ""
    """The key that it had before: where that was reached, this one is."""
    keepalive: int = KEEPALIVE


@dataclass(frozen=True, slots=True)
class Desired:
    """An interface as it should be."""

    private_key: str = field(repr=False)
    listen_port: int
    mtu: int
    address: str
    route: str
    peers: Mapping[str, DesiredPeer]
    """By public key."""


@dataclass(slots=True)
class Member:
    """Another member of the network, from its newest record."""

    public_key: str
    address: IPv4Address
    hostname: str
    endpoints: tuple[str, ...]
    withdrawn: frozenset[str] = frozenset()
    formerly: str = ""
    """The key that it had before."""
    allowed_ip: str | None = None
    """None once a newer record has given its address to somebody else."""

    @property
    def allowed_ips(self) -> frozenset[str]:
        """As they stand on the interface."""
        return frozenset() if self.allowed_ip is None else frozenset((self.allowed_ip,))


@dataclass(frozen=True, slots=True)
class Increment:
    """What one record means for the interface."""

    peers: tuple[PeerChange, ...] = ()
    compare: bool = False
    """Whether what to do depends on the interface as it is (an endpoint that may have roamed)."""
    refusal: str = ""
    """Why the record is not obeyed, if it is not."""


NOTHING = Increment()


class NetworkView:
    """The members of one network as this machine should see them. Mutable, in memory only."""

    def __init__(self, machine_id: UUID, network_cidr: IPv4Network, address: IPv4Address, public_key: str) -> None:
        """`machine_id`, `address` and `public_key` are this machine's own."""
        self.machine_id = machine_id
        self.network_cidr = network_cidr
        self.address = address
        self.public_key = public_key
        self.next_public_key = ""
        """The key that this machine is about to use; empty for none."""
        self.locality = Locality()
        self.own: PeerRecord | None = None
        """This machine as the others see it."""
        self.members: dict[UUID, Member] = {}
        self._by_address: dict[IPv4Address, UUID] = {}
        self._by_key: dict[str, UUID] = {}

    def put(self, record: PeerRecord) -> Increment:
        """Take in a member's newest record. A record that cannot be obeyed counts as the member's absence."""
        if record.machine_id == self.machine_id:
            self.own = record
            return NOTHING
        refusal = self._refusal(record)
        if refusal:
            return Increment(self.drop(record.machine_id).peers, refusal=refusal)
        old = self.members.get(record.machine_id)
        if old is None:
            return Increment((self._add(record),))
        if old.public_key != record.public_key:
            return self._change_key(old, record)
        return self._update(old, record)

    def drop(self, machine_id: UUID) -> Increment:
        """A member is gone."""
        if machine_id == self.machine_id:
            self.own = None
        member = self.members.pop(machine_id, None)
        if member is None:
            return NOTHING
        del self._by_key[member.public_key]
        if member.allowed_ip is not None:
            del self._by_address[member.address]
        return Increment((PeerChange(member.public_key, remove=True),))

    def desired(self, private_key: str, listen_port: int, mtu: int) -> Desired:
        """The whole interface as it should be."""
        return Desired(
            private_key=private_key,
            listen_port=listen_port,
            mtu=mtu,
            address=f"{self.address}/32",
            route=str(self.network_cidr),
            peers={
                member.public_key: DesiredPeer(
                    allowed_ips=member.allowed_ips,
                    endpoints=self.locality.usable(member.endpoints),
                    withdrawn=member.withdrawn,
                    formerly=member.formerly,
                )
                for member in self.members.values()
            },
        )

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

    def _add(self, record: PeerRecord) -> PeerChange:
        member = Member(record.public_key, record.address, record.hostname, record.endpoints)
        self.members[record.machine_id] = member
        self._by_key[record.public_key] = record.machine_id
        self._take_address(record.machine_id, member)
        usable = self.locality.usable(record.endpoints)
        return PeerChange(
            record.public_key,
            endpoint=usable[0] if usable else None,
            keepalive=KEEPALIVE,
            add_allowed_ips=member.allowed_ips,
        )

    def _change_key(self, member: Member, record: PeerRecord) -> Increment:
        """What to do depends on where the member was reached with its old key."""
        del self._by_key[member.public_key]
        member.formerly, member.public_key = member.public_key, record.public_key
        self._by_key[record.public_key] = record.machine_id
        self._update(member, record)
        return Increment(compare=True)

    def _update(self, member: Member, record: PeerRecord) -> Increment:
        before = member.allowed_ips
        member.hostname = record.hostname
        compare = member.endpoints != record.endpoints
        if compare:
            member.withdrawn = frozenset(member.endpoints) - frozenset(record.endpoints)
            member.endpoints = record.endpoints
        if member.allowed_ip is None or member.address != record.address:
            if member.allowed_ip is not None:
                del self._by_address[member.address]
            member.address = record.address
            self._take_address(record.machine_id, member)
        after = member.allowed_ips
        if before == after:
            return Increment(compare=compare)
        change = PeerChange(record.public_key, add_allowed_ips=after - before, remove_allowed_ips=before - after)
        return Increment((change,), compare)

    def _take_address(self, machine_id: UUID, member: Member) -> None:
        holder = self._by_address.get(member.address)
        if holder is not None and holder != machine_id:
            self.members[holder].allowed_ip = None
        self._by_address[member.address] = machine_id
        member.allowed_ip = f"{member.address}/32"
