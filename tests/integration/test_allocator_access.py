"""Allocators on real buses: one token and fifty machines at once; and a bus that asks who they are."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest

from events import bus
from events.client import BusClient
from events.commands import (
    Command,
    CreateBootstrapToken,
    CreateNetwork,
    EnrolMachine,
    Outcome,
    RevokeMachine,
)
from events.domain import MachineEnrolled, MachineRegistered, MachinesAssigned
from events.errors import TokenRefusedError, UnavailableError, WireloomError
from events.identity import Identity
from events.log import read
from events.store import journal
from events.trust.keys import generate
from events.trust.permissions import ALLOCATOR
from services.allocator import application
from services.allocator.service import Settings, serve
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create
from tests.support.waiting import wait_until

ALLOCATORS = 2


@contextlib.asynccontextmanager
async def allocators(url: str, identity: Path | None = None, count: int = ALLOCATORS) -> AsyncIterator[None]:
    """So many allocators on one bus."""
    stop = asyncio.Event()
    running = [asyncio.create_task(serve(Settings(nats_url=url, identity=identity), stop)) for _ in range(count)]
    try:
        yield
        assert not any(task.done() for task in running), running
    finally:
        stop.set()
        await asyncio.gather(*running)


async def answer(client: BusClient, command: Command) -> Outcome | WireloomError:
    try:
        return await bus.execute(client, command)
    except WireloomError as refusal:
        return refusal


async def execute(client: BusClient, command: Command) -> Outcome:
    """Execute a command as soon as somebody answers."""

    async def outcome() -> Outcome | None:
        with contextlib.suppress(UnavailableError):
            return await bus.execute(client, command, timeout=2)
        return None

    return await wait_until(outcome, what="an allocator")


def a_token(secret_hash: str, uses: int) -> Command:
    return CreateBootstrapToken(
        command_id=uuid4(), actor="test:x", token_id=uuid4(), secret_hash=secret_hash, uses=uses
    )


def a_machine(secret_hash: str) -> EnrolMachine:
    return EnrolMachine(
        command_id=uuid4(),
        actor="test:x",
        machine_id=uuid4(),
        identity_key=generate("user").public,
        hostname="db-1",
        secret_hash=secret_hash,
    )


@pytest.mark.parametrize("uses", [1, 7])
async def test_fifty_machines_at_once_get_in_exactly_as_often_as_the_token_allows(bus_url: str, uses: int) -> None:
    secret_hash = uuid4().hex * 2
    async with allocators(bus_url):
        client = await bus.connect(bus_url, "test")
        try:
            network = CreateNetwork(
                command_id=uuid4(),
                actor="test:x",
                network_id=uuid4(),
                name="office",
                network_cidr="10.0.0.0/24",
                is_default=True,
            )
            await execute(client, network)
            await execute(client, a_token(secret_hash, uses))
            answers = await asyncio.gather(*(answer(client, a_machine(secret_hash)) for _ in range(50)))
            events = [logged.event for logged in await read(client, after=0, limit=1000)]
        finally:
            await client.close()
    let_in = [each for each in answers if isinstance(each, Outcome)]
    assert len(let_in) == uses
    assert [type(each) for each in answers if not isinstance(each, Outcome)] == [TokenRefusedError] * (50 - uses)
    for kind in (MachineEnrolled, MachineRegistered, MachinesAssigned):
        assert sum(isinstance(event, kind) for event in events) == uses
    assert len(events) == 2 + 3 * uses


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Identity:
    return create(tmp_path_factory.mktemp("control") / "identity", ["127.0.0.1"])


@pytest.fixture
async def secured(tmp_path: Path, identity: Identity) -> AsyncIterator[EmbeddedServer]:
    """A bus that asks who one is."""
    server = EmbeddedServer(tmp_path / "bus", port=0, identity=identity)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> tuple[set[str], set[str]]:
    """Every subject that an allocator publishes and subscribes."""
    published: set[str] = set()
    subscribed: set[str] = set()
    publish, subscribe = BusClient.publish, BusClient.subscribe

    def is_allocator(client: BusClient) -> bool:
        return client._inbox_prefix.decode() == "_INBOX.allocator"

    async def publish_noted(self: BusClient, subject: str, *arguments: object, **options: object) -> None:
        if is_allocator(self):
            published.add(subject)
        await publish(self, subject, *arguments, **options)  # type: ignore[arg-type]

    async def subscribe_noted(self: BusClient, subject: str, *arguments: object, **options: object) -> object:
        if is_allocator(self):
            subscribed.add(subject)
        return await subscribe(self, subject, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(BusClient, "publish", publish_noted)
    monkeypatch.setattr(BusClient, "subscribe", subscribe_noted)
    return published, subscribed


def is_matched(pattern: str, subjects: set[str]) -> bool:
    wanted = pattern.split(".")
    return any(
        ((wanted[-1] == ">" and len(tokens) >= len(wanted)) or len(tokens) == len(wanted))
        and all(want in ("*", ">", token) for want, token in zip(wanted, tokens, strict=False))
        for tokens in (subject.split(".") for subject in subjects)
    )


async def test_on_a_secured_bus_allocators_may_do_what_they_do_and_nothing_else(
    secured: EmbeddedServer,
    identity: Identity,
    said: tuple[set[str], set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Single writes and batches, snapshots small and large, cold starts, and two at once."""
    monkeypatch.setattr(application, "SNAPSHOT_EVERY", 20)
    monkeypatch.setattr(journal, "_PART_SIZE", 1000)
    console = await bus.connect(secured.url, "test", identity.credentials("console"))
    try:
        for _ in range(2):
            secret_hash = uuid4().hex * 2
            async with allocators(secured.url, identity.folder):
                await execute(console, a_token(secret_hash, 30))
                machines = [a_machine(secret_hash) for _ in range(30)]
                answers = await asyncio.gather(*(answer(console, each) for each in machines))
                assert all(isinstance(each, Outcome) for each in answers), answers
                revoking = RevokeMachine(command_id=uuid4(), actor="test:x", machine_id=machines[0].machine_id)
                await execute(console, revoking)
    finally:
        await console.close()
    assert "Violation" not in secured.log_path.read_text()
    published, subscribed = said
    # Only where a definition has changed, and for whoever looks how far a stream goes.
    seldom = {f"$JS.API.STREAM.{verb}.{stream}" for verb in ("UPDATE", "INFO") for stream in ("LOG", "SNAPSHOTS")}
    assert [each for each in ALLOCATOR.publish if not is_matched(each, published | seldom)] == []
    assert [each for each in ALLOCATOR.subscribe if not is_matched(each, subscribed)] == []


@pytest.mark.parametrize(
    "subject",
    ["state.x", "live.x", "ask.x.sync", "beat.x", "allocator.execute", "wireloom.command.x.create-network"]
    + [f"$JS.API.STREAM.{verb}" for verb in ("PURGE.LOG", "DELETE.LOG", "DELETE.SNAPSHOTS", "MSG.DELETE.LOG")]
    + ["$JS.API.CONSUMER.CREATE.LOG", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.MSG.GET.REACH", "$SYS.x"],
)
async def test_what_an_allocator_may_not_say_is_not_heard(
    secured: EmbeddedServer, identity: Identity, subject: str
) -> None:
    client = await bus.connect(secured.url, "test", identity.credentials("allocator"))
    try:
        await client.publish(subject, b"{}")
        await client.flush()
    finally:
        await client.close()
    assert f'Publish Violation - Subject "{subject}"' in secured.log_path.read_text()
