"""Two allocators on one log, with crashes, replays and lost acknowledgements, against a model of what must hold."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any
from uuid import UUID, uuid4

import orjson
from eventsourcing.persistence import StoredEvent
from eventsourcing.popo import POPOAggregateRecorder
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, rule

from events import cidr, codec
from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateNetwork,
    DeleteMachine,
    DeleteNetwork,
    Outcome,
    RegisterMachine,
    SetDefaultNetwork,
    UnassignMachine,
)
from events.domain import REGISTRY_ID, DomainEvent
from events.errors import (
    AddressUnavailableError,
    CidrOverlapError,
    InUseError,
    MachineDeletedError,
    MachineRevokedError,
    NameTakenError,
    NetworkFullError,
    NotFoundError,
    RouteOverlapError,
    UnavailableError,
    WireloomError,
)
from events.preview import Preview
from services.allocator.aggregates import Network, Registry
from services.allocator.desk import assignments_of
from tests.support.allocators import MemoryAllocator, PositionedRecorder

CIDRS = ["172.16.0.0/30", "172.16.0.0/29", "172.16.0.8/29", "10.0.0.0/28"]


def read(stored: StoredEvent) -> DomainEvent:
    return codec.decode(UUID(str(stored.originator_id)), stored.originator_version, stored.topic, stored.state)


class AllocatorMachine(RuleBasedStateMachine):
    """The model: who is in which network at which host number."""

    networks = Bundle("networks")
    machines = Bundle("machines")

    def __init__(self) -> None:
        super().__init__()
        self.recorder = PositionedRecorder()
        self.snapshots = POPOAggregateRecorder()
        self.allocators = [MemoryAllocator(self.recorder, self.snapshots) for _ in range(2)]
        self.cidrs: dict[UUID, IPv4Network] = {}
        self.names: dict[UUID, str] = {}
        self.members: dict[UUID, dict[UUID, int]] = {}
        self.alive: set[UUID] = set()
        self.revoked: set[UUID] = set()
        self.default: UUID | None = None
        self.answered: list[tuple[Command, Outcome]] = []

    def teardown(self) -> None:
        for allocator in self.allocators:
            allocator.close()

    def do(self, which: int, command_type: type[Command], **fields: Any) -> Outcome | WireloomError:
        """Execute a command as a client does: on `UnavailableError` send it again, to whoever answers."""
        command = command_type(command_id=uuid4(), actor="test:model", **fields)
        would = self.preview(which, command)
        answer = self.allocators[which].answers([command])[0]
        if isinstance(answer, UnavailableError):
            answer = self.allocators[1 - which].answers([command])[0]
        if isinstance(answer, Outcome):
            self.answered.append((command, answer))
        self.compare(would, command, answer)
        return answer

    def preview(self, which: int, command: Command) -> Preview:
        """What an allocator says that a command would do; that it says so changes nothing."""
        before = self.traces(which)
        (would,) = self.allocators[which].preview([command]).commands
        assert self.traces(which) == before
        assert not would.is_executed
        return would

    def traces(self, which: int) -> Any:
        """Whatever a command could leave behind, less what was read from the log only now."""
        allocator = self.allocators[which]
        allocator.preview([SetDefaultNetwork(command_id=uuid4(), actor="test:model", network_id=None)])
        snapshots = len(self.snapshots._stored_events)
        return len(self.recorder.stored_events), snapshots, list(allocator._memory._executed), allocator.position

    def compare(self, would: Preview, command: Command, answer: Outcome | WireloomError) -> None:
        """A command does what it was said that it would."""
        events = [event for event in map(read, self.recorder.stored_events) if event.command_id == command.command_id]
        assert list(would.decoded()) == events
        if isinstance(answer, Outcome):
            assert would.done().assignments == answer.assignments
            assert would.done().changed == answer.changed
        else:
            assert would.problem == orjson.loads(answer.to_json())

    @rule(
        target=networks,
        which=st.integers(0, 1),
        name=st.sampled_from(["a", "A", "b", "c"]),
        text=st.sampled_from(CIDRS),
        is_default=st.booleans(),
    )
    def create_network(self, which: int, name: str, text: str, is_default: bool) -> Any:
        network_id = uuid4()
        answer = self.do(
            which, CreateNetwork, network_id=network_id, name=name, network_cidr=text, is_default=is_default
        )
        network_cidr = IPv4Network(text)
        if name.lower() in {known.lower() for known in self.names.values()}:
            assert isinstance(answer, NameTakenError)
        elif any(network_cidr.overlaps(known) for known in self.cidrs.values()):
            assert isinstance(answer, CidrOverlapError)
        elif self.is_announced(network_cidr):
            assert isinstance(answer, RouteOverlapError)
        else:
            assert isinstance(answer, Outcome)
            self.cidrs[network_id], self.names[network_id], self.members[network_id] = network_cidr, name, {}
            self.default = network_id if is_default else self.default
            return network_id
        return multiple()

    @rule(which=st.integers(0, 1), network_id=networks)
    def set_default(self, which: int, network_id: UUID) -> None:
        answer = self.do(which, SetDefaultNetwork, network_id=network_id)
        if network_id in self.cidrs:
            assert isinstance(answer, Outcome)
            assert answer.changed == (self.default != network_id)
            self.default = network_id
        else:
            assert isinstance(answer, NotFoundError)

    @rule(target=machines, which=st.integers(0, 1))
    def register_machine(self, which: int) -> UUID:
        machine_id = uuid4()
        assert isinstance(self.do(which, RegisterMachine, machine_id=machine_id, hostname="m"), Outcome)
        self.alive.add(machine_id)
        return machine_id

    @rule(which=st.integers(0, 1), network_id=networks, machine_id=machines, number=st.none() | st.integers(0, 16))
    def assign(self, which: int, network_id: UUID, machine_id: UUID, number: int | None) -> None:
        base = self.cidrs.get(network_id, IPv4Network("10.0.0.0/28")).network_address
        wanted = None if number is None else base + number
        answer = self.do(which, AssignMachine, network_id=network_id, machine_id=machine_id, address=wanted)
        if network_id not in self.cidrs:
            assert isinstance(answer, NotFoundError)
            return
        members, capacity = self.members[network_id], cidr.capacity(self.cidrs[network_id])
        if machine_id not in self.alive:
            assert isinstance(answer, MachineDeletedError)
        elif machine_id in self.revoked:
            assert isinstance(answer, MachineRevokedError)
        elif machine_id in members:
            if number in (None, members[machine_id]):
                assert isinstance(answer, Outcome)
                assert int(answer.assignments[0].address) - int(base) == members[machine_id]
            else:
                assert isinstance(answer, AddressUnavailableError)
        elif len(members) == capacity:
            assert isinstance(answer, NetworkFullError)
        elif number is not None and (number in members.values() or not 1 <= number <= capacity):
            assert isinstance(answer, AddressUnavailableError)
        else:
            assert isinstance(answer, Outcome)
            given = int(answer.assignments[0].address) - int(base)
            lowest = next(n for n in range(1, capacity + 1) if n not in members.values())
            assert given == (number or lowest)
            members[machine_id] = given

    @rule(which=st.integers(0, 1), network_id=networks, wanted=st.lists(machines, min_size=1, max_size=6))
    def assign_many(self, which: int, network_id: UUID, wanted: list[UUID]) -> None:
        answer = self.do(which, AssignMachines, network_id=network_id, machine_ids=wanted)
        members = self.members.get(network_id)
        joining = [each for each in dict.fromkeys(wanted) if each not in (members or {})]
        if members is None or not set(joining) <= self.alive:
            assert isinstance(answer, NotFoundError)
        elif self.revoked & set(joining):
            assert isinstance(answer, MachineRevokedError)
        elif len(members) + len(joining) > cidr.capacity(self.cidrs[network_id]):
            assert isinstance(answer, NetworkFullError)
        else:
            assert isinstance(answer, Outcome)
            base = int(self.cidrs[network_id].network_address)
            members |= {each.machine_id: int(each.address) - base for each in answer.assignments}

    @rule(which=st.integers(0, 1), network_id=networks, machine_id=machines)
    def unassign(self, which: int, network_id: UUID, machine_id: UUID) -> None:
        answer = self.do(which, UnassignMachine, network_id=network_id, machine_id=machine_id)
        removed = self.members.get(network_id, {}).pop(machine_id, None)
        assert isinstance(answer, Outcome if removed is not None else NotFoundError)

    @rule(which=st.integers(0, 1), network_id=consumes(networks), force=st.booleans())
    def delete_network(self, which: int, network_id: UUID, force: bool) -> None:
        answer = self.do(which, DeleteNetwork, network_id=network_id, force=force)
        if self.members[network_id] and not force:
            assert isinstance(answer, InUseError)
            answer = self.do(which, DeleteNetwork, network_id=network_id, force=True)
        assert isinstance(answer, Outcome)
        del self.cidrs[network_id], self.names[network_id], self.members[network_id]
        self.default = None if self.default == network_id else self.default
        self.network_gone(network_id)

    @rule(which=st.integers(0, 1), machine_id=machines)
    def delete_machine(self, which: int, machine_id: UUID) -> None:
        answer = self.do(which, DeleteMachine, machine_id=machine_id, force=True)
        assert isinstance(answer, Outcome if machine_id in self.alive else MachineDeletedError)
        self.alive.discard(machine_id)
        self.gone(machine_id)
        for members in self.members.values():
            members.pop(machine_id, None)

    def gone(self, machine_id: UUID) -> None:
        """A machine was deleted, or was so already."""

    def network_gone(self, network_id: UUID) -> None:
        """A network was deleted."""

    def is_announced(self, network_cidr: IPv4Network) -> bool:
        """Whether a route or virtual IP shares addresses with a range."""
        return False

    @rule(which=st.integers(0, 1))
    def crash(self, which: int) -> None:
        self.allocators[which].close()
        self.allocators[which] = MemoryAllocator(self.recorder, self.snapshots)

    @rule(what=st.sampled_from(["acknowledgement", "write"]))
    def lose(self, what: str) -> None:
        self.recorder.lose_next = what

    @rule(which=st.integers(0, 1), data=st.data())
    def send_again(self, which: int, data: st.DataObject) -> None:
        changes = [each for each in self.answered if each[1].changed]
        if changes:
            command, outcome = data.draw(st.sampled_from(changes))
            written = len(self.recorder.stored_events)
            lose, self.recorder.lose_next = self.recorder.lose_next, None
            (would,) = self.allocators[which].preview([command]).commands
            assert would.is_executed
            assert not would.events
            assert self.lasting(command, would.done()) == self.lasting(command, outcome)
            (answer,) = self.allocators[which].answers([command])
            assert self.lasting(command, answer) == self.lasting(command, outcome)
            assert len(self.recorder.stored_events) == written
            self.recorder.lose_next = lose

    def lasting(self, command: Command, answer: Outcome | WireloomError) -> Any:
        """What an answer says whenever it is given: those who were in a network before may have left it since."""
        if not isinstance(command, AssignMachines) or not isinstance(answer, Outcome):
            return answer
        events = [event for event in map(read, self.recorder.stored_events) if event.command_id == command.command_id]
        return answer.sequence, set(assignments_of(tuple(events))) & set(answer.assignments)

    @invariant()
    def state_from_the_log_is_the_model(self) -> None:
        with MemoryAllocator(self.recorder) as fresh:
            registry = fresh.find(Registry, REGISTRY_ID)
            entries = registry.networks if isinstance(registry, Registry) else {}
            assert {network_id: entry.name for network_id, entry in entries.items()} == self.names
            if isinstance(registry, Registry):
                assert registry.default_network_id == self.default
            for network_id, members in self.members.items():
                network = fresh.find(Network, network_id)
                base = int(self.cidrs[network_id].network_address)
                found = network.members if isinstance(network, Network) else {}
                assert {machine: member.address - base for machine, member in found.items()} == members
                assert len(set(members.values())) == len(members)


TestAllocator = AllocatorMachine.TestCase
TestAllocator.settings = settings(max_examples=60, stateful_step_count=30)
