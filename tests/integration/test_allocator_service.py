"""The allocator as a service on a real bus: nobody's odd request stops it for the others."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import nats.errors
import pytest

from events import bus
from events.client import BusClient
from events.commands import Command, Outcome, RegisterMachine
from events.errors import InvalidInputError, UnavailableError
from events.log import last_sequence
from events.subjects import ALLOCATOR_EXECUTE
from services.allocator.service import Settings, serve
from tests.support.waiting import wait_until


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[BusClient]:
    """A connection to a bus on which an allocator runs."""
    stop = asyncio.Event()
    service = asyncio.create_task(serve(Settings(nats_url=bus_url), stop))
    client = await bus.connect(bus_url, "test")
    try:
        await wait_until(lambda: is_answered(client), what="the allocator")
        yield client
        assert not service.done(), service
    finally:
        stop.set()
        await asyncio.wait([service])
        await client.close()


async def is_answered(client: BusClient) -> bool:
    try:
        await bus.ask(client, ALLOCATOR_EXECUTE, b"{}", timeout=1)
    except InvalidInputError:
        return True
    except UnavailableError:
        return False
    raise AssertionError("an empty command was accepted")


def a_command() -> Command:
    return RegisterMachine(command_id=uuid4(), actor="test:somebody", machine_id=uuid4(), hostname="db-1")


async def test_who_wants_no_answer_stops_nobody_else(client: BusClient) -> None:
    await client.publish(ALLOCATOR_EXECUTE, a_command().model_dump_json().encode())
    await client.publish(ALLOCATOR_EXECUTE, b"not even JSON")
    reply = await bus.ask(client, ALLOCATOR_EXECUTE, a_command().model_dump_json().encode(), timeout=30)
    assert Outcome.model_validate_json(reply).sequence == 2
    assert await last_sequence(client) == 2


async def test_an_answer_that_cannot_be_sent_stops_nobody_else(
    client: BusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = BusClient.publish
    refused = []

    async def publish_once_refused(self: BusClient, subject: str, *arguments: object, **options: object) -> None:
        if subject.startswith("_INBOX.") and not refused:
            refused.append(subject)
            raise nats.errors.MaxPayloadError
        await publish(self, subject, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BusClient, "publish", publish_once_refused)
    command = a_command().model_dump_json().encode()
    with pytest.raises(UnavailableError):
        await bus.ask(client, ALLOCATOR_EXECUTE, command, timeout=0.5)
    assert refused
    assert Outcome.model_validate_json(await bus.ask(client, ALLOCATOR_EXECUTE, command, timeout=30)).sequence == 1
