"""The whole on three servers: the leader is killed amid the work, nothing acknowledged is lost, and it goes on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from uuid import uuid4

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent

from events import bus
from events.feed import jetstream
from events.store.journal import Journal
from events.subjects import LOG, LOG_STREAM
from services.cli.serve import Service
from tests.support.callers import Callers
from tests.support.cluster import SIZE, Cluster, running_cluster
from tests.support.fleet import running_fleet
from tests.support.plane import running_plane, starting_plane
from tests.support.proxy import Direction, Proxy, proxy_to
from tests.support.waiting import wait_until

pytestmark = pytest.mark.faults

MACHINES = 300
AGENTS = 10


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with running_cluster(tmp_path / "bus") as cluster:
        yield cluster


async def test_the_leader_is_killed_amid_the_work_and_comes_back(cluster: Cluster, tmp_path: Path) -> None:
    machine_ids = [uuid4() for _ in range(2 * MACHINES)]
    async with (
        running_plane(cluster.url, replicas=SIZE) as plane,
        running_fleet(cluster.url, tmp_path / "fleet", machine_ids[:: 2 * MACHINES // AGENTS]) as fleet,
    ):
        network_id = await plane.network("office", "172.20.0.0/22")
        await plane.machines(machine_ids)
        callers = Callers(plane, network_id)
        killed: list[str] = []
        # The second time, the server that was killed first and came back is needed for every write.
        for share in (machine_ids[:MACHINES], machine_ids[MACHINES:]):
            async with callers.calling(share):
                await callers.reach(len(callers.told) + MACHINES // 3)
                leader = await cluster.leader(LOG_STREAM)
                victim = leader if leader not in killed else next(name for name in cluster.names if name not in killed)
                cluster.kill(victim)
            killed.append(victim)
            cluster.start(victim)
            await wait_until(cluster.has_all_copies, what="the killed server has caught up")
        plane.assert_running()
        ledger = await fleet.follows(plane.client)
        callers.assert_kept(ledger)
        assert all(len(ledger.tunnels(machine_id)) == 1 for machine_id in fleet.machine_ids)
        await plane.state_follows()


async def test_the_services_wait_until_there_are_enough_servers(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    logged: list[str] = []

    def waits(service: str) -> bool:
        logged.extend(capfd.readouterr().err.splitlines())
        return any("waiting for JetStream" in line and f'"{service}"' in line for line in logged)

    cluster = Cluster(tmp_path / "bus")
    cluster.prepare()
    with closing(cluster):
        cluster.start(cluster.names[0])
        async with starting_plane(cluster.url, SIZE) as plane:
            for service in (Service.ALLOCATOR, Service.TOPOLOGY):
                await wait_until(partial(waits, service), what=f"the {service} waits")
            await plane.stop(Service.ALLOCATOR)
            await plane.start(Service.ALLOCATOR)
            plane.assert_running()
            for name in cluster.names[1:]:
                cluster.start(name)
            await plane.ready()
            plane.assert_running()
            assert await plane.network("office", "172.20.0.0/22")


@asynccontextmanager
async def losing_journal(cluster: Cluster, direction: Direction, marker: bytes) -> AsyncIterator[tuple[Journal, Proxy]]:
    """The log, on a connection that breaks once; it is then made anew to another server, past the proxy."""
    async with proxy_to(cluster.urls[0]) as proxy:
        client = await bus.connect(proxy.url, "losing")
        try:
            proxy.lose(direction, marker)
            yield Journal(client, LOG.name, LOG.prefix), proxy
            assert proxy.lost == 1
        finally:
            await client.close()


@pytest.mark.parametrize("count", [1, 3])
async def test_a_lost_acknowledgement_comes_back_right(cluster: Cluster, count: int) -> None:
    aggregates = [uuid4() for _ in range(count)]
    client = await bus.connect(cluster.url, "test")

    def events(version: int, state: bytes) -> list[StoredEvent]:
        return [StoredEvent(aggregate, version, "test.happened:1", state) for aggregate in aggregates]

    try:
        await bus.ensure_streams(client, (LOG,), SIZE)
        for version in (1, 2):
            async with losing_journal(cluster, "to_client", b'"seq":') as (journal, _):
                before = count * (version - 1)
                written = await journal.append(events(version, b"{}"), before)
                assert written == list(range(before + 1, before + count + 1))
        # Of two who write the same versions after a loss, one is told that it was not its own that was written.
        marker = b"Nats-Batch-Commit" if count > 1 else b"mine"
        async with losing_journal(cluster, "to_server", marker) as (journal, proxy):
            mine = asyncio.create_task(journal.append(events(3, b"mine"), 2 * count))
            await wait_until(lambda: proxy.lost, what="the write is lost")
            rival = Journal(client, LOG.name, LOG.prefix)
            answers = await asyncio.gather(mine, rival.append(events(3, b"rival"), 2 * count), return_exceptions=True)
        stored = [(await rival.select(aggregate, 2, 3, desc=False, limit=None))[0].state for aggregate in aggregates]
        is_mine = stored[0] == b"mine"
        assert stored == [b"mine" if is_mine else b"rival"] * count
        assert isinstance(answers[is_mine], IntegrityError)
        assert answers[not is_mine] == list(range(2 * count + 1, 3 * count + 1))
        info = await jetstream(client, f"STREAM.INFO.{LOG_STREAM}", {})
        assert (info["config"]["num_replicas"], info["state"]["messages"]) == (SIZE, 3 * count)
    finally:
        await client.close()
