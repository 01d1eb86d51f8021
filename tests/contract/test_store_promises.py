"""What Wireloom relies on beyond the library's cases: atomic writes, positions, lost acknowledgements, snapshots."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import (
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
    StoredEvent,
    Tracking,
)
from eventsourcing.utils import Environment

from events.store import JetStreamApplicationRecorder, JetStreamFactory, JetStreamProcessRecorder
from events.subjects import LOG_STREAM, SNAPSHOT_STREAM
from services.cli.embedded import EmbeddedServer
from tests.support.proxy import proxy_to


@asynccontextmanager
async def factory(url: str, name: str = "Allocator") -> AsyncIterator[JetStreamFactory]:
    """Recorders. A test that passes the connection on itself calls them in another thread, so as not to block it."""
    made = JetStreamFactory(Environment(name, {"NATS_URL": url}))
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)


def event(originator_id: UUID, version: int, state: bytes = b"{}") -> StoredEvent:
    return StoredEvent(originator_id, version, "test.happened:1", state)


def recorder_of(made: JetStreamFactory) -> JetStreamApplicationRecorder:
    return cast(JetStreamApplicationRecorder, made.application_recorder())


async def test_several_aggregates_are_written_together_or_not_at_all(bus_url: str) -> None:
    async with factory(bus_url) as made, factory(bus_url) as other:
        recorder, rival = recorder_of(made), recorder_of(other)
        contested, untouched = uuid4(), uuid4()
        recorder.insert_events([event(contested, 1)])
        rival.insert_events([event(contested, 2, b"rival")])
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(untouched, 1), event(contested, 2, b"late"), event(untouched, 2)])
        assert recorder.select_events(untouched) == []
        assert [stored.state for stored in recorder.select_events(contested)] == [b"{}", b"rival"]
        assert recorder.insert_events([event(untouched, 1), event(contested, 3), event(untouched, 2)]) == [3, 4, 5]
        assert [n.id for n in recorder.select_notifications(None, 10)] == [1, 2, 3, 4, 5]


async def test_somebody_elses_progress_is_no_conflict(bus_url: str) -> None:
    async with factory(bus_url) as made, factory(bus_url) as other:
        recorder, rival = recorder_of(made), recorder_of(other)
        aggregate = uuid4()
        for writer, version in ((recorder, 1), (rival, 2), (recorder, 3), (recorder, 4), (rival, 5)):
            assert writer.insert_events([event(aggregate, version)]) == [version]
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(aggregate, 7)])


@pytest.mark.parametrize("count", [1, 3])
async def test_the_expected_position_spans_the_whole_log(bus_url: str, count: int) -> None:
    async with factory(bus_url) as made:
        recorder = recorder_of(made)
        assert recorder.insert_events([event(uuid4(), 1) for _ in range(count)], expected_position=0)
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(uuid4(), 1) for _ in range(count)], expected_position=0)
        assert recorder.max_notification_id() == count
        recorder.insert_events([event(uuid4(), 1) for _ in range(count)], expected_position=count)
        assert recorder.max_notification_id() == 2 * count


@pytest.mark.parametrize("count", [1, 3])
async def test_a_lost_acknowledgement_is_found_out(bus_server: EmbeddedServer, count: int) -> None:
    async with proxy_to(bus_server.url) as proxy, factory(bus_server.url) as direct:
        async with factory(proxy.url) as made:
            recorder = await asyncio.to_thread(recorder_of, made)
            aggregate = uuid4()
            await asyncio.to_thread(recorder.insert_events, [event(aggregate, 1)])
            proxy.lose("to_client", b'"seq":')
            batch = [event(aggregate, version, b"mine") for version in range(2, 2 + count)]
            written = await asyncio.to_thread(recorder.insert_events, batch, expected_position=1)
            assert written == list(range(2, 2 + count))
            assert proxy.lost == 1
            assert await asyncio.to_thread(recorder.insert_events, [event(aggregate, count + 2)]) == [count + 2]
        assert len(recorder_of(direct).select_events(aggregate)) == count + 2


@pytest.mark.parametrize("count", [1, 3])
async def test_a_lost_write_is_made_once(bus_server: EmbeddedServer, count: int) -> None:
    async with proxy_to(bus_server.url) as proxy, factory(proxy.url) as made:
        recorder = await asyncio.to_thread(recorder_of, made)
        proxy.lose("to_server", b"HPUB")
        batch = [event(uuid4(), 1) for _ in range(count)]
        assert await asyncio.to_thread(recorder.insert_events, batch) == list(range(1, count + 1))
        assert proxy.lost == 1
        assert len(await asyncio.to_thread(recorder.select_notifications, None, 100)) == count


async def test_after_a_lost_acknowledgement_a_rivals_event_is_still_a_conflict(bus_server: EmbeddedServer) -> None:
    async with proxy_to(bus_server.url) as proxy, factory(bus_server.url) as direct, factory(proxy.url) as made:
        recorder = await asyncio.to_thread(recorder_of, made)
        rival = recorder_of(direct)
        aggregate = uuid4()
        rival.insert_events([event(aggregate, 1)])
        await asyncio.to_thread(recorder.select_events, aggregate)
        proxy.lose("to_server", b"HPUB")
        writing = asyncio.create_task(asyncio.to_thread(recorder.insert_events, [event(aggregate, 2, b"mine")]))
        while proxy.lost == 0:
            await asyncio.sleep(0)
        rival.insert_events([event(aggregate, 2, b"rival")])
        with pytest.raises(IntegrityError):
            await writing


async def test_a_bus_that_is_away_is_said(bus_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("events.store.journal.PATIENCE_SECONDS", 0.2)
    monkeypatch.setattr("events.store.journal.ATTEMPT_SECONDS", 0.2)
    async with factory(bus_server.url) as made:
        recorder = recorder_of(made)
        recorder.insert_events([event(uuid4(), 1)])
        bus_server.kill()
        await bus_server.wait()
        with pytest.raises(OperationalError, match="does not say whether it wrote"):
            recorder.insert_events([event(uuid4(), 1)])
        await bus_server.start()


async def test_a_restarted_bus_takes_the_write_that_waits(bus_server: EmbeddedServer) -> None:
    async with factory(bus_server.url) as made:
        recorder = recorder_of(made)
        aggregate = uuid4()
        recorder.insert_events([event(aggregate, 1)])
        bus_server.kill()
        await bus_server.wait()
        writing = asyncio.create_task(asyncio.to_thread(recorder.insert_events, [event(aggregate, 2)]))
        await bus_server.start()
        assert await writing == [2]


async def test_what_can_never_be_written_is_refused(bus_url: str) -> None:
    async with factory(bus_url) as made:
        recorder = recorder_of(made)
        with pytest.raises(InterfaceError, match="1001 messages are too many"):
            recorder.insert_events([event(uuid4(), 1) for _ in range(1001)])
        with pytest.raises(InterfaceError, match="too big"):
            recorder.insert_events([event(uuid4(), 1, bytes(9 * 1024 * 1024))])
        assert recorder.insert_events([event(uuid4(), 1) for _ in range(1000)]) == list(range(1, 1001))


async def test_a_part_of_a_long_history_is_found(bus_url: str) -> None:
    async with factory(bus_url) as made:
        recorder = recorder_of(made)
        aggregate, noise = uuid4(), uuid4()
        for first in range(1, 2000, 500):
            batch = [event(aggregate, version) for version in range(first, first + 500)]
            recorder.insert_events([*batch, *(event(noise, version) for version in range(first, first + 500))])
        whole = recorder.select_events(aggregate)
        assert [stored.originator_version for stored in whole] == list(range(1, 2001))
        for gt, lte in ((0, 5), (300, 310), (999, 1001), (1500, 2000), (1999, None), (2000, None)):
            expected = [stored for stored in whole if stored.originator_version > gt]
            expected = [stored for stored in expected if lte is None or stored.originator_version <= lte]
            assert recorder.select_events(aggregate, gt=gt, lte=lte) == expected
            assert recorder.select_events(aggregate, gt=gt, lte=lte, desc=True, limit=3) == expected[::-1][:3]
            assert recorder.select_events(aggregate, gt=gt, lte=lte, limit=3) == expected[:3]


async def test_a_big_snapshot_is_kept_whole(bus_url: str) -> None:
    async with factory(bus_url) as made:
        recorder = made.aggregate_recorder("snapshots")
        aggregate = uuid4()
        for version in (5, 9, 14):
            recorder.insert_events([event(aggregate, version, bytes([version]) * (3_000_000 + version))])
        newest = recorder.select_events(aggregate, desc=True, limit=1)
        assert newest == [event(aggregate, 14, bytes([14]) * 3_000_014)]
        before = recorder.select_events(aggregate, desc=True, limit=1, lte=13)
        assert before == [event(aggregate, 9, bytes([9]) * 3_000_009)]
        assert [stored.originator_version for stored in recorder.select_events(aggregate)] == [9, 14]
        recorder.insert_events([event(aggregate, 20, b"small")])
        assert [stored.originator_version for stored in recorder.select_events(aggregate)] == [14, 20]


async def test_an_allocator_has_the_streams_that_others_know(bus_url: str) -> None:
    async with factory(bus_url) as made:
        recorder, snapshots = recorder_of(made), made.aggregate_recorder("snapshots")
        assert recorder._journal.stream == LOG_STREAM
        assert snapshots._journal.stream == SNAPSHOT_STREAM
    async with factory(bus_url, "Another") as made:
        assert recorder_of(made)._journal.stream == "Another_events"


async def test_events_and_tracking_are_written_together(bus_url: str) -> None:
    async with factory(bus_url, "Process") as made:
        recorder = cast(JetStreamProcessRecorder, made.process_recorder())
        aggregate = uuid4()
        recorder.insert_events([event(aggregate, 1)], tracking=Tracking("upstream", 7))
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(aggregate, 2)], tracking=Tracking("upstream", 7))
        with pytest.raises(IntegrityError):
            recorder.insert_events([event(aggregate, 1)], tracking=Tracking("upstream", 8))
        assert recorder.max_tracking_id("upstream") == 7
        assert len(recorder.select_events(aggregate)) == 1


async def test_the_loops_own_thread_is_refused(bus_url: str) -> None:
    async with factory(bus_url) as made:
        recorder = recorder_of(made)

        async def call() -> None:
            recorder.max_notification_id()

        with pytest.raises(ProgrammingError):
            recorder._bridge.submit(call()).result()


async def test_closing_wakes_who_waits(bus_url: str) -> None:
    async with factory(bus_url) as made:
        subscription = recorder_of(made).subscribe()
        waiting = asyncio.create_task(asyncio.to_thread(next, subscription, None))
        subscription.stop()
        assert await waiting is None
        recorder = recorder_of(made)
        await asyncio.to_thread(made.close)
        with pytest.raises(InterfaceError):
            recorder.max_notification_id()
