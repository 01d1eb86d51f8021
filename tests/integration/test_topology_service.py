"""The topology service on a real server: nothing repeated, nothing skipped, whatever is killed."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from events import bus, state
from events.domain import DomainEvent
from events.ending import end
from events.errors import UnavailableError
from events.feed import last_sequence
from events.records import Record
from events.subjects import STATE, STATE_STREAM, machine_membership, network_info, scope_of, state_of
from services.cli.embedded import EmbeddedServer
from services.topology import writer as writing
from services.topology.core import Topology
from services.topology.derived import Derived
from services.topology.rebuild import compare, rebuild
from services.topology.restore import restore
from services.topology.service import LogBehindError, serve
from services.topology.settings import Settings
from services.topology.writer import StateDivergedError, StateWriter
from tests.support.histories import History
from tests.support.log_writer import write_events
from tests.support.waiting import wait_until


class Live:
    """What a listener of all live subjects hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, Record]] = []

    async def hears(self, cause: int) -> None:
        """Wait until an event's last record is heard."""
        await wait_until(lambda: self.heard and self.heard[-1][1].cause >= cause, what=f"event {cause} is heard")

    async def take(self, message: Msg) -> None:
        self.heard.append((state_of(message.subject), state.decode_record(message.data)))

    def assert_each_once(self) -> None:
        """Every scope's revisions came one after the other, from the first."""
        held: dict[str, int] = defaultdict(int)
        for subject, record in self.heard:
            scope = scope_of(subject)
            assert (record.previous, record.revision) == (held[scope], held[scope] + 1), subject
            held[scope] = record.revision

    def assert_never_back(self) -> None:
        """No scope's revision came twice, though some may have been missed."""
        held: dict[str, int] = defaultdict(int)
        for subject, record in self.heard:
            assert record.revision > held[scope_of(subject)], subject
            held[scope_of(subject)] = record.revision


@pytest.fixture
async def client(bus_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A connection that survives a restart of the server, which comes back on the same port."""
    bus_server.port = int(bus_server.url.rsplit(":", 1)[1])
    client = await bus.connect(bus_server.url, "test")
    yield client
    await client.close()


@pytest.fixture
async def live(client: Client) -> Live:
    listener = Live()
    await client.subscribe("live.>", cb=listener.take, pending_msgs_limit=0, pending_bytes_limit=0)
    await client.flush()
    return listener


@asynccontextmanager
async def topology(url: str) -> AsyncIterator[asyncio.Task[None]]:
    """A running service. It is cancelled in the middle of whatever it does."""
    task = asyncio.create_task(serve(Settings(nats_url=url), asyncio.Event()))
    try:
        yield task
    finally:
        await end([task])


async def position(client: Client) -> int:
    """How far STATE has come in the log."""
    try:
        last = await state.last_message(client)
    except UnavailableError:
        return 0
    return last.position if last else 0


async def reach(client: Client, sequence: int) -> None:
    async def reached() -> bool:
        return await position(client) >= sequence

    await wait_until(reached, what=f"STATE reaches event {sequence} of the log")


async def same(client: Client) -> None:
    """STATE becomes byte for byte what follows from the log. (Its last purges may still be under way.)"""

    async def is_same() -> bool:
        return not await compare(client)

    await wait_until(is_same, what="STATE is what follows from the log")
    assert dict((await state.load(client)).entries) == await rebuild(client)


def history_of(steps: int, seed: int = 1) -> History:
    history = History(seed)
    for _ in range(steps):
        history.step()
    return history


def portions(events: list[DomainEvent], seed: int) -> Iterator[list[DomainEvent]]:
    """The events in portions of random size."""
    chance = random.Random(seed)
    start = 0
    while start < len(events):
        size = chance.choice((1, 1, 2, 5, 40))
        yield events[start : start + size]
        start += size


async def test_every_record_is_heard_once_while_the_service_is_killed_again_and_again(
    client: Client, live: Live, bus_url: str
) -> None:
    chance = random.Random(2)
    end = 0
    for portion in portions(history_of(500).events, seed=3):
        before, end = end, await write_events(client, portion)
        async with topology(bus_url):
            await reach(client, chance.randint(before + 1, end))
    async with topology(bus_url):
        await reach(client, end)
        await same(client)
    live.assert_each_once()
    assert len({record.cause for _, record in live.heard}) == end, "every event was heard"


async def test_the_service_outlives_crashes_of_the_server(
    client: Client, live: Live, bus_server: EmbeddedServer
) -> None:
    end = 0
    async with topology(bus_server.url) as task:
        for number, portion in enumerate(portions(history_of(250, seed=4).events, seed=5)):
            end = await write_events(client, portion)
            if number % 8 == 7:
                bus_server.kill()
                await bus_server.wait()
                await bus_server.start()
                await wait_until(lambda: client.is_connected, what="the test's own connection is back")
        await reach(client, end)
        assert not task.done()
        await same(client)
    live.assert_never_back()


async def test_of_two_services_each_may_stop_and_nobody_hears_a_record_twice(
    client: Client, live: Live, bus_url: str
) -> None:
    history = history_of(400, seed=6)
    third = len(history.events) // 3
    async with topology(bus_url) as second:
        async with topology(bus_url) as first:
            for portion in portions(history.events[:third], seed=7):
                await write_events(client, portion)
            await reach(client, third)
        for portion in portions(history.events[third : 2 * third], seed=8):
            await write_events(client, portion)
        await reach(client, 2 * third)
        async with topology(bus_url) as third_one:
            for event in history.events[2 * third :]:
                await write_events(client, [event])
            await reach(client, len(history.events))
            assert not second.done()
            assert not third_one.done()
    assert first.done()
    await same(client)
    live.assert_each_once()


async def test_one_change_is_one_message_whatever_the_size_of_the_network(
    client: Client, live: Live, bus_url: str
) -> None:
    history = History()
    network_id = history.create_network()
    machines = [history.register_machine() for _ in range(1000)]
    history.assign(network_id, *machines[:500])
    history.assign(network_id, *machines[500:])
    for machine_id in machines:
        history.announce(network_id, machine_id)
    async with topology(bus_url):
        await live.hears(await write_events(client, history.events))
        before, written = len(live.heard), len(history.events)
        history.join(network_id)
        history.announce(network_id, machines[0])
        await live.hears(await write_events(client, history.events[written:]))
        assert len(live.heard) == before + 4, "four events were four messages"
        written = len(history.events)
        history.unassign(network_id, *machines[:500])
        await live.hears(await write_events(client, history.events[written:]))
        await wait_until(lambda: len(live.heard) == before + 1004, what="500 memberships and peers ended")
        written = len(history.events)
        history.delete_network(network_id)
        await live.hears(await write_events(client, history.events[written:]))
        await same(client)
    assert len(live.heard) == before + 1005, "the end of a network is one message"
    live.assert_each_once()


async def test_an_event_of_more_records_than_a_batch_holds_is_written_in_several(
    client: Client, live: Live, bus_url: str
) -> None:
    history = History()
    machine_id = history.register_machine()
    for _ in range(250):
        network_id = history.create_network()
        history.assign(network_id, machine_id)
        history.announce(network_id, machine_id)
    history.rename_machine(machine_id)
    derived = Topology()
    *_, renamed = [derived.apply(sequence, event) for sequence, event in enumerate(history.events, start=1)]
    async with topology(bus_url):
        await reach(client, await write_events(client, history.events))
        await same(client)
    assert [subject for subject, _ in live.heard[-251:]] == [entry.subject for entry in renamed.records]


@pytest.mark.parametrize("end", ["rename", "delete"])
async def test_an_event_of_several_batches_is_written_whole_wherever_it_was_cut_off(
    client: Client, bus_url: str, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    history = History()
    machine_id, account_id = history.register_machine(), history.create_account()
    for _ in range(4):
        network_id = history.create_network()
        history.assign(network_id, machine_id)
        history.announce(network_id, machine_id)
        history.issue_api_token(account_id)
    before = len(history.events)
    history.rename_machine(machine_id) if end == "rename" else history.delete_account(account_id)
    await write_events(client, history.events)
    monkeypatch.setattr(writing, "MAX_BATCH", 2)
    for batches in range(1, 4):
        await bus.ensure_streams(client, (STATE,), 1)
        core, writer = Topology(), StateWriter(client, 0, 0)
        for sequence, event in enumerate(history.events[:before], start=1):
            writer.add(sequence, core.apply(sequence, event))
        await writer.flush()
        writer.add(before + 1, core.apply(before + 1, history.events[before]))
        await _cut_off(writer, monkeypatch, batches)
        assert await position(client) == (before if batches < 3 else before + 1)
        async with topology(bus_url):
            await reach(client, before + 1)
            await same(client)
        await client.jetstream().delete_stream(STATE_STREAM)


async def _cut_off(writer: StateWriter, monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Have a writer end as if it were killed after so many batches."""
    publish: Callable[..., Awaitable[int]] = writer._publish
    left = batches

    async def mortal(*args: Any) -> int:
        nonlocal left
        if left == 0:
            raise asyncio.CancelledError
        left -= 1
        return await publish(*args)

    monkeypatch.setattr(writer, "_publish", mortal)
    with suppress(asyncio.CancelledError):
        await writer.flush()


async def test_what_a_crash_left_unpurged_is_purged_at_the_next_start(client: Client, bus_url: str) -> None:
    history = History()
    network_id = history.create_network()
    machine_id = history.join(network_id)
    async with topology(bus_url):
        await reach(client, await write_events(client, history.events))
    written = len(history.events)
    history.delete_network(network_id)
    history.update_agent(machine_id)
    await write_events(client, history.events[written:])

    dump = await state.load(client)
    core, _ = restore(dump.records())
    for sequence, event in enumerate(history.events[written:], start=written + 1):
        for entry in core.apply(sequence, event).records:
            await client.jetstream().publish(entry.subject, state.encode_record(entry.record))
    assert len(await compare(client)) == 2, "a peer and a membership stand in STATE still"
    async with topology(bus_url):
        await same(client)
    subjects = [subject for subject, _ in (await state.load(client)).entries]
    assert machine_membership(machine_id, network_id) not in subjects
    assert network_info(network_id) in subjects


async def test_a_machine_s_revision_survives_the_end_of_its_network(client: Client, live: Live, bus_url: str) -> None:
    history = History()
    network_id = history.create_network()
    machine_id = history.join(network_id)
    history.delete_network(network_id)
    async with topology(bus_url):
        await reach(client, await write_events(client, history.events))
    written = len(history.events)
    history.update_agent(machine_id)
    async with topology(bus_url):
        await reach(client, await write_events(client, history.events[written:]))
        await same(client)
    live.assert_each_once()


@pytest.mark.parametrize("records", [1, 3], ids=["message", "batch"])
async def test_a_lost_acknowledgement_neither_repeats_nor_skips(
    client: Client, live: Live, monkeypatch: pytest.MonkeyPatch, records: int
) -> None:
    await bus.ensure_streams(client, (STATE,), 1)
    history = History()
    for _ in range(records):
        history.register_machine()
    core, writer = Topology(), StateWriter(client, 0, 0)

    def add() -> None:
        for sequence, event in enumerate(history.events, start=1):
            if derived := core.apply(sequence, event).records:
                writer.add(sequence, Derived(derived))

    add()
    _lose_answers(client, monkeypatch, lambda subject: subject.startswith("state."), count=records)
    await writer.flush()
    assert writer.position == records
    history.register_machine()
    add()
    await writer.flush()
    await wait_until(lambda: len(live.heard) == records + 1)
    live.assert_each_once()


def _lose_answers(client: Client, monkeypatch: pytest.MonkeyPatch, on: Callable[[str], bool], count: int) -> None:
    """The first `count` requests on these subjects are answered, but the answers get lost."""
    request: Callable[..., Awaitable[Msg]] = client.request
    left = count

    async def lossy(subject: str, *args: Any, **kwargs: Any) -> Msg:
        nonlocal left
        answer = await request(subject, *args, **kwargs)
        if on(subject) and left > 0:
            left -= 1
            raise nats.errors.TimeoutError
        return answer

    monkeypatch.setattr(client, "request", lossy)


async def test_who_derives_something_else_is_told(client: Client) -> None:
    await bus.ensure_streams(client, (STATE,), 1)
    history = History()
    history.register_machine("mine")
    other = History()
    other.register_machine("theirs")
    mine, theirs = StateWriter(client, 0, 0), StateWriter(client, 0, 0)
    theirs.add(1, Topology().apply(1, other.events[0]))
    await theirs.flush()
    mine.add(1, Topology().apply(1, history.events[0]))
    with pytest.raises(StateDivergedError, match="derived something else from event 1"):
        await mine.flush()


async def test_a_state_that_was_deleted_is_written_anew(client: Client, bus_url: str) -> None:
    history = history_of(100, seed=9)
    async with topology(bus_url) as task:
        await reach(client, await write_events(client, history.events[:-1]))
        await client.jetstream().delete_stream(STATE_STREAM)
        await write_events(client, history.events[-1:])
        await reach(client, len(history.events))
        await same(client)
        assert not task.done()


async def test_a_log_that_is_shorter_than_it_was_is_refused(client: Client, bus_url: str) -> None:
    await bus.ensure_streams(client, (STATE,), 1)
    history = History()
    history.register_machine()
    (entry,) = Topology().apply(7, history.events[0]).records
    await client.jetstream().publish(entry.subject, state.encode_record(entry.record))
    with pytest.raises(LogBehindError, match="event 7 of the log, which ends at 0"):
        await serve(Settings(nats_url=bus_url), asyncio.Event())


async def test_it_stops_when_told(client: Client, bus_url: str) -> None:
    stop = asyncio.Event()
    task = asyncio.create_task(serve(Settings(nats_url=bus_url), stop))
    history = History()
    history.register_machine()
    await reach(client, await write_events(client, history.events))
    stop.set()
    await asyncio.wait_for(task, 30)
    assert await last_sequence(client, STATE_STREAM) == 1
