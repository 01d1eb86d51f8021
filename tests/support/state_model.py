"""The derived records as the topology service keeps them and the gateway answers for them, small and in memory: a
model for tests of what listens to them."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from agent.trust import Entry
from events.records import (
    Body,
    MachineRecord,
    MembershipRecord,
    NetworkRecord,
    PeerRecord,
    Record,
    SignedRecord,
    SubjectRecord,
    SyncReply,
    SyncRequest,
)
from events.subjects import machine_info, machine_membership, network_info, network_peer, scope, scope_of
from events.trust.signing import Signer

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


def entry_of(said: SignedRecord | SubjectRecord) -> Entry:
    """A record as the agent has it once it believes it."""
    if isinstance(said, SubjectRecord):
        return Entry(said.subject, said.record, said.record.model_dump_json().encode())
    return Entry(said.subject, Record.model_validate_json(said.payload), said.payload.encode())


class StateModel:
    """The newest record of each subject, with a revision for each scope."""

    def __init__(self, page: int = 1000, signer: Signer | None = None) -> None:
        """`signer` signs the records, where they are to be signed."""
        self.page = page
        self.signer = signer
        self.records: dict[str, Record] = {}
        self.revisions: dict[str, int] = {}
        self.cause = 0

    def put(self, subject: str, body: Body | None) -> SubjectRecord:
        """Write a record, or with None its tombstone; what the server then says live."""
        self.cause += 1
        scope_name = scope_of(subject)
        previous = self.revisions.get(scope_name, 0)
        self.revisions[scope_name] = previous + 1
        record = Record(revision=previous + 1, previous=previous, cause=self.cause, time=EPOCH, body=body)
        self.records[subject] = record
        return SubjectRecord(subject=subject, record=record)

    def signed(self, entry: SubjectRecord) -> SignedRecord:
        """A record as it stands in STATE."""
        payload = entry.record.model_dump_json()
        signature = self.signer.sign(entry.subject, payload.encode()) if self.signer is not None else ""
        return SignedRecord(subject=entry.subject, payload=payload, signature=signature)

    def purge(self, subjects: Iterable[str]) -> None:
        """Forget records silently."""
        for subject in list(subjects):
            self.records.pop(subject, None)

    def body(self, subject: str) -> Body | None:
        """The body under a subject, if any."""
        record = self.records.get(subject)
        return record.body if record else None

    def sync(self, request: SyncRequest) -> SyncReply:
        """The answer to a sync request."""
        newest = self.revisions.get(request.scope, 0 if request.scope.startswith(("paths:", "bgp:")) else None)
        if newest is None or self._is_gone(request.scope):
            return SyncReply(scope=request.scope, revision=0, gone=True)
        reset = request.since > newest
        since = 0 if reset else request.since
        found = sorted(
            (
                SubjectRecord(subject=subject, record=record)
                for subject, record in self.records.items()
                if scope_of(subject) == request.scope and record.revision > since
            ),
            key=lambda entry: entry.record.revision,
        )
        page, rest = found[: self.page], found[self.page :]
        revision = page[-1].record.revision if rest else newest
        return SyncReply(
            scope=request.scope, revision=revision, reset=reset, more=bool(rest), records=tuple(map(self.signed, page))
        )

    def _is_gone(self, scope_name: str) -> bool:
        kind, _, scope_id = scope_name.partition(":")
        return kind == "network" and self.body(network_info(UUID(scope_id))) is None

    # -- what happens to networks and machines

    def create_network(self, network_id: UUID, name: str, cidr: str) -> list[SubjectRecord]:
        """A network comes to be."""
        record = NetworkRecord(
            network_id=network_id,
            name=name,
            network_cidr=IPv4Network(cidr),
            is_default=False,
            route_reflector_mode=False,
            created_at=EPOCH,
        )
        return [self.put(network_info(network_id), record)]

    def register(self, machine_id: UUID, hostname: str) -> list[SubjectRecord]:
        """A machine makes itself known."""
        if self.body(machine_info(machine_id)) is not None:
            return []
        record = MachineRecord(machine_id=machine_id, hostname=hostname, agent_version="", created_at=EPOCH)
        return [self.put(machine_info(machine_id), record)]

    def assign(self, network_id: UUID, machine_id: UUID, address: str) -> list[SubjectRecord]:
        """A machine is assigned."""
        network = self.body(network_info(network_id))
        assert isinstance(network, NetworkRecord)
        record = MembershipRecord(
            machine_id=machine_id,
            network_id=network_id,
            network_cidr=network.network_cidr,
            address=IPv4Address(address),
            assigned_at=EPOCH,
        )
        return [self.put(machine_membership(machine_id, network_id), record)]

    def announce(
        self, network_id: UUID, machine_id: UUID, public_key: str, endpoints: tuple[str, ...]
    ) -> list[SubjectRecord]:
        """A machine announces itself in a network."""
        membership = self.body(machine_membership(machine_id, network_id))
        assert isinstance(membership, MembershipRecord)
        machine = self.body(machine_info(machine_id))
        record = PeerRecord(
            network_id=network_id,
            machine_id=machine_id,
            hostname=machine.hostname if isinstance(machine, MachineRecord) else f"m{machine_id.hex[:6]}",
            address=membership.address,
            public_key=public_key,
            endpoints=endpoints,
        )
        return [self.put(network_peer(network_id, machine_id), record)]

    def unassign(self, network_id: UUID, machine_id: UUID) -> list[SubjectRecord]:
        """A machine is taken out of a network."""
        said = [self.put(machine_membership(machine_id, network_id), None)]
        if self.body(network_peer(network_id, machine_id)) is not None:
            said.append(self.put(network_peer(network_id, machine_id), None))
        return said

    def delete_network(self, network_id: UUID) -> list[SubjectRecord]:
        """A network is deleted: one tombstone, and the rest goes silently."""
        said = [self.put(network_info(network_id), None)]
        end = f".network.{network_id}"
        self.purge(s for s in self.records if f"{end}.peer." in s or s.endswith(end))
        return said

    def delete_machine(self, machine_id: UUID) -> list[SubjectRecord]:
        """A machine that is in no network is deleted."""
        return [self.put(machine_info(machine_id), None)]

    def members(self, network_id: UUID) -> dict[UUID, PeerRecord]:
        """The peers of a network."""
        start = network_peer(network_id, UUID(int=0)).removesuffix(str(UUID(int=0)))
        bodies = (record.body for subject, record in self.records.items() if subject.startswith(start))
        return {body.machine_id: body for body in bodies if isinstance(body, PeerRecord)}

    def is_known(self, machine_id: UUID) -> bool:
        """Whether a machine is in the books."""
        return scope("machine", machine_id) in self.revisions
