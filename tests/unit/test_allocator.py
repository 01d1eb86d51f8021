"""What the allocator accepts, what it refuses, and in which words."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from uuid import UUID, uuid4

import pytest
from eventsourcing.popo import POPOAggregateRecorder

from events import codec
from events.commands import (
    AssignMachine,
    AssignMachines,
    CreateNetwork,
    DeleteMachine,
    DeleteNetwork,
    Outcome,
    RegisterMachine,
    RegisterMembership,
    RenameMachine,
    RenameNetwork,
    SetDefaultNetwork,
    SetRouteReflectorMode,
    SetTransit,
    UnassignMachine,
)
from events.domain import REGISTRY_ID
from events.errors import (
    AddressUnavailableError,
    CidrOverlapError,
    CommandIdReusedError,
    IdTakenError,
    InternalError,
    InUseError,
    InvalidCidrError,
    InvalidNameError,
    KeyTakenError,
    MachineDeletedError,
    NameTakenError,
    NetworkFullError,
    NotFoundError,
    UnavailableError,
)
from services.allocator.aggregates import Machine, Network, Registry
from services.allocator.decide import DECIDERS
from tests.support.allocators import MemoryAllocator, PositionedRecorder

KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
OTHER_KEY = "AQECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="


@pytest.fixture
def recorder() -> PositionedRecorder:
    return PositionedRecorder()


@pytest.fixture
def allocator(recorder: PositionedRecorder) -> Iterator[MemoryAllocator]:
    with MemoryAllocator(recorder) as allocator:
        yield allocator


def network(allocator: MemoryAllocator, name: str = "office", cidr: str = "172.16.0.0/24", **more: object) -> UUID:
    network_id = uuid4()
    allocator.do(CreateNetwork, network_id=network_id, name=name, network_cidr=cidr, **more)
    return network_id


def machine(allocator: MemoryAllocator, hostname: str = "db-1") -> UUID:
    machine_id = uuid4()
    allocator.do(RegisterMachine, machine_id=machine_id, hostname=hostname)
    return machine_id


def machines(allocator: MemoryAllocator, count: int) -> list[UUID]:
    ids = [uuid4() for _ in range(count)]
    allocator.answers(
        [RegisterMachine(command_id=uuid4(), actor="test:x", machine_id=each, hostname="m") for each in ids]
    )
    return ids


def address(allocator: MemoryAllocator, network_id: UUID, machine_id: UUID, wanted: str | None = None) -> str:
    outcome = allocator.do(AssignMachine, network_id=network_id, machine_id=machine_id, address=wanted)
    return str(outcome.assignments[0].address)


def default_of(allocator: MemoryAllocator) -> UUID | None:
    registry = allocator.find(Registry, REGISTRY_ID)
    assert isinstance(registry, Registry)
    return registry.default_network_id


class TestNetworks:
    @pytest.mark.parametrize(
        ("cidr", "hint"),
        [
            ("172.16.0.1/24", "Did you mean 172.16.0.0/24?"),
            ("8.8.8.0/24", "10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"),
            ("172.32.0.0/16", "10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"),
            ("192.168.0.0/15", "10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"),
            ("10.0.0.0/31", "A /24 holds 254 machines"),
            ("10.0.0.0/7", "A /24 holds 254 machines"),
            ("10.0.0.0", "10.0.0.0/24"),
            ("10.0.0.0/255.255.255.0", "for example 172.16.0.0/24"),
            ("fd00::/8", "for example 172.16.0.0/24"),
            ("", "for example 172.16.0.0/24"),
        ],
    )
    def test_a_cidr_that_cannot_be_is_refused_with_what_would_be_right(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder, cidr: str, hint: str
    ) -> None:
        with pytest.raises(InvalidCidrError) as refusal:
            network(allocator, cidr=cidr)
        assert hint in refusal.value.hint
        assert not recorder.stored_events

    @pytest.mark.parametrize("name", ["", "-x", "x" * 64, "a b", "<b>", "naïve", "a\n"])
    def test_a_name_that_cannot_be_is_refused(self, allocator: MemoryAllocator, name: str) -> None:
        with pytest.raises(InvalidNameError):
            network(allocator, name=name)

    def test_names_are_unique_whatever_their_case(self, allocator: MemoryAllocator) -> None:
        first = network(allocator, "office")
        with pytest.raises(NameTakenError):
            network(allocator, "OFFICE", "10.0.0.0/8")
        second = network(allocator, "lab", "10.0.0.0/8")
        with pytest.raises(NameTakenError):
            allocator.do(RenameNetwork, network_id=second, name="office")
        allocator.do(RenameNetwork, network_id=first, name="Office")
        allocator.do(RenameNetwork, network_id=first, name="hq")
        allocator.do(RenameNetwork, network_id=second, name="office")

    @pytest.mark.parametrize("cidr", ["172.16.0.0/24", "172.16.0.128/25", "172.16.0.0/12", "172.16.0.252/30"])
    def test_ranges_do_not_overlap(self, allocator: MemoryAllocator, cidr: str) -> None:
        network(allocator)
        with pytest.raises(CidrOverlapError, match="office"):
            network(allocator, "other", cidr)

    def test_a_deleted_network_frees_its_name_and_range(self, allocator: MemoryAllocator) -> None:
        first = network(allocator, is_default=True)
        allocator.do(DeleteNetwork, network_id=first)
        assert default_of(allocator) is None
        network(allocator)

    def test_one_default_at_most(self, allocator: MemoryAllocator) -> None:
        first = network(allocator, is_default=True)
        second = network(allocator, "lab", "10.0.0.0/8", is_default=True)
        assert default_of(allocator) == second
        allocator.do(SetDefaultNetwork, network_id=first)
        assert default_of(allocator) == first
        assert not allocator.do(SetDefaultNetwork, network_id=first).changed
        allocator.do(SetDefaultNetwork, network_id=None)
        assert default_of(allocator) is None

    def test_what_is_so_already_changes_nothing(self, allocator: MemoryAllocator) -> None:
        first = network(allocator)
        assert not allocator.do(SetRouteReflectorMode, network_id=first, enabled=False).changed
        assert allocator.do(SetRouteReflectorMode, network_id=first, enabled=True).changed
        assert not allocator.do(RenameNetwork, network_id=first, name="office").changed

    def test_one_in_use_is_deleted_by_force_only(self, allocator: MemoryAllocator) -> None:
        first, member = network(allocator), machine(allocator)
        address(allocator, first, member)
        with pytest.raises(InUseError, match="1 machine is"):
            allocator.do(DeleteNetwork, network_id=first)
        allocator.do(DeleteNetwork, network_id=first, force=True)
        with pytest.raises(NotFoundError):
            address(allocator, first, member)
        allocator.do(DeleteMachine, machine_id=member)


class TestAddresses:
    def test_the_first_is_dot_1_then_the_next_available(self, allocator: MemoryAllocator) -> None:
        office = network(allocator)
        first, second, third, fourth = (machine(allocator) for _ in range(4))
        assert [address(allocator, office, each) for each in (first, second, third)] == [
            "172.16.0.1",
            "172.16.0.2",
            "172.16.0.3",
        ]
        allocator.do(UnassignMachine, network_id=office, machine_id=second)
        assert address(allocator, office, third) == "172.16.0.3"
        assert address(allocator, office, fourth) == "172.16.0.2"

    def test_a_requested_address_is_given_if_free(self, allocator: MemoryAllocator) -> None:
        office = network(allocator)
        first, second = machine(allocator), machine(allocator)
        assert address(allocator, office, first, "172.16.0.77") == "172.16.0.77"
        with pytest.raises(AddressUnavailableError, match=r"lowest free one is 172\.16\.0\.1"):
            address(allocator, office, second, "172.16.0.77")
        for impossible in ("172.16.0.0", "172.16.0.255", "10.0.0.1"):
            with pytest.raises(AddressUnavailableError):
                address(allocator, office, second, impossible)
        with pytest.raises(AddressUnavailableError, match="already"):
            address(allocator, office, first, "172.16.0.1")
        assert address(allocator, office, first, "172.16.0.77") == "172.16.0.77"

    @pytest.mark.parametrize(
        ("cidr", "capacity"), [("172.16.0.0/24", 254), ("10.1.2.4/30", 2), ("10.7.0.0/16", 65_534)]
    )
    def test_a_network_holds_exactly_its_addresses(self, allocator: MemoryAllocator, cidr: str, capacity: int) -> None:
        office = network(allocator, cidr=cidr)
        everybody = machines(allocator, capacity + 1)
        outcome = allocator.do(AssignMachines, network_id=office, machine_ids=everybody[:capacity])
        assert len({assignment.address for assignment in outcome.assignments}) == capacity
        with pytest.raises(NetworkFullError, match=f"room for {capacity} machines"):
            address(allocator, office, everybody[-1])

    def test_many_at_once_are_all_or_none(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        office = network(allocator)
        everybody = machines(allocator, 200)
        written = len(recorder.stored_events)
        with pytest.raises(NotFoundError, match="No machine was assigned"):
            allocator.do(AssignMachines, network_id=office, machine_ids=[*everybody, uuid4()])
        with pytest.raises(NetworkFullError):
            allocator.do(AssignMachines, network_id=office, machine_ids=everybody + machines(allocator, 55))
        assert len(recorder.stored_events) == written + 55
        address(allocator, office, everybody[7])
        outcome = allocator.do(AssignMachines, network_id=office, machine_ids=everybody + everybody[:3])
        assert len(outcome.assignments) == 200
        assert {a.machine_id: str(a.address) for a in outcome.assignments}[everybody[7]] == "172.16.0.1"

    def test_a_machine_can_be_in_several_networks(self, allocator: MemoryAllocator) -> None:
        office, lab = network(allocator), network(allocator, "lab", "10.0.0.0/8")
        member = machine(allocator)
        assert address(allocator, office, member) == "172.16.0.1"
        assert address(allocator, lab, member) == "10.0.0.1"


class TestMachines:
    def test_one_in_use_is_deleted_by_force_only_and_in_one_change(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office, lab = network(allocator), network(allocator, "lab", "10.0.0.0/8")
        member, other = machine(allocator), machine(allocator)
        address(allocator, office, member)
        address(allocator, lab, member)
        with pytest.raises(InUseError, match="lab, office"):
            allocator.do(DeleteMachine, machine_id=member)
        written = len(recorder.stored_events)
        allocator.do(DeleteMachine, machine_id=member, force=True)
        assert len(recorder.stored_events) == written + 3
        assert address(allocator, office, other) == "172.16.0.1"

    def test_it_leaves_its_networks_in_one_order_whoever_decides(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        networks = [network(allocator, f"net-{number}", f"10.{number}.0.0/16") for number in range(12)]
        member = machine(allocator)
        for each in networks:
            address(allocator, each, member)
        written = len(recorder.stored_events)
        allocator.do(DeleteMachine, machine_id=member, force=True)
        left = [event.originator_id for event in recorder.stored_events[written:-1]]
        assert left == sorted(networks)

    def test_a_deleted_machine_s_id_is_spent(self, allocator: MemoryAllocator) -> None:
        office, member = network(allocator), machine(allocator)
        allocator.do(DeleteMachine, machine_id=member)
        with pytest.raises(MachineDeletedError):
            allocator.do(RegisterMachine, machine_id=member, hostname="again")
        with pytest.raises(MachineDeletedError):
            address(allocator, office, member)

    def test_a_known_machine_keeps_the_hostname_that_it_was_given(self, allocator: MemoryAllocator) -> None:
        member = machine(allocator)
        allocator.do(RenameMachine, machine_id=member, hostname="db-primary")
        assert not allocator.do(RegisterMachine, machine_id=member, hostname="ip-10-0-0-1").changed
        assert allocator.do(RegisterMachine, machine_id=member, hostname="x", agent_version="0.2").changed

    def test_being_a_transit_is_set_once_and_kept(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        member = machine(allocator)
        assert not allocator.do(SetTransit, machine_id=member, transit="auto").changed, "it is so from the start"
        assert allocator.do(SetTransit, machine_id=member, transit="always").changed
        assert not allocator.do(SetTransit, machine_id=member, transit="always").changed
        with MemoryAllocator(recorder) as restarted:
            assert not restarted.do(SetTransit, machine_id=member, transit="always").changed
            assert restarted.do(SetTransit, machine_id=member, transit="never").changed

    def test_a_machine_that_is_not_there_is_no_transit(self, allocator: MemoryAllocator) -> None:
        with pytest.raises(NotFoundError):
            allocator.do(SetTransit, machine_id=uuid4(), transit="never")
        member = machine(allocator)
        allocator.do(DeleteMachine, machine_id=member)
        with pytest.raises(MachineDeletedError):
            allocator.do(SetTransit, machine_id=member, transit="never")

    @pytest.mark.parametrize("hostname", ["", "-a", "a b", "<script>", "x" * 300, "é", "a..b", "a\x00"])
    def test_a_hostname_that_cannot_be_is_refused(self, allocator: MemoryAllocator, hostname: str) -> None:
        with pytest.raises(InvalidNameError):
            machine(allocator, hostname)

    def test_a_membership_needs_an_assignment_and_a_key_of_its_own(self, allocator: MemoryAllocator) -> None:
        office = network(allocator)
        first, second = machine(allocator), machine(allocator)

        def register(machine_id: UUID, key: str, port: int = 51820) -> bool:
            return allocator.do(
                RegisterMembership,
                network_id=office,
                machine_id=machine_id,
                public_key=key,
                listen_port=port,
                endpoints=("192.0.2.1:51820",),
            ).changed

        with pytest.raises(NotFoundError):
            register(first, KEY)
        address(allocator, office, first)
        address(allocator, office, second)
        assert register(first, KEY)
        assert not register(first, KEY)
        assert register(first, KEY, port=51821)
        with pytest.raises(KeyTakenError):
            register(second, KEY)
        assert register(second, OTHER_KEY)
        allocator.do(UnassignMachine, network_id=office, machine_id=second)
        assert register(first, OTHER_KEY)


class TestSentAgain:
    def test_a_command_is_executed_once_also_after_a_restart(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office, member, command_id = network(allocator), machine(allocator), uuid4()
        fields = {"command_id": command_id, "network_id": office, "machine_id": member}
        first = allocator.do(AssignMachine, **fields)
        allocator.do(UnassignMachine, network_id=office, machine_id=member)
        written = len(recorder.stored_events)
        assert allocator.do(AssignMachine, **fields) == first
        with MemoryAllocator(recorder) as restarted:
            assert restarted.do(AssignMachine, **fields) == first
            with pytest.raises(CommandIdReusedError):
                restarted.do(DeleteNetwork, command_id=command_id, network_id=office)
        with pytest.raises(CommandIdReusedError):
            allocator.do(AssignMachine, **(fields | {"machine_id": uuid4()}))
        assert len(recorder.stored_events) == written

    def test_many_that_are_assigned_again_are_all_told_also_those_who_were_there_before(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office, everybody, command_id = network(allocator), machines(allocator, 3), uuid4()
        address(allocator, office, everybody[1])
        fields = {"command_id": command_id, "network_id": office, "machine_ids": everybody}
        first = allocator.do(AssignMachines, **fields)
        assert len(first.assignments) == 3
        with MemoryAllocator(recorder) as restarted:
            assert restarted.do(AssignMachines, **fields) == first

    @pytest.mark.parametrize("lost", ["acknowledgement", "write"])
    def test_a_lost_answer_neither_fails_nor_doubles(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder, lost: str
    ) -> None:
        office, member, command_id = network(allocator), machine(allocator), uuid4()
        fields = {"command_id": command_id, "network_id": office, "machine_id": member}
        recorder.lose_next = lost
        with pytest.raises(UnavailableError, match="same command id"):
            allocator.do(AssignMachine, **fields)
        outcome = allocator.do(AssignMachine, **fields)
        assert str(outcome.assignments[0].address) == "172.16.0.1"
        assert outcome.sequence == 3 == len(recorder.stored_events)


class TestSeveralAllocators:
    def test_each_decides_on_what_the_other_wrote(self, recorder: PositionedRecorder) -> None:
        with MemoryAllocator(recorder) as one, MemoryAllocator(recorder) as two:
            office, member = network(one), machine(two)
            other = machine(one)
            assert address(two, office, member) == "172.16.0.1"
            assert address(one, office, other) == "172.16.0.2"
            one.do(DeleteMachine, machine_id=member, force=True)
            with pytest.raises(MachineDeletedError):
                address(two, office, member)
            assert not two.do(AssignMachine, network_id=office, machine_id=other).changed

    def test_a_refusal_is_never_stale(self, recorder: PositionedRecorder) -> None:
        with MemoryAllocator(recorder) as one, MemoryAllocator(recorder) as two:
            office = network(one)
            with pytest.raises(NameTakenError):
                network(two, cidr="10.0.0.0/8")
            one.do(DeleteNetwork, network_id=office)
            network(two, cidr="10.0.0.0/8")


def test_a_group_is_decided_in_order_and_written_as_one(
    allocator: MemoryAllocator, recorder: PositionedRecorder
) -> None:
    office = network(allocator)
    everybody = machines(allocator, 300)
    answers = allocator.answers(
        [AssignMachine(command_id=uuid4(), actor="test:x", network_id=office, machine_id=each) for each in everybody]
    )
    addresses = [answer.assignments[0].address for answer in answers if not isinstance(answer, Exception)]
    assert addresses == [IPv4Address("172.16.0.0") + n for n in range(1, 255)]
    assert all(isinstance(answer, NetworkFullError) for answer in answers[254:])


def test_the_log_is_an_unbroken_chain(allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
    office = network(allocator)
    for each in machines(allocator, 5):
        address(allocator, office, each)
    last: dict[UUID, tuple[int, str]] = {}
    for stored in recorder.stored_events:
        assert isinstance(stored.originator_id, UUID)
        version, previous = last.get(stored.originator_id, (0, ""))
        event = codec.decode(stored.originator_id, stored.originator_version, stored.topic, stored.state)
        assert (event.originator_version, event.previous_hash) == (version + 1, previous)
        digest = codec.digest(stored.originator_id, stored.originator_version, stored.topic, stored.state)
        last[stored.originator_id] = (version + 1, digest)


def test_a_cold_start_takes_the_snapshot_and_the_events_after_it(recorder: PositionedRecorder) -> None:
    snapshots = POPOAggregateRecorder()
    with MemoryAllocator(recorder, snapshots) as allocator:
        office = network(allocator, cidr="10.0.0.0/16")
        everybody = machines(allocator, 1200)
        for each in everybody:
            address(allocator, office, each)
        allocator.do(
            RegisterMembership,
            network_id=office,
            machine_id=everybody[3],
            public_key=KEY,
            listen_port=1,
            endpoints=("[2001:db8::1]:1",),
        )
    assert len(snapshots.select_events(office)) == 1
    recorder.select_events = _only_after(recorder, office, 999)  # type: ignore[method-assign]
    with MemoryAllocator(recorder, snapshots) as restarted:
        assert address(restarted, office, everybody[-1]) == "10.0.4.176"
        assert address(restarted, office, machine(restarted)) == "10.0.4.177"
        with pytest.raises(KeyTakenError):
            restarted.do(RegisterMembership, network_id=office, machine_id=everybody[4], public_key=KEY, listen_port=1)


def _only_after(recorder: PositionedRecorder, aggregate_id: UUID, version: int):  # type: ignore[no-untyped-def]
    select = recorder.select_events

    def checked(originator_id: UUID, **options: object):  # type: ignore[no-untyped-def]
        if originator_id == aggregate_id:
            assert options.get("gt") is not None
            assert int(str(options["gt"])) >= version
        return select(originator_id, **options)  # type: ignore[arg-type]

    return checked


class TestOneIdForOneThing:
    """Networks, machines and the registry never share an id: their events would stand on one subject."""

    def test_a_machine_cannot_take_a_network_s_id(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office = network(allocator)
        written = len(recorder.stored_events)
        with pytest.raises(IdTakenError):
            allocator.do(RegisterMachine, machine_id=office, hostname="x")
        assert len(recorder.stored_events) == written
        assert address(allocator, office, machine(allocator)) == "172.16.0.1"
        allocator.do(DeleteNetwork, network_id=office, force=True)
        with pytest.raises(IdTakenError):
            allocator.do(RegisterMachine, machine_id=office, hostname="x")

    def test_a_network_cannot_take_a_machine_s_id(self, allocator: MemoryAllocator) -> None:
        member = machine(allocator)
        with pytest.raises(IdTakenError):
            allocator.do(CreateNetwork, network_id=member, name="office", network_cidr="10.0.0.0/8")

    def test_nothing_takes_the_registry_s_id(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        for _ in range(2):
            with pytest.raises(IdTakenError):
                allocator.do(RegisterMachine, machine_id=REGISTRY_ID, hostname="x")
            with pytest.raises(IdTakenError):
                allocator.do(CreateNetwork, network_id=REGISTRY_ID, name="lab", network_cidr="10.0.0.0/8")
            if not recorder.stored_events:
                network(allocator)
        assert len(recorder.stored_events) == 1

    def test_another_thing_s_id_names_nothing(self, allocator: MemoryAllocator) -> None:
        office, member = network(allocator), machine(allocator)
        address(allocator, office, member)
        with pytest.raises(IdTakenError, match="a network"):
            address(allocator, office, office)
        with pytest.raises(NotFoundError):
            address(allocator, member, member)


def test_the_default_is_cleared_only_if_it_still_is_the_one_meant(allocator: MemoryAllocator) -> None:
    office, lab = network(allocator), network(allocator, "lab", "10.0.0.0/8", is_default=True)
    assert not allocator.do(SetDefaultNetwork, network_id=None, only_if_default=office).changed
    assert default_of(allocator) == lab
    assert allocator.do(SetDefaultNetwork, network_id=None, only_if_default=lab).changed
    assert default_of(allocator) is None


def test_a_fault_of_ours_fails_one_command_only(
    allocator: MemoryAllocator, recorder: PositionedRecorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(DECIDERS, RenameMachine, broken)
    first, second = uuid4(), uuid4()
    answers = allocator.answers(
        [
            RegisterMachine(command_id=uuid4(), actor="test:x", machine_id=first, hostname="a"),
            RenameMachine(command_id=uuid4(), actor="test:x", machine_id=first, hostname="b"),
            RegisterMachine(command_id=uuid4(), actor="test:x", machine_id=second, hostname="c"),
        ]
    )
    assert [type(answer) for answer in answers] == [Outcome, InternalError, Outcome]
    assert len(recorder.stored_events) == 2


def test_a_preview_leaves_nothing_behind(recorder: PositionedRecorder) -> None:
    network_id, machine_id = uuid4(), uuid4()
    commands = [
        CreateNetwork(
            command_id=uuid4(), actor="test:x", network_id=network_id, name="office", network_cidr="10.0.0.0/24"
        ),
        RegisterMachine(command_id=uuid4(), actor="test:x", machine_id=machine_id, hostname="db-1"),
        AssignMachine(command_id=uuid4(), actor="test:x", network_id=network_id, machine_id=machine_id),
        RenameNetwork(command_id=uuid4(), actor="test:x", network_id=uuid4(), name="lab"),
    ]
    snapshots = POPOAggregateRecorder()
    with MemoryAllocator(recorder, snapshots) as allocator:
        would = allocator.preview(commands).commands
        assert [preview.outcome is not None for preview in would] == [True, True, True, False]
        assert would[2].done().assignments[0].address == IPv4Address("10.0.0.1")
        assert would[3].problem is not None
        assert would[3].problem["code"] == NotFoundError.code
        assert not recorder.stored_events
        assert not snapshots._stored_events
        assert allocator.find(Registry, REGISTRY_ID) == Registry(REGISTRY_ID)
        assert allocator.find(Machine, machine_id) is None
        assert allocator.find(Network, network_id) is None
        answers = allocator.answers(commands)
        assert [isinstance(answer, Outcome) and answer.changed for answer in answers] == [True, True, True, False]
        stored = [
            codec.decode(UUID(str(e.originator_id)), e.originator_version, e.topic, e.state)
            for e in recorder.stored_events
        ]
        assert [event for preview in would for event in preview.decoded()] == stored
        again = allocator.preview(commands).commands
        assert [preview.is_executed for preview in again] == [True, True, True, False]
        assert again[2].done().assignments == would[2].done().assignments
        assert len(recorder.stored_events) == len(stored)
