"""The derivation: each event of the log into the records that say what it changed. Pure.

What is kept in memory is exactly what the records say, so a topology made from them (`services.topology.restore`)
continues as if it had never stopped: the same revisions, the same bytes. The work for an event, and the number of its
records, follow what it changes and never the size of a network. Every event gives at least one record.

Some records become meaningless without a record that takes their place: a deleted network's peers, a deleted machine's
memberships, API tokens that have expired, and *void* memberships, which name a network that was deleted (whether they
say that the machine is in it or that it left). They are purged, silently. A void membership stays until its machine has
a newer record, because it may be what holds the revision of the machine's scope.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

from events.domain import (
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
    MachineUnrouted,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    NetworkUnrouted,
    ReflectorsPinned,
    RouteReflectorModeSet,
)
from events.records import Body, MachineRecord, MembershipRecord, NetworkRecord, PeerRecord, RoutingRecord
from events.subjects import (
    machine_info,
    machine_membership,
    machine_routing,
    network_info,
    network_peer,
    scope_of,
)
from services.topology import access, routing
from services.topology.access import AccessList
from services.topology.announcing import Announcing
from services.topology.derived import (
    Derived,
    Draft,
    InconsistentLogError,
    all_announcements,
    all_memberships,
    all_peers,
    all_policies,
)
from services.topology.roster import Machine, Member, Network
from services.topology.routing import RoutingList


class Topology:
    """All networks, machines and memberships, and who has access, as they are at one position of the log."""

    def __init__(self) -> None:
        self.position = 0
        """The log position of the last event that was applied."""
        self.networks: dict[UUID, Network] = {}
        self.machines: dict[UUID, Machine] = {}
        self.default: UUID | None = None
        """The default network."""
        self.access = AccessList()
        self.routing = RoutingList()
        self.announcing = Announcing(self.routing, self)
        self.pinned: set[UUID] = set()
        """The networks that have pinned reflectors."""
        self.revisions: dict[str, int] = {}
        """Each scope's revision, also of those that are gone: a network's id may be used again."""

    def apply(self, sequence: int, event: DomainEvent) -> Derived:
        """What follows from the event at `sequence` of the log; nothing if it was applied already.

        Raises `InconsistentLogError`; what this topology holds is then undefined.
        """
        if sequence <= self.position:
            return Derived()
        self.position = sequence
        draft = Draft(self.revisions, sequence, event.time)
        try:
            _HANDLERS[type(event)](self, event, draft)
            self.announcing.settle(draft)
        except KeyError as error:
            raise InconsistentLogError(
                f"Event {sequence} of the log ({event.kind}) speaks of {error.args[0]}, which is not there.",
                hint="Verify the log; it may come from a newer program.",
            ) from error
        return draft.derived

    # The networks

    def _network_created(self, event: NetworkCreated, draft: Draft) -> None:
        if event.is_default:
            self._move_default(None, draft)
            self.default = event.network_id
        record = NetworkRecord(
            network_id=event.network_id,
            name=event.name,
            network_cidr=event.network_cidr,
            is_default=event.is_default,
            route_reflector_mode=event.route_reflector_mode,
            created_at=event.time,
        )
        network = self.networks[event.network_id] = Network(record)
        if scope_of(network_info(event.network_id)) in self.revisions:
            self._take_back(event.network_id, network)
        draft.put(network_info(event.network_id), record)

    def _take_back(self, network_id: UUID, network: Network) -> None:
        """A deleted network was created again, as an undo does: whose membership in it still stands has left it, until
        it is assigned again. Looks at every machine."""
        for machine_id, machine in self.machines.items():
            if network_id in machine.void:
                machine.void.remove(network_id)
                machine.left.add(network_id)
                network.former.add(machine_id)

    def _network_renamed(self, event: NetworkRenamed, draft: Draft) -> None:
        self._change_network(event.network_id, {"name": event.name}, draft)

    def _route_reflector_mode_set(self, event: RouteReflectorModeSet, draft: Draft) -> None:
        self._change_network(event.network_id, {"route_reflector_mode": event.enabled}, draft)

    def _default_network_set(self, event: DefaultNetworkSet, draft: Draft) -> None:
        self._move_default(event.network_id, draft)

    def _network_deleted(self, event: NetworkDeleted, draft: Draft) -> None:
        network_id = event.network_id
        network = self.networks.pop(network_id)
        for machine_id in network.members.keys() | network.former:
            machine = self.machines[machine_id]
            machine.networks.discard(network_id)
            machine.left.discard(network_id)
            machine.void.add(network_id)
        if self.default == network_id:
            self.default = None
        self.pinned.discard(network_id)
        self.announcing.network_deleted(network_id)
        draft.put(network_info(network_id), None)
        draft.purges += [all_peers(network_id), all_announcements(network_id), all_policies(network_id)]

    def _move_default(self, network_id: UUID | None, draft: Draft) -> None:
        former, self.default = self.default, network_id
        if former is not None and former != network_id:
            self._change_network(former, {"is_default": False}, draft)
        if network_id is not None:
            self._change_network(network_id, {"is_default": True}, draft)

    def _change_network(self, network_id: UUID, update: dict[str, Any], draft: Draft) -> None:
        network = self.networks[network_id]
        network.record = network.record.model_copy(update=update)
        draft.put(network_info(network_id), network.record)

    # Who is in them

    def _machines_assigned(self, event: MachinesAssigned, draft: Draft) -> None:
        network = self.networks[event.network_id]
        for assignment in event.assignments:
            machine = self.machines[assignment.machine_id]
            network.members[assignment.machine_id] = Member(assignment.address, event.time)
            network.former.discard(assignment.machine_id)
            machine.networks.add(event.network_id)
            machine.left.discard(event.network_id)
            self._tell_membership(event.network_id, machine, draft)
            self.announcing.moved(event.network_id, assignment.machine_id)

    def _machines_unassigned(self, event: MachinesUnassigned, draft: Draft) -> None:
        network = self.networks[event.network_id]
        for assignment in event.assignments:
            machine = self.machines[assignment.machine_id]
            member = network.members.pop(assignment.machine_id)
            network.former.add(assignment.machine_id)
            machine.networks.remove(event.network_id)
            machine.left.add(event.network_id)
            self._tell_machine(machine, machine_membership(assignment.machine_id, event.network_id), None, draft)
            if member.public_key is not None:
                draft.put(network_peer(event.network_id, assignment.machine_id), None)
            self.announcing.moved(event.network_id, assignment.machine_id)

    def _membership_registered(self, event: MembershipRegistered, draft: Draft) -> None:
        member = self.networks[event.network_id].members[event.machine_id]
        member.public_key, member.endpoints = event.public_key, event.endpoints
        member.listen_port = event.listen_port
        self._tell_peers(event.network_id, self.machines[event.machine_id], draft)

    def _key_rotation_requested(self, event: KeyRotationRequested, draft: Draft) -> None:
        self.networks[event.network_id].members[event.machine_id].key_generation = event.generation
        self._tell_membership(event.network_id, self.machines[event.machine_id], draft)

    # The machines

    def _machine_registered(self, event: MachineRegistered, draft: Draft) -> None:
        record = MachineRecord(
            machine_id=event.machine_id,
            hostname=event.hostname,
            agent_version=event.agent_version,
            created_at=event.time,
        )
        self.machines[event.machine_id] = Machine(record)
        draft.put(machine_info(event.machine_id), record)

    def _machine_renamed(self, event: MachineRenamed, draft: Draft) -> None:
        self._tell_everywhere(self._change_machine(event.machine_id, {"hostname": event.hostname}, draft), draft)

    def _machine_transit_set(self, event: MachineTransitSet, draft: Draft) -> None:
        self._tell_everywhere(self._change_machine(event.machine_id, {"transit": event.transit}, draft), draft)

    def _machine_agent_updated(self, event: MachineAgentUpdated, draft: Draft) -> None:
        self._change_machine(event.machine_id, {"agent_version": event.agent_version}, draft)

    def _machine_deleted(self, event: MachineDeleted, draft: Draft) -> None:
        machine = self.machines.pop(event.machine_id)
        if machine.networks:
            raise InconsistentLogError(
                f"Event {draft.cause} of the log deletes the machine {event.machine_id} while it is assigned.",
                hint="Verify the log.",
            )
        for network_id in machine.left:
            self.networks[network_id].former.remove(event.machine_id)
        draft.put(machine_info(event.machine_id), None)
        draft.purges += [all_memberships(event.machine_id), machine_routing(event.machine_id)]
        self.announcing.machine_deleted(event.machine_id)
        self.access.machine_deleted(event.machine_id, event.time, draft)

    def _change_machine(self, machine_id: UUID, update: dict[str, Any], draft: Draft) -> Machine:
        machine = self.machines[machine_id]
        machine.record = machine.record.model_copy(update=update)
        self._tell_machine(machine, machine_info(machine_id), machine.record, draft)
        return machine

    def _access_changed(self, event: DomainEvent, draft: Draft) -> None:
        self.access.apply(event, draft)

    # Routing

    def _reflectors_pinned(self, event: ReflectorsPinned, draft: Draft) -> None:
        self._pin(event.network_id, event.machine_ids, draft)

    def _routing_changed(self, event: DomainEvent, draft: Draft) -> None:
        if isinstance(event, MachineUnrouted):
            for network_id in sorted(self.pinned):
                pinned = self.networks[network_id].record.reflectors
                if event.machine_id in pinned:
                    self._pin(network_id, tuple(each for each in pinned if each != event.machine_id), draft)
        if isinstance(event, NetworkUnrouted) and event.network_id in self.pinned:
            self._pin(event.network_id, (), draft)
        self.announcing.routing_changed(*self.routing.apply(event, draft))

    def _pin(self, network_id: UUID, machine_ids: tuple[UUID, ...], draft: Draft) -> None:
        self._change_network(network_id, {"reflectors": machine_ids}, draft)
        if machine_ids:
            self.pinned.add(network_id)
        else:
            self.pinned.discard(network_id)

    def networks_of(self, machine_id: UUID) -> Collection[UUID]:
        """The networks that a machine is in; none where there is no such machine."""
        machine = self.machines.get(machine_id)
        return machine.networks if machine is not None else ()

    def has_machine(self, machine_id: UUID) -> bool:
        """Whether there is such a machine."""
        return machine_id in self.machines

    def cidr_of(self, network_id: UUID) -> IPv4Network | None:
        """A network's range; None where there is no such network."""
        network = self.networks.get(network_id)
        return network.record.network_cidr if network is not None else None

    def tell_duties(self, machine_id: UUID, record: RoutingRecord | None, draft: Draft) -> None:
        """Have the record of a machine's duties written."""
        self._tell_machine(self.machines[machine_id], machine_routing(machine_id), record, draft)

    # Records

    def _tell_machine(self, machine: Machine, subject: str, body: Body | None, draft: Draft) -> None:
        draft.put(subject, body)
        draft.purges.extend(machine_membership(machine.record.machine_id, gone) for gone in sorted(machine.void))
        machine.void.clear()

    def _tell_membership(self, network_id: UUID, machine: Machine, draft: Draft) -> None:
        network, machine_id = self.networks[network_id], machine.record.machine_id
        member = network.members[machine_id]
        record = MembershipRecord(
            machine_id=machine_id,
            network_id=network_id,
            network_cidr=network.record.network_cidr,
            address=member.address,
            assigned_at=member.assigned_at,
            key_generation=member.key_generation,
        )
        self._tell_machine(machine, machine_membership(machine_id, network_id), record, draft)

    def _tell_everywhere(self, machine: Machine, draft: Draft) -> None:
        machine_id = machine.record.machine_id
        for network_id in sorted(machine.networks):
            if self.networks[network_id].members[machine_id].public_key is not None:
                self._tell_peers(network_id, machine, draft)

    def _tell_peers(self, network_id: UUID, machine: Machine, draft: Draft) -> None:
        member = self.networks[network_id].members[machine.record.machine_id]
        assert member.public_key is not None
        record = PeerRecord(
            network_id=network_id,
            machine_id=machine.record.machine_id,
            hostname=machine.record.hostname,
            address=member.address,
            public_key=member.public_key,
            endpoints=member.endpoints,
            listen_port=member.listen_port,
            transit=machine.record.transit,
        )
        draft.put(network_peer(network_id, machine.record.machine_id), record)


_HANDLERS: dict[type[DomainEvent], Callable[[Topology, Any, Draft], None]] = {
    NetworkCreated: Topology._network_created,
    NetworkRenamed: Topology._network_renamed,
    DefaultNetworkSet: Topology._default_network_set,
    RouteReflectorModeSet: Topology._route_reflector_mode_set,
    NetworkDeleted: Topology._network_deleted,
    MachinesAssigned: Topology._machines_assigned,
    MachinesUnassigned: Topology._machines_unassigned,
    MembershipRegistered: Topology._membership_registered,
    KeyRotationRequested: Topology._key_rotation_requested,
    MachineRegistered: Topology._machine_registered,
    MachineRenamed: Topology._machine_renamed,
    MachineAgentUpdated: Topology._machine_agent_updated,
    MachineTransitSet: Topology._machine_transit_set,
    MachineDeleted: Topology._machine_deleted,
    ReflectorsPinned: Topology._reflectors_pinned,
    **dict.fromkeys(access.EVENTS, Topology._access_changed),
    **dict.fromkeys(routing.EVENTS, Topology._routing_changed),
}
"""Which method derives from which event."""
