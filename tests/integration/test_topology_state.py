"""Reading STATE on a real server: all of it, what comes after, and across restarts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from ipaddress import IPv4Address
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from events import bus, state
from events.errors import UnavailableError
from events.feed import StreamMissingError
from events.records import PeerRecord, Record, SubjectRecord
from events.subjects import STATE, network_peer
from services.cli.embedded import EmbeddedServer

NETWORK = uuid4()
KEY = "A" * 42 + "E="


@pytest.fixture
async def client(bus_server: EmbeddedServer) -> AsyncIterator[Client]:
    """A connection that survives a restart of the server, which comes back on the same port."""
    bus_server.port = int(bus_server.url.rsplit(":", 1)[1])
    client = await bus.connect(bus_server.url, "test")
    await bus.ensure_streams(client, (STATE,), 1)
    yield client
    await client.close()


def peer(machine_id: UUID, revision: int) -> SubjectRecord:
    body = PeerRecord(
        network_id=NETWORK,
        machine_id=machine_id,
        hostname="host",
        address=IPv4Address("10.0.0.1"),
        public_key=KEY,
        endpoints=(),
    )
    record = Record(
        revision=revision, previous=revision - 1, cause=revision, time=datetime(2026, 1, 1, tzinfo=UTC), body=body
    )
    return SubjectRecord(subject=network_peer(NETWORK, machine_id), record=record)


async def write(client: Client, *records: SubjectRecord) -> None:
    for entry in records:
        await client.jetstream(timeout=60).publish(entry.subject, state.encode_record(entry.record))


async def test_nothing_is_loaded_from_an_empty_stream(client: Client) -> None:
    dump = await state.load(client)
    assert (dump.entries, dump.last_sequence) == ([], 0)
    assert await state.last_message(client) is None


async def test_a_stream_that_is_missing_is_said_to_be(bus_url: str) -> None:
    client = await bus.connect(bus_url, "test")
    with pytest.raises(StreamMissingError, match="There is no stream STATE"):
        await state.load(client)
    await client.close()


async def test_load_has_the_newest_of_each_subject_in_the_order_written(client: Client) -> None:
    first, second = uuid4(), uuid4()
    await write(client, peer(first, 1), peer(second, 2), peer(first, 3))
    dump = await state.load(client)
    assert dump.records() == [peer(second, 2), peer(first, 3)]
    assert dump.last_sequence == 3
    last = await state.last_message(client)
    assert last is not None
    assert (last.sequence, last.subject, last.payload) == (3, *dump.entries[-1])


async def test_the_last_sequence_outlives_its_message(client: Client) -> None:
    first = uuid4()
    await write(client, peer(uuid4(), 1), peer(first, 2))
    await state.purge(client, network_peer(NETWORK, first))
    dump = await state.load(client)
    assert [entry.record.revision for entry in dump.records()] == [1]
    assert dump.last_sequence == 2
    await state.purge(client, ">")
    assert await state.load(client) == state.StateDump([], {}, 2)


async def test_what_is_followed_begins_where_the_load_ended(client: Client) -> None:
    one = uuid4()
    await write(client, peer(one, 1), peer(uuid4(), 2))
    dump = await state.load(client)
    await write(client, peer(one, 3), peer(uuid4(), 4))
    follower = state.follow(client, dump.last_sequence)
    assert await _revisions(follower, 2) == [3, 4]
    await write(client, peer(one, 5))
    assert await _revisions(follower, 1) == [5]
    await follower.aclose()


async def test_a_follower_goes_on_after_a_crash_of_the_server(client: Client, bus_server: EmbeddedServer) -> None:
    await write(client, peer(uuid4(), 1))
    follower = state.follow(client, 0)
    assert await _revisions(follower, 1) == [1]
    for round_number in range(1, 3):
        bus_server.kill()
        await bus_server.wait()
        await bus_server.start()
        writer = await bus.connect(bus_server.url, "writer")
        await write(writer, peer(uuid4(), 2 * round_number), peer(uuid4(), 2 * round_number + 1))
        await writer.close()
        assert await _revisions(follower, 2) == [2 * round_number, 2 * round_number + 1]
    await follower.aclose()


async def test_a_follower_ends_when_the_connection_is_closed_for_good(client: Client) -> None:
    follower = state.follow(client, 0)
    await write(client, peer(uuid4(), 1))
    assert await _revisions(follower, 1) == [1]
    await client.close()
    with pytest.raises(UnavailableError, match="closed"):
        await _revisions(follower, 1)


async def test_many_records_are_loaded_and_followed_in_order(client: Client) -> None:
    count = 20_000
    for revision in range(1, count):
        entry = peer(uuid4(), revision)
        await client.publish(entry.subject, state.encode_record(entry.record))
    await write(client, peer(uuid4(), count))
    dump = await state.load(client)
    assert dump.last_sequence == count
    assert [entry.record.revision for entry in dump.records()] == list(range(1, count + 1))
    follower = state.follow(client, 0)
    assert await _revisions(follower, count) == list(range(1, count + 1))
    await follower.aclose()


async def _revisions(follower: AsyncIterator[list[SubjectRecord]], count: int) -> list[int]:
    """The revisions of the next records, at least `count`."""
    revisions: list[int] = []
    while len(revisions) < count:
        revisions += [entry.record.revision for entry in await anext(follower)]
    return revisions
