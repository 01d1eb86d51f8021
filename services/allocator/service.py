"""The allocator as a service: commands from the bus to the application, and answers back. A shell."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from functools import partial
from pathlib import Path

import nats.errors
import structlog
from nats.aio.msg import Msg
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from events import bus
from events.client import BusClient
from events.commands import COMMANDS, Command, Outcome
from events.ending import unless
from events.errors import InvalidInputError, UnavailableError, WireloomError
from events.identity import Identity
from events.log import require_whole
from events.preview import PreviewRequest, check_ids
from events.store.journal import Journal
from events.subjects import ALLOCATOR_EXECUTE, ALLOCATOR_PREVIEW, ALLOCATOR_QUEUE, LOG, SNAPSHOTS
from services.allocator.application import Allocator, Answer

GROUP_SIZE = 256
"""So many waiting commands at most are decided and written together."""

_LOOK_AGAIN_SECONDS = 0.5

MAX_PREVIEWS = 256
"""So many previews at most wait; further ones are refused."""


class Settings(BaseSettings):
    """Where the bus is."""

    nats_url: str = Field("nats://127.0.0.1:7422", validation_alias="NATS_URL")
    replicas: int = Field(1, validation_alias="WIRELOOM_REPLICAS", ge=1, le=5)
    identity: Path | None = Field(None, validation_alias="WIRELOOM_IDENTITY")
    """The folder of the control plane's identity; None for a bus that does not ask who one is."""

    model_config = {"populate_by_name": True}


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Execute commands until `stop` is set; those that have arrived by then are answered. The bus is waited for.

    Raises `UnavailableError` if the bus refuses or its connection is closed for good, `InternalError` if the log cannot
    be read, or has lost events: a bus that was started again may have dropped some; and `StoppedError` where it is told
    to stop before it has begun.
    """
    reconnected = asyncio.Event()
    log = structlog.get_logger("allocator")
    credentials = Identity(settings.identity).credentials("allocator") if settings.identity else None
    client = await unless(
        stop, bus.connect(settings.nats_url, "wireloom-allocator", credentials, on_reconnect=reconnected.set)
    )
    try:
        await unless(stop, bus.when_ready(client, partial(_prepare, client, settings.replicas)))
        environment = {"NATS_URL": settings.nats_url, "WIRELOOM_REPLICAS": str(settings.replicas)}
        if settings.identity:
            environment["WIRELOOM_IDENTITY"] = str(settings.identity)
        journal = Journal(BusClient.of(client), LOG.name, LOG.prefix)
        with Allocator(environment, append=journal.append) as application:
            clerk = _Clerk(application)
            subscriptions = [
                await client.subscribe(ALLOCATOR_EXECUTE, queue=ALLOCATOR_QUEUE, cb=clerk.take),
                await client.subscribe(ALLOCATOR_PREVIEW, queue=ALLOCATOR_QUEUE, cb=clerk.take_preview),
            ]
            await client.flush()
            log.info("ready", position=application.position)
            async with asyncio.TaskGroup() as group:
                group.create_task(clerk.work())
                looking = group.create_task(_look_again(client, reconnected))
                await stop.wait()
                looking.cancel()
                for subscription in subscriptions:
                    await subscription.drain()  # type: ignore[no-untyped-call]
                clerk.finish()
    finally:
        await client.close()


async def _prepare(client: BusClient, replicas: int) -> None:
    await bus.ensure_streams(client, (LOG, SNAPSHOTS), replicas)
    await require_whole(client)


async def _look_again(client: BusClient, reconnected: asyncio.Event) -> None:
    """Look after every reconnection whether the log is whole still. Raises `LogDamagedError`."""
    while True:
        await reconnected.wait()
        reconnected.clear()
        try:
            await require_whole(client)
        except UnavailableError:
            reconnected.set()
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


class _Clerk:
    """Takes requests and has the application execute them: those that arrive while a group is written are the next.

    Between two groups at most one preview is made: who only asks what would be holds up nobody.
    """

    def __init__(self, application: Allocator) -> None:
        self._application = application
        self._waiting: deque[tuple[Msg, Command]] = deque()
        self._previews: deque[tuple[Msg, PreviewRequest]] = deque()
        self._news = asyncio.Event()
        self._is_finishing = False

    async def take(self, message: Msg) -> None:
        """Let a request wait for its turn, or refuse one that is no command."""
        try:
            command = COMMANDS.validate_json(message.data)
        except ValidationError as error:
            await bus.refuse(message, _not_a_command(error))
            return
        self._waiting.append((message, command))
        self._news.set()

    async def take_preview(self, message: Msg) -> None:
        """Let a request to know what commands would lead to wait for its turn, or refuse it."""
        if not bus.wants_answer(message):
            return
        try:
            request = PreviewRequest.model_validate_json(message.data)
            check_ids(request)
            if len(self._previews) >= MAX_PREVIEWS:
                raise UnavailableError("Too many want to know what would happen.", hint="Ask again in a moment.")
        except ValidationError as error:
            await bus.refuse(message, _not_a_command(error))
        except WireloomError as error:
            await bus.refuse(message, error)
        else:
            self._previews.append((message, request))
            self._news.set()

    async def work(self) -> None:
        """Answer requests until `finish` was called and none is left."""
        while self._waiting or self._previews or not self._is_finishing:
            await self._news.wait()
            self._news.clear()
            while self._waiting or self._previews:
                group = [self._waiting.popleft() for _ in range(min(len(self._waiting), GROUP_SIZE))]
                if group:
                    answers = await self._application.execute([command for _, command in group])
                    await _reply([message for message, _ in group], answers)
                if self._previews:
                    await self._preview(*self._previews.popleft())
                    await asyncio.sleep(0)

    async def _preview(self, message: Msg, request: PreviewRequest) -> None:
        try:
            body = self._application.preview(request.commands).model_dump_json().encode()
            if len(body) > message._client.max_payload:
                raise InvalidInputError("There is more to tell than the bus carries.", hint="Ask for less at once.")
        except WireloomError as error:
            await bus.refuse(message, error)
        else:
            with contextlib.suppress(nats.errors.Error):
                await message._client.publish(message.reply, body)

    def finish(self) -> None:
        """Have `work` end once it has answered what is waiting."""
        self._is_finishing = True
        self._news.set()


async def _reply(messages: list[Msg], answers: list[Answer]) -> None:
    """Send each its answer. One that cannot be sent is logged: whoever waits for it asks again by the command's id."""
    for message, answer in zip(messages, answers, strict=True):
        try:
            if not isinstance(answer, Outcome):
                await bus.refuse(message, answer)
            elif message.reply:
                await message.respond(answer.model_dump_json().encode())
        except nats.errors.Error as error:
            structlog.get_logger("allocator").warning("an answer could not be sent", error=repr(error))


def _not_a_command(error: ValidationError) -> WireloomError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return InvalidInputError(f"This is not a command: {place}: {first['msg']}.", hint="Correct the field.", field=place)
