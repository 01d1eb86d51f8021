"""Forwards commands to the allocator and, for those who ask, waits until the mirror shows what they did. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from time import perf_counter
from typing import Any

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from events import bus
from events.bus import ERROR_CODE_HEADER
from events.commands import Command, Outcome
from events.errors import InvalidInputError, UnavailableError, WireloomError
from events.preview import PreviewAnswer
from events.subjects import ALLOCATOR_EXECUTE, ALLOCATOR_PREVIEW
from services.gateway.metrics import Metrics

PATIENCE = 10.0
"""For how many seconds a command is offered to the allocator before it is refused as unavailable."""

_ATTEMPT = 5.0
_PAUSE = 0.1
_LOOK = 1.0


class Commander:
    """The gateway's way to the allocator.

    A command that finds no allocator, or no answer, is sent again with the same id: executed once, answered the same.
    """

    def __init__(self, client: Client, metrics: Metrics) -> None:
        self._client = client
        self._metrics = metrics
        self.allocator_answers = False
        """Whether an allocator answered when `watch` last looked."""

    async def watch(self) -> None:
        """Look every second whether an allocator is there, until cancelled."""
        while True:
            self.allocator_answers = await self.answers()
            await asyncio.sleep(_LOOK)

    async def give(self, command: Command) -> Outcome:
        """Have a command decided. Raises the error that it was refused with, or `UnavailableError`."""
        reply = await self.forward(command.model_dump(mode="json"))
        if reply.headers and ERROR_CODE_HEADER in reply.headers:
            raise WireloomError.from_problem(orjson.loads(reply.data))
        return Outcome.model_validate_json(reply.data)

    async def preview(self, commands: Sequence[Command]) -> PreviewAnswer:
        """What would become of commands that are given one after the other. Nothing is changed.

        Raises `UnavailableError`, and `InvalidInputError` where they are too large for the bus.
        """
        body = self._fitting(orjson.dumps({"commands": [command.model_dump(mode="json") for command in commands]}))
        return PreviewAnswer.model_validate_json(await bus.ask(self._client, ALLOCATOR_PREVIEW, body, PATIENCE))

    async def forward(self, fields: dict[str, Any]) -> Msg:
        """The allocator's reply, an outcome or a refusal, to a valid command given as its JSON fields.

        Raises `UnavailableError`, and `InvalidInputError` where it is too large for the bus.
        """
        started = perf_counter()
        result = UnavailableError.code
        try:
            reply = await self._insist(self._encode(fields))
            result = _result(reply)
        finally:
            self._metrics.command_seconds.labels(fields["kind"]).observe(perf_counter() - started)
            self._metrics.commands.labels(fields["kind"], result).inc()
        return reply

    async def hand_on(self, fields: dict[str, Any], reply: str) -> None:
        """Pass a valid command to an allocator that answers to `reply` itself: half the way of `forward`.

        Where the allocator dies with the command, there is no answer. Raises `InvalidInputError` like `forward`.
        """
        await self._client.publish(ALLOCATOR_EXECUTE, self._encode(fields), reply=reply)
        self._metrics.commands.labels(fields["kind"], "handed-on").inc()

    async def answers(self) -> bool:
        """Whether an allocator is there: it refuses what is no command."""
        if not self._client.is_connected:
            return False
        try:
            await self._client.request(ALLOCATOR_EXECUTE, b"{}", timeout=1)
        except (nats.errors.Error, TimeoutError):
            return False
        return True

    def _encode(self, fields: dict[str, Any]) -> bytes:
        return self._fitting(orjson.dumps(fields))

    def _fitting(self, body: bytes) -> bytes:
        if len(body) > self._client.max_payload:
            raise InvalidInputError(
                f"The command has {len(body):,} bytes; the bus carries {self._client.max_payload:,}.",
                hint="Ask for less at once.",
            )
        return body

    async def _insist(self, body: bytes) -> Msg:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + PATIENCE
        while True:
            try:
                attempt = min(_ATTEMPT, deadline - loop.time())
                return await self._client.request(ALLOCATOR_EXECUTE, body, timeout=attempt)
            except (nats.errors.Error, TimeoutError) as error:
                if loop.time() + _PAUSE >= deadline:
                    raise UnavailableError(
                        "The allocator does not answer.",
                        hint="Check that it runs, then send the command again with the same id.",
                    ) from error
            await asyncio.sleep(_PAUSE)


def _result(reply: Msg) -> str:
    if reply.headers and ERROR_CODE_HEADER in reply.headers:
        return str(orjson.loads(reply.data).get("code"))
    return "done" if b'"changed":true' in reply.data else "unchanged"
