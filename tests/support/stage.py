"""Machines with real tunnels, real probes and agents in this process, each in a namespace, on one wire with cuts."""

from __future__ import annotations

import asyncio
import ctypes
import re
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface
from pathlib import Path
from uuid import UUID, uuid4

from agent.access import open_bus
from agent.agent import Agent
from agent.context import Options
from agent.desired import Locality
from agent.device import Device
from agent.forwarding import Forwarding, TransitNetwork
from agent.pathfinding import Probing
from agent.probe_socket import ProbeSocket
from agent.store import DiskStore
from agent.surroundings import FixedSurroundings
from agent.wireguard_go import SOCKET_FOLDER
from events.bus import connect
from events.fields import TransitMode
from events.interfaces import interface_name
from events.records import MachineRecord, PathRecord, PeerRecord, RelayRecord
from events.subjects import machine_info, network_peer, path, relay
from tests.integration.test_agent_wireguard_go import Inside
from tests.support.fake_gateway import FakeGateway
from tests.support.namespaces import command, enter, hide, namespace
from tests.support.waiting import wait_until

_CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class Alone(Inside):
    """A backend that sees only its own control sockets, and may be closed while a test still looks."""

    def __init__(self, namespace_name: str) -> None:
        super().__init__(namespace_name)
        self.thread.submit(hide, SOCKET_FOLDER).result()

    def for_agent(self) -> Alone:
        """What an agent may close."""
        shown = object.__new__(_Kept)
        shown.__dict__ = self.__dict__
        return shown


class _Kept(Alone):
    def close(self) -> None:
        """Stays open."""


class RulesInside:
    """Forwarding inside a namespace."""

    def __init__(self, devices: Inside) -> None:
        self._thread = devices.thread
        self._forwarding = Forwarding()

    def apply(self, networks: list[TransitNetwork]) -> None:
        self._thread.submit(self._forwarding.apply, networks).result()

    def remove(self) -> None:
        self._thread.submit(self._forwarding.remove).result()

    def obstacles(self) -> list[str]:
        return self._thread.submit(self._forwarding.obstacles).result()


@contextmanager
def inside(name: str) -> Iterator[None]:
    """This thread, in a namespace for a moment."""
    with Path("/proc/thread-self/ns/net").open() as here:
        enter(name)
        try:
            yield
        finally:
            assert _libc.setns(here.fileno(), _CLONE_NEWNET) == 0


class SocketInside(ProbeSocket):
    """A probe socket of a namespace."""

    def __init__(self, name: str, listen_port: int, on_packet: Callable[[str, bytes], None]) -> None:
        self._name = name
        with inside(name):
            super().__init__(listen_port, on_packet)

    def send(self, endpoint: str, payload: bytes) -> bool:
        with inside(self._name):
            return super().send(endpoint, payload)


@dataclass
class Host:
    """A machine, whose agent may run, stop and run again."""

    number: int
    devices: Alone
    folder: Path
    url: str
    agent: Agent | None = None
    _life: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def machine_id(self) -> UUID:
        return UUID(int=self.number)

    @property
    def address(self) -> str:
        return f"172.20.0.{self.number}"

    @property
    def outer(self) -> str:
        return f"192.0.2.{self.number}"

    @property
    def namespace(self) -> str:
        return self.devices.namespace

    def start(self) -> None:
        name = self.namespace
        self.agent = Agent(
            self.machine_id,
            Options(f"m{self.number}", "0.1.0"),
            connect=open_bus(self.url, f"m{self.number}", self.machine_id),
            devices=self.devices.for_agent(),
            store=DiskStore(self.folder),
            surroundings=FixedSurroundings(Locality((ip_interface(f"{self.outer}/24"),), frozenset({4}))),
            rules=RulesInside(self.devices),
            probing=Probing(lambda port, heard: SocketInside(name, port, heard)),
        )
        self._life = asyncio.create_task(self.agent.run())

    async def stop(self) -> None:
        if self.agent is not None and self._life is not None:
            self.agent.stop()
            await self._life
        self.agent = self._life = None

    async def ping(self, other: Host, timeout: float = 0.3) -> bool:
        arguments = ("ping", "-c1", f"-W{timeout}", other.address)
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.namespace, *arguments, stdout=asyncio.subprocess.DEVNULL
        )
        return await process.wait() == 0

    @asynccontextmanager
    async def pinging(self, other: Host, pause: float = 0.05) -> AsyncIterator[Pings]:
        """A ping every so many seconds."""
        arguments = ["ping", "-D", f"-i{pause}", other.address]
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.namespace, "stdbuf", "-oL", *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        pings = Pings()
        reading = asyncio.create_task(pings.read(process.stdout))
        try:
            await wait_until(lambda: len(pings.times) > 3, what="the first replies")
            yield pings
        finally:
            process.kill()
            await process.wait()
            await reading


class Pings:
    """When the reply to each ping came, in seconds since 1970."""

    def __init__(self) -> None:
        self.times: dict[int, float] = {}

    async def read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            if found := re.match(r"\[([\d.]+)\] .* icmp_seq=(\d+) ", line.decode()):
                self.times[int(found[2])] = float(found[1])

    async def heard_after(self, moment: float, count: int = 5) -> float:
        """When the first reply came after a moment; waits until several have."""
        await wait_until(lambda: sum(t > moment for t in self.times.values()) >= count, what="replies")
        return min(t for t in self.times.values() if t > moment)

    def lost_since(self, sequence: int) -> int:
        """How many pings after this one have no reply, though a later one has."""
        newest = max(self.times)
        return sum(number not in self.times for number in range(sequence + 1, newest))


class Stage:
    """The machines, the wire, and a gateway that says what a test wants."""

    def __init__(self, gateway: FakeGateway, wire: str, network_id: UUID) -> None:
        self.gateway = gateway
        self.network_id = network_id
        self.interface = interface_name(network_id)
        self.hosts: list[Host] = []
        self._wire = wire
        self._cuts: set[frozenset[str]] = set()

    async def add(self, stack: AsyncExitStack, url: str, folder: Path) -> Host:
        number = len(self.hosts) + 1
        devices = stack.enter_context(closing(Alone(stack.enter_context(namespace()))))
        host = Host(number, devices, folder / f"m{number}", url)
        there = f"vp{uuid4().hex[:8]}"
        wire, name = self._wire, host.namespace
        command("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", there, "netns", wire)
        command("ip", "link", "set", there, "master", "bridge0", "up", namespace=wire)
        command("ip", "address", "add", f"{host.outer}/24", "dev", "eth0", namespace=name)
        command("ip", "link", "set", "eth0", "up", namespace=name)
        host.start()
        stack.push_async_callback(host.stop)
        await wait_until(lambda: self.gateway.model.is_known(host.machine_id))
        await self.gateway.say(self.gateway.model.assign(self.network_id, host.machine_id, host.address))
        await wait_until(lambda: self.own(host), what="the announcement")
        self.hosts.append(host)
        return host

    def own(self, host: Host) -> PeerRecord | None:
        body = self.gateway.model.body(network_peer(self.network_id, host.machine_id))
        return body if isinstance(body, PeerRecord) else None

    def cut(self, one: Host, other: Host) -> None:
        self._cuts.add(frozenset((one.outer, other.outer)))
        self._apply()

    def mend(self, one: Host, other: Host) -> None:
        self._cuts.discard(frozenset((one.outer, other.outer)))
        self._apply()

    def _apply(self) -> None:
        pairs = [(a, b) for cut in self._cuts for a, b in (sorted(cut), sorted(cut, reverse=True))]
        rules = "\n".join(f"ip saddr {a} ip daddr {b} drop" for a, b in pairs)
        chain = f"chain forward {{ type filter hook forward priority 0; policy accept;\n{rules}\n}}"
        text = f"table bridge cuts\ndelete table bridge cuts\ntable bridge cuts {{\n{chain}\n}}\n"
        subprocess.run(["ip", "netns", "exec", self._wire, "nft", "-f", "-"], input=text, text=True, check=True)

    async def lead(self, one: Host, other: Host, *ways: tuple[Host, ...]) -> None:
        """Have both ends told of these ways; none: that there need be none."""
        for here, there, turn in ((one, other, 1), (other, one, -1)):
            subject = path(here.machine_id, self.network_id, there.machine_id)
            body = PathRecord(
                network_id=self.network_id,
                machine_id=here.machine_id,
                peer_id=there.machine_id,
                ways=tuple(tuple(transit.machine_id for transit in way)[::turn] for way in ways),
            )
            await self.gateway.say([self.gateway.model.put(subject, body if ways else None)])

    async def relay(self, transit: Host, following: Host, *behind: tuple[Host, Host]) -> None:
        """Tell a transit that these machines, each with the transit next to it, are behind another."""
        body = RelayRecord(
            network_id=self.network_id,
            machine_id=transit.machine_id,
            peer_id=following.machine_id,
            behind=tuple((machine.machine_id, via.machine_id) for machine, via in behind),
        )
        subject = relay(transit.machine_id, self.network_id, following.machine_id)
        await self.gateway.say([self.gateway.model.put(subject, body)])

    async def set_transit(self, host: Host, mode: TransitMode) -> None:
        """Decide whether others' traffic may go through a machine."""
        body = self.gateway.model.body(machine_info(host.machine_id))
        assert isinstance(body, MachineRecord)
        changed = body.model_copy(update={"transit": mode})
        await self.gateway.say([self.gateway.model.put(machine_info(host.machine_id), changed)])

    def forget_interface(self, host: Host) -> None:
        """Take a machine's interface away, as when it starts."""
        host.devices.remove(self.interface)

    def device(self, host: Host) -> Device:
        device = host.devices.read(self.interface)
        assert device is not None
        return device

    def endpoint(self, here: Host, there: Host) -> str:
        """Where one sends the other's packets."""
        own = self.own(there)
        assert own is not None
        peer = self.device(here).peers.get(own.public_key)
        return (peer.endpoint or "") if peer else ""

    def reported(self, here: Host, there: Host) -> str:
        """What one last reported of its link to the other."""
        said = [
            link.state
            for machine_id, report in self.gateway.reports
            if machine_id == here.machine_id
            for link in report.links
            if link.peer_id == there.machine_id
        ]
        return said[-1] if said else ""

    async def all_direct(self) -> None:
        """Wait until each has reported each as direct."""
        pairs = [(a, b) for a in self.hosts for b in self.hosts if a is not b]
        await wait_until(lambda: all(self.reported(a, b) == "direct" for a, b in pairs), what="direct links")


@asynccontextmanager
async def staged(bus_url: str, folder: Path, count: int) -> AsyncIterator[Stage]:
    """So many machines, whose agents run."""
    async with AsyncExitStack() as stack:
        client = await connect(bus_url, "fake gateway")
        stack.push_async_callback(client.close)
        gateway = FakeGateway(client)
        await gateway.start()
        wire = stack.enter_context(namespace())
        command("ip", "link", "add", "bridge0", "type", "bridge", namespace=wire)
        command("ip", "link", "set", "bridge0", "up", namespace=wire)
        stage = Stage(gateway, wire, uuid4())
        gateway.model.create_network(stage.network_id, "office", "172.20.0.0/24")
        for _ in range(count):
            await stage.add(stack, bus_url, folder)
        yield stage
