"""An agent's access to a secured bus: renewed in time, swapped without a gap, lost and got back."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest

from agent.access import secured_bus as connect_with_access
from agent.store import DiskStore
from events.client import BusClient
from events.errors import MachineRevokedError, UnauthenticatedError, UnavailableError
from events.interfaces import interface_name
from tests.support.device_contract import a_key
from tests.support.fake_door import FakeControlPlane, FakeDoor
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned, has_right_peers, own_record
from tests.support.secured import SecuredBus, secured_bus
from tests.support.state_model import StateModel
from tests.support.waiting import wait_until

SECOND = UUID("22222222-0000-4000-8000-000000000000")


@dataclass
class World:
    """A secured bus with a gateway, and a machine that has enrolled."""

    bus: SecuredBus
    plane: FakeControlPlane
    gateway: FakeGateway
    keeper: BusClient
    door: FakeDoor
    machine: Machine

    def has_right_peers(self) -> bool:
        return has_right_peers(self.gateway, self.machine)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        bus = await stack.enter_async_context(secured_bus(tmp_path))
        client: BusClient = await stack.enter_async_context(bus.connected("gateway"))
        speaker: BusClient = await stack.enter_async_context(bus.connected("topology"))
        keeper: BusClient = await stack.enter_async_context(bus.connected("keeper"))
        plane = FakeControlPlane(bus)
        gateway = FakeGateway(client, StateModel(page=3, signer=plane.signer), speaker)
        gateway.ring = plane.ring
        await gateway.start()
        gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
        door = FakeDoor(plane)
        door.networks = (NETWORK,)
        door.access = door.issue()
        machine = Machine(bus.url, door.machine_id, door=door, store=lambda: DiskStore(tmp_path / "state"))
        yield World(bus, plane, gateway, keeper, door, machine)


async def test_access_is_renewed_in_time_and_connections_are_swapped_without_a_gap(world: World) -> None:
    world.door.lifetime = 3
    world.door.access = world.door.issue()
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        clients = {agent._connection.client}
        for number in itertools.count(2):
            client = agent._connection.client
            assert client is not None
            assert not client.is_closed
            clients.add(client)
            if len(clients) >= 4:
                break
            machine_id = UUID(int=2 + number % 50)
            world.gateway.model.assign(NETWORK, machine_id, f"172.20.0.{2 + number % 50}")
            await world.gateway.say(world.gateway.model.announce(NETWORK, machine_id, a_key(), ()))
            await wait_until(world.has_right_peers, what="the peers")
        await wait_until(lambda: sum(client is not None and client.is_connected for client in clients) == 1)
        assert len(world.door.renewals) <= 5
        assert not world.gateway.beats[-1][1].refused


async def test_a_day_without_control_plane_and_it_comes_back_by_itself(world: World) -> None:
    await add_peers(world.gateway, range(2, 5))
    world.door.lifetime = 2
    world.door.access = world.door.issue()
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        world.door.refusal = UnavailableError("The control plane is away.")
        before = world.machine.devices.read(NAME)
        await wait_until(lambda: agent._connection.client is None, what="the end of its access")
        tries = len(world.door.renewals)
        await wait_until(lambda: len(world.door.renewals) > tries, what="another try")
        assert world.machine.devices.read(NAME) == before
        await add_peers(world.gateway, range(5, 6))
        world.door.refusal = None
        world.door.lifetime = 3600
        await wait_until(world.has_right_peers, what="the peers")
        _at_most_a_few_a_second(world.door.renewals)


async def test_it_starts_with_access_that_expired_long_ago(world: World) -> None:
    await add_peers(world.gateway, range(2, 5))
    async with world.machine.running():
        await assigned(world.gateway, world.machine)
        before = world.machine.devices.read(NAME)
    world.door.access = world.door.issue(lifetime=-3600)
    world.door.refusal = UnavailableError("The control plane is away.")
    async with world.machine.running() as agent:
        await wait_until(lambda: world.door.renewals)
        assert world.machine.devices.read(NAME) == before
        assert agent.networks
        world.door.refusal = None
        await add_peers(world.gateway, range(5, 6))
        await wait_until(world.has_right_peers, what="the peers")


async def test_the_bus_refuses_expired_access_and_the_attempt_ends(world: World) -> None:
    world.door.access = world.door.issue(lifetime=-3600)
    with pytest.raises(UnauthenticatedError):
        await connect_with_access(world.door, "agent")(lambda: None, lambda: None)


async def test_the_end_of_a_connection_with_tls_is_not_worth_a_warning(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    connect = connect_with_access(world.door, "agent")
    await (await connect(lambda: None, lambda: None)).close()
    client = await connect(lambda: None, lambda: None)
    await world.bus.server.stop()
    await wait_until(lambda: not client.is_connected)
    await client.close()
    assert not [record for record in caplog.records if record.name == "asyncio"]


async def test_revoked_access_is_replaced(world: World) -> None:
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        client = agent._connection.client
        assert client is not None
        await world.plane.revoke(world.keeper, world.door.key)
        await wait_until(lambda: client.is_closed, what="the server ends the connection")
        await wait_until(lambda: agent._connection.client not in {None, client}, what="another connection")
        await add_peers(world.gateway, range(2, 5))
        await wait_until(world.has_right_peers, what="the peers")
        assert world.machine.devices.interfaces() == [NAME]
        _at_most_a_few_a_second(world.door.renewals)


async def test_revoking_another_machine_changes_nothing(world: World) -> None:
    other = FakeDoor(world.plane)
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        client = agent._connection.client
        await world.plane.revoke(world.keeper, other.key)
        await add_peers(world.gateway, range(2, 5))
        await wait_until(world.has_right_peers, what="the peers")
        assert agent._connection.client is client
        assert not world.door.renewals


async def test_a_revoked_machine_leaves_its_networks(world: World) -> None:
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        world.door.refusal = MachineRevokedError("The machine was revoked.")
        await world.plane.revoke(world.keeper, world.door.key)
        await wait_until(lambda: not world.machine.devices.interfaces(), what="its interface goes")
        await wait_until(lambda: not agent.networks)
        assert len(world.door.renewals) == 1
    async with world.machine.running():
        assert not world.machine.devices.interfaces()


async def test_a_new_network_brings_new_access(world: World) -> None:
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        client = agent._connection.client
        assert client is not None
        model = world.gateway.model
        model.create_network(SECOND, "lab", "172.21.0.0/24")
        world.door.networks = (NETWORK, SECOND)
        await world.gateway.say(model.assign(SECOND, world.machine.machine_id, "172.21.0.9"))
        await wait_until(lambda: world.machine.machine_id in model.members(SECOND), what="the announcement")
        model.assign(SECOND, UUID(int=7), "172.21.0.7")
        await world.gateway.say(model.announce(SECOND, UUID(int=7), a_key(), ()))
        name = interface_name(SECOND)
        await wait_until(lambda: len(world.machine.devices.peers(name)) == 1, what="a peer, heard live")
        await wait_until(lambda: client.is_closed, what="the former connection is closed")
        assert len(world.door.renewals) == 1
        await add_peers(world.gateway, range(2, 4))
        await wait_until(world.has_right_peers, what="the peers in the first network")


async def test_access_that_does_not_name_a_network_is_not_asked_for_in_a_storm(world: World) -> None:
    world.gateway.model.create_network(SECOND, "lab", "172.21.0.0/24")
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        await world.gateway.say(world.gateway.model.assign(SECOND, world.machine.machine_id, "172.21.0.9"))
        await wait_until(lambda: len(world.door.renewals) >= 4, what="it tries again")
        assert own_record(world.gateway, world.machine)
        assert SECOND in agent.networks
        _at_most_a_few_a_second(world.door.renewals)


async def test_access_that_the_bus_refuses_is_not_tried_in_a_storm(world: World) -> None:
    stranger = FakeDoor(world.plane)
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        world.door.issue = lambda lifetime=None: stranger.issue(-10)  # type: ignore[method-assign]
        await world.plane.revoke(world.keeper, world.door.key)
        await wait_until(lambda: len(world.door.renewals) >= 4, what="it tries again")
        assert agent._connection.client is None
        assert world.machine.devices.interfaces() == [NAME]
        _at_most_a_few_a_second(world.door.renewals)


async def test_a_bus_that_restarts_needs_no_new_access(world: World) -> None:
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        client = agent._connection.client
        assert client is not None
        await world.bus.server.stop()
        await wait_until(lambda: not client.is_connected)
        before = world.machine.devices.read(NAME)
        await world.bus.server.start()
        await wait_until(lambda: client.is_connected and world.gateway.client.is_connected)
        await wait_until(lambda: world.gateway.speaker is not None and world.gateway.speaker.is_connected)
        assert world.machine.devices.read(NAME) == before
        await add_peers(world.gateway, range(2, 4))
        await wait_until(world.has_right_peers, what="the peers")
        assert not world.door.renewals


async def test_access_that_expires_while_the_bus_is_away_is_replaced(world: World) -> None:
    world.door.lifetime = 2
    world.door.access = world.door.issue()
    async with world.machine.running() as agent:
        await assigned(world.gateway, world.machine)
        world.door.refusal = UnavailableError("The control plane is away.")
        await world.bus.server.stop()
        await wait_until(lambda: time.time() > world.door.access.expires_at.timestamp() + 0.5, what="it expires")
        await world.bus.server.start()
        await wait_until(lambda: agent._connection.client is None, what="the bus lets it in no more")
        world.door.refusal = None
        world.door.lifetime = 3600
        await wait_until(lambda: world.gateway.client.is_connected)
        await add_peers(world.gateway, range(2, 4))
        await wait_until(world.has_right_peers, what="the peers")


async def test_an_agent_that_stops_while_it_tries_to_connect_leaves_nothing_open(world: World) -> None:
    await world.bus.server.stop()
    async with world.machine.running():
        await asyncio.sleep(0)
    await world.bus.server.start()


def _at_most_a_few_a_second(moments: list[float]) -> None:
    for first, later in zip(moments, moments[4:], strict=False):
        assert later - first > 0.5, moments
