"""Networks' BGP plans on a real server: derived from what machines report, whatever is killed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import pytest
from nats.aio.client import Client
from nats.js.errors import NotFoundError

from events import bus
from events.ending import end
from events.peering import BgpPlan
from events.subjects import BGP
from services.topology.service import serve
from services.topology.settings import Settings
from tests.support.bgp_fleet import Fleet
from tests.support.waiting import wait_until


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[Client]:
    client = await bus.connect(bus_url, "test")
    yield client
    await client.close()


@pytest.fixture
async def fleet(client: Client) -> Fleet:
    fleet = Fleet(client, client, client)
    await fleet.prepare()
    await fleet.listen()
    return fleet


@asynccontextmanager
async def topology(url: str) -> AsyncIterator[None]:
    """A running service. It is cancelled in the middle of whatever it does."""
    task = asyncio.create_task(serve(Settings(nats_url=url), asyncio.Event()))
    try:
        yield
    finally:
        with suppress(asyncio.CancelledError):
            await end([task])


async def test_a_network_is_switched_there_and_back_by_two_services_one_of_which_is_killed(
    fleet: Fleet, bus_url: str
) -> None:
    async with topology(bus_url):
        async with topology(bus_url):
            machines = await fleet.join(4)
            await fleet.follow(BgpPlan(), machines)
            assert await fleet.plan() == BgpPlan()
            fleet.history.set_route_reflector_mode(fleet.network, True)
            await fleet.log()
            await fleet.follow(await fleet.becomes("switching"), machines)
            await fleet.becomes("reflectors")
        plan = await fleet.plan()
        await fleet.follow(plan, machines)
        off = min(plan.reflectors)
        await fleet.speak(off, "off")
        # The fourth takes its place at once, for nobody is the first one's client alone.
        await wait_until(lambda: _lacks(fleet, off), what="another reflector")
        fleet.history.set_route_reflector_mode(fleet.network, False)
        await fleet.log()
        await fleet.follow(await fleet.becomes("switching"), machines)
        await fleet.becomes("mesh")
    fleet.assert_in_order()


async def _lacks(fleet: Fleet, machine_id: UUID) -> bool:
    plan = await fleet.plan()
    return machine_id not in plan.reflectors and len(plan.reflectors) == 3


async def test_who_was_killed_goes_on_from_what_stands_and_a_deleted_network_leaves_nothing(
    fleet: Fleet, bus_url: str
) -> None:
    async with topology(bus_url):
        machines = await fleet.join(2)
        fleet.history.set_route_reflector_mode(fleet.network, True)
        await fleet.log()
        await fleet.becomes("switching", 2)
    await fleet.follow(await fleet.plan(), machines)
    async with topology(bus_url):
        await fleet.becomes("reflectors", 2)
        fleet.assert_in_order()
        fleet.history.delete_network(fleet.network)
        await fleet.log()

        async def is_gone() -> bool:
            return await fleet.plan() == BgpPlan()

        await wait_until(is_gone, what="the plan is purged")


async def test_reports_that_were_deleted_count_no_more_and_new_ones_do(
    fleet: Fleet, client: Client, bus_url: str
) -> None:
    async with topology(bus_url):
        machines = await fleet.join(4)
        fleet.history.set_route_reflector_mode(fleet.network, True)
        await fleet.log()
        await fleet.follow(await fleet.becomes("switching"), machines)
        plan = await fleet.becomes("reflectors")
        await fleet.follow(plan, machines)
        assert await client.jetstream().delete_stream(BGP.name)

        async def is_made_anew() -> bool:
            with suppress(NotFoundError):
                await client.jetstream().stream_info(BGP.name)
                return True
            return False

        await wait_until(is_made_anew, what="the stream to be made anew")
        # The first that reports anew is not taken for the only one.
        await fleet.speak(min(set(machines) - plan.reflectors))
        off = min(plan.reflectors)
        for one in set(machines) - {off}:
            await fleet.speak(one)
        assert await fleet.plan() == plan
        await fleet.follow(plan, machines)
        await fleet.speak(off, "off")
        await wait_until(lambda: _lacks(fleet, off), what="another reflector")
