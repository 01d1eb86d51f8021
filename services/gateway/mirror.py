"""The gateway's read model: the derived records in memory, with the indexes that queries and agents need. Pure.

Records come in the order of the STATE stream. A network's `updated_at` is the time of the newest record about it: its
own, a membership in it or a peer of it. A machine's is that of the newest record in its scope or of its peer records
still standing. Both follow from the records in STATE alone, so a restarted gateway says the same.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from uuid import UUID

from events.cidr import capacity
from events.errors import MachineDeletedError, MachineRevokedError, NotFoundError, UnauthenticatedError
from events.records import (
    IdentityRecord,
    MachineRecord,
    MembershipRecord,
    NetworkRecord,
    PeerRecord,
    Record,
    SyncReply,
)
from events.state import decode_record
from events.subjects import (
    as_uuid,
    machine_info,
    machine_membership,
    network_announcement,
    network_info,
    network_peer,
    scope,
    scope_of,
)
from events.trust.signing import signed_with
from services.gateway.access import AccessView
from services.gateway.cutoffs import Cutoffs
from services.gateway.ordered import Ordered
from services.gateway.routing import RoutingView
from services.gateway.scopes import Scope

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Network:
    """A network and who is in it. `record` is None until the network's own record is heard."""

    def __init__(self) -> None:
        self.record: NetworkRecord | None = None
        self.members: dict[UUID, MembershipRecord] = {}
        self.peers: dict[UUID, PeerRecord] = {}
        self.by_address = Ordered()
        self.membership_times: dict[UUID, datetime] = {}
        """Of each machine the time of the record of its membership, also where that says that it left."""
        self.updated_at = _LONG_AGO

    @property
    def available_ip_count(self) -> int:
        """How many addresses are free."""
        return capacity(self.record.network_cidr) - len(self.members) if self.record else 0


class Machine:
    """A machine and its networks, in the order it joined them. `record` is None until its own record is heard."""

    def __init__(self) -> None:
        self.record: MachineRecord | None = None
        self.networks: dict[UUID, None] = {}
        self.peer_times: dict[UUID, datetime] = {}
        self.updated_at = _LONG_AGO


class Mirror:
    """Everything that the STATE stream says, as of log position `position`."""

    def __init__(self) -> None:
        self.position = 0
        self.networks: dict[UUID, Network] = {}
        self.machines: dict[UUID, Machine] = {}
        self.network_ids: dict[str, UUID] = {}
        self.by_hostname = Ordered()
        self.by_created_at = Ordered()
        self.access = AccessView()
        self.routing = RoutingView()
        self.cutoffs = Cutoffs()
        self._scopes: dict[str, Scope] = {}
        self._former_names: dict[UUID, str] = {}

    def apply(self, subject: str, payload: bytes, signature: str = "") -> Record:
        """Take in the record that stands under a STATE subject as `payload`, and return it."""
        record = decode_record(payload)
        if self._scopes.setdefault(scope_of(subject), Scope()).put(subject, record, payload, signature):
            _, kind, scope_id, *rest = subject.split(".")
            match kind, rest:
                case "access", _:
                    self._access(subject, record)
                case "routing", _:
                    self.routing.apply(subject, record)
                case "network", ["info"]:
                    self._network(as_uuid(scope_id), record)
                case "network", ["peer", machine]:
                    self._peer(as_uuid(scope_id), as_uuid(machine), record)
                case "machine", ["info"]:
                    self._machine(as_uuid(scope_id), record)
                case "machine", ["network", network]:
                    self._membership(as_uuid(scope_id), as_uuid(network), record)
                case "machine", ["routing"] if as_uuid(scope_id) in self.machines:
                    self._touch(as_uuid(scope_id))
        self.position = max(self.position, record.cause)
        return record

    def network(self, network_id: UUID) -> tuple[Network, NetworkRecord]:
        """A network with its own record. Raises `NotFoundError`."""
        network = self.networks.get(network_id)
        if network is None or network.record is None:
            raise NotFoundError(f"There is no mesh network {network_id}.", hint="List the mesh networks there are.")
        return network, network.record

    def machine(self, machine_id: UUID) -> tuple[Machine, MachineRecord]:
        """A machine with its own record. Raises `NotFoundError`."""
        machine = self.machines.get(machine_id)
        if machine is None or machine.record is None:
            raise NotFoundError(f"There is no machine {machine_id}.", hint="List the machines there are.")
        return machine, machine.record

    def has_machine(self, machine_id: UUID) -> bool:
        """Whether there is such a machine."""
        machine = self.machines.get(machine_id)
        return machine is not None and machine.record is not None

    def standing(self, machine_id: UUID) -> IdentityRecord:
        """By which key a machine is known that may be on the bus.

        Raises `UnauthenticatedError` for one that never enrolled, `MachineRevokedError` and `MachineDeletedError`.
        """
        identity = self.access.identity(machine_id)
        if identity is None:
            raise UnauthenticatedError(
                f"The machine {machine_id} has not enrolled.", hint="Join it with a bootstrap token."
            )
        if not self.has_machine(machine_id):
            raise MachineDeletedError(
                f"The machine {machine_id} was deleted.",
                hint="Its id is spent: remove its identity and join it as a new one.",
            )
        if identity.revoked_at is not None:
            raise MachineRevokedError(
                f"The machine {machine_id} was revoked at {identity.revoked_at:%Y-%m-%d %H:%M:%S} UTC.",
                hint="A revoked machine stays out: remove its identity and join it as a new one.",
            )
        return identity

    def networks_of(self, machine_id: UUID) -> tuple[UUID, ...]:
        """The networks whose records a machine may hear, in the order of their ids."""
        machine = self.machines.get(machine_id)
        joined = () if machine is None else machine.networks
        return tuple(sorted(network_id for network_id in joined if self.networks[network_id].record is not None))

    def departures(self, machine_id: UUID) -> dict[UUID, int]:
        """The networks of which a machine was a peer and is one no more, each with the revision that says so."""
        found = {}
        for network_id, network in self.networks.items():
            held = self._scopes[scope("network", network_id)].held(network_peer(network_id, machine_id))
            if held is not None and network.record is not None and machine_id not in network.peers:
                found[network_id] = held.revision
        return found

    def revision_of(self, network_id: UUID) -> tuple[int, datetime | None]:
        """The revision that a network has come to, and when the event behind that was decided."""
        known = self._scopes.get(scope("network", network_id), Scope())
        newest = known.newest()
        return known.revision, newest.time if newest is not None else None

    def first_after(self, network_id: UUID, revision: int) -> datetime | None:
        """When the oldest of the records that a network has since a revision was caused."""
        held = self._scopes.get(scope("network", network_id), Scope()).first_after(revision)
        return held.time if held is not None else None

    def announcements(self, network_id: UUID) -> dict[UUID, str]:
        """What machines may announce in a network, by machine: the records as they stand in STATE, unread, the ends of
        announcements too."""
        begin = network_announcement(network_id, UUID(int=0)).removesuffix(str(UUID(int=0)))
        own = self._scopes.get(scope("network", network_id), Scope())
        found = {subject.removeprefix(begin): own.held(subject) for subject in own.subjects() if begin in subject}
        return {UUID(machine): held.payload for machine, held in found.items() if held is not None}

    def record(self, subject: str) -> Record | None:
        """The newest record of a STATE subject, also one that says that it is gone."""
        held = self._scopes.get(scope_of(subject), Scope()).held(subject)
        return decode_record(held.payload.encode()) if held is not None else None

    def signed_with(self) -> Counter[str]:
        """How many records are signed with each key, by its fingerprint; under "" those without a signature."""
        return Counter(signed_with(text) for held in self._scopes.values() for text in held.signatures())

    def name_of(self, item: UUID) -> str | None:
        """The name of a network, account, API token, route, virtual IP or route policy, or the hostname of a machine,
        also of one that was deleted while we listened."""
        network, machine = self.networks.get(item), self.machines.get(item)
        if network is not None and network.record is not None:
            return network.record.name
        if machine is not None and machine.record is not None:
            return machine.record.hostname
        return self.access.name_of(item) or self.routing.name_of(item) or self._former_names.get(item)

    def sync(self, machine_id: UUID, name: str, since: int) -> SyncReply:
        """What a machine that holds revision `since` of a scope needs. `gone` where it is not its to hear."""
        if not self._may_hear(machine_id, name):
            return SyncReply(scope=name, revision=0, gone=True)
        return self._scopes[name].reply(name, since)

    def _may_hear(self, machine_id: UUID, name: str) -> bool:
        machine = self.machines.get(machine_id)
        if machine is None or machine.record is None:
            return False
        if name == scope("machine", machine_id):
            return True
        for network_id in machine.networks:
            if name == scope("network", network_id):
                return self.networks[network_id].record is not None
        return False

    def _access(self, subject: str, record: Record) -> None:
        self.access.apply(subject, record)
        if isinstance(record.body, IdentityRecord) and record.body.revoked_at is not None:
            self.cutoffs.note(record.body.machine_id, record.time, record.cause)

    def _network(self, network_id: UUID, record: Record) -> None:
        network = self.networks.setdefault(network_id, Network())
        if network.record is not None and self.network_ids.get(network.record.name) == network_id:
            del self.network_ids[network.record.name]
        if isinstance(record.body, NetworkRecord):
            network.record = record.body
            self.network_ids[record.body.name] = network_id
            network.updated_at = max(network.updated_at, record.time)
        else:
            self._drop_network(network_id, network)

    def _was_deleted(self, network_id: UUID) -> bool:
        own = self._scopes.get(scope("network", network_id))
        return network_id not in self.networks and own is not None and own.held(network_info(network_id)) is not None

    def _drop_network(self, network_id: UUID, network: Network) -> None:
        if network.record is not None:
            self._former_names[network_id] = network.record.name
        own = self._scopes[scope("network", network_id)]
        own.drop(subject for subject in own.subjects() if subject != network_info(network_id))
        for machine_id in network.members.keys() | network.peers.keys():
            machine = self.machines[machine_id]
            machine.networks.pop(network_id, None)
            machine.peer_times.pop(network_id, None)
            self._scope_of_machine(machine_id).drop([machine_membership(machine_id, network_id)])
            self._touch(machine_id)
        del self.networks[network_id]

    def _peer(self, network_id: UUID, machine_id: UUID, record: Record) -> None:
        network = self.networks.setdefault(network_id, Network())
        machine = self.machines.setdefault(machine_id, Machine())
        network.updated_at = max(network.updated_at, record.time)
        if isinstance(record.body, PeerRecord):
            network.peers[machine_id] = record.body
            machine.peer_times[network_id] = record.time
        else:
            network.peers.pop(machine_id, None)
            machine.peer_times.pop(network_id, None)
        self._touch(machine_id)

    def _machine(self, machine_id: UUID, record: Record) -> None:
        machine = self.machines.setdefault(machine_id, Machine())
        if isinstance(record.body, MachineRecord):
            machine.record = record.body
            self.by_hostname.put(machine_id, record.body.hostname.lower())
            self.by_created_at.put(machine_id, sortable(record.body.created_at))
            self._touch(machine_id)
        else:
            self.cutoffs.note(machine_id, record.time, record.cause)
            self._drop_machine(machine_id, machine)

    def _drop_machine(self, machine_id: UUID, machine: Machine) -> None:
        if machine.record is not None:
            self._former_names[machine_id] = machine.record.hostname
        self.by_hostname.discard(machine_id)
        self.by_created_at.discard(machine_id)
        for network_id in machine.networks:
            self._leave(network_id, machine_id)
        for network_id in machine.peer_times:
            self.networks[network_id].peers.pop(machine_id, None)
        own = self._scope_of_machine(machine_id)
        gone = [subject for subject in own.subjects() if subject != machine_info(machine_id)]
        own.drop(gone)
        for network in [self.networks.get(as_uuid(each.rpartition(".")[2])) for each in gone if ".network." in each]:
            if network is not None:
                self._forget_membership(network, machine_id)
        del self.machines[machine_id]

    def _forget_membership(self, network: Network, machine_id: UUID) -> None:
        """No record of a membership stands any more: what a network is said to be newest from is another."""
        if network.membership_times.pop(machine_id, _LONG_AGO) == network.updated_at and network.record is not None:
            own = self._scopes[scope("network", network.record.network_id)]
            standing = (own.held(subject) for subject in own.subjects() if _is_newest_from(subject))
            times = [held.time for held in standing if held is not None]
            network.updated_at = max(times + list(network.membership_times.values()))

    def _membership(self, machine_id: UUID, network_id: UUID, record: Record) -> None:
        if self._was_deleted(network_id):
            # The record was signed anew, but means nothing since its network is gone.
            self._scope_of_machine(machine_id).drop([machine_membership(machine_id, network_id)])
            return
        machine = self.machines.setdefault(machine_id, Machine())
        network = self.networks.setdefault(network_id, Network())
        network.updated_at = max(network.updated_at, record.time)
        network.membership_times[machine_id] = record.time
        if isinstance(record.body, MembershipRecord):
            network.members[machine_id] = record.body
            network.by_address.put(machine_id, int(record.body.address))
            self._join(machine, record.body)
        else:
            self.cutoffs.note(machine_id, record.time, record.cause)
            machine.networks.pop(network_id, None)
            self._leave(network_id, machine_id)
        self._touch(machine_id)

    def _join(self, machine: Machine, membership: MembershipRecord) -> None:
        """Keep a machine's networks in the order it joined them, also where a record was written again since."""

        def joined(network_id: UUID) -> tuple[datetime, UUID]:
            return self.networks[network_id].members[membership.machine_id].assigned_at, network_id

        machine.networks[membership.network_id] = None
        others = [joined(network_id) for network_id in list(machine.networks)[-2:]]
        if others != sorted(others):
            machine.networks = dict.fromkeys(sorted(machine.networks, key=joined))

    def _leave(self, network_id: UUID, machine_id: UUID) -> None:
        network = self.networks[network_id]
        network.members.pop(machine_id, None)
        network.by_address.discard(machine_id)

    def _touch(self, machine_id: UUID) -> None:
        machine = self.machines[machine_id]
        times = [*self._scope_of_machine(machine_id).times(), *machine.peer_times.values()]
        machine.updated_at = max(times, default=_LONG_AGO)

    def _scope_of_machine(self, machine_id: UUID) -> Scope:
        return self._scopes.setdefault(scope("machine", machine_id), Scope())


def sortable(moment: datetime) -> str:
    """A time as text that sorts as the times do."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds")


def _is_newest_from(subject: str) -> bool:
    """Whether a record in a network's scope is about the network itself or a peer."""
    return subject.endswith(".info") or ".peer." in subject
