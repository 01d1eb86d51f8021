"""A whole agent on a real bus, with recorded interfaces and a gateway that answers from a model."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest

from agent.context import Options
from agent.device import Changes, PeerChange, Route
from agent.keys import public_key
from agent.store import DiskStore
from events.bus import connect
from events.errors import InvalidNameError
from services.cli.embedded import EmbeddedServer
from tests.support.device_contract import a_key
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned, has_right_peers, own_record
from tests.support.state_model import StateModel
from tests.support.waiting import wait_until


@pytest.fixture
async def gateway(bus_url: str) -> AsyncIterator[FakeGateway]:
    client = await connect(bus_url, "fake gateway")
    gateway = FakeGateway(client, StateModel(page=3))
    await gateway.start()
    gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
    try:
        yield gateway
    finally:
        await client.close()


async def test_it_joins_follows_and_leaves(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    await add_peers(gateway, range(2, 12))
    async with machine.running() as agent:
        await assigned(gateway, machine)
        device = machine.devices.read(NAME)
        assert device is not None
        assert (device.addresses, device.routes, device.mtu) == ({"172.20.0.200/32"}, {Route("172.20.0.0/24")}, 1420)
        assert device.private_key is not None
        own = own_record(gateway, machine)
        assert own is not None
        assert own.public_key == public_key(device.private_key)
        assert own.endpoints == (f"192.0.2.10:{device.listen_port}",)

        await add_peers(gateway, range(12, 20))
        await wait_until(lambda: has_right_peers(gateway, machine))
        await gateway.say(gateway.model.unassign(NETWORK, UUID(int=5)))
        await wait_until(lambda: has_right_peers(gateway, machine))
        assert len(machine.devices.peers(NAME)) == 17

        await gateway.say(gateway.model.unassign(NETWORK, machine.machine_id))
        await wait_until(lambda: not machine.devices.interfaces())
        await wait_until(lambda: not agent.networks)


async def test_one_join_costs_one_change(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    await add_peers(gateway, range(2, 30))
    async with machine.running():
        await assigned(gateway, machine)
        before, peers = machine.devices.applied, dict(machine.devices.peers(NAME))
        await add_peers(gateway, range(30, 31))
        await wait_until(lambda: has_right_peers(gateway, machine))
        assert machine.devices.applied == before + 1
        assert all(machine.devices.peers(NAME)[key] is peer for key, peer in peers.items())


async def test_what_was_missed_is_fetched(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    async with machine.running():
        await assigned(gateway, machine)
        gateway.is_deaf_live = True
        await add_peers(gateway, range(2, 20))
        await gateway.say(gateway.model.unassign(NETWORK, UUID(int=3)))
        assert not machine.devices.peers(NAME)
        gateway.is_deaf_live = False
        await add_peers(gateway, range(20, 21))
        await wait_until(lambda: has_right_peers(gateway, machine))
        assert len(machine.devices.peers(NAME)) == 18


async def test_a_deleted_network_is_left(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    async with machine.running():
        await assigned(gateway, machine)
        await gateway.say(gateway.model.delete_network(NETWORK))
        await wait_until(lambda: not machine.devices.interfaces())


async def test_a_network_deleted_unheard_is_left(gateway: FakeGateway, bus_url: str, tmp_path: Path) -> None:
    machine = Machine(bus_url, store=lambda: DiskStore(tmp_path / "state"))
    async with machine.running():
        await assigned(gateway, machine)
    gateway.model.delete_network(NETWORK)
    async with machine.running() as agent:
        await wait_until(lambda: not machine.devices.interfaces())
        await wait_until(lambda: not agent.networks)
    store = DiskStore(tmp_path / "state")
    assert store.tunnel(NETWORK) is None
    assert not store.records(f"network:{NETWORK}")
    store.close()


async def test_a_gateway_behind_the_times_is_not_believed(gateway: FakeGateway, bus_url: str) -> None:
    """A gateway that does not know the network yet must not make the machine leave it."""
    machine = Machine(bus_url)
    async with machine.running():
        await assigned(gateway, machine)
        present, gateway.model = gateway.model, StateModel()
        gateway.model.register(machine.machine_id, "db-1")
        gateway.asked.clear()
        for entry in await_said(present, uuid4()):
            await gateway.say([entry])
        await wait_until(lambda: len([verb for verb, _ in gateway.asked if verb == "sync"]) >= 3)
        assert machine.devices.interfaces() == [NAME]
        gateway.model = present
        await wait_until(lambda: has_right_peers(gateway, machine))


def await_said(model: StateModel, machine_id: UUID):  # type: ignore[no-untyped-def]
    """A join of which only the second message is heard, so that the listener has to ask."""
    model.assign(NETWORK, machine_id, "172.20.0.150")
    model.announce(NETWORK, machine_id, a_key(), ())
    return model.announce(NETWORK, machine_id, a_key(), ())


async def test_a_deleted_machine_leaves_everything(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    async with machine.running():
        await assigned(gateway, machine)
        gateway.model.unassign(NETWORK, machine.machine_id)
        await gateway.say(gateway.model.delete_machine(machine.machine_id))
        await wait_until(lambda: not machine.devices.interfaces())


async def test_another_address_makes_another_interface(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    await add_peers(gateway, range(2, 5))
    async with machine.running():
        await assigned(gateway, machine)
        await gateway.say(gateway.model.unassign(NETWORK, machine.machine_id))
        await assigned(gateway, machine, "172.20.0.201")
        await wait_until(lambda: machine.devices.read(NAME).addresses == {"172.20.0.201/32"})  # type: ignore[union-attr]


async def test_it_starts_from_disk_without_a_control_plane(gateway: FakeGateway, bus_url: str, tmp_path: Path) -> None:
    machine = Machine(bus_url, store=lambda: DiskStore(tmp_path / "state"))
    await add_peers(gateway, range(2, 12))
    async with machine.running():
        await assigned(gateway, machine)
        before = machine.devices.read(NAME)
    assert machine.devices.read(NAME) == before, "an agent that ends leaves its tunnels up"

    rebooted = Machine("nats://127.0.0.1:1", machine.machine_id, store=machine.store, surroundings=machine.surroundings)
    async with rebooted.running():
        assert rebooted.devices.read(NAME) == before

    async with machine.running():
        applied = machine.devices.applied
        await add_peers(gateway, range(12, 13))
        await wait_until(lambda: has_right_peers(gateway, machine))
        assert machine.devices.applied == applied + 1, "a restart changes nothing that is as it should be"


async def test_the_state_is_readable_by_its_owner_only(gateway: FakeGateway, bus_url: str, tmp_path: Path) -> None:
    machine = Machine(bus_url, store=lambda: DiskStore(tmp_path / "state"))
    async with machine.running():
        await assigned(gateway, machine)
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
        for path in (tmp_path / "state").iterdir():
            assert path.stat().st_mode & 0o077 == 0, path


async def test_a_lost_bus_tears_nothing_down(
    bus_server: EmbeddedServer, gateway: FakeGateway, bus_url: str, tmp_path: Path
) -> None:
    machine = Machine(bus_url)
    await add_peers(gateway, range(2, 5))
    async with machine.running():
        await assigned(gateway, machine)
        before = machine.devices.read(NAME)
        await bus_server.stop()
        await wait_until(lambda: not gateway.client.is_connected)
        assert machine.devices.read(NAME) == before
        gateway.model.unassign(NETWORK, UUID(int=2))
        back = EmbeddedServer(tmp_path / "back", port=urlsplit(bus_url).port or 0)
        await back.start()
        try:
            await wait_until(lambda: has_right_peers(gateway, machine))
            assert len(machine.devices.peers(NAME)) == 2
        finally:
            await back.stop()


async def test_edits_by_others_are_repaired(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url, options=Options("db-1", reconcile_interval=0.05))
    await add_peers(gateway, range(2, 6))
    async with machine.running():
        await assigned(gateway, machine)
        foreign = a_key()
        machine.devices.apply(
            NAME,
            Changes(
                mtu=1300,
                remove_addresses=frozenset({"172.20.0.200/32"}),
                peers=(PeerChange(foreign, add_allowed_ips=frozenset({"172.20.0.2/32"})),),
            ),
        )
        await wait_until(lambda: has_right_peers(gateway, machine))
        await wait_until(lambda: machine.devices.read(NAME).addresses == {"172.20.0.200/32"})  # type: ignore[union-attr]
        machine.devices.remove(NAME)
        await wait_until(lambda: has_right_peers(gateway, machine))


async def test_a_taken_port_is_replaced_and_announced(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    machine.devices.taken_ports = set(range(51820, 52820, 2))
    async with machine.running():
        await assigned(gateway, machine)
        port = machine.devices.read(NAME).listen_port  # type: ignore[union-attr]
        assert port % 2 == 1
        assert own_record(gateway, machine).endpoints == (f"192.0.2.10:{port}",)  # type: ignore[union-attr]


async def test_a_refusal_is_not_the_end(gateway: FakeGateway, bus_url: str) -> None:
    gateway.refusal = InvalidNameError("no", hint="yes")
    gateway.model.register(UUID(int=77), "db-1")
    machine = Machine(bus_url, UUID(int=77))
    async with machine.running():
        await gateway.say(gateway.model.assign(NETWORK, machine.machine_id, "172.20.0.200"))
        await wait_until(machine.devices.interfaces)
        await wait_until(lambda: ("membership", machine.machine_id) in gateway.asked)


async def test_heartbeats_and_goodbye(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    async with machine.running():
        await wait_until(lambda: len(gateway.beats) >= 3)
    await wait_until(lambda: gateway.beats[-1][1].leaving)
    counters = [beat.counter for _, beat in gateway.beats]
    assert counters == sorted(set(counters))
    assert len({beat.boot_id for _, beat in gateway.beats}) == 1


async def test_it_is_seen_as_soon_as_it_is_known(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url, options=Options("db-1", beat_interval=60))
    async with machine.running():
        await wait_until(lambda: gateway.model.is_known(machine.machine_id))
        await wait_until(lambda: gateway.beats, what="a heartbeat")


async def test_down_on_exit(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url, options=Options("db-1", down_on_exit=True))
    async with machine.running():
        await assigned(gateway, machine)
    assert not machine.devices.interfaces()


async def test_many_agents_live_in_one_process(gateway: FakeGateway, bus_url: str) -> None:
    machines = [Machine(bus_url) for _ in range(30)]
    async with AsyncExitStack() as stack:
        for machine in machines:
            await stack.enter_async_context(machine.running())
        for number, machine in enumerate(machines, start=100):
            await wait_until(lambda machine=machine: gateway.model.is_known(machine.machine_id))  # type: ignore[misc]
            await gateway.say(gateway.model.assign(NETWORK, machine.machine_id, f"172.20.0.{number}"))
        await wait_until(lambda: len(gateway.model.members(NETWORK)) == 30)
        for machine in machines:
            await wait_until(lambda machine=machine: has_right_peers(gateway, machine))  # type: ignore[misc]


async def test_an_unforeseen_fault_ends_it_and_leaves_the_tunnels(gateway: FakeGateway, bus_url: str) -> None:
    machine = Machine(bus_url)
    with contextlib.suppress(ExceptionGroup):
        async with machine.running():
            await assigned(gateway, machine)

            def fail(interface: str, changes: Changes) -> None:
                raise RuntimeError("unforeseen")

            machine.devices.apply = fail  # type: ignore[method-assign]
            await gateway.say(gateway.model.announce(NETWORK, machine.machine_id, a_key(), ()))
            await add_peers(gateway, range(2, 3))
    assert machine.devices.interfaces() == [NAME]
