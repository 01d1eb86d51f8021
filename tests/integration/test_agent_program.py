"""The program `wireloom-agent` as a process in a network namespace, with wireguard-go."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from events.bus import connect
from events.interfaces import interface_name
from events.records import PeerRecord
from events.subjects import network_peer
from services.cli.embedded import EmbeddedServer
from tests.support.device_contract import a_key
from tests.support.fake_gateway import FakeGateway
from tests.support.namespaces import command, enter, namespace
from tests.support.waiting import wait_until

pytestmark = pytest.mark.lab

PROGRAM = (sys.executable, "-m", "agent.main")


class World:
    """A namespace with a bus, a gateway and one machine in it."""

    def __init__(self, name: str, folder: Path, bus: EmbeddedServer, gateway: FakeGateway) -> None:
        self.namespace = name
        self.state_dir = folder / "state"
        self.bus = bus
        self.gateway = gateway
        self.network_id = uuid4()
        self.interface = interface_name(self.network_id)
        self.machine_id = uuid4()

    @contextmanager
    def agent(self, *options: str) -> Iterator[subprocess.Popen[bytes]]:
        arguments = ["run", "--nats", self.bus.url, "--state-dir", str(self.state_dir), "--hostname", "db-1"]
        arguments += ["--machine-id", str(self.machine_id), "--backend", "wireguard-go", "--no-bgp", *options]
        process = subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.DEVNULL)
        try:
            yield process
        finally:
            process.kill()
            process.wait()

    def program(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        whole = [*PROGRAM, arguments[0], "--state-dir", str(self.state_dir), *arguments[1:]]
        return subprocess.run(whole, capture_output=True, text=True, check=False, timeout=30)

    def wg(self, what: str) -> str:
        return command("wg", "show", self.interface, what, check=False)

    def own(self) -> PeerRecord | None:
        body = self.gateway.model.body(network_peer(self.network_id, self.machine_id))
        return body if isinstance(body, PeerRecord) else None


@pytest.fixture
def in_world(tmp_path: Path) -> Iterator[Callable[[Callable[[World], Awaitable[None]]], None]]:
    """Runs a coroutine function inside a fresh namespace, with what lives there."""
    with namespace() as name, ThreadPoolExecutor(1, initializer=enter, initargs=(name,)) as thread:

        async def live(story: Callable[[World], Awaitable[None]]) -> None:
            command("ip", "link", "add", "lan0", "type", "bridge")
            command("ip", "address", "add", "192.0.2.1/24", "dev", "lan0")
            command("ip", "link", "add", "cable0", "type", "veth", "peer", "name", "cable1")
            command("ip", "link", "set", "cable0", "master", "lan0")
            for link in ("lan0", "cable0", "cable1"):
                command("ip", "link", "set", link, "up")
            bus = EmbeddedServer(tmp_path / "bus", port=0)
            try:
                await bus.start()
                client = await connect(bus.url, "fake gateway")
                gateway = FakeGateway(client)
                await gateway.start()
                await story(World(name, tmp_path, bus, gateway))
                await client.close()
            finally:
                await bus.stop()

        yield lambda story: thread.submit(asyncio.run, live(story)).result()


async def join(world: World) -> None:
    model = world.gateway.model
    model.create_network(world.network_id, "office", "172.20.0.0/24")
    for number in range(2, 5):
        model.assign(world.network_id, UUID(int=number), f"172.20.0.{number}")
        model.announce(world.network_id, UUID(int=number), a_key(), (f"192.0.2.{number}:51820",))
    await wait_until(lambda: model.is_known(world.machine_id), what="the registration")
    await world.gateway.say(model.assign(world.network_id, world.machine_id, "172.20.0.1"))
    await wait_until(lambda: len(world.wg("peers").split()) == 3, what="the peers")
    await wait_until(world.own, what="the announcement")


def test_its_whole_life(in_world: Callable[[Callable[[World], Awaitable[None]]], None]) -> None:
    in_world(whole_life)


async def whole_life(world: World) -> None:
    with world.agent() as process:
        await join(world)
        await wait_until(lambda: "(none)" not in world.wg("endpoints"), what="peers are tried that no probe has found")
        assert "172.20.0.0/24" in command("ip", "route", "show", "dev", world.interface)
        status = json.loads(world.program("status", "--json").stdout)
        assert status["is_running"] is True
        (network,) = status["networks"]
        assert (network["name"], network["address"], network["is_up"]) == ("office", "172.20.0.1", True)
        assert network["backend"] == "wireguard-go"
        assert [peer["endpoint"] for peer in network["peers"]] == [f"192.0.2.{n}:51820" for n in (2, 3, 4)]
        shown = world.program("status").stdout
        assert "office" in shown
        assert "does not run" not in shown
        assert "192.0.2.3:51820" in shown
        running = world.program("leave")
        assert running.returncode != 0
        assert "Stop it first" in running.stderr
        key = world.wg("private-key")
        assert key.strip() not in shown + running.stderr + json.dumps(status)

        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 10) == 0
    await wait_until(lambda: world.gateway.beats and world.gateway.beats[-1][1].leaving)
    assert world.wg("private-key") == key
    assert "the agent does not run" in world.program("status").stdout

    with world.agent() as process:
        model = world.gateway.model
        await world.gateway.say(model.unassign(world.network_id, UUID(int=2)))
        await wait_until(lambda: len(world.wg("peers").split()) == 2, what="one peer less")
        assert world.wg("private-key") == key
        process.kill()
        process.wait()
        assert len(world.wg("peers").split()) == 2

    left = world.program("leave")
    assert left.returncode == 0, left.stderr
    assert world.interface not in command("ip", "link")
    assert not world.state_dir.exists()
    assert world.program("status").returncode != 0


def test_it_announces_where_it_moves(in_world: Callable[[Callable[[World], Awaitable[None]]], None]) -> None:
    in_world(moving)


async def moving(world: World) -> None:
    with world.agent("--endpoint", "203.0.113.9"):
        await join(world)
        own = world.own()
        assert own is not None
        port = own.endpoints[0].rpartition(":")[2]
        assert own.endpoints == (f"203.0.113.9:{port}", f"192.0.2.1:{port}")
        command("ip", "address", "add", "198.51.100.7/24", "dev", "lan0")
        command("ip", "address", "add", "2001:db8::7/64", "dev", "lan0", "nodad")
        expected = {f"203.0.113.9:{port}", f"192.0.2.1:{port}", f"198.51.100.7:{port}", f"[2001:db8::7]:{port}"}
        await wait_until(lambda: set(world.own().endpoints) == expected, what="the new endpoints")  # type: ignore[union-attr]
        command("ip", "address", "del", "192.0.2.1/24", "dev", "lan0")
        expected.remove(f"192.0.2.1:{port}")
        await wait_until(lambda: set(world.own().endpoints) == expected, what="fewer endpoints")  # type: ignore[union-attr]
        command("ip", "link", "set", world.interface, "mtu", "1300")
        await wait_until(lambda: "mtu 1420" in command("ip", "link", "show", world.interface), what="the repair")
