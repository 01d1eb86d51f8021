"""The allocator as a service: commands from the bus to the application's one thread, and answers back. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import NamedTuple

import structlog
from nats.aio.msg import Msg
from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings

from events import bus
from events.commands import COMMANDS, Command, Outcome
from events.errors import InvalidInputError, WireloomError
from events.subjects import ALLOCATOR_EXECUTE, ALLOCATOR_QUEUE, LOG, SNAPSHOTS
from services.allocator.application import Allocator, Answer

GROUP_SIZE = 256
"""So many waiting commands at most are decided and written together."""


class Settings(BaseSettings):
    """Where the bus is."""

    nats_url: str = Field("nats://127.0.0.1:7422", validation_alias="NATS_URL")
    replicas: int = Field(1, validation_alias="WIRELOOM_REPLICAS", ge=1, le=5)

    model_config = {"populate_by_name": True}


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Execute commands until `stop` is set; those that have arrived by then are answered.

    Raises `UnavailableError` if the bus does not answer at first, and `InternalError` if the log cannot be read.
    """
    log = structlog.get_logger("allocator")
    client = await bus.connect(settings.nats_url, "wireloom-allocator")
    try:
        await bus.ensure_streams(client, (LOG, SNAPSHOTS), settings.replicas)
        environment = {"NATS_URL": settings.nats_url, "NATS_REPLICAS": str(settings.replicas)}
        application = await asyncio.to_thread(Allocator, environment)
        clerk = _Clerk(application, asyncio.get_running_loop(), stop)
        subscription = await client.subscribe(ALLOCATOR_EXECUTE, queue=ALLOCATOR_QUEUE, cb=clerk.take)
        await client.flush()
        log.info("ready", position=application.position)
        await stop.wait()
        await subscription.drain()  # type: ignore[no-untyped-call]
        await clerk.finish()
    finally:
        await client.close()


class _Request(NamedTuple):
    message: Msg
    command: Command


class _Clerk:
    """The one thread that calls the application."""

    def __init__(self, application: Allocator, loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
        """`stop` is set if the thread ends before its time."""
        self._application = application
        self._loop = loop
        self._stop = stop
        self._failure: BaseException | None = None
        self._waiting: SimpleQueue[_Request | None] = SimpleQueue()
        self._replies: set[asyncio.Task[None]] = set()
        self._thread = Thread(target=self._work, name="allocator", daemon=True)
        self._thread.start()

    async def take(self, message: Msg) -> None:
        """Put a request in the queue, or refuse one that is no command."""
        try:
            command = COMMANDS.validate_json(message.data)
        except ValidationError as error:
            await bus.refuse(message, _not_a_command(error))
            return
        self._waiting.put(_Request(message, command))

    async def finish(self) -> None:
        """Answer what is waiting and end the thread. Raises what ended it before its time, if anything did."""
        self._waiting.put(None)
        await asyncio.to_thread(self._thread.join)
        await asyncio.sleep(0)
        await asyncio.gather(*self._replies)
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            with self._application:
                while group := self._next_group():
                    answers = self._application.execute([request.command for request in group])
                    self._call(self._send, group, answers)
        except BaseException as failure:  # whatever it is, it is raised again by finish()
            self._failure = failure
            self._call(self._stop.set)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        self._loop.call_soon_threadsafe(function, *arguments)

    def _next_group(self) -> list[_Request]:
        group: list[_Request] = []
        request = self._waiting.get()
        while request is not None:
            group.append(request)
            if len(group) == GROUP_SIZE or self._waiting.empty():
                return group
            request = self._waiting.get()
        if group:
            self._waiting.put(None)
        return group

    def _send(self, group: list[_Request], answers: list[Answer]) -> None:
        replies = asyncio.ensure_future(self._reply(group, answers))
        self._replies.add(replies)
        replies.add_done_callback(self._replies.discard)

    async def _reply(self, group: list[_Request], answers: list[Answer]) -> None:
        for request, answer in zip(group, answers, strict=True):
            if isinstance(answer, Outcome):
                await request.message.respond(answer.model_dump_json().encode())
            else:
                await bus.refuse(request.message, answer)


def _not_a_command(error: ValidationError) -> WireloomError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return InvalidInputError(f"This is not a command: {place}: {first['msg']}.", hint="Correct the field.", field=place)
