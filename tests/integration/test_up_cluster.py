"""`wireloom up` on a bus of three servers, which goes on when their leader is killed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nats
import pytest
from nats.js.api import StreamInfo

from events.subjects import LOG, SNAPSHOTS, STATE
from tests.support.cluster import running_cluster
from tests.support.program import SERVICES, running
from tests.support.waiting import wait_until


async def streams(url: str) -> dict[str, StreamInfo]:
    client = await nats.connect(url.split(","), connect_timeout=5)
    try:
        return {info.config.name or "": info for info in await client.jetstream().streams_info()}
    finally:
        await client.close()


@pytest.mark.faults
async def test_it_goes_on_when_the_leader_of_the_log_is_killed(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "bus") as cluster:
        options = ("--nats-url", cluster.url, "--replicas", "3", "--data-dir", str(tmp_path / "unused"))
        with running(tmp_path / "up", *options) as plane:
            assert set(plane.children()) == set(SERVICES)
            assert not (tmp_path / "unused").exists()
            kept = {name: info.config.num_replicas for name, info in (await streams(cluster.url)).items()}
            assert kept == {LOG.name: 3, SNAPSHOTS.name: 3, STATE.name: 3}
            assert plane.run("network", "create", "office", "172.16.0.0/24").code == 0
            plane.add_machines("before")
            assert plane.run("machine", "assign", "before", "-n", "office").code == 0

            leader = await cluster.leader(LOG.name)
            cluster.kill(leader)
            plane.wait_until_ready(60)
            plane.add_machines("after")
            said = plane.run("machine", "assign", "after", "-n", "office").stdout
            assert said == "after is in office as 172.16.0.2.\n"
            assert await cluster.leader(LOG.name) != leader

            cluster.start(leader)
            await wait_until(cluster.has_all_copies, timeout=60, what="the killed server caught up")
            shown = await asyncio.to_thread(plane.json, "network", "show", "office")
            assert [machine["hostname"] for machine in shown["machines"]] == ["before", "after"]
