"""Who is let in: bootstrap tokens, machines that enrol with them, and machines that are revoked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.popo import POPOAggregateRecorder

from events import codec
from events.commands import (
    LIFETIMES,
    AssignMachine,
    AssignMachines,
    CreateBootstrapToken,
    CreateNetwork,
    DeleteMachine,
    DeleteNetwork,
    EnrolMachine,
    Outcome,
    RegisterMachine,
    RegisterMembership,
    RenameMachine,
    RevokeBootstrapToken,
    RevokeMachine,
    RotateKeys,
    UnassignMachine,
)
from events.domain import (
    ACCESS_ID,
    REGISTRY_ID,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    DomainEvent,
    KeyRotationRequested,
    MachineAgentUpdated,
    MachineDeleted,
    MachineEnrolled,
    MachineRegistered,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
)
from events.errors import (
    CommandIdReusedError,
    ConflictError,
    IdentityTakenError,
    IdTakenError,
    InvalidNameError,
    MachineDeletedError,
    MachineRevokedError,
    NetworkFullError,
    NotFoundError,
    TokenRefusedError,
)
from events.trust.keys import generate
from services.allocator.access import Access
from services.allocator.aggregates import Network
from tests.support.allocators import MOMENT, MemoryAllocator, PositionedRecorder

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def recorder() -> PositionedRecorder:
    return PositionedRecorder()


@pytest.fixture
def allocator(recorder: PositionedRecorder) -> Iterator[MemoryAllocator]:
    with MemoryAllocator(recorder) as allocator:
        yield allocator


def log(recorder: PositionedRecorder) -> list[DomainEvent]:
    return [
        codec.decode(UUID(str(each.originator_id)), each.originator_version, each.topic, each.state)
        for each in recorder.stored_events
    ]


def a_network(allocator: MemoryAllocator, name: str = "office", cidr: str = "172.16.0.0/24", **more: Any) -> UUID:
    network_id = uuid4()
    allocator.do(CreateNetwork, network_id=network_id, name=name, network_cidr=cidr, **more)
    return network_id


def a_secret() -> str:
    return uuid4().hex * 2


def a_token(allocator: MemoryAllocator, **more: Any) -> tuple[UUID, str]:
    """A bootstrap token's id and the hash of its secret."""
    token_id, secret_hash = uuid4(), a_secret()
    allocator.do(CreateBootstrapToken, token_id=token_id, secret_hash=secret_hash, **more)
    return token_id, secret_hash


def a_machine(secret_hash: str, **more: Any) -> dict[str, Any]:
    """The fields of a new machine's request to enrol."""
    fields: dict[str, Any] = {
        "machine_id": uuid4(),
        "identity_key": generate("user").public,
        "hostname": "db-1",
        "agent_version": "1",
        "secret_hash": secret_hash,
    }
    return fields | more


def enrolled(allocator: MemoryAllocator, **more: Any) -> UUID:
    """A machine that has enrolled with a token of its own."""
    fields = a_machine(a_token(allocator, **more)[1])
    allocator.do(EnrolMachine, **fields)
    machine_id: UUID = fields["machine_id"]
    return machine_id


def access(allocator: MemoryAllocator) -> Access:
    found = allocator.find(Access, ACCESS_ID)
    assert isinstance(found, Access)
    return found


class TestBootstrapTokens:
    @pytest.mark.parametrize(("lifetime", "duration"), LIFETIMES.items())
    def test_one_counts_for_as_long_as_was_asked(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder, lifetime: str, duration: timedelta
    ) -> None:
        token_id, secret_hash = a_token(allocator, lifetime=lifetime)
        assert isinstance(created := log(recorder)[-1], BootstrapTokenCreated)
        assert created.expires_at == MOMENT + duration
        allocator.moment = MOMENT + duration
        refusal = allocator.refuses(TokenRefusedError, EnrolMachine, **a_machine(secret_hash))
        assert "expired at 20" in refusal.detail
        allocator.moment -= timedelta(microseconds=1)
        allocator.do(EnrolMachine, **a_machine(secret_hash))
        assert access(allocator).bootstrap_tokens[token_id].used == 1

    def test_one_needs_a_network_that_exists_and_an_id_and_secret_of_its_own(self, allocator: MemoryAllocator) -> None:
        office = a_network(allocator)
        token_id, secret_hash = a_token(allocator, network_id=office)
        machine_id = enrolled(allocator)
        fields = {"token_id": uuid4(), "secret_hash": a_secret()}
        allocator.refuses(NotFoundError, CreateBootstrapToken, **fields, network_id=uuid4())
        for taken in (token_id, office, machine_id, REGISTRY_ID, ACCESS_ID):
            allocator.refuses(IdTakenError, CreateBootstrapToken, **(fields | {"token_id": taken}))
        allocator.refuses(ConflictError, CreateBootstrapToken, **(fields | {"secret_hash": secret_hash}))

    def test_a_revoked_one_lets_nobody_in(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        token_id, secret_hash = a_token(allocator)
        allocator.refuses(NotFoundError, RevokeBootstrapToken, token_id=uuid4())
        assert allocator.do(RevokeBootstrapToken, token_id=token_id).changed
        assert isinstance(log(recorder)[-1], BootstrapTokenRevoked)
        assert not allocator.do(RevokeBootstrapToken, token_id=token_id).changed
        assert "revoked" in allocator.refuses(TokenRefusedError, EnrolMachine, **a_machine(secret_hash)).detail

    def test_each_refusal_says_why_and_how_to_get_another(self, allocator: MemoryAllocator) -> None:
        office = a_network(allocator)
        for_a_network, used_up = a_token(allocator, network_id=office)[1], a_token(allocator)[1]
        allocator.do(EnrolMachine, **a_machine(used_up))
        allocator.do(DeleteNetwork, network_id=office)
        for secret_hash, why in (
            (a_secret(), "is not known"),
            (used_up, "used up: it let in 1 of 1"),
            (for_a_network, "for a network that was deleted"),
        ):
            refusal = allocator.refuses(TokenRefusedError, EnrolMachine, **a_machine(secret_hash))
            assert why in refusal.detail
            assert "wireloom token create" in refusal.hint


class TestEnrolling:
    def test_a_machine_becomes_known_and_joins_the_token_s_network(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        a_network(allocator, "lab", "10.0.0.0/8", is_default=True)
        office = a_network(allocator)
        token_id, secret_hash = a_token(allocator, network_id=office)
        fields = a_machine(secret_hash)
        outcome = allocator.do(EnrolMachine, **fields)
        let_in, registered, assigned = log(recorder)[-3:]
        assert isinstance(let_in, MachineEnrolled)
        assert (let_in.machine_id, let_in.token_id) == (fields["machine_id"], token_id)
        assert let_in.identity_key == fields["identity_key"]
        assert isinstance(registered, MachineRegistered)
        assert (registered.hostname, registered.agent_version) == ("db-1", "1")
        assert isinstance(assigned, MachinesAssigned)
        assert assigned.network_id == office
        assert outcome.assignments == assigned.assignments
        assert outcome.changed

    def test_without_one_it_joins_the_network_that_is_the_default_then(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        secret_hash = a_token(allocator, uses=2)[1]
        assert not allocator.do(EnrolMachine, **a_machine(secret_hash)).assignments
        lab = a_network(allocator, "lab", "10.0.0.0/8", is_default=True)
        outcome = allocator.do(EnrolMachine, **a_machine(secret_hash))
        assert [str(each.address) for each in outcome.assignments] == ["10.0.0.1"]
        assert isinstance(assigned := log(recorder)[-1], MachinesAssigned)
        assert assigned.network_id == lab

    @pytest.mark.parametrize("uses", [1, 3])
    def test_a_token_lets_in_as_many_as_it_may(self, allocator: MemoryAllocator, uses: int) -> None:
        token_id, secret_hash = a_token(allocator, uses=uses)
        commands = [
            EnrolMachine(command_id=uuid4(), actor="machine:x", **a_machine(secret_hash)) for _ in range(uses + 4)
        ]
        answers = allocator.answers(commands)
        assert [type(answer) for answer in answers] == [Outcome] * uses + [TokenRefusedError] * 4
        assert access(allocator).bootstrap_tokens[token_id].used == uses

    def test_one_without_limit_lets_in_everybody(self, allocator: MemoryAllocator) -> None:
        token_id, secret_hash = a_token(allocator, uses=None)
        for _ in range(5):
            allocator.do(EnrolMachine, **a_machine(secret_hash))
        assert access(allocator).bootstrap_tokens[token_id].used == 5

    def test_a_full_network_refuses_and_no_use_is_spent(self, allocator: MemoryAllocator) -> None:
        office = a_network(allocator, cidr="172.16.0.0/30")
        token_id, secret_hash = a_token(allocator, network_id=office, uses=3)
        first, second = a_machine(secret_hash), a_machine(secret_hash)
        allocator.do(EnrolMachine, **first)
        allocator.do(EnrolMachine, **second)
        third = a_machine(secret_hash)
        allocator.refuses(NetworkFullError, EnrolMachine, **third)
        allocator.do(UnassignMachine, network_id=office, machine_id=first["machine_id"])
        allocator.do(EnrolMachine, **third)
        assert access(allocator).bootstrap_tokens[token_id].used == 3

    def test_a_hostname_that_cannot_be_is_refused(self, allocator: MemoryAllocator) -> None:
        secret_hash = a_token(allocator)[1]
        for hostname in ("", "<b>", "x" * 300, "a\x00", "ex\u0430mple"):
            allocator.refuses(InvalidNameError, EnrolMachine, **a_machine(secret_hash, hostname=hostname))

    def test_one_that_was_there_before_it_had_a_key_may_enrol(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        machine_id = uuid4()
        allocator.do(RegisterMachine, machine_id=machine_id, hostname="old", agent_version="0")
        allocator.do(EnrolMachine, **a_machine(a_token(allocator)[1], machine_id=machine_id))
        assert [type(event) for event in log(recorder)[-2:]] == [MachineEnrolled, MachineAgentUpdated]


class TestEnrollingAgain:
    def test_the_same_machine_is_let_in_without_a_use_also_when_none_is_left(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office = a_network(allocator)
        token_id, secret_hash = a_token(allocator, network_id=office)
        fields = a_machine(secret_hash)
        allocator.do(EnrolMachine, **fields)
        assert not allocator.do(EnrolMachine, **(fields | {"hostname": "other"})).changed
        assert allocator.do(EnrolMachine, **(fields | {"agent_version": "2"})).changed
        assert isinstance(log(recorder)[-1], MachineAgentUpdated)
        assert access(allocator).bootstrap_tokens[token_id].used == 1

    def test_it_needs_a_token_that_counts(self, allocator: MemoryAllocator) -> None:
        token_id, secret_hash = a_token(allocator)
        fields = a_machine(secret_hash)
        allocator.do(EnrolMachine, **fields)
        allocator.refuses(TokenRefusedError, EnrolMachine, **(fields | {"secret_hash": a_secret()}))
        allocator.moment += timedelta(minutes=10)
        allocator.refuses(TokenRefusedError, EnrolMachine, **fields)
        allocator.moment = MOMENT
        allocator.do(RevokeBootstrapToken, token_id=token_id)
        allocator.refuses(TokenRefusedError, EnrolMachine, **fields)

    def test_into_another_network_it_comes_against_a_use_only(self, allocator: MemoryAllocator) -> None:
        """Else a token for one machine would bring every machine that ever enrolled into its network."""
        first, second = a_machine(a_token(allocator)[1]), a_machine(a_token(allocator)[1])
        for fields in (first, second):
            allocator.do(EnrolMachine, **fields)
        office = a_network(allocator)
        token_id, secret_hash = a_token(allocator, network_id=office)
        outcome = allocator.do(EnrolMachine, **(first | {"secret_hash": secret_hash}))
        assert [each.machine_id for each in outcome.assignments] == [first["machine_id"]]
        assert access(allocator).bootstrap_tokens[token_id].used == 1
        allocator.refuses(TokenRefusedError, EnrolMachine, **a_machine(secret_hash))
        assert not allocator.do(EnrolMachine, **(second | {"secret_hash": secret_hash})).changed
        assert not allocator.do(EnrolMachine, **(first | {"secret_hash": secret_hash})).changed

    def test_one_that_was_unassigned_does_not_come_back_with_a_token_that_is_used_up(
        self, allocator: MemoryAllocator
    ) -> None:
        office = a_network(allocator)
        fields = a_machine(a_token(allocator, network_id=office)[1])
        allocator.do(EnrolMachine, **fields)
        allocator.do(UnassignMachine, network_id=office, machine_id=fields["machine_id"])
        assert not allocator.do(EnrolMachine, **fields).changed

    def test_another_s_id_or_key_is_refused(self, allocator: MemoryAllocator) -> None:
        first, second = a_machine(a_token(allocator)[1]), a_machine(a_token(allocator)[1])
        for fields in (first, second):
            allocator.do(EnrolMachine, **fields)
        secret_hash = a_token(allocator, uses=None)[1]
        other_key, other_machine = generate("user").public, uuid4()
        for change in (
            {"identity_key": other_key},
            {"machine_id": other_machine},
            {"machine_id": second["machine_id"]},
            {"identity_key": second["identity_key"]},
        ):
            allocator.refuses(IdentityTakenError, EnrolMachine, **(first | {"secret_hash": secret_hash} | change))

    def test_a_token_that_is_used_up_tells_nothing_of_other_machines(self, allocator: MemoryAllocator) -> None:
        fields = a_machine(a_token(allocator)[1])
        allocator.do(EnrolMachine, **fields)
        allocator.refuses(TokenRefusedError, EnrolMachine, **(fields | {"identity_key": generate("user").public}))

    def test_one_id_names_one_thing(self, allocator: MemoryAllocator) -> None:
        office = a_network(allocator)
        token_id, secret_hash = a_token(allocator, uses=None)
        for taken in (office, token_id, REGISTRY_ID, ACCESS_ID):
            allocator.refuses(IdTakenError, EnrolMachine, **a_machine(secret_hash, machine_id=taken))
            allocator.refuses(IdTakenError, RegisterMachine, machine_id=taken, hostname="x")
        for taken in (token_id, ACCESS_ID):
            allocator.refuses(IdTakenError, CreateNetwork, network_id=taken, name="lab", network_cidr="10.0.0.0/8")


class TestRevoking:
    def test_a_machine_leaves_all_its_networks_in_one_change(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office, lab = a_network(allocator), a_network(allocator, "lab", "10.0.0.0/8")
        machine_id = enrolled(allocator, network_id=office)
        allocator.do(AssignMachine, network_id=lab, machine_id=machine_id)
        command_id = uuid4()
        outcome = allocator.do(RevokeMachine, command_id=command_id, machine_id=machine_id)
        events = log(recorder)[-3:]
        assert [type(event) for event in events] == [MachinesUnassigned, MachinesUnassigned, MachineRevoked]
        assert {event.command_id for event in events} == {command_id}
        assert outcome.sequence == len(recorder.stored_events)
        assert not allocator.do(RevokeMachine, machine_id=machine_id).changed

    def test_it_gets_nothing_any_more_but_can_be_renamed_and_deleted(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office = a_network(allocator)
        fields = a_machine(a_token(allocator, network_id=office)[1])
        machine_id = fields["machine_id"]
        allocator.do(EnrolMachine, **fields)
        allocator.do(RevokeMachine, machine_id=machine_id)
        place = {"network_id": office, "machine_id": machine_id}
        secret_hash = a_token(allocator, uses=None)[1]
        for command_type, more in (
            (AssignMachine, place),
            (AssignMachines, {"network_id": office, "machine_ids": [machine_id]}),
            (RegisterMachine, {"machine_id": machine_id, "hostname": "x", "agent_version": "9"}),
            (RegisterMembership, place | {"public_key": KEY, "listen_port": 1}),
            (RotateKeys, {"machine_id": machine_id}),
            (EnrolMachine, fields),
            (EnrolMachine, fields | {"secret_hash": secret_hash}),
            (EnrolMachine, fields | {"secret_hash": secret_hash, "machine_id": uuid4()}),
            (EnrolMachine, fields | {"secret_hash": secret_hash, "identity_key": generate("user").public}),
        ):
            allocator.refuses(MachineRevokedError, command_type, **more)
        allocator.do(RenameMachine, machine_id=machine_id, hostname="stolen")
        allocator.do(DeleteMachine, machine_id=machine_id)
        assert [type(event) for event in log(recorder)].count(MachineRevoked) == 1
        allocator.refuses(MachineDeletedError, EnrolMachine, **(fields | {"secret_hash": secret_hash}))
        allocator.refuses(MachineDeletedError, RevokeMachine, machine_id=machine_id)

    def test_one_that_was_deleted_does_not_come_back_with_its_key(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office = a_network(allocator)
        secret_hash = a_token(allocator, network_id=office, uses=None)[1]
        fields = a_machine(secret_hash)
        allocator.do(EnrolMachine, **fields)
        allocator.do(DeleteMachine, machine_id=fields["machine_id"], force=True)
        assert [type(each) for each in log(recorder)[-3:]] == [MachinesUnassigned, MachineRevoked, MachineDeleted]
        for change in ({}, {"machine_id": uuid4()}, {"identity_key": generate("user").public}):
            allocator.refuses(MachineDeletedError, EnrolMachine, **(fields | change))
        with MemoryAllocator(recorder) as restarted:
            gone = {"machine_id": fields["machine_id"], "hostname": "x"}
            restarted.refuses(MachineDeletedError, RegisterMachine, **gone)
        with MemoryAllocator(recorder) as restarted:
            changed = fields | {"identity_key": generate("user").public}
            restarted.refuses(MachineDeletedError, EnrolMachine, **changed)

    def test_one_that_never_enrolled_has_nothing_to_revoke(self, allocator: MemoryAllocator) -> None:
        machine_id = uuid4()
        allocator.refuses(NotFoundError, RevokeMachine, machine_id=machine_id)
        allocator.do(RegisterMachine, machine_id=machine_id, hostname="x")
        refusal = allocator.refuses(ConflictError, RevokeMachine, machine_id=machine_id)
        assert "Delete it" in refusal.hint

    def test_many_are_assigned_without_the_revoked_or_not_at_all(self, allocator: MemoryAllocator) -> None:
        office, good, bad = a_network(allocator), enrolled(allocator), enrolled(allocator)
        allocator.do(RevokeMachine, machine_id=bad)
        refusal = allocator.refuses(MachineRevokedError, AssignMachines, network_id=office, machine_ids=[good, bad])
        assert str(bad) in refusal.detail
        assert str(good) not in refusal.detail


class TestRotatingKeys:
    def generations(self, allocator: MemoryAllocator, machine_id: UUID, *networks: UUID) -> list[int]:
        found = [allocator.find(Network, each) for each in networks]
        return [each.members[machine_id].key_generation for each in found if isinstance(each, Network)]

    def test_it_counts_up_in_one_network_or_in_all(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office, lab = a_network(allocator), a_network(allocator, "lab", "10.0.0.0/8")
        machine_id = enrolled(allocator, network_id=office)
        allocator.do(AssignMachine, network_id=lab, machine_id=machine_id)
        allocator.do(RotateKeys, machine_id=machine_id)
        allocator.do(RotateKeys, machine_id=machine_id, network_id=lab)
        assert self.generations(allocator, machine_id, office, lab) == [1, 2]
        asked = [event for event in log(recorder) if isinstance(event, KeyRotationRequested)]
        assert [(event.network_id, event.generation) for event in asked[2:]] == [(lab, 2)]
        allocator.do(RegisterMembership, network_id=lab, machine_id=machine_id, public_key=KEY, listen_port=1)
        assert self.generations(allocator, machine_id, office, lab) == [1, 2]
        with MemoryAllocator(recorder) as restarted:
            assert self.generations(restarted, machine_id, office, lab) == [1, 2]

    def test_it_begins_anew_when_the_machine_comes_back(self, allocator: MemoryAllocator) -> None:
        office = a_network(allocator)
        machine_id = enrolled(allocator, network_id=office)
        allocator.do(RotateKeys, machine_id=machine_id)
        allocator.do(UnassignMachine, network_id=office, machine_id=machine_id)
        allocator.do(AssignMachine, network_id=office, machine_id=machine_id)
        assert self.generations(allocator, machine_id, office) == [0]

    def test_where_there_is_no_key_there_is_nothing_to_rotate(self, allocator: MemoryAllocator) -> None:
        office, machine_id = a_network(allocator), enrolled(allocator)
        for fields in (
            {"machine_id": machine_id},
            {"machine_id": machine_id, "network_id": office},
            {"machine_id": machine_id, "network_id": uuid4()},
            {"machine_id": uuid4()},
        ):
            allocator.refuses(NotFoundError, RotateKeys, **fields)


def test_a_command_sent_again_lets_nobody_in_twice(allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
    fields = a_machine(a_token(allocator)[1], command_id=uuid4())
    outcome = allocator.do(EnrolMachine, **fields)
    written = len(recorder.stored_events)
    with MemoryAllocator(recorder) as restarted:
        for each in (allocator, restarted):
            assert each.do(EnrolMachine, **fields) == outcome
            for change in ({"machine_id": uuid4()}, {"identity_key": generate("user").public}):
                each.refuses(CommandIdReusedError, EnrolMachine, **(fields | change))
    assert len(recorder.stored_events) == written


def test_the_access_list_has_no_command_read_it_twice_while_it_is_empty(
    allocator: MemoryAllocator, recorder: PositionedRecorder
) -> None:
    reads = []
    select = recorder.select_events

    def counted(originator_id: UUID, **options: Any) -> Any:
        reads.append(originator_id)
        return select(originator_id, **options)

    recorder.select_events = counted  # type: ignore[method-assign]
    for _ in range(3):
        allocator.do(RegisterMachine, machine_id=uuid4(), hostname="x")
    assert reads.count(ACCESS_ID) == reads.count(REGISTRY_ID) == 1


def test_an_empty_access_list_at_hand_follows_what_others_write(recorder: PositionedRecorder) -> None:
    with MemoryAllocator(recorder) as one, MemoryAllocator(recorder) as two:
        for each in (one, two):
            each.do(RegisterMachine, machine_id=uuid4(), hostname="x")
        secret_hash = a_token(one)[1]
        two.do(EnrolMachine, **a_machine(secret_hash))
        one.refuses(TokenRefusedError, EnrolMachine, **a_machine(secret_hash))
        two.refuses(TokenRefusedError, EnrolMachine, **a_machine(secret_hash))


def test_a_cold_start_takes_the_snapshot_of_the_access_list(recorder: PositionedRecorder) -> None:
    snapshots = POPOAggregateRecorder()
    with MemoryAllocator(recorder, snapshots) as allocator:
        used = enrolled(allocator)
        allocator.do(RevokeMachine, machine_id=used)
        for _ in range(505):
            a_token(allocator, uses=None)
            token_id, _ = a_token(allocator)
            allocator.do(RevokeBootstrapToken, token_id=token_id)
    (snapshot,) = snapshots.select_events(ACCESS_ID)
    select = recorder.select_events

    def without_the_past(originator_id: UUID, **options: Any) -> Any:
        if originator_id == ACCESS_ID:
            assert options["gt"] == snapshot.originator_version
        return select(originator_id, **options)

    recorder.select_events = without_the_past  # type: ignore[method-assign]
    with MemoryAllocator(recorder, snapshots) as restarted:
        assert access(restarted).version == 1 + 1 + 1 + 3 * 505
        assert access(restarted).is_revoked(used)
        restarted.refuses(MachineRevokedError, RegisterMachine, machine_id=used, hostname="x")
