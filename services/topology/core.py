"""The derivation: each event of the log into the records that say what it changed. Pure.

What is kept in memory is exactly what the records say, so a topology made from them (`Topology.from_records`)
continues as if it had never stopped: the same revisions, the same bytes. The work for an event, and the number of its
records, follow what it changes and never the size of a network. Every event gives at least one record.

Some records become meaningless without a record that takes their place: a deleted network's peers, a deleted machine's
memberships, and *void* memberships, which name a network that was deleted (whether they say that the machine is in it
or that it left). They are purged, silently. A void membership stays until its machine has a newer record, because it
may be what holds the revision of the machine's scope.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from typing import Any, Self
from uuid import UUID

from events.domain import (
    DefaultNetworkSet,
    DomainEvent,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    RouteReflectorModeSet,
)
from events.errors import InternalError
from events.records import (
    Body,
    MachineRecord,
    MembershipRecord,
    NetworkRecord,
    PeerRecord,
    Record,
    SubjectRecord,
)
from events.subjects import machine_info, machine_membership, network_info, network_peer, scope, scope_of


class InconsistentLogError(InternalError):
    """Raised when an event speaks of a network, machine or membership that the log has not brought about."""

    code = "inconsistent-log"
    title = "The log contradicts itself"


class DamagedStateError(InternalError):
    """Raised when the records of STATE cannot all have been written by a topology."""

    code = "damaged-state"
    title = "The derived state is damaged"


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from one event."""

    records: list[SubjectRecord] = field(default_factory=list)
    """What STATE must hold, to be written together."""
    purges: list[str] = field(default_factory=list)
    """Filters of STATE subjects that mean nothing any more once the records are written. Nothing is ever written
    under them again, so purging late, or twice, does no harm."""


@dataclass(slots=True)
class _Member:
    address: IPv4Address
    public_key: str | None = None
    """None until the machine has announced its key."""
    endpoints: tuple[str, ...] = ()


@dataclass(slots=True)
class _Network:
    record: NetworkRecord
    members: dict[UUID, _Member] = field(default_factory=dict)
    former: set[UUID] = field(default_factory=set)
    """Machines that left: a tombstone of their membership stands in STATE."""


@dataclass(slots=True)
class _Machine:
    record: MachineRecord
    networks: set[UUID] = field(default_factory=set)
    left: set[UUID] = field(default_factory=set)
    """The networks among whose `former` it is."""
    void: set[UUID] = field(default_factory=set)
    """Deleted networks of which a membership, or the tombstone of one, still stands in STATE."""


class Topology:
    """All networks, machines and memberships as they are at one position of the log."""

    def __init__(self) -> None:
        self.position = 0
        """The log position of the last event that was applied."""
        self._networks: dict[UUID, _Network] = {}
        self._machines: dict[UUID, _Machine] = {}
        self._default: UUID | None = None
        self._revisions: dict[str, int] = {}

    def apply(self, sequence: int, event: DomainEvent) -> Derived:
        """What follows from the event at `sequence` of the log; nothing if it was applied already.

        Raises `InconsistentLogError`; what this topology holds is then undefined.
        """
        if sequence <= self.position:
            return Derived()
        self.position = sequence
        draft = _Draft(self._revisions, sequence, event.time)
        try:
            _HANDLERS[type(event)](self, event, draft)
        except KeyError as error:
            raise InconsistentLogError(
                f"Event {sequence} of the log ({event.kind}) speaks of {error.args[0]}, which is not there.",
                hint="Verify the log; it may come from a newer program.",
            ) from error
        return draft.derived

    @classmethod
    def from_records(cls, records: Iterable[SubjectRecord]) -> tuple[Self, list[str]]:
        """The topology that wrote these records (all of STATE, in any order), and the purges that it may have left
        undone.

        Raises `DamagedStateError`.
        """
        topology = cls()
        try:
            return topology, _Restorer(topology).restore(records)
        except KeyError as error:
            raise DamagedStateError(
                f"STATE lacks a record that others need: nothing tells of {error.args[0]}.",
                hint="Delete the stream STATE and start the topology service again: it rebuilds it from the log.",
            ) from error

    # The networks

    def _network_created(self, event: NetworkCreated, draft: _Draft) -> None:
        if event.is_default:
            self._move_default(None, draft)
            self._default = event.network_id
        record = NetworkRecord(
            network_id=event.network_id,
            name=event.name,
            network_cidr=event.network_cidr,
            is_default=event.is_default,
            route_reflector_mode=event.route_reflector_mode,
            created_at=event.time,
        )
        self._networks[event.network_id] = _Network(record)
        draft.put(network_info(event.network_id), record)

    def _network_renamed(self, event: NetworkRenamed, draft: _Draft) -> None:
        self._change_network(event.network_id, {"name": event.name}, draft)

    def _route_reflector_mode_set(self, event: RouteReflectorModeSet, draft: _Draft) -> None:
        self._change_network(event.network_id, {"route_reflector_mode": event.enabled}, draft)

    def _default_network_set(self, event: DefaultNetworkSet, draft: _Draft) -> None:
        self._move_default(event.network_id, draft)

    def _network_deleted(self, event: NetworkDeleted, draft: _Draft) -> None:
        network_id = event.network_id
        network = self._networks.pop(network_id)
        for machine_id in network.members.keys() | network.former:
            machine = self._machines[machine_id]
            machine.networks.discard(network_id)
            machine.left.discard(network_id)
            machine.void.add(network_id)
        if self._default == network_id:
            self._default = None
        draft.put(network_info(network_id), None)
        draft.purges.append(_all_peers(network_id))

    def _move_default(self, network_id: UUID | None, draft: _Draft) -> None:
        former, self._default = self._default, network_id
        if former is not None and former != network_id:
            self._change_network(former, {"is_default": False}, draft)
        if network_id is not None:
            self._change_network(network_id, {"is_default": True}, draft)

    def _change_network(self, network_id: UUID, update: dict[str, Any], draft: _Draft) -> None:
        network = self._networks[network_id]
        network.record = network.record.model_copy(update=update)
        draft.put(network_info(network_id), network.record)

    # Who is in them

    def _machines_assigned(self, event: MachinesAssigned, draft: _Draft) -> None:
        network = self._networks[event.network_id]
        for assignment in event.assignments:
            machine = self._machines[assignment.machine_id]
            network.members[assignment.machine_id] = _Member(assignment.address)
            network.former.discard(assignment.machine_id)
            machine.networks.add(event.network_id)
            machine.left.discard(event.network_id)
            record = MembershipRecord(
                machine_id=assignment.machine_id,
                network_id=event.network_id,
                network_cidr=network.record.network_cidr,
                address=assignment.address,
                assigned_at=event.time,
            )
            self._tell_machine(machine, machine_membership(assignment.machine_id, event.network_id), record, draft)

    def _machines_unassigned(self, event: MachinesUnassigned, draft: _Draft) -> None:
        network = self._networks[event.network_id]
        for assignment in event.assignments:
            machine = self._machines[assignment.machine_id]
            member = network.members.pop(assignment.machine_id)
            network.former.add(assignment.machine_id)
            machine.networks.remove(event.network_id)
            machine.left.add(event.network_id)
            self._tell_machine(machine, machine_membership(assignment.machine_id, event.network_id), None, draft)
            if member.public_key is not None:
                draft.put(network_peer(event.network_id, assignment.machine_id), None)

    def _membership_registered(self, event: MembershipRegistered, draft: _Draft) -> None:
        member = self._networks[event.network_id].members[event.machine_id]
        member.public_key, member.endpoints = event.public_key, event.endpoints
        self._tell_peers(event.network_id, self._machines[event.machine_id], draft)

    # The machines

    def _machine_registered(self, event: MachineRegistered, draft: _Draft) -> None:
        record = MachineRecord(
            machine_id=event.machine_id,
            hostname=event.hostname,
            agent_version=event.agent_version,
            created_at=event.time,
        )
        self._machines[event.machine_id] = _Machine(record)
        draft.put(machine_info(event.machine_id), record)

    def _machine_renamed(self, event: MachineRenamed, draft: _Draft) -> None:
        machine = self._change_machine(event.machine_id, {"hostname": event.hostname}, draft)
        for network_id in sorted(machine.networks):
            if self._networks[network_id].members[event.machine_id].public_key is not None:
                self._tell_peers(network_id, machine, draft)

    def _machine_agent_updated(self, event: MachineAgentUpdated, draft: _Draft) -> None:
        self._change_machine(event.machine_id, {"agent_version": event.agent_version}, draft)

    def _machine_deleted(self, event: MachineDeleted, draft: _Draft) -> None:
        machine = self._machines.pop(event.machine_id)
        if machine.networks:
            raise InconsistentLogError(
                f"Event {draft.cause} of the log deletes the machine {event.machine_id} while it is assigned.",
                hint="Verify the log.",
            )
        for network_id in machine.left:
            self._networks[network_id].former.remove(event.machine_id)
        draft.put(machine_info(event.machine_id), None)
        draft.purges.append(_all_memberships(event.machine_id))

    def _change_machine(self, machine_id: UUID, update: dict[str, Any], draft: _Draft) -> _Machine:
        machine = self._machines[machine_id]
        machine.record = machine.record.model_copy(update=update)
        self._tell_machine(machine, machine_info(machine_id), machine.record, draft)
        return machine

    # Records

    def _tell_machine(self, machine: _Machine, subject: str, body: Body | None, draft: _Draft) -> None:
        draft.put(subject, body)
        draft.purges.extend(machine_membership(machine.record.machine_id, gone) for gone in sorted(machine.void))
        machine.void.clear()

    def _tell_peers(self, network_id: UUID, machine: _Machine, draft: _Draft) -> None:
        member = self._networks[network_id].members[machine.record.machine_id]
        assert member.public_key is not None
        record = PeerRecord(
            network_id=network_id,
            machine_id=machine.record.machine_id,
            hostname=machine.record.hostname,
            address=member.address,
            public_key=member.public_key,
            endpoints=member.endpoints,
        )
        draft.put(network_peer(network_id, machine.record.machine_id), record)


_HANDLERS: dict[type[DomainEvent], Callable[[Topology, Any, _Draft], None]] = {
    NetworkCreated: Topology._network_created,
    NetworkRenamed: Topology._network_renamed,
    DefaultNetworkSet: Topology._default_network_set,
    RouteReflectorModeSet: Topology._route_reflector_mode_set,
    NetworkDeleted: Topology._network_deleted,
    MachinesAssigned: Topology._machines_assigned,
    MachinesUnassigned: Topology._machines_unassigned,
    MembershipRegistered: Topology._membership_registered,
    MachineRegistered: Topology._machine_registered,
    MachineRenamed: Topology._machine_renamed,
    MachineAgentUpdated: Topology._machine_agent_updated,
    MachineDeleted: Topology._machine_deleted,
}
"""Which method derives from which event."""


class _Draft:
    """The records of one event as they come up."""

    def __init__(self, revisions: dict[str, int], cause: int, time: datetime) -> None:
        self.derived = Derived()
        self.purges = self.derived.purges
        self._revisions = revisions
        self.cause = cause
        self._time = time

    def put(self, subject: str, body: Body | None) -> None:
        """Let `subject` say `body`, or with None that it is gone."""
        in_scope = scope_of(subject)
        previous = self._revisions.get(in_scope, 0)
        self._revisions[in_scope] = previous + 1
        record = Record(revision=previous + 1, previous=previous, cause=self.cause, time=self._time, body=body)
        self.derived.records.append(SubjectRecord(subject=subject, record=record))


class _Restorer:
    """Fills an empty topology from records."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._peers: dict[UUID, list[PeerRecord | None]] = defaultdict(list)
        self._memberships: dict[UUID, dict[UUID, MembershipRecord | None]] = defaultdict(dict)
        self._newest: dict[str, int] = defaultdict(int)
        """For each scope, the cause of its last record."""

    def restore(self, records: Iterable[SubjectRecord]) -> list[str]:
        """Take all records in; returns the purges that are due."""
        for entry in records:
            self._take(entry)
        return self._join_members() + self._join_peers()

    def _take(self, entry: SubjectRecord) -> None:
        topology, record, body = self._topology, entry.record, entry.record.body
        in_scope = scope_of(entry.subject)
        topology.position = max(topology.position, record.cause)
        topology._revisions[in_scope] = max(topology._revisions.get(in_scope, 0), record.revision)
        self._newest[in_scope] = max(self._newest[in_scope], record.cause)
        if isinstance(body, NetworkRecord):
            topology._networks[body.network_id] = _Network(body)
            if body.is_default:
                topology._default = body.network_id
        elif isinstance(body, MachineRecord):
            topology._machines[body.machine_id] = _Machine(body)
        elif isinstance(body, MembershipRecord):
            self._memberships[body.machine_id][body.network_id] = body
        elif isinstance(body, PeerRecord):
            self._peers[body.network_id].append(body)
        else:
            self._take_tombstone(entry.subject)

    def _take_tombstone(self, subject: str) -> None:
        _, _, scope_id, kind, *rest = subject.split(".")
        if kind == "peer":
            self._peers[UUID(scope_id)].append(None)
        elif kind == "network":
            self._memberships[UUID(scope_id)][UUID(rest[0])] = None

    def _join_members(self) -> list[str]:
        due = []
        for machine_id, memberships in self._memberships.items():
            machine = self._topology._machines.get(machine_id)
            if machine is None:
                due.append(_all_memberships(machine_id))
                continue
            for network_id, membership in memberships.items():
                if not self._join(machine, network_id, membership):
                    due.append(machine_membership(machine_id, network_id))
        return due

    def _join(self, machine: _Machine, network_id: UUID, membership: MembershipRecord | None) -> bool:
        """Put a machine where its membership belongs; False if that is to be purged."""
        machine_id = machine.record.machine_id
        network = self._topology._networks.get(network_id)
        if network is None:
            if self._newest[scope("machine", machine_id)] > self._newest[scope("network", network_id)]:
                return False
            machine.void.add(network_id)
        elif membership is None:
            network.former.add(machine_id)
            machine.left.add(network_id)
        else:
            network.members[machine_id] = _Member(membership.address)
            machine.networks.add(network_id)
        return True

    def _join_peers(self) -> list[str]:
        topology, due = self._topology, []
        for network_id, peers in self._peers.items():
            network = topology._networks.get(network_id)
            if network is None:
                due.append(_all_peers(network_id))
                continue
            for peer in filter(None, peers):
                member = network.members[peer.machine_id]
                member.public_key, member.endpoints = peer.public_key, peer.endpoints
        return due


def _all_peers(network_id: UUID) -> str:
    return network_info(network_id).removesuffix("info") + "peer.*"


def _all_memberships(machine_id: UUID) -> str:
    return machine_info(machine_id).removesuffix("info") + "network.*"
