"""What agents report of their links and hear of their paths, on a real bus."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from agent import reporting
from agent.reporting import MAX_LINKS, Reporter, Reports
from agent.store import DiskStore, LinkNote
from events.bus import connect
from events.errors import NotFoundError
from events.records import LinkState, PathRecord, ReachRequest
from events.subjects import path
from events.transit import transit_address
from tests.support.fake_gateway import FakeGateway
from tests.support.machines import NAME, NETWORK, Machine, add_peers, assigned
from tests.support.waiting import wait_until

MACHINE = UUID(int=1)


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


@pytest.fixture
async def reporter(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reporter]:
    monkeypatch.setattr(reporting, "_GATHER", 0.01)
    tasks: set[asyncio.Task[None]] = set()

    def spawn(coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(coroutine)
        tasks.add(task)
        return task

    reporter = Reporter(MACHINE, NETWORK, Reports(uuid4()), spawn)
    yield reporter
    reporter.close()
    await asyncio.gather(*tasks, return_exceptions=True)


def direct(number: int, rtt: int = 5) -> LinkState:
    return LinkState(peer_id=UUID(int=number), state="direct", rtt=rtt, endpoint="192.0.2.1:1")


def reports(gateway: FakeGateway) -> list[ReachRequest]:
    return [report for _, report in gateway.reports]


async def test_a_new_connection_hears_of_all_links_and_then_of_changes(
    gateway: FakeGateway, client: Client, reporter: Reporter
) -> None:
    reporter.say(direct(2))
    reporter.say(direct(3))
    reporter.attach(client)
    await wait_until(lambda: gateway.reports)
    reporter.say(direct(2))
    reporter.say(direct(3, 10))
    await wait_until(lambda: len(gateway.reports) == 2)
    first, second = reports(gateway)
    assert (first.whole, first.links) == (True, (direct(2), direct(3)))
    assert (second.whole, second.links) == (False, (direct(3, 10),))
    assert first.boot_id == second.boot_id
    assert first.counter < second.counter


async def test_what_is_still_searched_is_not_said_to_be_none(
    gateway: FakeGateway, client: Client, reporter: Reporter
) -> None:
    reporter.search(UUID(int=2))
    reporter.search(UUID(int=3))
    reporter.attach(client)
    reporter.say(direct(2))
    await wait_until(lambda: gateway.reports)
    reporter.say(direct(3))
    await wait_until(lambda: any(report.whole for report in reports(gateway)))
    *partial, last = reports(gateway)
    assert not any(report.whole for report in partial)
    assert last.links == (direct(2), direct(3))


async def test_what_is_refused_is_said_again(gateway: FakeGateway, client: Client, reporter: Reporter) -> None:
    gateway.refusal = NotFoundError("not yet")
    reporter.attach(client)
    reporter.say(direct(2))
    await wait_until(lambda: ("reach", MACHINE) in gateway.asked)
    assert not gateway.reports
    gateway.refusal = None
    await wait_until(lambda: gateway.reports)
    assert reports(gateway)[0].links == (direct(2),)


async def test_many_links_take_several_reports(gateway: FakeGateway, client: Client, reporter: Reporter) -> None:
    for number in range(2 * MAX_LINKS + 10):
        reporter.say(direct(number + 2))
    reporter.attach(client)
    await wait_until(lambda: len(gateway.reports) == 3)
    assert [len(report.links) for report in reports(gateway)] == [MAX_LINKS, MAX_LINKS, 10]
    assert not any(report.whole for report in reports(gateway))
    assert len({link.peer_id for report in reports(gateway) for link in report.links}) == 2 * MAX_LINKS + 10


async def test_ways_are_obeyed_live_and_kept(gateway: FakeGateway, bus_url: str, tmp_path: Path) -> None:
    machine = Machine(bus_url, store=lambda: DiskStore(tmp_path))
    peer, via = await add_peers(gateway, range(2, 4))
    subject = path(machine.machine_id, NETWORK, peer)
    body = PathRecord(network_id=NETWORK, machine_id=machine.machine_id, peer_id=peer, ways=((via,),))
    own = f"{transit_address(NETWORK, machine.machine_id, via)}/128"

    def has_way() -> bool:
        device = machine.devices.read(NAME)
        return device is not None and own in device.addresses

    async with machine.running():
        await assigned(gateway, machine)
        await gateway.say([gateway.model.put(subject, body)])
        await wait_until(has_way, what="the way")
    await gateway.stop()
    machine.devices.remove(NAME)
    async with machine.running():
        await wait_until(has_way, what="the way that was kept")
        await gateway.start()
        gateway.model.put(subject, None)
        await wait_until(lambda: ("register", machine.machine_id) in gateway.asked[-5:])
    async with machine.running():
        await wait_until(lambda: not has_way(), what="the end of the way")


def test_since_when_counts_from_the_last_change_of_state(tmp_path: Path) -> None:
    store = DiskStore(tmp_path)
    store.note_link(NETWORK, LinkNote(direct(2), 10.0))
    store.note_link(NETWORK, LinkNote(direct(2, 50), 20.0))
    assert store.links(NETWORK) == {UUID(int=2): LinkNote(direct(2, 50), 10.0)}
    lost = LinkState(peer_id=UUID(int=2), state="unreachable", tried=(("192.0.2.1:1", "no answer"),))
    store.note_link(NETWORK, LinkNote(lost, 30.0))
    assert store.links(NETWORK)[UUID(int=2)].since == 30.0
    store.forget_link(NETWORK, UUID(int=2))
    assert not store.links(NETWORK)
    store.close()
