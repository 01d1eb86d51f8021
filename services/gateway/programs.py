"""The commands over the bus, for programs: a NATS micro service (ADR-32) named `wireloom`. Shell.

One endpoint for each kind of command, on `wireloom.command.<principal>.<kind>`. The request is the command's fields as
JSON, without `kind`; `command_id` (made up if missing) makes a repetition safe. The answer is an outcome, or a refusal
with the micro protocol's error headers and a problem object (RFC 9457).

The principal is the id of the API token that a program speaks with: the bus lets it say no other. Its role decides, and
the log names its account as the actor. It is answered only below `_INBOX.<principal>.`. Without authorisation the
principal is `anybody`, and `actor` says who asks.

`wireloom.command.<principal>.describe` tells the endpoints, each with the JSON schema of its requests, as
`$SRV.INFO.wireloom` does where there is no authorisation: those subjects do not say who asks, so not where to answer.

A request with the header `Wl-Dry-Run: 1` changes nothing: it is answered with what the HTTP API gives to `dry_run`,
or the same refusal.

While an allocator is there, it answers the caller directly. Give a timeout, and after it send the same command again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import nats.micro
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro.request import Handler, Request
from nats.micro.service import Service
from pydantic import TypeAdapter, ValidationError

from events.bus import refuse
from events.commands import COMMAND_TYPES, COMMANDS, INTERNAL_COMMANDS, AnyCommand, Command, Outcome
from events.errors import InternalError, InvalidInputError, UnauthenticatedError, UnavailableError, WireloomError
from events.fields import shown
from events.preview import DRY_RUN_HEADER
from events.subjects import ANYBODY, GATEWAY_QUEUE, command
from services.gateway.access import Speaker
from services.gateway.authority import REQUIRED_ROLE, require
from services.gateway.commander import Commander
from services.gateway.follower import Follower
from services.gateway.invalid import invalid
from services.gateway.replies import without_foreign_reply
from services.gateway.tasks import Tasks

SERVICE_NAME = "wireloom"
ANONYMOUS = "bus:anonymous"
DESCRIBE = "describe"

OFFERED = tuple(command_type for command_type in COMMAND_TYPES if command_type not in INTERNAL_COMMANDS)
"""The kinds of command that programs may give."""

Try = Callable[[Command], Awaitable[bytes]]
"""Tells what a command would do, as JSON. Raises what it would be refused with."""


class Programs:
    """Answers programs."""

    def __init__(
        self, commander: Commander, follower: Follower, tasks: Tasks, try_command: Try, *, secured: bool
    ) -> None:
        """Where `secured`, the mirror's access list says who may do what; else everybody may do everything."""
        self._try_command = try_command
        self._commander = commander
        self._follower = follower
        self._tasks = tasks
        self._secured = secured

    async def serve(self, client: Client, version: str) -> Service:
        """Answer commands on the bus until the returned service is stopped."""
        service = await nats.micro.add_service(
            client,
            name=SERVICE_NAME,
            version=version,
            description="Encrypted WireGuard mesh networks between machines: the commands.",
            queue_group=GATEWAY_QUEUE,
            metadata={"outcome_schema": orjson.dumps(Outcome.model_json_schema()).decode()},
        )
        for command_type in OFFERED:
            kind = command_type.model_fields["kind"].default
            await service.add_endpoint(
                name=kind,
                subject=command(kind, "*"),
                handler=self._handler(kind),
                metadata={"description": command_type.__doc__ or "", "request_schema": request_schema(command_type)},
            )
        await service.add_endpoint(
            name=DESCRIBE,
            subject=command(DESCRIBE, "*"),
            handler=self._describer(service),
            metadata={"description": "Tell the endpoints, as $SRV.INFO.wireloom does."},
        )
        await client.flush()
        return service

    def _handler(self, kind: str) -> Handler:
        async def handle(request: Request) -> None:
            message = self._with_own_reply(request._msg)
            if dry_run := _dry_run(message):
                self._tasks.start(_answered(message, self._try(kind, message, dry_run)))
            elif self._commander.allocator_answers and message.reply:
                await _answered(message, self._hand_on(kind, message))
            else:
                self._tasks.start(_answered(message, self._forward(kind, message)))

        return handle

    def _describer(self, service: Service) -> Handler:
        async def describe(request: Request) -> None:
            message = self._with_own_reply(request._msg)
            await _answered(message, self._describe(service, message))

        return describe

    async def _describe(self, service: Service, message: Msg) -> None:
        self._speaker(message)
        if message.reply:
            await message._client.publish(message.reply, orjson.dumps(service.info().to_dict()))

    async def _hand_on(self, kind: str, message: Msg) -> None:
        await self._commander.hand_on(self._fields(kind, message), message.reply)

    async def _forward(self, kind: str, message: Msg) -> None:
        reply = await self._commander.forward(self._fields(kind, message))
        if message.reply:
            await message._client.publish(message.reply, reply.data, headers=reply.headers)

    async def _try(self, kind: str, message: Msg, dry_run: str) -> None:
        if dry_run != "1":
            raise InvalidInputError(
                f"The header {DRY_RUN_HEADER} says {shown(dry_run)}.", hint="Say 1, or leave it out."
            )
        told = await self._try_command(COMMANDS.validate_python(self._fields(kind, message)))
        if len(told) > message._client.max_payload:
            raise InvalidInputError("There is more to tell than the bus carries.", hint="Ask for less at once.")
        if message.reply:
            await message._client.publish(message.reply, told)

    def _fields(self, kind: str, message: Msg) -> dict[str, Any]:
        """The fields of the valid command that a message gives, if its principal may give it."""
        speaker = self._speaker(message)
        fields, given = read_fields(kind, message.data, None if speaker is None else speaker.actor)
        if speaker is not None:
            require(speaker, REQUIRED_ROLE[type(given)])
        return fields

    def _speaker(self, message: Msg) -> Speaker | None:
        """Who gives a command; None for anybody. Raises `UnauthenticatedError`, `UnavailableError`."""
        principal = _principal(message)
        if not self._secured:
            if principal != ANYBODY:
                raise UnauthenticatedError(
                    "Here nobody has to say who he is.", hint=f"Give commands on {command('<kind>')}."
                )
            return None
        if not self._follower.loaded.is_set():
            raise UnavailableError("The gateway is still loading the derived state.", hint="Try again in a moment.")
        try:
            speaker = self._follower.mirror.access.principal(UUID(principal), datetime.now(UTC))
        except ValueError:
            speaker = None
        if speaker is None:
            raise UnauthenticatedError(
                "The API token that this connection was made with does not count any more.",
                hint="Ask the gateway for credentials with a token that counts.",
            )
        return speaker

    def _with_own_reply(self, message: Msg) -> Msg:
        return without_foreign_reply(message, _principal(message) if self._secured else None)


def request_schema(command_type: type[Command]) -> str:
    """The JSON schema of a request for this kind of command."""
    schema = TypeAdapter(command_type).json_schema()
    del schema["properties"]["kind"]
    schema["required"] = [name for name in schema["required"] if name not in ("command_id", "actor")]
    return orjson.dumps(schema).decode()


def read_fields(kind: str, data: bytes, actor: str | None) -> tuple[dict[str, Any], AnyCommand]:
    """The fields of a valid command of this kind, with an id and an actor, and the command. An `actor` counts whatever
    the fields say; with None they may say it.

    Raises `InvalidInputError`, or what the command's own fields raise.
    """
    try:
        fields: dict[str, Any] = orjson.loads(data)
        if fields.setdefault("kind", kind) != kind:
            raise InvalidInputError(f"This is where one sends {kind!r}.", hint="Leave `kind` out.", field="kind")
        fields["actor"] = fields.get("actor", ANONYMOUS) if actor is None else actor
        if "command_id" not in fields:
            fields["command_id"] = str(uuid4())
        return fields, COMMANDS.validate_python(fields)
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise InvalidInputError("The request is not a JSON object.", hint="Send the command's fields.") from error
    except ValidationError as error:
        raise invalid(error, skip=1) from error


async def _answered(message: Msg, work: Awaitable[None]) -> None:
    """Do `work`, and tell who asked of its failure."""
    try:
        await work
    except WireloomError as error:
        await refuse(message, error)
    except Exception:
        structlog.get_logger("gateway").exception("a command failed", subject=message.subject)
        await refuse(message, InternalError("The command could not be handled.", hint="See the gateway's log."))


def _dry_run(message: Msg) -> str:
    """What the header for dry runs says, however its name is spelt: who means it must not have a change made."""
    for name, value in (message.headers or {}).items():
        if name.lower() == DRY_RUN_HEADER.lower():
            return value or "nothing"
    return ""


def _principal(message: Msg) -> str:
    return message.subject.split(".")[2]
