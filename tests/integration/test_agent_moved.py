"""A machine that has another address now: its connection to the bus is dead, and nothing has told it so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from ipaddress import ip_interface

import nats.errors
import pytest

from agent.desired import Locality
from agent.surroundings import FixedSurroundings
from events.bus import connect
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import HERE, NETWORK, Machine, add_peers, assigned, has_right_peers
from tests.support.proxy import proxy_to
from tests.support.state_model import StateModel
from tests.support.waiting import wait_until

THERE = Locality((ip_interface("192.0.2.11/24"),), frozenset({4}))


class Moving(FixedSurroundings):
    """Surroundings that change when they are told to."""

    def __init__(self) -> None:
        super().__init__(HERE)
        self._moved = asyncio.Event()

    def move(self, locality: Locality) -> None:
        self.locality = locality
        self._moved.set()

    async def changed(self) -> None:
        await self._moved.wait()
        self._moved.clear()


@pytest.fixture
async def gateway(bus_url: str) -> AsyncIterator[FakeGateway]:
    client = await connect(bus_url, "fake gateway")
    gateway = FakeGateway(client, StateModel(page=3))
    await gateway.start()
    gateway.model.create_network(NETWORK, "office", "172.20.0.0/24")
    yield gateway
    await client.close()


async def test_it_is_on_the_bus_again_soon(gateway: FakeGateway, bus_url: str) -> None:
    surroundings = Moving()
    async with proxy_to(bus_url) as proxy:
        machine = Machine(proxy.url, surroundings=surroundings)
        async with machine.running():
            await assigned(gateway, machine)
            proxy.strand()
            surroundings.move(THERE)
            await add_peers(gateway, range(2, 5))
            await wait_until(lambda: has_right_peers(gateway, machine), 8, what="what was said meanwhile")


async def test_a_connection_that_stands_is_kept(gateway: FakeGateway, bus_url: str) -> None:
    surroundings = Moving()
    machine = Machine(bus_url, surroundings=surroundings)
    async with machine.running() as agent:
        await assigned(gateway, machine)
        client = agent._connection.client
        surroundings.move(THERE)
        await wait_until(lambda: agent._locality == THERE)
        await agent._connection.check()
        assert agent._connection.client is client


async def test_an_answer_that_nobody_waits_for_any_more_does_no_harm(bus_url: str) -> None:
    async with proxy_to(bus_url) as proxy:
        client = await connect(proxy.url, "test")
        try:
            proxy.flowing.clear()
            with pytest.raises(nats.errors.TimeoutError):
                await client.flush(timeout=0.1)  # type: ignore[arg-type]  # fractions of a second work too
            proxy.flowing.set()
            await client.flush(timeout=30)
        finally:
            await client.close()
