"""The commands over the bus, for programs: a NATS micro service (ADR-32) named `wireloom`. Shell.

One endpoint for each kind of command, on `wireloom.command.<kind>`. The request is the command's fields as JSON,
without `kind`; `command_id` (made up if missing) makes a repetition safe, `actor` says who asks. The answer is an
outcome, or a refusal with the micro protocol's error headers and a problem object (RFC 9457). `$SRV.INFO.wireloom`
lists the endpoints, each with the JSON schema of its requests.

While an allocator is there, it answers the caller directly. Give a timeout, and after it send the same command again.
"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import nats.micro
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.micro.request import Handler, Request
from nats.micro.service import Service
from pydantic import TypeAdapter, ValidationError

from events.bus import refuse
from events.commands import COMMAND_TYPES, COMMANDS, Command, Outcome
from events.errors import InternalError, InvalidInputError, WireloomError
from events.subjects import GATEWAY_QUEUE, command
from services.gateway.commander import Commander
from services.gateway.invalid import invalid
from services.gateway.replies import without_foreign_reply
from services.gateway.tasks import Tasks

SERVICE_NAME = "wireloom"
ANONYMOUS = "bus:anonymous"


async def serve_programs(client: Client, commander: Commander, tasks: Tasks, version: str) -> Service:
    """Answer commands on the bus until the returned service is stopped."""
    service = await nats.micro.add_service(
        client,
        name=SERVICE_NAME,
        version=version,
        description="Encrypted WireGuard mesh networks between machines: the commands.",
        queue_group=GATEWAY_QUEUE,
        metadata={"outcome_schema": orjson.dumps(Outcome.model_json_schema()).decode()},
    )
    for command_type in COMMAND_TYPES:
        kind = command_type.model_fields["kind"].default
        await service.add_endpoint(
            name=kind,
            subject=command(kind),
            handler=_handler(kind, commander, tasks),
            metadata={"description": command_type.__doc__ or "", "request_schema": request_schema(command_type)},
        )
    await client.flush()
    return service


def request_schema(command_type: type[Command]) -> str:
    """The JSON schema of a request for this kind of command."""
    schema = TypeAdapter(command_type).json_schema()
    del schema["properties"]["kind"]
    schema["required"] = [name for name in schema["required"] if name not in ("command_id", "actor")]
    return orjson.dumps(schema).decode()


def _handler(kind: str, commander: Commander, tasks: Tasks) -> Handler:
    async def handle(request: Request) -> None:
        message = without_foreign_reply(request._msg)
        if commander.allocator_answers and message.reply:
            await _hand_on(kind, commander, message)
        else:
            tasks.start(_answer(kind, commander, message))

    return handle


async def _hand_on(kind: str, commander: Commander, message: Msg) -> None:
    try:
        await commander.hand_on(read_fields(kind, message.data), message.reply)
    except WireloomError as error:
        await refuse(message, error)


async def _answer(kind: str, commander: Commander, message: Msg) -> None:
    try:
        reply = await commander.forward(read_fields(kind, message.data))
        if message.reply:
            await message._client.publish(message.reply, reply.data, headers=reply.headers)
    except WireloomError as error:
        await refuse(message, error)
    except Exception:
        structlog.get_logger("gateway").exception("a command failed", kind=kind)
        await refuse(message, InternalError("The command could not be handled.", hint="See the gateway's log."))


def read_fields(kind: str, data: bytes) -> dict[str, Any]:
    """The fields of a valid command of this kind, with an id and an actor.

    Raises `InvalidInputError`, or what the command's own fields raise.
    """
    try:
        fields: dict[str, Any] = orjson.loads(data)
        if fields.setdefault("kind", kind) != kind:
            raise InvalidInputError(f"This is where one sends {kind!r}.", hint="Leave `kind` out.", field="kind")
        fields.setdefault("actor", ANONYMOUS)
        if "command_id" not in fields:
            fields["command_id"] = str(uuid4())
        COMMANDS.validate_python(fields)
    except (orjson.JSONDecodeError, AttributeError) as error:
        raise InvalidInputError("The request is not a JSON object.", hint="Send the command's fields.") from error
    except ValidationError as error:
        raise invalid(error, skip=1) from error
    return fields
