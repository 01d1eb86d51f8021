"""A world of probers without sockets: a clock that is turned, places behind NATs and firewalls, loss and delay."""

from __future__ import annotations

import heapq
import itertools
import json
import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from uuid import UUID

from agent.probing.budget import Budget
from agent.probing.outputs import Link, Observed, Output, Send, Use
from agent.probing.prober import Prober
from agent.probing.wire import Message, Ping, Pong, Sealer

PORT = 51820


class PlainSealer(Sealer):
    """Seals nothing, fast."""

    def __init__(self, public_key: str) -> None:
        self.public_key = public_key
        self.known: set[str] = set()

    def add(self, peer_public_key: str) -> None:
        self.known.add(peer_public_key)

    def remove(self, peer_public_key: str) -> None:
        self.known.discard(peer_public_key)

    def seal(self, peer_public_key: str, message: Message) -> bytes:
        kind, rest = ("ping", message.sent) if isinstance(message, Ping) else ("pong", message.seen)
        return json.dumps([self.public_key, peer_public_key, kind, message.tx, rest]).encode()

    def open(self, packet: bytes) -> tuple[str, Message] | None:
        sender, receiver, kind, tx, rest = json.loads(packet)
        if receiver != self.public_key or sender not in self.known:
            return None
        return sender, Ping(tx, rest) if kind == "ping" else Pong(tx, rest)


@dataclass(eq=False)
class Gate:
    """What stands between a place and the outside: a NAT, or a firewall that only lets out (`kind` firewall).

    It lets in what answers something that was sent to that very address and port not long ago (RFC 4787, section 5,
    address and port-dependent filtering).
    """

    kind: str
    """`independent`, `dependent` (mapping per destination) or `firewall`."""
    host: str
    outside: Place
    lifetime: float = 30.0
    ports: itertools.count[int] = field(default_factory=lambda: itertools.count(40000))
    mapped: dict[tuple[str, str], str] = field(default_factory=dict)
    inner: dict[str, str] = field(default_factory=dict)
    passed: dict[tuple[str, str], float] = field(default_factory=dict)

    def out(self, now: float, source: str, target: str) -> str:
        key = (source, target if self.kind == "dependent" else "")
        if self.kind == "firewall":
            outer = source
        elif key not in self.mapped:
            outer = self.mapped[key] = f"{self.host}:{next(self.ports)}"
        else:
            outer = self.mapped[key]
        self.inner[outer] = source
        self.passed[outer, target] = now
        return outer

    def into(self, now: float, source: str, target: str) -> str | None:
        last = self.passed.get((target, source), -math.inf)
        if now - last > self.lifetime:
            return None
        self.passed[target, source] = now
        return self.inner[target]


@dataclass(eq=False)
class Place:
    """A network underneath: those in it reach each other; out of it leads its gate."""

    gate: Gate | None = None
    hosts: dict[str, Node] = field(default_factory=dict)
    gates: list[Gate] = field(default_factory=list)

    def behind(self, kind: str, host: str) -> Place:
        gate = Gate(kind, host, self)
        inner = Place(gate)
        gate.inside = inner  # type: ignore[attr-defined]
        self.gates.append(gate)
        return inner


@dataclass(eq=False)
class Node:
    """A machine with one prober."""

    machine_id: UUID
    key: str
    endpoint: str
    place: Place
    prober: Prober
    announced: tuple[str, ...]
    sent: list[float] = field(default_factory=list)
    uses: defaultdict[UUID, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    links: defaultdict[UUID, list[tuple[float, str]]] = field(default_factory=lambda: defaultdict(list))
    rtts: list[int | None] = field(default_factory=list)
    observed: tuple[str, ...] = ()

    def state(self, other: Node) -> str:
        links = self.links[other.machine_id]
        return links[-1][1] if links else ""

    def endpoint_of(self, other: Node) -> str:
        return self.uses[other.machine_id][-1][1]


class World:
    """Turns the clock."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.chance = Random(seed)
        self.outside = Place()
        self.nodes: list[Node] = []
        self.latency = 0.005
        self.jitter = 0.0
        self.loss = 0.0
        self.drops: Callable[[str, str], bool] = lambda source, target: False
        self.delay_of: Callable[[str, str], float | None] = lambda source, target: None
        self.announces = 0.05
        """Seconds from an agent's word to its peers' ears."""
        self.known: set[tuple[int, int]] = set()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def node(self, place: Place, host: str, near: str = "-", wall_offset: float = 0.0) -> Node:
        number = len(self.nodes) + 1
        key = f"key-{number}"
        prober = Prober(
            PlainSealer(key), Budget(), Random(self.chance.random()), is_near=lambda endpoint: endpoint.startswith(near)
        )
        prober.wall_offset = wall_offset
        endpoint = f"{host}:{PORT}"
        node = Node(UUID(int=number), key, endpoint, place, prober, (endpoint,))
        place.hosts[endpoint] = node
        self.nodes.append(node)
        return node

    def meet(self) -> None:
        """All hear of all."""
        for node in self.nodes:
            self.tell(node, at=self.now)

    def tell(self, node: Node, at: float) -> None:
        """All others hear what the node announces, and it hears itself."""

        def hear() -> None:
            for other in self.nodes:
                if other is not node:
                    other.prober.peer(self.now, node.machine_id, node.key, node.announced)
            node.prober.announced(self.now)

        self.later(at, hear)

    def later(self, at: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at, next(self._count), what))

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            due = min((node.prober.due(self.now) for node in self.nodes), default=math.inf)
            at = max(self.now, min(due, self._events[0][0] if self._events else math.inf))
            if at > end:
                self.now = end
                return
            self.now = at
            while self._events and self._events[0][0] <= self.now:
                heapq.heappop(self._events)[2]()
            for node in self.nodes:
                if node.prober.due(self.now) <= self.now:
                    for output in node.prober.tick(self.now):
                        self._do(node, output)

    def run_until(self, condition: Callable[[], bool], seconds: float, step: float = 0.01) -> float:
        """Turns the clock until the condition holds; the seconds that it took. Fails after so many."""
        begun = self.now
        while not condition():
            assert self.now - begun < seconds, f"not within {seconds} s"
            self.run(step)
        return self.now - begun

    def _do(self, node: Node, output: Output) -> None:
        if isinstance(output, Send):
            node.sent.append(self.now)
            self._carry(node, output.endpoint, output.packet)
        elif isinstance(output, Use):
            node.uses[output.machine_id].append((self.now, output.endpoint))
        elif isinstance(output, Link):
            node.links[output.machine_id].append((self.now, output.state.state))
            node.rtts.append(output.state.rtt)
        elif isinstance(output, Observed):
            before = [endpoint for endpoint in node.announced if endpoint not in node.observed]
            node.observed = output.endpoints
            node.announced = tuple(dict.fromkeys((node.endpoint, *before, *output.endpoints)))
            self.tell(node, self.now + self.announces)

    def _carry(self, node: Node, target: str, packet: bytes) -> None:
        found = self._route(node.place, node.endpoint, target)
        if found is None or self.chance.random() < self.loss:
            return
        receiver, source = found
        if self.drops(node.endpoint, receiver.endpoint):
            return
        latency = self.delay_of(node.endpoint, target)
        latency = self.latency if latency is None else latency
        delay = latency * self.chance.uniform(1 - self.jitter, 1 + self.jitter)
        self.later(self.now + delay, lambda: receiver.prober.received(self.now, source, packet))

    def _route(self, place: Place, source: str, target: str) -> tuple[Node, str] | None:
        while True:
            if target in place.hosts:
                return place.hosts[target], source
            for gate in place.gates:
                inside: Place = gate.inside  # type: ignore[attr-defined]
                is_there = target in inside.hosts if gate.kind == "firewall" else target.startswith(f"{gate.host}:")
                if is_there:
                    inner = gate.into(self.now, source, target)
                    return None if inner is None else self._route_in(inside, source, inner)
            if place.gate is None:
                return None
            source = place.gate.out(self.now, source, target)
            place = place.gate.outside

    def _route_in(self, place: Place, source: str, target: str) -> tuple[Node, str] | None:
        if target in place.hosts:
            return place.hosts[target], source
        for gate in place.gates:
            if target.startswith(f"{gate.host}:"):
                inner = gate.into(self.now, source, target)
                inside: Place = gate.inside  # type: ignore[attr-defined]
                return None if inner is None else self._route_in(inside, source, inner)
        return None


def most_in_a_second(times: list[float]) -> int:
    """The most of these times that any second holds."""
    most, begin = 0, 0
    for place, time in enumerate(times):
        while time - times[begin] > 1:
            begin += 1
        most = max(most, place - begin + 1)
    return most
