"""The same two allocators, and what is announced: no prefix is two's, none is a mesh's, nothing names what is gone."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, rule

from events.commands import (
    CreatePolicy,
    CreateRoute,
    CreateVip,
    DeletePolicy,
    DeleteRoute,
    DeleteVip,
    Outcome,
    PinReflectors,
    SetGateway,
    UpdateRoute,
    UpdateVip,
)
from events.domain import ROUTING_ID
from events.errors import (
    InvalidInputError,
    MachineDeletedError,
    MachineRevokedError,
    NameTakenError,
    NotFoundError,
    NotMemberError,
    PolicyTakenError,
    PrefixTakenError,
    RouteOverlapError,
    WireloomError,
)
from events.routing import Policy
from services.allocator.routing import Route, Routing, Vip
from tests.property.test_allocator import AllocatorMachine
from tests.support.allocators import MemoryAllocator

WHICH = st.integers(0, 1)
PREFIXES = ["10.0.0.0/24", "10.0.0.64/26", "172.16.0.8/32", "192.168.7.0/24", "192.168.7.7/32", "203.0.113.0/24"]
"""Some lie inside the networks' ranges, some around them, some elsewhere."""


START = [("a", "172.16.0.0/29"), ("b", "10.0.0.0/28")]


@dataclass
class Item:
    """A route or virtual IP of the model."""

    name: str
    prefixes: tuple[str, ...]
    machines: tuple[UUID, ...]


class RoutingMachine(AllocatorMachine):
    """The model: who announces what, which policy is for whom, who is a gateway or a pinned reflector."""

    routes = Bundle("routes")
    vips = Bundle("vips")
    policies = Bundle("policies")

    def __init__(self) -> None:
        super().__init__()
        self.items: dict[UUID, Item] = {}
        self.is_vip: dict[UUID, bool] = {}
        self.targets: dict[UUID, tuple[str, set[UUID]]] = {}
        self.gateways: dict[UUID, tuple[UUID, ...]] = {}
        self.reflectors: dict[UUID, tuple[UUID, ...]] = {}
        self.begun: list[UUID] = []

    @initialize(target=AllocatorMachine.networks)
    def two_networks(self) -> Any:
        """There at once, with a machine in both, so that fewer steps lead to where it becomes interesting."""
        networks = [self.create_network(0, name, text, is_default=False) for name, text in START]
        for network_id in networks:
            for machine_id in self.begun:
                self.assign(0, network_id, machine_id, None)
        return multiple(*networks)

    @initialize(target=AllocatorMachine.machines)
    def two_machines(self) -> Any:
        for _ in range(2):
            machine_id: Any = self.register_machine(1)
            self.begun.append(machine_id)
        for network_id in self.cidrs:
            for begun in self.begun:
                self.assign(1, network_id, begun, None)
        return multiple(*self.begun)

    def gone(self, machine_id: UUID) -> None:
        self.gateways.pop(machine_id, None)
        self.forget(machine_id)
        self.reflectors = without(self.reflectors, machine_id)

    def forget(self, item_id: UUID) -> None:
        for item in self.items.values():
            item.machines = tuple(each for each in item.machines if each != item_id)
        for _, targets in self.targets.values():
            targets.discard(item_id)

    def network_gone(self, network_id: UUID) -> None:
        self.reflectors.pop(network_id, None)
        self.gateways = without(self.gateways, network_id)
        self.forget(network_id)

    def is_announced(self, network_cidr: IPv4Network) -> bool:
        prefixes = [IPv4Network(prefix) for item in self.items.values() for prefix in item.prefixes]
        return any(network_cidr.overlaps(prefix) for prefix in prefixes)

    @rule(
        target=routes,
        which=WHICH,
        name=st.sampled_from(["r", "R", "s"]),
        prefixes=st.lists(st.sampled_from(PREFIXES), min_size=1, max_size=2, unique=True),
        machines=st.lists(AllocatorMachine.machines, max_size=2, unique=True),
    )
    def create_route(self, which: int, name: str, prefixes: list[str], machines: list[UUID]) -> Any:
        route_id = uuid4()
        answer = self.do(which, CreateRoute, route_id=route_id, name=name, prefixes=prefixes, machine_ids=machines)
        return self.placed(route_id, Item(name, tuple(prefixes), tuple(machines)), False, answer)

    @rule(
        target=vips,
        which=WHICH,
        name=st.sampled_from(["r", "v"]),
        address=st.sampled_from(["192.168.7.7", "172.16.0.8", "203.0.113.10"]),
        machines=st.lists(AllocatorMachine.machines, max_size=2, unique=True),
    )
    def create_vip(self, which: int, name: str, address: str, machines: list[UUID]) -> Any:
        vip_id = uuid4()
        answer = self.do(which, CreateVip, vip_id=vip_id, name=name, address=address, machine_ids=machines)
        return self.placed(vip_id, Item(name, (f"{address}/32",), tuple(machines)), True, answer)

    @rule(
        which=WHICH,
        item_id=routes | vips,
        name=st.none() | st.sampled_from(["r", "s", "v"]),
        machines=st.none() | st.lists(AllocatorMachine.machines, max_size=2, unique=True),
    )
    def update(self, which: int, item_id: UUID, name: str | None, machines: list[UUID] | None) -> None:
        is_vip, before = self.is_vip[item_id], self.items.get(item_id)
        fields: dict[str, Any] = {"vip_id" if is_vip else "route_id": item_id, "name": name, "machine_ids": machines}
        answer = self.do(which, UpdateVip if is_vip else UpdateRoute, **fields)
        if before is None:
            assert isinstance(answer, NotFoundError)
            return
        wanted = Item(name or before.name, before.prefixes, before.machines if machines is None else tuple(machines))
        if wanted == before:
            assert isinstance(answer, Outcome)
            assert not answer.changed
        else:
            self.placed(item_id, wanted, is_vip, answer)

    @rule(which=WHICH, item_id=routes | vips)
    def delete(self, which: int, item_id: UUID) -> None:
        is_vip, known = self.is_vip[item_id], self.items.pop(item_id, None)
        fields = {"vip_id" if is_vip else "route_id": item_id}
        answer = self.do(which, DeleteVip if is_vip else DeleteRoute, **fields)
        assert isinstance(answer, NotFoundError if known is None else Outcome)

    def placed(self, item_id: UUID, item: Item, is_vip: bool, answer: Outcome | WireloomError) -> Any:
        """Judge the answer to a route or virtual IP that was to be so, and note it."""
        others = {known: each for known, each in self.items.items() if known != item_id}
        names = {each.name.lower() for known, each in others.items() if self.is_vip[known] == is_vip}
        taken = {prefix for each in others.values() for prefix in each.prefixes}
        meshes = self.cidrs.values()
        wrong: set[type[WireloomError]] = set()
        if item.name.lower() in names:
            wrong.add(NameTakenError)
        if taken & set(item.prefixes):
            wrong.add(PrefixTakenError)
        if any(IPv4Network(prefix).overlaps(mesh) for prefix in item.prefixes for mesh in meshes):
            wrong.add(RouteOverlapError)
        wrong |= self.wrong_machines(item.machines)
        if wrong:
            assert type(answer) in wrong
            return multiple()
        assert isinstance(answer, Outcome)
        assert answer.changed
        self.items[item_id], self.is_vip[item_id] = item, is_vip
        return item_id

    def wrong_machines(self, machines: tuple[UUID, ...]) -> set[type[WireloomError]]:
        wrong: set[type[WireloomError]] = set()
        if any(each not in self.alive for each in machines):
            wrong.add(MachineDeletedError)
        if any(each in self.revoked for each in machines):
            wrong.add(MachineRevokedError)
        return wrong

    @rule(
        target=policies,
        which=WHICH,
        direction=st.sampled_from(["import", "export"]),
        networks=st.lists(AllocatorMachine.networks, max_size=2, unique=True),
        machines=st.lists(AllocatorMachine.machines, max_size=2, unique=True),
    )
    def create_policy(self, which: int, direction: Any, networks: list[UUID], machines: list[UUID]) -> Any:
        policy_id = uuid4()
        answer = self.do(
            which,
            CreatePolicy,
            policy_id=policy_id,
            name=f"p-{policy_id.hex}",
            policy=Policy(direction=direction),
            network_ids=networks,
            machine_ids=machines,
        )
        wrong = self.wrong_machines(tuple(machines))
        if any(each not in self.cidrs for each in networks):
            wrong.add(NotFoundError)
        if any(way == direction and targets & {*networks, *machines} for way, targets in self.targets.values()):
            wrong.add(PolicyTakenError)
        if wrong:
            assert type(answer) in wrong
            return multiple()
        assert isinstance(answer, Outcome)
        self.targets[policy_id] = direction, {*networks, *machines}
        return policy_id

    @rule(which=WHICH, policy_id=policies)
    def delete_policy(self, which: int, policy_id: UUID) -> None:
        answer = self.do(which, DeletePolicy, policy_id=policy_id)
        assert isinstance(answer, NotFoundError if self.targets.pop(policy_id, None) is None else Outcome)

    @rule(
        which=WHICH,
        machine_id=AllocatorMachine.machines,
        networks=st.lists(AllocatorMachine.networks, max_size=3, unique=True),
    )
    def set_gateway(self, which: int, machine_id: UUID, networks: list[UUID]) -> None:
        answer = self.do(which, SetGateway, machine_id=machine_id, network_ids=networks)
        if machine_id not in self.alive:
            assert isinstance(answer, MachineDeletedError)
        elif any(each not in self.cidrs for each in networks):
            assert isinstance(answer, NotFoundError)
        elif any(machine_id not in self.members[each] for each in networks):
            assert isinstance(answer, NotMemberError)
        elif len(networks) == 1:
            assert isinstance(answer, InvalidInputError)
        else:
            assert isinstance(answer, Outcome)
            assert answer.changed == (self.gateways.get(machine_id, ()) != tuple(networks))
            self.gateways = put(self.gateways, machine_id, networks)

    @rule(
        which=WHICH,
        network_id=AllocatorMachine.networks,
        machines=st.lists(AllocatorMachine.machines, max_size=3, unique=True),
    )
    def pin(self, which: int, network_id: UUID, machines: list[UUID]) -> None:
        answer = self.do(which, PinReflectors, network_id=network_id, machine_ids=machines)
        if network_id not in self.cidrs:
            assert isinstance(answer, NotFoundError)
        elif any(each not in self.members[network_id] for each in machines):
            assert isinstance(answer, MachineDeletedError | NotMemberError)
        elif len(machines) == 1:
            assert isinstance(answer, InvalidInputError)
        else:
            assert isinstance(answer, Outcome)
            assert answer.changed == (self.reflectors.get(network_id, ()) != tuple(machines))
            self.reflectors = put(self.reflectors, network_id, machines)

    @invariant()
    def the_list_from_the_log_is_the_model(self) -> None:
        with MemoryAllocator(self.recorder) as fresh:
            found = fresh.find(Routing, ROUTING_ID)
            assert isinstance(found, Routing)
            claimants: tuple[Route | Vip, ...] = (*found.routes.values(), *found.vips.values())
            assert {
                each.item_id: Item(each.name, texts(each.claimed), each.machine_ids) for each in claimants
            } == self.items
            assert {
                each.policy_id: (each.policy.direction, {*each.network_ids, *each.machine_ids})
                for each in found.policies.values()
            } == self.targets
            assert dict(found.gateways.items()) == self.gateways
            assert dict(found.reflectors.items()) == self.reflectors
            claims = {str(prefix): owner for prefix, owner in found.claims.items()}
            assert claims == {prefix: known for known, item in self.items.items() for prefix in item.prefixes}
            for prefix in found.claims:
                assert not any(prefix.overlaps(mesh) for mesh in self.cidrs.values())


def texts(prefixes: tuple[IPv4Network, ...]) -> tuple[str, ...]:
    return tuple(map(str, prefixes))


def put(lists: dict[UUID, tuple[UUID, ...]], key: UUID, named: list[UUID]) -> dict[UUID, tuple[UUID, ...]]:
    rest = {known: values for known, values in lists.items() if known != key}
    return rest | ({key: tuple(named)} if named else {})


def without(lists: dict[UUID, tuple[UUID, ...]], gone: UUID) -> dict[UUID, tuple[UUID, ...]]:
    left = {key: tuple(each for each in named if each != gone) for key, named in lists.items()}
    return {key: named for key, named in left.items() if named}


TestRouting = RoutingMachine.TestCase
TestRouting.settings = settings(max_examples=60, stateful_step_count=30)
