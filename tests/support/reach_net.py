"""A network in a gateway's mirror, and what its machines report of their links."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

from events.records import (
    Body,
    LinkState,
    MachineRecord,
    MembershipRecord,
    NetworkRecord,
    PathRecord,
    ReachEvent,
    ReachRequest,
    Record,
)
from events.state import encode_record
from events.subjects import machine_info, machine_membership, network_info, path
from services.gateway.mirror import Mirror
from services.gateway.reach import Reach
from services.gateway.ways import Way, Ways

START = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)


def direct(peer: UUID, rtt: int | None = 10, endpoint: str = "192.0.2.1:51820") -> LinkState:
    """A link that works."""
    return LinkState(peer_id=peer, state="direct", rtt=rtt, endpoint=endpoint)


def unreachable(peer: UUID, *tried: str) -> LinkState:
    """A link that does not, with the addresses that were tried."""
    return LinkState(peer_id=peer, state="unreachable", tried=tuple((address, "no answer") for address in tried))


class Net:
    """One network and its machines; time passes by a second with everything that happens."""

    def __init__(self, machines: int) -> None:
        self.mirror, self.reach, self.ways = Mirror(), Reach(), Ways()
        self.seconds = 0
        self.boots: dict[UUID, UUID] = defaultdict(uuid4)
        self.id = self.network("office")
        self.machines = [self.machine(f"m-{number}", number) for number in range(1, machines + 1)]

    @property
    def now(self) -> datetime:
        """The time."""
        return START + timedelta(seconds=self.seconds)

    def put(self, subject: str, body: Body | None) -> None:
        """A record of STATE."""
        self.mirror.apply(subject, encode_record(self._record(body)))

    def network(self, name: str) -> UUID:
        """A further network."""
        network_id = uuid4()
        cidr = IPv4Network("172.16.0.0/16")
        body = NetworkRecord(
            network_id=network_id,
            name=name,
            network_cidr=cidr,
            is_default=False,
            route_reflector_mode=False,
            created_at=START,
        )
        self.put(network_info(network_id), body)
        return network_id

    def machine(self, hostname: str, number: int) -> UUID:
        """A further machine, at the network's address with this number."""
        machine_id = uuid4()
        body = MachineRecord(machine_id=machine_id, hostname=hostname, agent_version="1", created_at=START)
        self.put(machine_info(machine_id), body)
        self.join(self.id, machine_id, number)
        return machine_id

    def join(self, network_id: UUID, machine_id: UUID, number: int) -> None:
        """Have a machine be in a network."""
        body = MembershipRecord(
            machine_id=machine_id,
            network_id=network_id,
            network_cidr=IPv4Network("172.16.0.0/16"),
            address=IPv4Address("172.16.0.0") + number,
            assigned_at=START,
        )
        self.put(machine_membership(machine_id, network_id), body)

    def report(self, machine_id: UUID, *links: LinkState) -> None:
        """What stands in REACH from now on."""
        for link in links:
            self.seconds += 1
            event = ReachEvent(
                network_id=self.id,
                machine_id=machine_id,
                boot_id=self.boots[machine_id],
                counter=self.seconds,
                time=self.now,
                link=link,
            )
            self.reach.take(self.seconds, event)

    def ask(
        self, machine_id: UUID, *links: LinkState, counter: int = 1, boot: UUID | None = None, whole: bool = False
    ) -> tuple[ReachEvent, ...]:
        """What a machine's report leads to, of which nothing is written."""
        request = ReachRequest(
            network_id=self.id, boot_id=boot or self.boots[machine_id], counter=counter, whole=whole, links=links
        )
        return self.reach.accept(machine_id, request, self.mirror, self.now)

    def choose(self, machine_id: UUID, peer_id: UUID, *ways: tuple[UUID, ...], gone: bool = False) -> None:
        """A record of PATHS."""
        body = PathRecord(network_id=self.id, machine_id=machine_id, peer_id=peer_id, ways=ways)
        self.ways.take(path(machine_id, self.id, peer_id), self._record(None if gone else body))

    def way(self, machine_id: UUID, peer_id: UUID) -> Way:
        """How one reaches the other."""
        return self.ways.way(self.reach, self.id, machine_id, peer_id)

    def _record(self, body: Body | None) -> Record:
        self.seconds += 1
        return Record(revision=self.seconds, previous=0, cause=self.seconds, time=self.now, body=body)
