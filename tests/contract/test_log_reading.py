"""Reading the log on a real server: parts of it, and following it through batches and restarts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from uuid import UUID, uuid4

import nats.errors
import pytest
from nats.aio.client import Client

from events import bus, codec, log
from events.domain import GENESIS_HASH, MachineRegistered
from events.subjects import EVENT_HEADER, LOG, log_subject
from services.cli.embedded import EmbeddedServer
from tests.support.waiting import wait_until


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[Client]:
    connection = await bus.connect(bus_url, "test")
    await bus.ensure_streams(connection, [LOG], 1)
    yield connection
    await connection.close()


def registered(machine_id: UUID | None = None) -> MachineRegistered:
    machine_id = machine_id or uuid4()
    return MachineRegistered(
        originator_id=machine_id,
        originator_version=1,
        previous_hash=GENESIS_HASH,
        time=datetime.now(UTC),
        actor="test:somebody",
        command_id=uuid4(),
        machine_id=machine_id,
        hostname="one",
        agent_version="",
    )


def headers_of(event: MachineRegistered, **more: str) -> dict[str, str]:
    return {EVENT_HEADER: f"1 {codec.topic_of(type(event))}", **{k.replace("_", "-"): v for k, v in more.items()}}


async def write(client: Client, events: Sequence[MachineRegistered]) -> None:
    for event in events:
        await client.jetstream().publish(
            log_subject(event.originator_id), codec.encode(event), headers=headers_of(event)
        )


async def test_parts_of_the_log(client: Client) -> None:
    assert await log.last_sequence(client) == 0
    assert await log.read(client, 0, 10) == []
    events = [registered() for _ in range(5)]
    await write(client, events)
    assert await log.last_sequence(client) == 5
    whole = await log.read(client, 0, 10)
    assert [logged.event for logged in whole] == events
    assert [logged.sequence for logged in whole] == [1, 2, 3, 4, 5]
    assert [logged.digest for logged in whole] == [codec.digest_of(event) for event in events]
    assert await log.read(client, 1, 2) == whole[1:3]
    assert await log.read(client, 1, 10, stop=4) == whole[1:4]
    assert await log.read(client, 5, 10) == []


async def test_what_is_no_event_is_said(client: Client) -> None:
    await client.jetstream().publish(log_subject(uuid4()), b"{}")
    with pytest.raises(codec.UnreadableEventError, match="is not an event"):
        await log.read(client, 0, 1)


async def test_a_batch_is_not_seen_before_it_is_committed(client: Client) -> None:
    batch, alone = [registered() for _ in range(3)], registered()
    async with aclosing(log.follow(client, 0)) as arrivals:
        for number, event in enumerate(batch[:2], 1):
            headers = headers_of(event, Nats_Batch_Id="one", Nats_Batch_Sequence=str(number))
            await client.request(log_subject(event.originator_id), codec.encode(event), headers=headers)
        await write(client, [alone])
        assert [logged.event for logged in await anext(arrivals)] == [alone]
        headers = headers_of(batch[2], Nats_Batch_Id="one", Nats_Batch_Sequence="3", Nats_Batch_Commit="1")
        await client.jetstream().publish(log_subject(batch[2].originator_id), codec.encode(batch[2]), headers=headers)
        heard: list[MachineRegistered] = []
        while len(heard) < 3:
            heard += [logged.event for logged in await anext(arrivals)]  # type: ignore[misc]
        assert heard == batch


async def test_following_survives_crashes_of_the_server(bus_server: EmbeddedServer, client: Client) -> None:
    heard: list[log.LoggedEvent] = []

    async def follow() -> None:
        async with aclosing(log.follow(client, 0)) as arrivals:
            async for batch in arrivals:
                heard.extend(batch)

    following = asyncio.create_task(follow())
    written: list[MachineRegistered] = []
    try:
        for _ in range(3):
            events = [registered() for _ in range(50)]
            await write(client, events)
            written += events
            bus_server.kill()
            await bus_server.wait()
            await bus_server.start()
            await wait_until(lambda: client.is_connected, what="the connection is back")
        await write(client, [last := registered()])
        await wait_until(lambda: heard and heard[-1].event == last, what="the last event is heard")
        assert [logged.event for logged in heard] == [*written, last]
        assert [logged.sequence for logged in heard] == list(range(1, 152))
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_a_connection_can_be_closed_while_the_bus_is_away(bus_server: EmbeddedServer) -> None:
    for patience in (0.0, 0.1, 0.3):
        connection = await bus.connect(bus_server.url, "test")
        bus_server.kill()
        await bus_server.wait()
        await wait_until(lambda: connection.is_reconnecting, what="the loss is noticed")  # noqa: B023
        with contextlib.suppress(nats.errors.TimeoutError):
            await connection.request("nobody", b"", timeout=patience)
        await connection.close()
        assert connection.is_closed
        await bus_server.start()
