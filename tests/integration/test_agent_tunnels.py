"""What an agent tells of its tunnels when it is hinted at: over a real bus, of interfaces in memory and real ones."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from agent import tunnels
from agent.device import Device, DeviceError, Peer
from agent.recording import RecordingDevices
from events.bus import connect
from events.subjects import live_of, look, machine_info
from events.tunnels import APART, TunnelPart
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned
from tests.support.stage import staged
from tests.support.waiting import wait_until


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[Client]:
    client = await connect(bus_url, "test")
    yield client
    await client.close()


@pytest.fixture
async def gateway(client: Client) -> FakeGateway:
    gateway = FakeGateway(client)
    await gateway.start()
    gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
    return gateway


async def hint(gateway: FakeGateway, machine: Machine, said: bytes = b"") -> None:
    await gateway.client.publish(look(machine.machine_id), said)
    await gateway.client.flush()


def told(gateway: FakeGateway) -> list[TunnelPart]:
    return [part for _, part in gateway.tunnels]


async def test_it_tells_what_its_interfaces_show_when_it_is_hinted_at_and_only_then(
    gateway: FakeGateway, bus_url: str
) -> None:
    machine = Machine(bus_url)
    (peer_id,) = await add_peers(gateway, range(2, 3))
    async with machine.running():
        await assigned(gateway, machine)
        assert not gateway.tunnels
        found = machine.devices._interfaces[NAME].peers
        (key,) = found
        found[key] = Peer(found[key].allowed_ips, "192.0.2.2:51820", last_handshake=time.time() - 7, rx_bytes=5)
        found["of nobody"] = Peer(endpoint="192.0.2.66:1")
        await hint(gateway, machine)
        await wait_until(lambda: gateway.tunnels)
        (part,) = told(gateway)
        (tunnel,) = part.tunnels
        (peer,) = tunnel.peers
        assert (tunnel.network_id, tunnel.interface, tunnel.backend, tunnel.state) == (NETWORK, NAME, "recording", "up")
        assert (peer.machine_id, peer.endpoint, peer.rx_bytes) == (peer_id, "192.0.2.2:51820", 5)
        assert peer.handshake is not None
        assert 7 <= peer.handshake < 8
    assert len(gateway.tunnels) == 1


async def test_hints_without_end_are_answered_once_a_second_and_are_no_records(
    gateway: FakeGateway, bus_url: str
) -> None:
    machine = Machine(bus_url)
    async with machine.running() as agent:
        await assigned(gateway, machine)
        tombstone = b'{"revision":99,"previous":1,"cause":1,"time":"2026-01-01T00:00:00Z","body":null}'
        syncs = gateway.asked.count(("sync", machine.machine_id))
        begun = time.monotonic()
        while time.monotonic() < begun + 2.2 * APART:
            for said in (b"", b"{", tombstone, b"x" * 10_000):
                await hint(gateway, machine, said)
        count = len(gateway.tunnels)
        assert 2 <= count <= 3
        await wait_until(lambda: len(gateway.tunnels) == count + 1, what="the last hint is answered")
        counters = [part.counter for part in told(gateway)]
        assert counters == list(range(1, count + 2))
        assert not agent._context.belief.refusals.counts
        assert gateway.asked.count(("sync", machine.machine_id)) == syncs
        assert machine.devices.interfaces() == [NAME]
        # What is said anywhere else in its scope is taken for a record, and refused.
        await gateway.client.publish(f"{look(machine.machine_id)}ed", b"{")
        await gateway.client.publish(live_of(machine_info(machine.machine_id)), b"{")
        await gateway.client.flush()
        await wait_until(lambda: sum(agent._context.belief.refusals.counts.values()) == 2, what="refusals")


class Slow(RecordingDevices):
    """Devices that take a while, as where there are thousands of peers, or do not let themselves be read."""

    effort = 0.0
    fault = ""

    def read(self, interface: str) -> Device | None:
        if self.fault:
            raise DeviceError(self.fault)
        until = time.thread_time() + self.effort
        while time.thread_time() < until:
            pass
        return super().read(interface)


async def test_costly_interfaces_are_read_seldom_and_told_again(
    gateway: FakeGateway, bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels, "APART", 0.05)
    devices = Slow()
    machine = Machine(bus_url, devices=devices)
    async with machine.running():
        await assigned(gateway, machine)
        devices.effort = 0.1
        for count in range(1, 4):
            await hint(gateway, machine)
            await wait_until(lambda count=count: len(gateway.tunnels) >= count)  # type: ignore[misc]
        first, second, third = told(gateway)[:3]
        assert first.age < second.age < third.age
        assert first.tunnels == second.tunnels == third.tunnels
        devices.effort = 0.0

        async def is_read_again() -> bool:
            await hint(gateway, machine)
            return told(gateway)[-1].age < third.age

        await wait_until(is_read_again, what="it is read anew")


async def test_an_interface_that_cannot_be_read_is_told_as_such(gateway: FakeGateway, bus_url: str) -> None:
    devices = Slow()
    machine = Machine(bus_url, devices=devices)
    async with machine.running():
        await assigned(gateway, machine)
        devices.fault = "It is not allowed."
        await hint(gateway, machine)
        await wait_until(lambda: gateway.tunnels)
        assert [tunnel.state for tunnel in told(gateway)[0].tunnels] == ["unreadable"]
        devices.fault = ""
        devices.remove(NAME)
        await hint(gateway, machine)
        await wait_until(lambda: len(gateway.tunnels) == 2)
        assert [tunnel.state for tunnel in told(gateway)[1].tunnels] in (["missing"], ["up"])


async def test_a_hint_that_waited_for_too_long_is_not_answered(
    gateway: FakeGateway, bus_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tunnels, "LOOK_COUNTS_FOR", -1.0)
    machine = Machine(bus_url)
    async with machine.running() as agent:
        await assigned(gateway, machine)
        await hint(gateway, machine)
        await wait_until(lambda: agent._tunnels._told_at > 0, what="it has looked")
        await gateway.client.flush()
    assert not gateway.tunnels


@pytest.mark.lab
async def test_real_tunnels_show_their_handshakes_and_traffic(bus_url: str, tmp_path: Path) -> None:
    async with staged(bus_url, tmp_path, 2) as stage:
        await stage.all_direct()
        left, right = stage.hosts
        await wait_until(lambda: left.ping(right), what="a reply")
        stage.gateway.tunnels.clear()
        await stage.gateway.client.publish(look(left.machine_id))
        await wait_until(lambda: stage.gateway.tunnels, what="what it tells")
        machine_id, part = stage.gateway.tunnels[0]
        (tunnel,) = part.tunnels
        (peer,) = tunnel.peers
        assert (machine_id, peer.machine_id) == (left.machine_id, right.machine_id)
        assert (tunnel.backend, tunnel.state, tunnel.mtu) == ("wireguard-go", "up", stage.device(left).mtu)
        assert tunnel.listen_port == stage.device(left).listen_port
        assert peer.endpoint.startswith(right.outer)
        assert peer.handshake is not None
        assert peer.handshake < 30
        assert min(peer.rx_bytes, peer.tx_bytes) > 100
