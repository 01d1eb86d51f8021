"""What the allocator accepts and refuses of routes, virtual IPs, route policies, gateways and pinned reflectors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.popo import POPOAggregateRecorder

from events import codec
from events.commands import (
    AssignMachine,
    CreateBootstrapToken,
    CreateNetwork,
    CreatePolicy,
    CreateRoute,
    CreateVip,
    DeleteMachine,
    DeleteNetwork,
    DeletePolicy,
    DeleteRoute,
    DeleteVip,
    EnrolMachine,
    PinReflectors,
    RegisterMachine,
    RevokeMachine,
    SetGateway,
    UpdatePolicy,
    UpdateRoute,
    UpdateVip,
)
from events.domain import (
    ROUTING_ID,
    DomainEvent,
    GatewaySet,
    MachineDeleted,
    MachineRevoked,
    MachinesUnassigned,
    MachineUnrouted,
    NetworkDeleted,
    NetworkUnrouted,
    ReflectorsPinned,
    RouteCreated,
    RouteUpdated,
    VipUpdated,
)
from events.errors import (
    CommandIdReusedError,
    ConflictError,
    IdTakenError,
    InvalidInputError,
    InvalidNameError,
    MachineDeletedError,
    MachineRevokedError,
    NameTakenError,
    NotFoundError,
    NotMemberError,
    PolicyTakenError,
    PrefixTakenError,
    RouteOverlapError,
)
from events.routing import MAX_ANNOUNCED, MAX_ANSWERED, HealthCheck, Policy, PolicyRule
from events.trust.keys import generate
from services.allocator import policies, routes
from services.allocator.routing import Routing
from tests.support.allocators import MemoryAllocator, PositionedRecorder

IMPORT = Policy(direction="import", rules=(PolicyRule(sequence=1, action="reject"),))
EXPORT = Policy(direction="export", local_pref=50)


@pytest.fixture
def recorder() -> PositionedRecorder:
    return PositionedRecorder()


@pytest.fixture
def allocator(recorder: PositionedRecorder) -> Iterator[MemoryAllocator]:
    with MemoryAllocator(recorder) as allocator:
        yield allocator


def network(allocator: MemoryAllocator, name: str = "office", cidr: str = "172.16.0.0/24") -> UUID:
    network_id = uuid4()
    allocator.do(CreateNetwork, network_id=network_id, name=name, network_cidr=cidr)
    return network_id


def machine(allocator: MemoryAllocator, *networks: UUID, hostname: str = "db-1") -> UUID:
    machine_id = uuid4()
    allocator.do(RegisterMachine, machine_id=machine_id, hostname=hostname)
    for network_id in networks:
        allocator.do(AssignMachine, network_id=network_id, machine_id=machine_id)
    return machine_id


def route(allocator: MemoryAllocator, *prefixes: str, name: str = "lan", machines: tuple[UUID, ...] = ()) -> UUID:
    route_id = uuid4()
    allocator.do(CreateRoute, route_id=route_id, name=name, prefixes=prefixes, machine_ids=machines)
    return route_id


def vip(allocator: MemoryAllocator, address: str, name: str = "web", machines: tuple[UUID, ...] = ()) -> UUID:
    vip_id = uuid4()
    allocator.do(CreateVip, vip_id=vip_id, name=name, address=address, machine_ids=machines)
    return vip_id


def policy(allocator: MemoryAllocator, name: str = "edge", content: Policy = IMPORT, **targets: Any) -> UUID:
    policy_id = uuid4()
    allocator.do(CreatePolicy, policy_id=policy_id, name=name, policy=content, **targets)
    return policy_id


def last(recorder: PositionedRecorder, count: int = 1) -> list[DomainEvent]:
    return [
        codec.decode(UUID(str(stored.originator_id)), stored.originator_version, stored.topic, stored.state)
        for stored in recorder.stored_events[-count:]
    ]


def routing(allocator: MemoryAllocator) -> Routing:
    found = allocator.find(Routing, ROUTING_ID)
    assert isinstance(found, Routing)
    return found


class TestRoutes:
    def test_a_route_says_what_lies_behind_which_machines(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        gate = machine(allocator)
        route_id = route(allocator, "10.20.0.0/16", "203.0.113.0/24", machines=(gate,))
        (created,) = last(recorder)
        assert isinstance(created, RouteCreated)
        assert (created.originator_id, created.route_id) == (ROUTING_ID, route_id)
        assert [str(prefix) for prefix in created.prefixes] == ["10.20.0.0/16", "203.0.113.0/24"]
        assert created.machine_ids == (gate,)
        assert created.enabled

    def test_what_is_given_changes_and_the_rest_stays(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        gate, other = machine(allocator), machine(allocator)
        route_id = route(allocator, "10.20.0.0/16", machines=(gate,))
        assert allocator.do(UpdateRoute, route_id=route_id, enabled=False).changed
        assert allocator.do(UpdateRoute, route_id=route_id, machine_ids=(gate, other)).changed
        (updated,) = last(recorder)
        assert isinstance(updated, RouteUpdated)
        assert (updated.name, updated.enabled, updated.machine_ids) == ("lan", False, (gate, other))
        assert [str(prefix) for prefix in updated.prefixes] == ["10.20.0.0/16"]
        allocator.do(UpdateRoute, route_id=route_id, name="LAN", prefixes=("10.20.0.0/17",), machine_ids=())
        route(allocator, "10.20.0.0/16", name="rest")

    def test_what_is_so_already_changes_nothing(self, allocator: MemoryAllocator) -> None:
        route_id = route(allocator, "10.20.0.0/16")
        vip_id = vip(allocator, "203.0.113.10")
        policy_id = policy(allocator)
        assert not allocator.do(UpdateRoute, route_id=route_id).changed
        assert not allocator.do(UpdateRoute, route_id=route_id, name="lan", prefixes=("10.20.0.0/16",)).changed
        assert not allocator.do(UpdateVip, vip_id=vip_id, health_check=HealthCheck(), enabled=True).changed
        assert not allocator.do(UpdatePolicy, policy_id=policy_id, policy=IMPORT, description="").changed

    def test_a_prefix_is_one_routes_and_no_vips(self, allocator: MemoryAllocator) -> None:
        first = route(allocator, "10.20.0.0/16", "203.0.113.9/32")
        fields: dict[str, Any] = {"name": "other", "prefixes": ("10.30.0.0/16", "10.20.0.0/16")}
        refusal = allocator.refuses(PrefixTakenError, CreateRoute, route_id=uuid4(), **fields)
        assert "10.20.0.0/16 belongs to the route lan" in refusal.detail
        allocator.refuses(PrefixTakenError, CreateVip, vip_id=uuid4(), name="web", address="203.0.113.9")
        web = vip(allocator, "203.0.113.10")
        fields = {"name": "other", "prefixes": ("203.0.113.10/32",)}
        refusal = allocator.refuses(PrefixTakenError, CreateRoute, route_id=uuid4(), **fields)
        assert "the virtual IP web" in refusal.detail
        second = vip(allocator, "203.0.113.11", name="mail")
        allocator.refuses(PrefixTakenError, UpdateVip, vip_id=second, address="203.0.113.10")
        allocator.do(DeleteVip, vip_id=web)
        allocator.do(UpdateVip, vip_id=second, address="203.0.113.10")
        allocator.do(UpdateRoute, route_id=first, prefixes=("203.0.113.9/32",))
        route(allocator, "10.20.0.0/16", "10.20.1.0/24", name="finer")

    @pytest.mark.parametrize("prefix", ["172.16.0.0/24", "172.16.0.0/16", "172.16.0.7/32", "172.0.0.0/8"])
    def test_what_a_mesh_has_is_not_announced(self, allocator: MemoryAllocator, prefix: str) -> None:
        network(allocator)
        refusal = allocator.refuses(RouteOverlapError, CreateRoute, route_id=uuid4(), name="lan", prefixes=(prefix,))
        assert "172.16.0.0/24 of the network office" in refusal.detail
        route_id = route(allocator, "10.20.0.0/16")
        allocator.refuses(RouteOverlapError, UpdateRoute, route_id=route_id, prefixes=(prefix,))

    def test_a_vip_inside_a_mesh_is_refused(self, allocator: MemoryAllocator) -> None:
        network(allocator)
        allocator.refuses(RouteOverlapError, CreateVip, vip_id=uuid4(), name="web", address="172.16.0.200")

    @pytest.mark.parametrize("cidr", ["10.20.0.0/16", "10.0.0.0/8", "10.20.3.0/24", "192.168.7.0/24"])
    def test_a_network_does_not_take_what_is_announced(self, allocator: MemoryAllocator, cidr: str) -> None:
        route_id, vip_id = route(allocator, "10.20.0.0/16"), vip(allocator, "192.168.7.7")
        fields = {"network_id": uuid4(), "name": "lab", "network_cidr": cidr}
        refusal = allocator.refuses(RouteOverlapError, CreateNetwork, **fields)
        assert "the route lan" in refusal.detail or "the virtual IP web" in refusal.detail
        allocator.do(DeleteRoute, route_id=route_id)
        allocator.do(DeleteVip, vip_id=vip_id)
        network(allocator, "lab", cidr)

    def test_names_are_unique_among_their_kind(self, allocator: MemoryAllocator) -> None:
        first = route(allocator, "10.20.0.0/16", name="lan")
        vip(allocator, "203.0.113.10", name="lan")
        policy(allocator, name="lan")
        allocator.refuses(NameTakenError, CreateRoute, route_id=uuid4(), name="LAN", prefixes=("10.30.0.0/16",))
        second = route(allocator, "10.30.0.0/16", name="other")
        allocator.refuses(NameTakenError, UpdateRoute, route_id=second, name="lan")
        allocator.refuses(NameTakenError, CreateVip, vip_id=uuid4(), name="Lan", address="203.0.113.11")
        allocator.refuses(NameTakenError, CreatePolicy, policy_id=uuid4(), name="Lan", policy=EXPORT)
        allocator.do(DeleteRoute, route_id=first)
        allocator.do(UpdateRoute, route_id=second, name="lan")
        refusal = allocator.refuses(InvalidNameError, UpdateRoute, route_id=second, name="my lan")
        assert "office-lan" in refusal.hint

    def test_machines_must_exist_and_not_be_revoked(self, allocator: MemoryAllocator) -> None:
        route_id, vip_id = route(allocator, "10.20.0.0/16"), vip(allocator, "203.0.113.10")
        gone, here, out = machine(allocator), machine(allocator), enrolled(allocator)
        allocator.do(DeleteMachine, machine_id=gone)
        allocator.do(RevokeMachine, machine_id=out)
        allocator.refuses(NotFoundError, UpdateRoute, route_id=route_id, machine_ids=(here, uuid4()))
        allocator.refuses(MachineDeletedError, UpdateVip, vip_id=vip_id, machine_ids=(gone,))
        allocator.refuses(MachineRevokedError, UpdateVip, vip_id=vip_id, machine_ids=(out,))

    def test_nothing_is_named_twice(self, allocator: MemoryAllocator) -> None:
        here = machine(allocator)
        route_id = route(allocator, "10.20.0.0/16")
        allocator.refuses(InvalidInputError, UpdateRoute, route_id=route_id, machine_ids=(here, here))
        prefixes = ("10.30.0.0/16", "10.30.0.0/16")
        allocator.refuses(InvalidInputError, UpdateRoute, route_id=route_id, prefixes=prefixes)

    def test_a_machine_announces_so_much_and_no_more(self, allocator: MemoryAllocator) -> None:
        here = machine(allocator)
        for place in range(MAX_ANNOUNCED // 100):
            prefixes = tuple(f"10.{place}.{part}.0/24" for part in range(100))
            full = route(allocator, *prefixes, name=f"lan-{place}", machines=(here,))
        fields: dict[str, Any] = {"name": "more", "prefixes": ("10.200.0.0/24",), "machine_ids": (here,)}
        refusal = allocator.refuses(ConflictError, CreateRoute, route_id=uuid4(), **fields)
        assert str(MAX_ANNOUNCED) in refusal.detail
        allocator.do(UpdateRoute, route_id=full, prefixes=prefixes[1:])
        allocator.do(CreateRoute, route_id=uuid4(), **fields)

    def test_so_many_prefixes_fit_into_one_record(
        self, allocator: MemoryAllocator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(routes, "MAX_CLAIMED", 3)
        lan = route(allocator, "10.20.0.0/16", "10.21.0.0/16")
        vip(allocator, "203.0.113.1")
        allocator.refuses(ConflictError, CreateVip, vip_id=uuid4(), name="more", address="203.0.113.2")
        allocator.refuses(ConflictError, CreateRoute, route_id=uuid4(), name="more", prefixes=("10.22.0.0/16",))
        more = ("10.20.0.0/16", "10.22.0.0/16", "10.23.0.0/16")
        refusal = allocator.refuses(ConflictError, UpdateRoute, route_id=lan, prefixes=more)
        assert "there may be 3" in refusal.detail
        allocator.do(UpdateRoute, route_id=lan, prefixes=more[1:])

    def test_a_machine_answers_for_so_many_vips(self, allocator: MemoryAllocator) -> None:
        here = machine(allocator)
        for place in range(MAX_ANSWERED):
            vip(allocator, f"203.0.113.{place}", name=f"v{place}", machines=(here,))
        fields: dict[str, Any] = {"name": "more", "address": "203.0.113.250", "machine_ids": (here,)}
        allocator.refuses(ConflictError, CreateVip, vip_id=uuid4(), **fields)

    def test_ids_are_used_once(self, allocator: MemoryAllocator) -> None:
        route_id, office, here = route(allocator, "10.20.0.0/16"), network(allocator), machine(allocator)
        allocator.do(DeleteRoute, route_id=route_id)
        fields: dict[str, Any] = {"name": "lan", "prefixes": ("10.20.0.0/16",)}
        for taken in (route_id, office, here, ROUTING_ID):
            allocator.refuses(IdTakenError, CreateRoute, route_id=taken, **fields)
        allocator.refuses(IdTakenError, RegisterMachine, machine_id=route_id, hostname="m")
        allocator.refuses(IdTakenError, CreateNetwork, network_id=ROUTING_ID, name="x", network_cidr="10.0.0.0/24")

    def test_what_is_not_there_is_not_found(self, allocator: MemoryAllocator) -> None:
        for command_type, named in (
            (UpdateRoute, "route_id"),
            (DeleteRoute, "route_id"),
            (UpdateVip, "vip_id"),
            (DeleteVip, "vip_id"),
            (UpdatePolicy, "policy_id"),
            (DeletePolicy, "policy_id"),
            (SetGateway, "machine_id"),
            (PinReflectors, "network_id"),
        ):
            extra = {"network_ids": ()} if command_type is SetGateway else {}
            extra = {"machine_ids": ()} if command_type is PinReflectors else extra
            allocator.refuses(NotFoundError, command_type, **{named: uuid4()}, **extra)


class TestVips:
    def test_the_order_of_its_machines_counts(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        first, second = machine(allocator), machine(allocator)
        vip_id = vip(allocator, "203.0.113.10", machines=(first, second))
        assert allocator.do(UpdateVip, vip_id=vip_id, machine_ids=(second, first)).changed
        check = HealthCheck(type="http", target="/healthz", interval_seconds=2, timeout_seconds=1)
        assert allocator.do(UpdateVip, vip_id=vip_id, health_check=check).changed
        (updated,) = last(recorder)
        assert isinstance(updated, VipUpdated)
        assert (updated.machine_ids, updated.health_check) == ((second, first), check)


class TestPolicies:
    def test_one_for_each_direction(self, allocator: MemoryAllocator) -> None:
        office = network(allocator)
        here = machine(allocator, office)
        first = policy(allocator, network_ids=(office,), machine_ids=(here,))
        refusal = allocator.refuses(
            PolicyTakenError, CreatePolicy, policy_id=uuid4(), name="two", policy=IMPORT, network_ids=(office,)
        )
        assert "The network office has a route policy for import already: edge" in refusal.detail
        second = policy(allocator, "out", EXPORT, network_ids=(office,), machine_ids=(here,))
        allocator.refuses(PolicyTakenError, UpdatePolicy, policy_id=second, policy=IMPORT)
        third = policy(allocator, "three")
        allocator.refuses(PolicyTakenError, UpdatePolicy, policy_id=third, machine_ids=(here,))
        allocator.do(UpdatePolicy, policy_id=first, machine_ids=())
        allocator.do(UpdatePolicy, policy_id=third, machine_ids=(here,))
        allocator.do(DeletePolicy, policy_id=first)
        allocator.do(UpdatePolicy, policy_id=third, network_ids=(office,))

    def test_what_it_is_for_must_exist(self, allocator: MemoryAllocator) -> None:
        known = policy(allocator)
        allocator.refuses(NotFoundError, UpdatePolicy, policy_id=known, network_ids=(uuid4(),))
        allocator.refuses(NotFoundError, UpdatePolicy, policy_id=known, machine_ids=(uuid4(),))


class TestGateways:
    def test_a_machine_crosses_between_its_networks(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        office, lab = network(allocator), network(allocator, "lab", "10.0.0.0/24")
        gate = machine(allocator, office, lab)
        assert allocator.do(SetGateway, machine_id=gate, network_ids=(office, lab)).changed
        assert not allocator.do(SetGateway, machine_id=gate, network_ids=(office, lab)).changed
        assert allocator.do(SetGateway, machine_id=gate, network_ids=()).changed
        (set_,) = last(recorder)
        assert isinstance(set_, GatewaySet)
        assert not allocator.do(SetGateway, machine_id=gate, network_ids=()).changed

    def test_what_makes_no_gateway(self, allocator: MemoryAllocator, monkeypatch: pytest.MonkeyPatch) -> None:
        office, lab = network(allocator), network(allocator, "lab", "10.0.0.0/24")
        gate, elsewhere = machine(allocator, office, lab), machine(allocator, office, hostname="web-1")
        allocator.refuses(InvalidInputError, SetGateway, machine_id=gate, network_ids=(office,))
        allocator.refuses(InvalidInputError, SetGateway, machine_id=gate, network_ids=(office, office))
        allocator.refuses(NotFoundError, SetGateway, machine_id=gate, network_ids=(office, uuid4()))
        refusal = allocator.refuses(NotMemberError, SetGateway, machine_id=elsewhere, network_ids=(office, lab))
        assert "web-1 is not in the network lab" in refusal.detail
        monkeypatch.setattr(policies, "network_asn", lambda network_id: 4_200_000_001)
        refusal = allocator.refuses(ConflictError, SetGateway, machine_id=gate, network_ids=(office, lab))
        assert "same AS number" in refusal.detail


class TestReflectors:
    def test_members_are_pinned(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        office = network(allocator)
        one, two, stranger = machine(allocator, office), machine(allocator, office), machine(allocator)
        assert allocator.do(PinReflectors, network_id=office, machine_ids=(one, two)).changed
        (pinned,) = last(recorder)
        assert isinstance(pinned, ReflectorsPinned)
        assert not allocator.do(PinReflectors, network_id=office, machine_ids=(one, two)).changed
        allocator.refuses(NotMemberError, PinReflectors, network_id=office, machine_ids=(one, stranger))
        allocator.refuses(NotFoundError, PinReflectors, network_id=office, machine_ids=(one, uuid4()))
        allocator.refuses(InvalidInputError, PinReflectors, network_id=office, machine_ids=(one,))
        allocator.refuses(InvalidInputError, PinReflectors, network_id=office, machine_ids=(one, one))
        assert allocator.do(PinReflectors, network_id=office, machine_ids=()).changed
        assert not allocator.do(PinReflectors, network_id=office, machine_ids=()).changed


def enrolled(allocator: MemoryAllocator, *networks: UUID) -> UUID:
    machine_id, secret_hash = uuid4(), uuid4().hex * 2
    allocator.do(CreateBootstrapToken, token_id=uuid4(), secret_hash=secret_hash)
    key = generate("user").public
    allocator.do(EnrolMachine, machine_id=machine_id, identity_key=key, hostname="gate", secret_hash=secret_hash)
    for network_id in networks:
        allocator.do(AssignMachine, network_id=network_id, machine_id=machine_id)
    return machine_id


def named_everywhere(allocator: MemoryAllocator) -> tuple[UUID, UUID]:
    """A network and a machine that everything names, beside others."""
    office, lab = network(allocator), network(allocator, "lab", "10.0.0.0/24")
    gate, other = enrolled(allocator, office, lab), machine(allocator, office, lab)
    route(allocator, "10.20.0.0/16", machines=(gate, other))
    vip(allocator, "203.0.113.10", machines=(other, gate))
    policy(allocator, network_ids=(office, lab), machine_ids=(gate, other))
    allocator.do(SetGateway, machine_id=gate, network_ids=(office, lab))
    allocator.do(SetGateway, machine_id=other, network_ids=(lab, office))
    allocator.do(PinReflectors, network_id=office, machine_ids=(gate, other))
    allocator.do(PinReflectors, network_id=lab, machine_ids=(other, gate))
    return office, gate


def everything_named(found: Routing) -> set[UUID]:
    """All machines and networks that a routing list names."""
    lists: list[Any] = [*found.gateways.items(), *found.reflectors.items()]
    named = {item for key, values in lists for item in (key, *values)}
    for items in (found.routes, found.vips, found.policies):
        named |= {machine_id for item in items.values() for machine_id in item.machine_ids}
    return named | {network_id for item in found.policies.values() for network_id in item.network_ids}


class TestLeaving:
    def test_a_deleted_machine_is_named_nowhere(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        _, gate = named_everywhere(allocator)
        allocator.do(DeleteMachine, machine_id=gate, force=True)
        written = last(recorder, 5)
        assert [type(each) for each in written] == [
            MachinesUnassigned,
            MachinesUnassigned,
            MachineUnrouted,
            MachineRevoked,
            MachineDeleted,
        ]
        assert len({each.command_id for each in written}) == 1
        assert gate not in everything_named(routing(allocator))
        assert len(routing(allocator).routes) == len(routing(allocator).vips) == 1

    def test_a_revoked_machine_is_named_nowhere(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        _, gate = named_everywhere(allocator)
        allocator.do(RevokeMachine, machine_id=gate)
        assert [type(each) for each in last(recorder, 2)] == [MachineUnrouted, MachineRevoked]
        assert gate not in everything_named(routing(allocator))

    def test_a_deleted_network_is_named_nowhere(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        office, _ = named_everywhere(allocator)
        allocator.do(DeleteNetwork, network_id=office, force=True)
        assert [type(each) for each in last(recorder, 2)] == [NetworkUnrouted, NetworkDeleted]
        assert office not in everything_named(routing(allocator))

    def test_what_is_named_nowhere_goes_as_before(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        named_everywhere(allocator)
        other, unnamed = network(allocator, "third", "10.1.0.0/24"), machine(allocator)
        allocator.do(DeleteNetwork, network_id=other)
        allocator.do(DeleteMachine, machine_id=unnamed)
        assert [type(each) for each in last(recorder, 2)] == [NetworkDeleted, MachineDeleted]


class TestRemembering:
    def test_a_command_that_comes_again_after_a_restart_is_answered_the_same(
        self, recorder: PositionedRecorder, allocator: MemoryAllocator
    ) -> None:
        office, gate = named_everywhere(allocator)
        once: dict[str, Any] = {"command_id": uuid4(), "actor": "test:x"}
        check = HealthCheck(type="tcp", target="80")
        fields: dict[str, Any] = {"vip_id": uuid4(), "name": "again", "address": "203.0.113.99", "health_check": check}
        outcome = allocator.do(CreateVip, **once, **fields, machine_ids=(gate,))
        gone = {"command_id": uuid4(), "network_id": office, "force": True}
        deleted = allocator.do(DeleteNetwork, **gone)
        with MemoryAllocator(recorder) as another:
            assert another.do(CreateVip, **once, **fields, machine_ids=(gate,)) == outcome
            assert another.do(DeleteNetwork, **gone) == deleted
            with pytest.raises(CommandIdReusedError):
                another.do(CreateVip, **once, **fields, machine_ids=())

    def test_a_snapshot_says_what_the_log_says(
        self, recorder: PositionedRecorder, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("services.allocator.application.SNAPSHOT_EVERY", 1)
        snapshots = POPOAggregateRecorder()
        with MemoryAllocator(recorder, snapshots) as first:
            named_everywhere(first)
            route_id = route(first, "10.99.0.0/16", name="gone")
            first.do(DeleteRoute, route_id=route_id)
            policy(first, "rich", EXPORT)
            expected = routing(first)
        with MemoryAllocator(recorder, snapshots) as again, MemoryAllocator(recorder) as plain:
            assert routing(plain) == expected
            restored = routing(again)
            assert restored == expected
            again.refuses(IdTakenError, CreateRoute, route_id=route_id, name="n", prefixes=("10.99.0.0/16",))
            again.refuses(PrefixTakenError, CreateRoute, route_id=uuid4(), name="n", prefixes=("10.20.0.0/16",))
        assert snapshots.select_events(ROUTING_ID), "the snapshot was there to be read"
