"""PATHS on a real server: derived from what machines report, whatever is killed."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
from nats.aio.client import Client
from nats.js.errors import APIError

from events import bus, state
from events.ending import end
from events.errors import UnavailableError
from events.feed import last_sequence, newest_sequence
from events.subjects import PATHS_PREFIX, PATHS_STREAM, REACH_PREFIX, REACH_STREAM, path, reach, relay
from services.cli.embedded import EmbeddedServer
from services.cli.process import ChildProcess
from services.cli.serve import Service
from services.cli.up import service_process
from services.topology.service import serve
from services.topology.settings import Settings
from tests.support.path_watch import PathWatch
from tests.support.program import environment
from tests.support.waiting import wait_until

EVERYTHING = f"{PATHS_PREFIX}.>"


@pytest.fixture
async def client(bus_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A connection that survives a restart of the server, which comes back on the same port."""
    bus_server.port = int(bus_server.url.rsplit(":", 1)[1])
    client = await bus.connect(bus_server.url, "test")
    yield client
    await client.close()


@pytest.fixture
async def watch(client: Client) -> PathWatch:
    watch = PathWatch(client, client, client)
    await watch.prepare()
    await watch.listen()
    return watch


@asynccontextmanager
async def topology(url: str) -> AsyncIterator[asyncio.Task[None]]:
    """A running service. It is cancelled in the middle of whatever it does."""
    task = asyncio.create_task(serve(Settings(nats_url=url), asyncio.Event()))
    try:
        yield task
    finally:
        with suppress(asyncio.CancelledError):
            await end([task])


async def test_a_pair_that_cannot_reach_each_other_goes_through_a_third_until_it_can(
    watch: PathWatch, bus_url: str
) -> None:
    async with topology(bus_url):
        a, b, near, far = await watch.join(4)
        for end_ in (a, b):
            await watch.say(end_, near, 5)
            await watch.say(end_, far, 50)
        await watch.say(a, b, None)
        await watch.settled()
        assert await watch.ways(a, b) == await watch.ways(b, a) == ((near,), (far,))
        await watch.say(a, near, None)
        await watch.settled()
        assert await watch.ways(a, b) == ((far,),)
        before = len(watch.heard)
        await watch.say(a, far, 50)
        await watch.say(a, b, 10)
        await watch.settled()
        assert await watch.ways(a, b) is await watch.ways(b, a) is None
        told = [subject for subject, _ in watch.heard[before:]]
        for here, there in ((a, b), (b, a)):
            assert told.count(path(here, watch.network, there)) == 1, "one tombstone, and nothing before it"
    watch.assert_each_once()
    record = state.decode_record((await watch.held())[path(a, watch.network, b)][0])
    assert (record.body, record.cause > 0) == (None, True)


async def test_a_chain_of_transits_is_told_what_lies_behind_whom(watch: PathWatch, bus_url: str) -> None:
    async with topology(bus_url):
        a, first, second, b = await watch.join(4)
        for here, there in ((a, first), (first, second), (second, b)):
            await watch.say(here, there, 5)
        for here, there in ((a, second), (a, b), (first, b)):
            await watch.say(here, there, None)
        await watch.settled()
        assert await watch.ways(a, b) == ((first, second),)
        bodies = await watch.bodies()
        assert bodies[relay(first, watch.network, second)].behind == ((b, second),)  # type: ignore[union-attr]
        assert bodies[relay(second, watch.network, first)].behind == ((a, first),)  # type: ignore[union-attr]
        watch.history.set_transit(second, "never")
        await watch.log()
        await watch.settled()
        assert await watch.ways(a, b) == ()
        assert relay(first, watch.network, second) not in await watch.bodies()


async def test_who_leaves_or_is_deleted_leaves_nothing_behind(watch: PathWatch, bus_url: str, client: Client) -> None:
    async with topology(bus_url):
        machines = await watch.join(8)
        for _ in range(60):
            await watch.random_report(machines)
        await watch.settled()
        watch.history.unassign(watch.network, machines[0])
        watch.history.set_transit(machines[1], "always")
        await watch.log()
        await watch.settled()
        watch.history.assign(watch.network, machines[0])
        watch.history.announce(watch.network, machines[0])
        await watch.log()
        await watch.settled()
        watch.history.delete_machine(machines[1])
        await watch.log()
        await watch.settled()

        async def is_forgotten() -> bool:
            return not [subject for subject in await watch.held() if str(machines[1]) in subject]

        await wait_until(is_forgotten, what="not even tombstones of the machine stand")
        watch.history.delete_network(watch.network)
        await watch.log()

        async def is_empty() -> bool:
            return await newest_sequence(client, PATHS_STREAM, EVERYTHING) == 0

        await wait_until(is_empty, what="nothing of the network stands")
    watch.assert_each_once()


async def test_what_nobody_may_report_changes_nothing(watch: PathWatch, bus_url: str, client: Client) -> None:
    async with topology(bus_url) as task:
        a, b, transit = await watch.join(3)
        subject = reach(watch.network, a, b)
        for payload in (b"", b"{}", b"\xff", b'{"network_id": 1}'):
            await client.jetstream().publish(subject, payload)
        for end_ in (a, b):
            await watch.say(end_, transit, 5)
        await watch.say(a, b, None)
        await watch.say(a, a, None, both=False)
        await watch.settled()
        assert await watch.ways(a, b) == ((transit,),)
        assert not task.done()


async def test_the_service_is_killed_again_and_again(watch: PathWatch, bus_url: str) -> None:
    chance = random.Random(2)
    machines = await watch.join(9)
    for _ in range(8):
        async with topology(bus_url):
            for _ in range(chance.randint(1, 25)):
                await watch.random_report(machines)
            if chance.random() < 0.5:
                await watch.settled()
    async with topology(bus_url):
        await watch.settled()
    watch.assert_each_once()
    assert len(watch.heard) > 50


async def test_the_program_is_killed_for_good_while_it_writes(watch: PathWatch, bus_url: str, client: Client) -> None:
    async with topology(bus_url):
        machines = await watch.join(30)
        for number, one in enumerate(machines):
            for other in machines[:number]:
                await watch.say(one, other, 5 if other == machines[0] else None, both=False)
        await watch.settled()
    for rtt in (10, 20, 50):
        await watch.say(machines[0], machines[1], rtt)
        before = await last_sequence(client, PATHS_STREAM)
        for other in machines[2:]:
            await watch.say(machines[0], other, None if rtt != 20 else 5)
        child = service_process(Service.TOPOLOGY, environment(NATS_URL=bus_url))
        await child.start()
        await _killed_once_it_writes(client, child, before)
    async with topology(bus_url):
        await watch.settled()
    watch.assert_each_once()


async def _killed_once_it_writes(client: Client, child: ChildProcess, before: int) -> None:
    async def writes() -> bool:
        return await last_sequence(client, PATHS_STREAM) > before

    await wait_until(writes, what="the service writes")
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    await child.wait()
    # What the server has in hand is visible piece by piece: this is refused once it is through.
    with pytest.raises(APIError):
        await client.jetstream().publish(f"{PATHS_PREFIX}.x", headers={"Nats-Expected-Last-Sequence": "1000000"})


async def test_the_service_outlives_crashes_of_the_server(
    watch: PathWatch, bus_server: EmbeddedServer, client: Client
) -> None:
    async with topology(bus_server.url) as task:
        machines = await watch.join(8)
        for number in range(60):
            await watch.random_report(machines)
            if number % 20 == 10:
                bus_server.kill()
                await bus_server.wait()
                await bus_server.start()
                await wait_until(lambda: client.is_connected, what="the test's own connection is back")
        await watch.settled()
        assert not task.done()
    watch.assert_each_once(gaps=True)


async def test_of_two_services_each_may_stop_and_nobody_hears_a_record_twice(
    watch: PathWatch, bus_url: str, client: Client
) -> None:
    machines = await watch.join(8)

    async def reports(count: int) -> None:
        for _ in range(count):
            await watch.random_report(machines)

    async with topology(bus_url) as second:
        async with topology(bus_url):
            await reports(60)
            await watch.settled()
        await reports(20)
        async with topology(bus_url) as third:
            await reports(40)
            watch.history.unassign(watch.network, machines[3])
            await watch.log()
            await watch.settled()
            assert not second.done()
            assert not third.done()
    watch.assert_each_once()
    _assert_no_repetition(watch)


def _assert_no_repetition(watch: PathWatch) -> None:
    """No subject was told twice in a row the same."""
    told: dict[str, object] = {}
    for subject, record in watch.heard:
        assert subject not in told or told[subject] != record.body, subject
        told[subject] = record.body


async def test_paths_that_were_deleted_are_derived_anew_and_revisions_go_on(
    watch: PathWatch, bus_url: str, client: Client
) -> None:
    async with topology(bus_url) as task:
        machines = await watch.join(6)
        for _ in range(40):
            await watch.random_report(machines)
        await watch.settled()
        newest = {subject: record.revision for subject, record in watch.heard}
        await client.jetstream().delete_stream(PATHS_STREAM)

        async def is_back() -> bool:
            try:
                return await last_sequence(client, PATHS_STREAM) > 0
            except UnavailableError:
                return False

        await wait_until(is_back, what="PATHS is there again")
        await watch.settled()
        assert not task.done()
    again = {subject: state.decode_record(payload) for subject, (payload, _) in (await watch.held()).items()}
    assert again
    assert all(record.revision > newest.get(subject, 0) for subject, record in again.items())


async def test_reports_that_were_deleted_count_no_more_and_new_ones_do(
    watch: PathWatch, bus_url: str, client: Client
) -> None:
    async with topology(bus_url) as task:
        a, b, transit = await watch.join(3)
        for end_ in (a, b):
            await watch.say(end_, transit, 5)
        await watch.say(a, b, None)
        await watch.settled()
        await client.jetstream().delete_stream(REACH_STREAM)
        watch.forget_reports()

        async def is_back() -> bool:
            with suppress(UnavailableError):
                return await last_sequence(client, REACH_STREAM) == 0
            return False

        await wait_until(is_back, what="REACH is there again")
        await watch.settled()
        assert await watch.bodies() == {}
        await watch.say(a, b, None)
        await watch.say(a, transit, 10, both=False)
        await watch.settled()
        assert await watch.ways(a, b) == ()
        await watch.say(b, transit, 10, both=False)
        await watch.settled()
        assert await watch.ways(a, b) == ((transit,),)
        assert not task.done()


async def test_a_start_reads_of_each_link_the_newest_report_only(
    watch: PathWatch, bus_url: str, client: Client
) -> None:
    a, b, transit = await watch.join(3)
    for _ in range(20):
        await watch.say(a, b, None)
        await watch.say(a, b, 5)
    for end_ in (a, b):
        await watch.say(end_, transit, 5)
    await watch.say(a, b, None)
    async with topology(bus_url):
        await watch.settled()
        assert await watch.ways(a, b) == ((transit,),)
    assert len(watch.heard) == 2, "what is long past is not told"
    assert await newest_sequence(client, REACH_STREAM, f"{REACH_PREFIX}.>") == 86
