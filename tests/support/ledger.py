"""The log replayed by a few plain rules: a judge of the log itself and of everything that is derived from it."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from nats.aio.client import Client

from events import log
from events.domain import (
    GENESIS_HASH,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkDeleted,
)
from events.interfaces import interface_name
from events.log import LoggedEvent


@dataclass
class Member:
    """A machine in a network."""

    address: IPv4Address
    announced: MembershipRegistered | None = None


class Ledger:
    """What happened, and what has come of it. Making one fails where the log contradicts itself."""

    def __init__(self, events: list[LoggedEvent]) -> None:
        self.events = events
        self.members: dict[UUID, dict[UUID, Member]] = defaultdict(dict)
        """Each network's members by machine."""
        self.hostnames: dict[UUID, str] = {}
        self._ends: dict[UUID, tuple[int, str]] = {}
        for logged in events:
            self._chain(logged)
            self._take(logged.event)

    def events_of(self) -> Counter[UUID]:
        """How many events each command led to."""
        return Counter(logged.event.command_id for logged in self.events)

    def tunnels(self, machine_id: UUID) -> dict[str, Any]:
        """The interfaces that a machine must have, in the form of `tests.support.fleet`'s report."""
        return {
            interface_name(network_id): self._tunnel(network_id, machine_id)
            for network_id, members in self.members.items()
            if machine_id in members
        }

    def _tunnel(self, network_id: UUID, machine_id: UUID) -> dict[str, Any]:
        members = self.members[network_id]
        own = members[machine_id]
        return {
            "addresses": [f"{own.address}/32"],
            "public_key": own.announced.public_key if own.announced else None,
            "peers": {
                peer.announced.public_key: {
                    "allowed_ips": [f"{peer.address}/32"],
                    "endpoint": peer.announced.endpoints[0],
                    "hostname": self.hostnames[peer_id],
                }
                for peer_id, peer in members.items()
                if peer.announced and peer_id != machine_id
            },
        }

    def _chain(self, logged: LoggedEvent) -> None:
        event = logged.event
        version, digest = self._ends.get(event.originator_id, (0, GENESIS_HASH))
        assert event.originator_version == version + 1, f"event {logged.sequence} is out of its aggregate's order"
        assert event.previous_hash == digest, f"the chain is broken at event {logged.sequence}"
        self._ends[event.originator_id] = (event.originator_version, logged.digest)

    def _take(self, event: object) -> None:
        match event:
            case MachineRegistered() | MachineRenamed():
                self.hostnames[event.machine_id] = event.hostname
            case MachinesAssigned():
                members = self.members[event.network_id]
                taken = {member.address for member in members.values()}
                for assignment in event.assignments:
                    assert assignment.machine_id not in members, f"{assignment.machine_id} was assigned twice"
                    assert assignment.address not in taken, f"{assignment.address} has two machines"
                    taken.add(assignment.address)
                    members[assignment.machine_id] = Member(assignment.address)
            case MachinesUnassigned():
                for assignment in event.assignments:
                    assert self.members[event.network_id].pop(assignment.machine_id).address == assignment.address
            case MembershipRegistered():
                self.members[event.network_id][event.machine_id].announced = event
            case NetworkDeleted():
                self.members.pop(event.network_id, None)


async def read_ledger(client: Client) -> Ledger:
    """The whole log, found to be in order: versions without gaps, an unbroken chain, no address twice."""
    end = await log.last_sequence(client)
    events = await log.read(client, 0, limit=end, stop=end)
    assert [logged.sequence for logged in events] == list(range(1, end + 1))
    return Ledger(events)
