"""The store and the log on three servers: reading what was written from any of them, and losing the leader."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import cast
from uuid import uuid4

import pytest
from eventsourcing.persistence import StoredEvent
from eventsourcing.utils import Environment

from events import bus
from events.feed import entries
from events.store import JetStreamApplicationRecorder, JetStreamFactory
from events.subjects import LOG_STREAM
from tests.support.cluster import running_cluster
from tests.support.waiting import wait_until


def recorder_at(url: str) -> tuple[JetStreamFactory, JetStreamApplicationRecorder]:
    made = JetStreamFactory(Environment("Allocator", {"NATS_URL": url, "WIRELOOM_REPLICAS": "3"}))
    return made, cast(JetStreamApplicationRecorder, made.application_recorder())


async def test_what_was_written_is_read_from_any_server(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, AsyncExitStack() as closing:
        recorders = []
        for url in cluster.urls:
            made, recorder = recorder_at(url)
            closing.callback(made.close)
            recorders.append(recorder)
        for round_number in range(20):
            first, second = uuid4(), uuid4()
            writer = recorders[round_number % 3]
            writer.insert_events([StoredEvent(first, 1, "a:1", b"")])
            written = writer.insert_events([StoredEvent(second, 1, "a:1", b""), StoredEvent(first, 2, "a:1", b"")])
            assert written is not None
            for reader in recorders:
                assert len(reader.select_events(first)) == 2
                assert [found.id for found in reader.select_notifications(written[0], 10)] == written


@pytest.mark.faults
async def test_the_log_goes_on_when_its_leader_is_killed(tmp_path: Path) -> None:
    async with running_cluster(tmp_path) as cluster, AsyncExitStack() as closing:
        made, recorder = recorder_at(cluster.url)
        closing.callback(made.close)
        client = await bus.connect(cluster.url, "test")
        closing.push_async_callback(client.close)
        heard: list[int] = []

        async def follow() -> None:
            async with aclosing(entries(client, LOG_STREAM, 0)) as batches:
                async for batch in batches:
                    heard.extend(entry.sequence for entry in batch)

        following = asyncio.create_task(follow())
        aggregate, written = uuid4(), []
        for version in range(1, 101):
            if version == 50:
                cluster.kill(await cluster.leader(LOG_STREAM))
            event = StoredEvent(aggregate, version, "a:1", b"%d" % version)
            written += await asyncio.to_thread(recorder.insert_events, [event]) or []
        await wait_until(lambda: heard and heard[-1] == written[-1], what="all was heard")
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)
        assert heard == written
        stored = await asyncio.to_thread(recorder.select_events, aggregate)
        assert [event.state for event in stored] == [b"%d" % version for version in range(1, 101)]
