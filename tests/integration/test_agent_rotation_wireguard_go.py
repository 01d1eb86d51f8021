"""What a new WireGuard key costs those who talk meanwhile: three machines in namespaces, with wireguard-go."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import dataclass
from ipaddress import ip_interface
from itertools import pairwise
from uuid import UUID, uuid4

import pytest

from agent.access import open_bus
from agent.agent import Agent
from agent.context import Options
from agent.desired import Locality
from agent.device import Changes
from agent.keys import public_key
from agent.store import MemoryStore
from agent.surroundings import FixedSurroundings
from agent.wireguard_go import SOCKET_FOLDER
from events.bus import connect
from events.interfaces import interface_name
from events.records import MembershipRecord, PeerRecord
from events.subjects import machine_membership, network_peer
from tests.integration.test_agent_wireguard_go import Inside
from tests.support.fake_gateway import FakeGateway
from tests.support.namespaces import command, hide, namespace
from tests.support.waiting import wait_until

pytestmark = [pytest.mark.lab, pytest.mark.timed]

RETRY = 5.0 + 0.334 + 0.7
"""WireGuard's Rekey-Timeout with its jitter, and what a busy machine adds."""

PAUSE = 0.2


class Alone(Inside):
    """Sees only its own control sockets: interfaces have the same name on every machine of a network."""

    def __init__(self, namespace_name: str) -> None:
        super().__init__(namespace_name)
        self.thread.submit(hide, SOCKET_FOLDER).result()
        self.may_change = threading.Event()
        """While it is not set, changes wait."""
        self.may_change.set()

    def apply(self, interface: str, changes: Changes) -> None:
        assert self.may_change.wait(30)
        super().apply(interface, changes)


@dataclass
class Host:
    """A machine with a running agent, in a namespace of its own."""

    machine_id: UUID
    address: str
    devices: Alone

    @property
    def namespace(self) -> str:
        return self.devices.namespace

    @asynccontextmanager
    async def pinging(self, other: Host) -> AsyncIterator[Pings]:
        arguments = ["ping", "-D", f"-i{PAUSE}", other.address]
        process = await asyncio.create_subprocess_exec(
            "ip", "netns", "exec", self.namespace, "stdbuf", "-oL", *arguments, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        pings = Pings()
        reading = asyncio.create_task(pings.read(process.stdout))
        try:
            await wait_until(lambda: len(pings.replies) > 3, what="the first replies")
            yield pings
        finally:
            process.kill()
            await process.wait()
            await reading


class Pings:
    """What came back: for each ping when it did, and how long that took, in seconds."""

    def __init__(self) -> None:
        self.replies: dict[int, tuple[float, float]] = {}

    async def read(self, lines: asyncio.StreamReader) -> None:
        while line := await lines.readline():
            if found := re.match(r"\[([\d.]+)\] .* icmp_seq=(\d+) .* time=([\d.]+) ms", line.decode()):
                self.replies[int(found[2])] = float(found[1]), float(found[3]) / 1000

    @property
    def outage(self) -> float:
        """The longest time in seconds for which nothing came through: a ping that waited until it could be sent came
        through when it came back, whenever it was sent."""
        times = sorted(when for when, _ in self.replies.values())
        return max(later - sooner for sooner, later in pairwise(times)) - PAUSE

    @property
    def lost(self) -> int:
        """How many that were followed by a reply got none."""
        return max(self.replies) - min(self.replies) + 1 - len(self.replies)


class Mesh:
    """Three machines on one network underneath, in one network of Wireloom's, and their gateway."""

    def __init__(self, gateway: FakeGateway, network_id: UUID) -> None:
        self.gateway = gateway
        self.network_id = network_id
        self.interface = interface_name(network_id)
        self.hosts: list[Host] = []

    async def add(self, stack: AsyncExitStack, url: str, wire: str) -> None:
        number = len(self.hosts) + 1
        devices = stack.enter_context(closing(Alone(stack.enter_context(namespace()))))
        plug(wire, devices.namespace, f"192.0.2.{number}/24")
        host = Host(UUID(int=number), f"172.20.0.{number}", devices)
        here = Locality((ip_interface(f"192.0.2.{number}/24"),), frozenset({4}))
        agent = Agent(
            host.machine_id,
            Options(f"m{number}", "0.1.0"),
            connect=open_bus(url, f"m{number}", host.machine_id),
            devices=Closable(devices),
            store=MemoryStore(),
            surroundings=FixedSurroundings(here),
        )
        life = asyncio.create_task(agent.run())

        async def end() -> None:
            agent.stop()
            await life

        stack.push_async_callback(end)
        await wait_until(lambda: self.gateway.model.is_known(host.machine_id))
        await self.gateway.say(self.gateway.model.assign(self.network_id, host.machine_id, host.address))
        await wait_until(lambda: self.own(host), what="the announcement")
        self.hosts.append(host)

    def own(self, host: Host) -> PeerRecord | None:
        body = self.gateway.model.body(network_peer(self.network_id, host.machine_id))
        return body if isinstance(body, PeerRecord) else None

    async def rotate(self, host: Host) -> None:
        """Ask for a new key, and wait until it is in use everywhere."""
        subject = machine_membership(host.machine_id, self.network_id)
        membership, own = self.gateway.model.body(subject), self.own(host)
        assert isinstance(membership, MembershipRecord)
        assert own is not None
        wanted = membership.model_copy(update={"key_generation": membership.key_generation + 1})
        await self.gateway.say([self.gateway.model.put(subject, wanted)])
        await wait_until(lambda: self.uses_another(host, own.public_key), what="the new key on the interface")
        for other in self.hosts:
            if other is not host:
                await wait_until(lambda other=other: self.handshake(other, host), what="a handshake")  # type: ignore[misc]

    def uses_another(self, host: Host, old: str) -> bool:
        device, own = host.devices.read(self.interface), self.own(host)
        assert device is not None
        assert device.private_key is not None
        assert own is not None
        return public_key(device.private_key) == own.public_key != old

    def knows(self, here: Host, there: Host, old: str) -> bool:
        """Whether one's interface has another key of the other than the old one."""
        device, own = here.devices.read(self.interface), self.own(there)
        assert device is not None
        return own is not None and own.public_key != old and own.public_key in device.peers

    def handshake(self, here: Host, there: Host) -> float:
        """When two last shook hands; 0 for never."""
        device, own = here.devices.read(self.interface), self.own(there)
        assert device is not None
        peer = device.peers.get(own.public_key) if own else None
        return peer.last_handshake if peer else 0.0


class Closable:
    """A backend that its agent may close, while the test still looks at the interfaces."""

    def __init__(self, devices: Alone) -> None:
        self.name, self.blocking = devices.name, devices.blocking
        self.read, self.apply = devices.read, devices.apply
        self.remove, self.interfaces = devices.remove, devices.interfaces

    def close(self) -> None:
        """Stays open."""


def plug(wire: str, name: str, address: str) -> None:
    """Connect a namespace to the bridge in another."""
    there = f"vp{uuid4().hex[:8]}"
    command("ip", "link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", there, "netns", wire)
    command("ip", "link", "set", there, "master", "bridge0", "up", namespace=wire)
    command("ip", "address", "add", address, "dev", "eth0", namespace=name)
    command("ip", "link", "set", "eth0", "up", namespace=name)


@pytest.fixture
async def mesh(bus_url: str) -> AsyncIterator[Mesh]:
    async with AsyncExitStack() as stack:
        client = await connect(bus_url, "fake gateway")
        stack.push_async_callback(client.close)
        gateway = FakeGateway(client)
        await gateway.start()
        mesh = Mesh(gateway, uuid4())
        gateway.model.create_network(mesh.network_id, "office", "172.20.0.0/24")
        wire = stack.enter_context(namespace())
        command("ip", "link", "add", "bridge0", "type", "bridge", namespace=wire)
        command("ip", "link", "set", "bridge0", "up", namespace=wire)
        for _ in range(3):
            await mesh.add(stack, bus_url, wire)
        yield mesh


async def test_talk_goes_on_within_one_retry_and_others_notice_nothing(mesh: Mesh) -> None:
    here, there, third = mesh.hosts
    async with here.pinging(there) as ours, there.pinging(here) as theirs, there.pinging(third) as others:
        before = mesh.handshake(there, third), mesh.handshake(third, there)
        for _ in range(2):
            replies = len(ours.replies), len(theirs.replies)
            await mesh.rotate(here)
            await wait_until(lambda replies=replies: len(ours.replies) > replies[0] + 5, what="replies from there")  # type: ignore[misc]
            await wait_until(lambda replies=replies: len(theirs.replies) > replies[1] + 5, what="replies from here")  # type: ignore[misc]
        assert (mesh.handshake(there, third), mesh.handshake(third, there)) == before
    assert others.lost == 0
    assert others.outage < 1
    for pings in (ours, theirs):
        print(f"both talk: {pings.outage:.2f} s without an answer, {pings.lost} lost")
        assert pings.outage < RETRY
        assert pings.lost <= RETRY / PAUSE


@pytest.mark.parametrize("talker", ["who rotates", "the other"])
@pytest.mark.parametrize("order", ["as it comes", "the other switches first"])
async def test_one_sided_talk_goes_on_within_one_retry(mesh: Mesh, talker: str, order: str) -> None:
    here, there, _ = mesh.hosts
    source, target = (here, there) if talker == "who rotates" else (there, here)
    async with source.pinging(target) as pings:
        rotating = asyncio.create_task(mesh.rotate(here))
        if order == "the other switches first":
            old = mesh.own(here)
            assert old is not None
            here.devices.may_change.clear()
            await wait_until(lambda: mesh.knows(there, here, old.public_key), what="the new key at the other")
            here.devices.may_change.set()
        await rotating
        replies = len(pings.replies)
        await wait_until(lambda: len(pings.replies) > replies + 5, what="replies")
    print(f"{talker} talks, {order}: {pings.outage:.2f} s without an answer, {pings.lost} lost")
    assert pings.outage < RETRY
    assert pings.lost <= RETRY / PAUSE
