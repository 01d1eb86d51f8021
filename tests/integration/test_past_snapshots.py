"""Snapshots of what STATE held: every moment is told rightly with them, without them, and with spoilt ones."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from nats.aio.client import Client

from events import bus
from events.client import BusClient, Entry
from events.direct import direct_get
from events.ending import end
from events.errors import InternalError, InvalidInputError, UnavailableError
from events.feed import jetstream, last_sequence
from events.past import PAST_NETWORK, PAST_STATE, PastNetworkRequest, PastRequest, ask_past
from events.peering import BgpPlan
from events.state import encode_record
from events.subjects import BGP, HISTORY, HISTORY_STREAM, LOG, LOG_STREAM, PATHS, PLANS, PLANS_STREAM, REACH
from services.topology.bgp_writer import BgpWriter
from services.topology.core import Topology
from services.topology.past.chronicler import Chronicler
from services.topology.past.plans import plan_at
from services.topology.past.service import serve_past
from services.topology.past.vault import Vault
from services.topology.shelf import Shelf
from tests.support.histories import History
from tests.support.log_writer import write_events
from tests.support.waiting import wait_until

BETWEEN = 7
NETWORK = UUID(int=7, version=4)


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[BusClient]:
    client = await bus.connect(bus_url, "test")
    await bus.ensure_streams(client, (LOG, HISTORY, REACH, BGP, PATHS, PLANS), 1)
    yield client
    await client.close()


def history_of(steps: int, seed: int = 3) -> History:
    history = History(seed)
    for _ in range(steps):
        history.step()
    return history


def all_held(history: History) -> list[dict[str, bytes]]:
    """What STATE held at each position."""
    topology, shelf, held = Topology(), Shelf(), list[dict[str, bytes]]([{}])
    for sequence, event in enumerate(history.events, 1):
        shelf.take(topology.apply(sequence, event))
        held.append(shelf.contents())
    return held


@asynccontextmanager
async def answering(client: Client, bus_url: str) -> AsyncIterator[None]:
    """A topology service's answers about the past."""
    async with AsyncExitStack() as stack:
        own = await bus.connect(bus_url, "topology")
        stack.push_async_callback(own.close)
        task = asyncio.create_task(serve_past(own))
        stack.push_async_callback(end, [task])
        await wait_until(lambda: answers(client), what="somebody answers about the past")
        yield
        assert not task.done()


async def answers(client: Client) -> bool:
    try:
        await ask_past(client, PAST_STATE, PastRequest(position=0))
    except UnavailableError:
        return False
    return True


async def told(client: Client, position: int) -> dict[str, bytes]:
    """What is told of a position."""
    entries = await ask_past(client, PAST_STATE, PastRequest(position=position))
    return {entry.subject: entry.payload for entry in entries}


async def parts(client: Client) -> list[Entry]:
    """All that stands in HISTORY."""
    page = await direct_get(client, HISTORY_STREAM, {"multi_last": ["history.>"]})
    return sorted(entry._replace(sequence=0, headers=b"") for entry in page.entries)


async def test_every_position_is_told_from_a_snapshot_and_what_follows_after_a_restart_too(
    client: BusClient, bus_url: str
) -> None:
    history = history_of(60)
    held = all_held(history)
    await write_events(client, history.events[:30])
    assert await Chronicler(client, BETWEEN, rest=0).write_due() > 1
    async with answering(client, bus_url):
        for position in range(31):
            assert await told(client, position) == held[position]
    await write_events(client, history.events[30:])
    assert await Chronicler(client, BETWEEN, rest=0).write_due() > 1
    assert await Chronicler(client, BETWEEN, rest=0).write_due() == 0
    async with answering(client, bus_url):
        for position in reversed(range(len(held))):
            assert await told(client, position) == held[position]


async def test_several_that_write_at_once_write_the_same(client: BusClient, bus_url: str) -> None:
    await write_events(client, history_of(80).events)
    await Chronicler(client, BETWEEN, rest=0).write_due()
    alone = await parts(client)
    await jetstream(client, f"STREAM.PURGE.{HISTORY_STREAM}", {})
    other = await bus.connect(bus_url, "another")
    await asyncio.gather(*(Chronicler(each, BETWEEN, rest=0).write_due() for each in (client, other)))
    await other.close()
    assert await parts(client) == alone


@pytest.mark.parametrize("spoil", ["no part", "no head", "another part", "another log", "no head that can be read"])
async def test_a_spoilt_snapshot_is_passed_over_and_made_anew(client: BusClient, bus_url: str, spoil: str) -> None:
    history = history_of(60)
    held = all_held(history)
    await write_events(client, history.events)
    await Chronicler(client, BETWEEN, rest=0).write_due()
    before = await parts(client)
    heads = await Vault(client).heads()
    newest = list(heads.values())[-1]
    subject = f"history.{newest.position}"
    match spoil:
        case "no part":
            await jetstream(client, f"STREAM.PURGE.{HISTORY_STREAM}", {"filter": f"{subject}.1"})
        case "no head":
            await jetstream(client, f"STREAM.PURGE.{HISTORY_STREAM}", {"filter": f"{subject}.0"})
        case "another part":
            await client.request(f"{subject}.1", b"something else")
        case "another log":
            head = newest.model_copy(update={"digest": "0" * 64})
            await client.request(f"{subject}.0", head.model_dump_json().encode())
        case _:
            await client.request(f"{subject}.0", b"{")
    async with answering(client, bus_url):
        assert await told(client, newest.position) == held[newest.position]
        assert await told(client, newest.position - 1) == held[newest.position - 1]
    await Chronicler(client, BETWEEN, rest=0).write_due()
    assert await parts(client) == before


async def test_without_the_stream_everything_is_told_from_the_log(client: BusClient, bus_url: str) -> None:
    history = history_of(30)
    held = all_held(history)
    await write_events(client, history.events)
    await Chronicler(client, BETWEEN, rest=0).write_due()
    async with answering(client, bus_url):
        assert await told(client, 20) == held[20]
        await jetstream(client, f"STREAM.DELETE.{HISTORY_STREAM}", {})
        assert await told(client, 19) == held[19]


async def test_another_log_in_its_place_is_told_as_it_is(client: BusClient, bus_url: str) -> None:
    one, other = history_of(40), history_of(40, seed=4)
    await write_events(client, one.events)
    await Chronicler(client, BETWEEN, rest=0).write_due()
    async with answering(client, bus_url):
        assert await told(client, 30) == all_held(one)[30]
        await jetstream(client, f"STREAM.DELETE.{LOG_STREAM}", {})
        await write_events(client, other.events)
        for position in (30, 29, 33):
            assert await told(client, position) == all_held(other)[position]
    await Chronicler(client, BETWEEN, rest=0).write_due()
    async with answering(client, bus_url):
        assert await told(client, 30) == all_held(other)[30]


async def test_what_cannot_be_answered_is_said_and_the_next_is_answered(client: BusClient, bus_url: str) -> None:
    await write_events(client, history_of(5).events)
    async with answering(client, bus_url):
        with pytest.raises(InvalidInputError):
            await ask_past(client, "past.nothing", PastRequest(position=0))
        await client.publish(PAST_STATE, b"{", reply="nowhere")
        await client.publish("log.nonsense", b"{}")
        broken = await last_sequence(client, LOG_STREAM) + 1
        await wait_until(lambda: reaches(client, broken - 1), what="the log has what cannot be read")
        with pytest.raises(InternalError):
            await told(client, await last_sequence(client, LOG_STREAM))
        assert await told(client, 3)


async def reaches(client: Client, position: int) -> bool:
    return await last_sequence(client, LOG_STREAM) >= position


async def test_every_plan_is_kept_also_one_whose_writer_died(client: BusClient) -> None:
    start = datetime(2026, 5, 3, tzinfo=UTC)
    writer = BgpWriter(client, None, start)
    await writer.load()
    plans = [BgpPlan("switching", frozenset({UUID(int=1)})), BgpPlan("reflectors", frozenset({UUID(int=1)})), BgpPlan()]
    for number, plan in enumerate(plans):
        assert await writer.write(NETWORK, plan, 0, start + timedelta(minutes=number))
    for number, plan in enumerate(plans):
        record = await plan_at(client, NETWORK, start, start + timedelta(minutes=number, seconds=1))
        assert record is not None
        assert record.body == plan.record(NETWORK)
    assert await plan_at(client, NETWORK, start, start - timedelta(seconds=1)) is None
    assert await plan_at(client, NETWORK, start + timedelta(hours=1), start + timedelta(hours=2)) is None
    newest = await plan_at(client, NETWORK, start, start + timedelta(hours=1))
    await jetstream(client, f"STREAM.PURGE.{PLANS_STREAM}", {"keep": 2})
    await jetstream(client, f"STREAM.MSG.DELETE.{PLANS_STREAM}", {"seq": 3, "no_erase": True})
    await BgpWriter(client, None, start).load()
    found = await plan_at(client, NETWORK, start, start + timedelta(hours=1))
    assert found == newest
    assert encode_record(found) == writer.of(NETWORK).payload if found else False


async def test_it_is_told_since_when_reports_are_known(client: BusClient, bus_url: str) -> None:
    history = History()
    network = history.create_network()
    await write_events(client, history.events)
    async with answering(client, bus_url):
        entries = await ask_past(client, PAST_NETWORK, PastNetworkRequest(position=1, network_id=network))
        (since,) = [datetime.fromisoformat(entry.payload.decode()) for entry in entries if not entry.stream]
        assert abs(datetime.now(UTC) - since) < timedelta(minutes=5)
        for _ in range(2):
            await client.request(f"reach.{network}.a.b", b'{"time":"2026-01-01T00:00:00Z"}')
        await jetstream(client, "STREAM.PURGE.REACH", {"keep": 1})
        entries = await ask_past(client, PAST_NETWORK, PastNetworkRequest(position=1, network_id=network))
        (since,) = [datetime.fromisoformat(entry.payload.decode()) for entry in entries if not entry.stream]
        assert since > datetime.now(UTC) + timedelta(days=6), "what was the newest then is reported again within a week"
