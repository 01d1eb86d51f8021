"""Asking the topology service what was, or would be: the messages, and a shell that asks.

A *past* is the derived state at one position of the log, and for a network what machines had reported by a time. Events
that did not happen may be added (`then`): so one asks what a command would do.

An answer is as many messages as it takes, each compressed, and then one that says how many entries there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple
from uuid import UUID

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import Field

from events.bus import ERROR_CODE_HEADER
from events.client import BusClient, headers_of
from events.codec import decode, digest_of, encode, topic_of
from events.domain import DomainEvent
from events.errors import UnavailableError, WireloomError
from events.fields import Frozen, Moment

PAST_STATE = "past.state"
PAST_NETWORK = "past.network"
PAST_QUEUE = "topology"

END_HEADER = "Wl-End"
"""On the last message of an answer, which has no entries: how many entries came before."""

_CHUNK_BYTES = 1 << 20
_SILENCE_SECONDS = 20.0


class Supposed(Frozen):
    """An event that did not happen."""

    originator_id: UUID
    originator_version: int
    topic: str
    state: str

    @classmethod
    def of(cls, event: DomainEvent) -> Supposed:
        """The event as it would stand in the log."""
        topic, state = topic_of(type(event)), encode(event).decode()
        return cls(
            originator_id=event.originator_id, originator_version=event.originator_version, topic=topic, state=state
        )

    def event(self) -> DomainEvent:
        """The event. Raises `UnreadableEventError`."""
        return decode(self.originator_id, self.originator_version, self.topic, self.state.encode())

    def digest(self) -> str:
        """The digest that it would have."""
        return digest_of(self.event())


class PastRequest(Frozen):
    """Asks for the derived state at a position of the log, as STATE held it then (`PAST_STATE`)."""

    position: int = Field(ge=0)
    then: tuple[Supposed, ...] = ()
    """Events that are supposed to have happened after that."""


class PastNetworkRequest(PastRequest):
    """Asks what was reported in a network by a time, and for the paths that followed (`PAST_NETWORK`)."""

    network_id: UUID
    time: Moment | None = None
    """None for now."""


class PastEntry(NamedTuple):
    """A message as it stood in a stream then, or would: of STATE, REACH, BGP or PATHS."""

    stream: str
    sequence: int
    """Its place there; 0 for what was derived anew."""
    subject: str
    payload: bytes


def pack(entries: Iterable[PastEntry]) -> Iterator[bytes]:
    """Entries as the messages of an answer."""
    waiting: list[tuple[str, int, str, str]] = []
    size = 0
    for entry in entries:
        waiting.append((entry.stream, entry.sequence, entry.subject, entry.payload.decode()))
        size += len(entry.payload) + len(entry.subject)
        if size >= _CHUNK_BYTES:
            yield zlib.compress(orjson.dumps(waiting), 1)
            waiting, size = [], 0
    if waiting:
        yield zlib.compress(orjson.dumps(waiting), 1)


def unpack(message: bytes) -> list[PastEntry]:
    """The entries of one message of an answer."""
    return [
        PastEntry(stream, sequence, subject, payload.encode())
        for stream, sequence, subject, payload in orjson.loads(zlib.decompress(message))
    ]


async def answer(client: Client, message: Msg, entries: Sequence[PastEntry]) -> None:
    """Answer a request."""
    for packed in pack(entries):
        await client.publish(message.reply, packed)
        await asyncio.sleep(0)
    await client.publish(message.reply, b"", headers={END_HEADER: str(len(entries))})


async def ask_past(client: Client, subject: str, request: PastRequest) -> list[PastEntry]:
    """What the topology service answers to a request.

    Raises what it refused with, and `UnavailableError` where it does not answer, or not to the end.
    """
    bus_client = BusClient.of(client)
    inbox = client.new_inbox()
    arrived: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()
    subscription = await bus_client.subscribe_raw(
        inbox, lambda _subject, _reply, data, headers: arrived.put_nowait((data, headers_of(headers)))
    )
    found: list[PastEntry] = []
    try:
        await client.publish(subject, request.model_dump_json().encode(), reply=inbox)
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                data, headers = await arrived.get()
            if ERROR_CODE_HEADER in headers:
                raise WireloomError.from_problem(orjson.loads(data))
            if END_HEADER in headers:
                if int(headers[END_HEADER]) != len(found):
                    raise UnavailableError("A part of the answer about the past was lost.", hint="Ask again.")
                return found
            if not data:
                raise UnavailableError("No topology service answers.", hint="Check that one runs, then ask again.")
            found += unpack(data)
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError("The topology service does not answer about the past.", hint="Ask again.") from error
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
