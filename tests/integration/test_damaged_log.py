"""A log that the disk has damaged: the allocator decides nothing on what is left of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import pytest

from events import bus, feed, log, state
from events.client import BusClient, Entry
from events.commands import Command, CreateAccount, CreateFirstAccount, CreateNetwork
from events.domain import ACCESS_ID
from events.errors import UnavailableError
from events.log import LogDamagedError
from events.subjects import LOG, log_subject
from events.trust.tokens import hashed
from services.allocator import service as allocator
from services.cli.embedded import EmbeddedServer
from services.cli.first import insisting
from tests.support.gateway import allocating, deriving
from tests.support.waiting import wait_until


@pytest.fixture
async def client(bus_server: EmbeddedServer) -> AsyncIterator[BusClient]:
    client = await bus.connect(bus_server.url, "test")
    execute = insisting(client)
    async with allocating(bus_server.url), deriving(bus_server.url):
        for number in range(3):
            await execute(network(number))
        for command in (first_account(), account("anna"), network(4)):
            await execute(command)
        await wait_until(lambda: is_derived(client), what="STATE shows the log's end")
    yield client
    await client.close()


async def is_derived(client: BusClient) -> bool:
    last = await state.last_message(client)
    return last is not None and last.position == await log.last_sequence(client)


def network(number: int) -> CreateNetwork:
    return CreateNetwork(
        command_id=uuid4(),
        actor="cli:test",
        network_id=uuid4(),
        name=f"net-{number}",
        network_cidr=f"10.{number}.0.0/16",
    )


def first_account() -> CreateFirstAccount:
    return CreateFirstAccount(
        command_id=uuid4(),
        actor="console:test",
        account_id=uuid4(),
        name="admin",
        token_id=uuid4(),
        secret_hash=hashed("x"),
    )


def account(name: str) -> CreateAccount:
    return CreateAccount(command_id=uuid4(), actor="cli:test", account_id=uuid4(), name=name, role="viewer")


async def entries(client: BusClient) -> list[Entry]:
    end, found = await log.last_sequence(client), list[Entry]()
    async for batch in feed.entries(client, LOG.name, 0):
        found += batch
        if found[-1].sequence >= end:
            return found
    raise AssertionError


async def damage(server: EmbeddedServer, entry: Entry, *, index_too: bool) -> None:
    """Flip a bit of a message on the disk. Without its index, the server counts what it can read."""
    await server.stop()
    (block,) = server.data_dir.rglob(f"{LOG.name}/msgs/*.blk")
    raw = bytearray(block.read_bytes())
    raw[raw.index(entry.data) + 20] ^= 1
    block.write_bytes(raw)
    if index_too:
        (block.parent / "index.db").unlink()
    await server.start()


@asynccontextmanager
async def refusing(client: BusClient) -> AsyncIterator[None]:
    """Nothing is written meanwhile."""
    before = await log.last_sequence(client)
    yield
    assert await log.last_sequence(client) == before


async def refused(client: BusClient, command: Command) -> bool:
    """Whether the allocator is there, and refuses since the log does not answer."""
    try:
        await bus.execute(client, command)
    except UnavailableError as error:
        return "log" in error.detail
    raise AssertionError("it was executed")


@pytest.mark.parametrize("index_too", [False, True], ids=["as-stopped", "index-lost"])
async def test_the_newest_event_of_the_access_list_is_damaged(
    bus_server: EmbeddedServer, client: BusClient, index_too: bool
) -> None:
    """Without it the list would be another: a first account could be made anew."""
    mine = [entry for entry in await entries(client) if entry.subject == log_subject(ACCESS_ID)]
    await damage(bus_server, mine[-1], index_too=index_too)
    for _ in range(2):  # what it lost when it started, the server has forgotten when it starts again
        async with refusing(client):
            if index_too:
                with pytest.raises(LogDamagedError, match="lacks events at its end"):
                    await allocator.serve(allocator.Settings(nats_url=bus_server.url), asyncio.Event())
            else:
                async with allocating(bus_server.url):
                    await wait_until(lambda: refused(client, first_account()), what="the allocator refuses")
                    await wait_until(lambda: refused(client, account("bob")), what="the allocator refuses")
        await bus_server.stop()
        await bus_server.start()


async def test_an_event_in_the_middle_is_damaged(bus_server: EmbeddedServer, client: BusClient) -> None:
    mine = [entry for entry in await entries(client) if entry.subject == log_subject(ACCESS_ID)]
    await damage(bus_server, mine[1], index_too=False)
    async with refusing(client), allocating(bus_server.url):
        await wait_until(lambda: refused(client, account("bob")), what="the allocator refuses")
