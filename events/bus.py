"""The shell around nats-py that every room shares: connecting, streams, and asking for a command."""

from __future__ import annotations

import asyncio
import base64
import logging
import ssl
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.client import BusClient
from events.commands import Command, Outcome
from events.errors import UnauthenticatedError, UnavailableError, WireloomError
from events.feed import NotReadyError, StreamMissingError, jetstream
from events.subjects import ALLOCATOR_EXECUTE, Stream

T = TypeVar("T")

ERROR_HEADER = "Nats-Service-Error"
ERROR_CODE_HEADER = "Nats-Service-Error-Code"
"""The NATS micro protocol's headers of a refusal; the body is the problem object."""

_REFUSALS = ("authorization violation", "authentication expired", "authentication revoked")
_STREAM_NAME_IN_USE = 10058
_DEFINING_SECONDS = 10.0
_LOOK_AGAIN_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Credentials:
    """How a program shows the bus who it is, and knows that it is the right bus."""

    token: Callable[[], str]
    """Its token (JWT), asked for at every connection."""
    sign: Callable[[bytes], bytes]
    """Signs what the server asks it to, with the key that the token names."""
    inbox: str
    """The prefix of its inboxes (`events.trust.permissions.inbox`)."""
    tls: ssl.SSLContext | None
    """Trusts the bus's certificate; None for a bus without TLS."""


async def connect(
    url: str,
    name: str,
    credentials: Credentials | None = None,
    *,
    inbox: str = "_INBOX",
    insist: bool = True,
    on_disconnect: Callable[[], None] | None = None,
    on_reconnect: Callable[[], None] | None = None,
    on_closed: Callable[[], None] | None = None,
) -> BusClient:
    """A connection to the bus, waited for until a server answers, that reconnects for ever. `url` may name several
    servers, separated by commas. Without `credentials`, answers arrive below `inbox`. Unless told to `insist`, it ends
    for good when a server refuses the credentials.

    `on_disconnect` is called whenever the connection is lost, `on_reconnect` when it is back, and `on_closed` when it
    has ended for good.

    Raises `UnavailableError` if `url` is no address or the server refuses the connection, and `UnauthenticatedError` if
    it refuses the credentials and `insist` is false.
    """
    log = structlog.get_logger("events.bus").bind(connection=name)

    said = ""

    async def on_error(error: Exception) -> None:
        nonlocal said
        if repr(error) != said:
            said = repr(error)
            log.warning("bus error", error=said)
        if not insist and _is_refusal(error):
            give_up()

    def give_up() -> None:
        # nats-py would try the same again for ever.
        if not is_up:
            raise UnauthenticatedError(f"The message bus at {url} refuses the credentials.", hint="Get new ones.")
        if not ending:
            ending.append(asyncio.ensure_future(client.close()))

    async def on_lost() -> None:
        if not client.is_closed:
            log.warning("bus connection lost")
            if on_disconnect is not None:
                on_disconnect()

    async def on_back() -> None:
        nonlocal said
        said = ""
        log.info("bus connection back")
        if on_reconnect is not None:
            on_reconnect()

    async def on_close() -> None:
        if on_closed is not None:
            on_closed()

    client = BusClient()
    is_up, ending = False, list[asyncio.Future[None]]()
    if credentials is not None:
        logging.getLogger("asyncio").addFilter(_is_news)
    try:
        await client.connect(
            servers=[server.strip() for server in url.split(",")],
            name=name,
            allow_reconnect=True,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,  # type: ignore[arg-type]  # seconds; nats-py takes fractions too
            connect_timeout=5,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=on_error,
            disconnected_cb=on_lost,
            reconnected_cb=on_back,
            closed_cb=on_close,
            **_identity(credentials, inbox),
        )
        is_up = True
        return client
    except (asyncio.CancelledError, UnauthenticatedError):
        await client.close()
        raise
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise UnavailableError(
            f"There is no message bus to connect to at {url}.",
            hint="Give the right address in NATS_URL, for example nats://127.0.0.1:7422.",
        ) from error


def _is_refusal(error: Exception) -> bool:
    """Whether an error of nats-py says that the server refuses who connects, or lets him in no more."""
    text = str(error).lower()
    return any(refusal in text for refusal in _REFUSALS)


def _is_news(record: logging.LogRecord) -> bool:
    """asyncio warns whenever a TLS connection that nats-py made ends."""
    return not str(record.msg).startswith("returning true from eof_received()")


def _identity(credentials: Credentials | None, inbox: str) -> dict[str, Any]:
    if credentials is None:
        return {"inbox_prefix": inbox}
    tls = {"tls": credentials.tls} if credentials.tls is not None else {}
    return tls | {
        "user_jwt_cb": lambda: bytearray(credentials.token().encode()),
        "signature_cb": lambda nonce: base64.b64encode(credentials.sign(nonce.encode())),
        "inbox_prefix": credentials.inbox,
    }


async def ensure_streams(client: Client, streams: Iterable[Stream], replicas: int) -> None:
    """Create the streams that are missing and bring the others to their definition. Idempotent.

    Raises `UnavailableError` if JetStream does not answer, or refuses a definition.
    """
    for stream in streams:
        config = stream.config(replicas)
        answer = await jetstream(
            client, f"STREAM.CREATE.{stream.name}", config, _STREAM_NAME_IN_USE, timeout=_DEFINING_SECONDS
        )
        if "error" in answer:
            await jetstream(client, f"STREAM.UPDATE.{stream.name}", config, timeout=_DEFINING_SECONDS)


async def when_ready(client: Client, request: Callable[[], Awaitable[T]]) -> T:
    """What is asked of JetStream, which may be starting, or electing a leader: asked again until it is ready. So is
    what finds a stream missing: the request makes it first.

    Raises what else `request` raises, and `UnavailableError` when the connection is closed for good.
    """
    said = ""
    while True:
        try:
            return await request()
        except (NotReadyError, StreamMissingError) as error:
            if client.is_closed:
                raise
            if str(error) != said:
                said = str(error)
                structlog.get_logger("events.bus").warning("waiting for JetStream", reason=said)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)


async def ask(client: Client, subject: str, body: bytes, timeout: float) -> bytes:
    """The answer to a request. A refusal is raised as the error that it carries.

    Raises any `WireloomError`; `UnavailableError` if nobody answers within `timeout` seconds.
    """
    try:
        reply = await client.request(subject, body, timeout=timeout)
    except nats.errors.NoRespondersError as error:
        raise UnavailableError(
            f"Nobody answers on {subject}.", hint="Check that every service runs, then try again."
        ) from error
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError(
            f"No answer on {subject} within {timeout:g} s.",
            hint="Try again with the same command id.",
        ) from error
    if reply.headers and ERROR_CODE_HEADER in reply.headers:
        raise WireloomError.from_problem(orjson.loads(reply.data))
    return reply.data


async def execute(client: Client, command: Command, timeout: float = 10.0) -> Outcome:
    """Have the allocator decide a command. Raises the error it was refused with, or `UnavailableError`."""
    answer = await ask(client, ALLOCATOR_EXECUTE, orjson.dumps(command.model_dump(mode="json")), timeout)
    return Outcome.model_validate_json(answer)


def wants_answer(message: Msg) -> bool:
    """Whether a request can be answered: only in an inbox. An answer elsewhere might be a record or an event, for a
    service may publish to its own streams too."""
    return message.reply.startswith("_INBOX.")


async def refuse(message: Msg, error: WireloomError) -> None:
    """Answer a request with an error, the NATS micro way."""
    headers = {ERROR_HEADER: error.title, ERROR_CODE_HEADER: str(error.status)}
    if message.reply:
        await message._client.publish(message.reply, error.to_json(), headers=headers)
