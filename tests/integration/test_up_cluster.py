"""`wireloom up` on a bus of three servers, which goes on when their leader is killed."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from events import bus
from events.errors import MachineRevokedError
from events.subjects import BGP, CHECKPOINTS, HISTORY, LOG, PATHS, PLANS, REACH, SNAPSHOTS, STATE
from services.cli.identity import create
from tests.support.cluster import Cluster, running_cluster
from tests.support.enrolled import BOOTSTRAP_TOKENS, enrol, is_let_in, renew
from tests.support.plane import MACHINES
from tests.support.program import SERVICES, running
from tests.support.waiting import wait_until


async def has_three_copies(cluster: Cluster) -> bool:
    """Whether all streams are there, each with three copies."""
    streams = (LOG, SNAPSHOTS, STATE, REACH, PATHS, BGP, HISTORY, PLANS, CHECKPOINTS)
    kept = {name: stream["config"]["num_replicas"] for name, stream in (await cluster.streams()).items()}
    return kept == dict.fromkeys((stream.name for stream in streams), 3)


@pytest.mark.faults
async def test_it_goes_on_when_the_leader_of_the_log_is_killed(tmp_path: Path) -> None:
    async with running_cluster(tmp_path / "bus") as cluster:
        options = ("--no-auth", "--nats-url", cluster.url, "--replicas", "3", "--data-dir", str(tmp_path / "unused"))
        with running(tmp_path / "up", *options) as plane:
            assert set(plane.children()) == set(SERVICES)
            assert not (tmp_path / "unused").exists()
            await wait_until(lambda: has_three_copies(cluster), what="three copies of every stream")
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
            await wait_until(cluster.has_all_copies, what="the killed server caught up")
            shown = await asyncio.to_thread(plane.json, "network", "show", "office")
            assert [machine["hostname"] for machine in shown["machines"]] == ["before", "after"]


@pytest.mark.faults
async def test_secured_with_its_identity_exported_and_a_machine_revoked_on_all_three(tmp_path: Path) -> None:
    identity = create(tmp_path / "identity", ["127.0.0.1", "localhost"])
    async with running_cluster(tmp_path / "export", identity) as cluster:
        control = tmp_path / "export" / "control"
        options = ("--nats-url", cluster.url, "--identity", str(control), "--replicas", "3")
        with running(tmp_path / "up", *options, "--data-dir", str(tmp_path / "unused")) as plane:
            assert not (tmp_path / "unused").exists()
            await wait_until(lambda: has_three_copies(cluster), what="three copies of every stream")
            async with plane.async_client() as http, AsyncExitStack() as connections:
                await asyncio.to_thread(plane.run, "network", "create", "office", "172.16.0.0/24", "--default")
                token = (await http.post(BOOTSTRAP_TOKENS, json={"uses": 2})).raise_for_status().json()["token"]
                revoked, other = await enrol(http, "revoked", token), await enrol(http, "other", token)
                assert set(revoked.access.bus) == set(cluster.urls)
                closed = [asyncio.Event() for _ in cluster.urls]
                for url, event in zip(cluster.urls, closed, strict=True):
                    client = await bus.connect(url, "revoked", revoked.credentials, on_closed=event.set)
                    connections.push_async_callback(client.close)

                place = f"{MACHINES}/{revoked.machine_id}"
                assert (await http.post(f"{place}/revoke")).is_success
                await wait_until(lambda: all(event.is_set() for event in closed), what="all three have closed it")
                assert [await is_let_in(url, revoked.credentials) for url in cluster.urls] == [False] * 3
                assert [await is_let_in(url, other.credentials) for url in cluster.urls] == [True] * 3
                with pytest.raises(MachineRevokedError):
                    await renew(http, revoked)

                leader = await cluster.leader(LOG.name)
                cluster.kill(leader)
                await asyncio.to_thread(plane.wait_until_ready, 60)
                cluster.start(leader)
                await wait_until(cluster.has_all_copies, what="the killed server caught up")
                assert [await is_let_in(url, revoked.credentials) for url in cluster.urls] == [False] * 3
                assert (await http.get(place)).json()["state"] == "revoked"
