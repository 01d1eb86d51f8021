"""A world of random commands, the state that an undo is about, and commands that are undone."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Any, cast
from uuid import UUID

from eventsourcing.popo import POPOAggregateRecorder

from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateAccount,
    CreateBootstrapToken,
    CreateNetwork,
    CreatePolicy,
    CreateRoute,
    CreateVip,
    DeleteAccount,
    DeleteMachine,
    DeleteNetwork,
    DeletePolicy,
    DeleteRoute,
    DeleteVip,
    IssueApiToken,
    Outcome,
    PinReflectors,
    RegisterMachine,
    RegisterMembership,
    RenameMachine,
    RenameNetwork,
    RevokeApiToken,
    SetAccountRole,
    SetDefaultNetwork,
    SetGateway,
    SetRouteReflectorMode,
    SetTransit,
    UnassignMachine,
    Undo,
    UpdatePolicy,
    UpdateRoute,
    UpdateVip,
)
from events.domain import ACCESS_ID, REGISTRY_ID, ROUTING_ID, DomainEvent
from events.errors import WireloomError
from events.records import (
    AccountRecord,
    AnnouncementRecord,
    GatewayRecord,
    MachineRecord,
    MembershipRecord,
    NetworkPolicyRecord,
    NetworkRecord,
    PolicyRecord,
    RouteRecord,
    RoutingRecord,
    VipRecord,
)
from events.routing import Policy
from events.state import decode_record
from services.allocator.access import Access
from services.allocator.aggregates import Machine, Network, Registry
from services.allocator.desk import Placed
from services.allocator.routing import Routing
from services.topology.core import Topology
from services.topology.shelf import Shelf
from tests.support.allocators import MemoryAllocator, PositionedRecorder

CIDRS = ["172.16.0.0/29", "172.16.0.0/28", "10.9.0.0/29", "192.168.5.0/29"]
PREFIXES = ["10.20.0.0/16", "10.30.0.0/24", "172.16.0.0/24", "198.51.100.0/24"]
ADDRESSES = ["203.0.113.7", "203.0.113.8"]
NAMES = ["a", "b", "c"]
_COMPARED = (
    NetworkRecord,
    MachineRecord,
    MembershipRecord,
    AccountRecord,
    RouteRecord,
    VipRecord,
    PolicyRecord,
    GatewayRecord,
    AnnouncementRecord,
    NetworkPolicyRecord,
    RoutingRecord,
)
_TIMES = {"created_at", "updated_at", "assigned_at", "key_generation", "agent_version"}


@dataclass(frozen=True)
class Given:
    """A command that was executed, and changed something."""

    command: Command
    outcome: Outcome
    before: dict[str, Any]
    after: dict[str, Any]


class World:
    """One allocator, and what may happen to a few networks, machines and other things."""

    def __init__(self, seed: int = 0, *, populated: bool = True) -> None:
        self.chance = random.Random(seed)
        self.recorder = PositionedRecorder()
        self.allocator = MemoryAllocator(self.recorder, POPOAggregateRecorder())
        self._topology, self.shelf = Topology(), Shelf()
        self._machine_ids: list[UUID] = []
        self.given: list[Given] = []
        if populated:
            self._populate()

    def _populate(self) -> None:
        for number, cidr in enumerate(("172.16.0.0/29", "10.9.0.0/29")):
            network_id = _new(self)
            self.give(CreateNetwork, is_watched=False, network_id=network_id, name=NAMES[number], network_cidr=cidr)
            machine_ids = tuple(_new(self) for _ in range(2))
            for machine_id in machine_ids:
                self.give(RegisterMachine, is_watched=False, machine_id=machine_id, hostname="m")
            for joined in self.registry.networks:
                self.give(AssignMachines, is_watched=False, network_id=joined, machine_ids=machine_ids)

    def events(self, after: int = 0) -> list[Placed]:
        """The log after a position."""
        return [
            Placed(number, cast(DomainEvent, self.allocator.mapper.to_domain_event(stored)))
            for number, stored in enumerate(self.recorder.stored_events[after:], start=after + 1)
        ]

    def give(self, command_type: type[Command], *, is_watched: bool = True, **fields: Any) -> Given:
        """Execute a command, looking at the state before and after where `is_watched`. Its refusal is raised."""
        before = self.state() if is_watched else {}
        command = command_type.model_validate({"command_id": _new(self), "actor": "cli:ann"} | fields)
        answer = self.allocator.answers([command])[0]
        if isinstance(answer, WireloomError):
            raise answer
        if isinstance(command, RegisterMachine):
            self._machine_ids.append(command.machine_id)
        given = Given(command, answer, before, self.state() if is_watched else {})
        if answer.changed:
            self.given.append(given)
        return given

    def undoing(self, command_id: UUID) -> dict[str, Any]:
        """The fields of the undo of a command."""
        positions = [position for position, event in self.events() if event.command_id == command_id]
        return {"undone": command_id, "first_sequence": positions[0], "last_sequence": positions[-1]}

    def undo(self, given: Given) -> Given:
        """Undo a command. Its refusal is raised."""
        return self.give(Undo, **self.undoing(given.command.command_id))

    def step(self, *, is_watched: bool = True) -> Given | None:
        """Let something happen, if it may; what."""
        kind, fields = self.chance.choice(_STEPS)(self)
        try:
            given = self.give(kind, is_watched=is_watched, **fields)
        except WireloomError:
            return None
        return given if given.outcome.changed else None

    @property
    def registry(self) -> Registry:
        return cast(Registry, self.allocator.find(Registry, REGISTRY_ID) or Registry(REGISTRY_ID))

    @property
    def routing(self) -> Routing:
        return cast(Routing, self.allocator.find(Routing, ROUTING_ID) or Routing(ROUTING_ID))

    @property
    def access(self) -> Access:
        return cast(Access, self.allocator.find(Access, ACCESS_ID) or Access(ACCESS_ID))

    def members(self, network_id: UUID) -> list[UUID]:
        """Who is in a network."""
        network = cast(Network, self.allocator.find(Network, network_id) or Network(network_id))
        return list(network.members)

    def machines(self) -> list[Machine]:
        """Those that there are."""
        found = [cast(Machine, self.allocator.find(Machine, machine_id)) for machine_id in self._machine_ids]
        return [machine for machine in found if not machine.deleted]

    def state(self) -> dict[str, Any]:
        """All that an undo takes back, by what it is: of the deciding side and of the derived records."""
        found: dict[str, Any] = {"default": self.registry.default_network_id}
        for entry in self.registry.networks.values():
            found |= _fields("network", entry.network_id, entry)
            network = cast(Network, self.allocator.find(Network, entry.network_id) or Network(entry.network_id))
            assert network.taken.count == len(network.members)
            for machine_id, member in network.members.items():
                assert member.address in network.taken
                found[f"member {entry.network_id} {machine_id}"] = str(IPv4Address(member.address))
        for machine in self.machines():
            found |= {f"machine {machine.id} hostname": machine.hostname, f"machine {machine.id}": machine.transit}
        routing = self.routing
        for items in (routing.routes, routing.vips, routing.policies):
            for item_id, item in cast(Any, items).items():
                found |= _fields("item", item_id, item)
        found |= {f"gateway {machine_id}": named for machine_id, named in routing.gateways.items()}
        found |= {f"reflectors {network_id}": named for network_id, named in routing.reflectors.items()}
        found["claims"] = dict(routing.claims.items())
        found |= {f"account {each.account_id}": (each.name, each.role) for each in self.access.accounts.values()}
        return found | self.records()

    def records(self) -> dict[str, Any]:
        """What the derivation says, apart from when and how often."""
        for position, event in self.events(self._topology.position):
            self.shelf.take(self._topology.apply(position, event))
        bodies = {subject: decode_record(payload).body for subject, payload in self.shelf.contents().items()}
        return {
            subject: body.model_dump(mode="json", exclude=_TIMES)
            for subject, body in bodies.items()
            if isinstance(body, _COMPARED) and not _is_void(subject, bodies)
        }


def _fields(kind: str, item_id: UUID, item: Any) -> dict[str, Any]:
    """Each of an item's fields: two commands may have changed two of them."""
    return {f"{kind} {item_id} {name}": getattr(item, name) for name in item.__slots__}


def _is_void(subject: str, bodies: dict[str, Any]) -> bool:
    """Whether a record is a membership of a network that is gone."""
    parts = subject.split(".")
    return parts[-2] == "network" and parts[1] == "machine" and bodies.get(f"state.network.{parts[-1]}.info") is None


def _new(world: World) -> UUID:
    return UUID(int=world.chance.getrandbits(128), version=4)


def _some(world: World, of: list[UUID]) -> UUID:
    return world.chance.choice(of) if of else _new(world)


def _few(world: World, of: list[UUID]) -> tuple[UUID, ...]:
    return tuple(world.chance.sample(of, world.chance.randint(0, min(len(of), 3))))


def _network(world: World) -> UUID:
    return _some(world, sorted(world.registry.networks))


def _networks(world: World) -> tuple[UUID, ...]:
    return _few(world, sorted(world.registry.networks))


def _machine(world: World) -> UUID:
    return _some(world, [machine.id for machine in world.machines()])


def _named(world: World) -> tuple[UUID, ...]:
    return _few(world, [machine.id for machine in world.machines()])


def _pick(world: World, of: list[Any]) -> Any:
    return world.chance.choice(of)


def _policy(world: World) -> Policy:
    return Policy(direction=_pick(world, ["import", "export"]), default_action=_pick(world, ["accept", "reject"]))


def _key(world: World) -> str:
    return base64.b64encode(world.chance.randbytes(32)).decode()


def _member(world: World) -> dict[str, UUID]:
    network_id = _network(world)
    return {"network_id": network_id, "machine_id": _some(world, sorted(world.members(network_id)))}


def _gateway(world: World) -> dict[str, Any]:
    machine_id = _machine(world)
    networks = sorted(world.registry.networks)
    inside = [each for each in networks if machine_id in world.members(each)]
    return {"machine_id": machine_id, "network_ids": _few(world, inside)}


def _pinned(world: World) -> dict[str, Any]:
    network_id = _network(world)
    return {"network_id": network_id, "machine_ids": _few(world, sorted(world.members(network_id)))}


_Step = Callable[[World], tuple[type[Command], dict[str, Any]]]
_STEPS: list[_Step] = [
    *(
        [
            lambda w: (
                CreateNetwork,
                {
                    "network_id": _new(w),
                    "name": _pick(w, NAMES),
                    "network_cidr": _pick(w, CIDRS),
                    "is_default": _pick(w, [False, True]),
                },
            )
        ]
        * 3
    ),
    *([lambda w: (RegisterMachine, {"machine_id": _new(w), "hostname": _pick(w, NAMES)})] * 3),
    *([lambda w: (AssignMachine, {"network_id": _network(w), "machine_id": _machine(w)})] * 6),
    lambda w: (AssignMachines, {"network_id": _network(w), "machine_ids": _named(w) or (_new(w),)}),
    *([lambda w: (UnassignMachine, _member(w))] * 2),
    lambda w: (RegisterMembership, {**_member(w), "public_key": _key(w), "listen_port": 51820}),
    lambda w: (RenameNetwork, {"network_id": _network(w), "name": _pick(w, NAMES)}),
    lambda w: (SetDefaultNetwork, {"network_id": _pick(w, [None, _network(w)])}),
    lambda w: (SetRouteReflectorMode, {"network_id": _network(w), "enabled": _pick(w, [False, True])}),
    *([lambda w: (DeleteNetwork, {"network_id": _network(w), "force": True})] * 2),
    lambda w: (RenameMachine, {"machine_id": _machine(w), "hostname": _pick(w, NAMES)}),
    lambda w: (SetTransit, {"machine_id": _machine(w), "transit": _pick(w, ["auto", "never", "always"])}),
    lambda w: (DeleteMachine, {"machine_id": _machine(w), "force": _pick(w, [False, False, True])}),
    *(
        [
            lambda w: (
                CreateRoute,
                {
                    "route_id": _new(w),
                    "name": _pick(w, NAMES),
                    "prefixes": (_pick(w, PREFIXES),),
                    "machine_ids": _named(w),
                },
            )
        ]
        * 2
    ),
    lambda w: (UpdateRoute, {"route_id": _some(w, sorted(w.routing.routes)), "machine_ids": _named(w)}),
    lambda w: (UpdateRoute, {"route_id": _some(w, sorted(w.routing.routes)), "prefixes": (_pick(w, PREFIXES),)}),
    lambda w: (DeleteRoute, {"route_id": _some(w, sorted(w.routing.routes))}),
    lambda w: (
        CreateVip,
        {"vip_id": _new(w), "name": _pick(w, NAMES), "address": _pick(w, ADDRESSES), "machine_ids": _named(w)},
    ),
    lambda w: (UpdateVip, {"vip_id": _some(w, sorted(w.routing.vips)), "address": _pick(w, ADDRESSES)}),
    lambda w: (DeleteVip, {"vip_id": _some(w, sorted(w.routing.vips))}),
    *(
        [
            lambda w: (
                CreatePolicy,
                {
                    "policy_id": _new(w),
                    "name": _pick(w, NAMES),
                    "policy": _policy(w),
                    "network_ids": _networks(w),
                    "machine_ids": _named(w),
                },
            )
        ]
        * 2
    ),
    lambda w: (UpdatePolicy, {"policy_id": _some(w, sorted(w.routing.policies)), "network_ids": _networks(w)}),
    lambda w: (DeletePolicy, {"policy_id": _some(w, sorted(w.routing.policies))}),
    *([lambda w: (SetGateway, _gateway(w))] * 4),
    *([lambda w: (PinReflectors, _pinned(w))] * 4),
    lambda w: (CreateAccount, {"account_id": _new(w), "name": _pick(w, NAMES), "role": _pick(w, ["viewer", "admin"])}),
    lambda w: (
        SetAccountRole,
        {"account_id": _some(w, sorted(w.access.accounts)), "role": _pick(w, ["viewer", "operator", "admin"])},
    ),
    lambda w: (DeleteAccount, {"account_id": _some(w, sorted(w.access.accounts))}),
    lambda w: (
        IssueApiToken,
        {
            "token_id": _new(w),
            "account_id": _some(w, sorted(w.access.accounts)),
            "name": _pick(w, NAMES),
            "role": "viewer",
            "secret_hash": _new(w).hex * 2,
        },
    ),
    lambda w: (RevokeApiToken, {"token_id": _some(w, sorted(w.access.api_tokens))}),
    lambda w: (
        CreateBootstrapToken,
        {"token_id": _new(w), "secret_hash": _new(w).hex * 2, "network_id": _pick(w, [None, _network(w)])},
    ),
]
