"""Asking the topology service what was, or would be: the messages, and a shell that asks.

A *past* is the derived state at one position of the log, and for a network what machines had reported by a time. Events
that did not happen may be added (`then`): so one asks what a command would do.

An answer is as many messages as it takes, each compressed, and then one that says how many entries there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import zlib
from collections.abc import AsyncGenerator, Iterable, Iterator, Sequence
from contextlib import aclosing
from typing import NamedTuple
from uuid import UUID

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import Field

from events.bus import ERROR_CODE_HEADER
from events.client import BusClient, headers_of
from events.codec import decode, encode, topic_of
from events.domain import DomainEvent
from events.errors import UnavailableError, WireloomError
from events.fields import Frozen, Moment

PAST_STATE = "past.state"
PAST_NETWORK = "past.network"
PAST_QUEUE = "topology"

END_HEADER = "Wl-End"
"""On the last message of an answer, which has no entries: how many entries came before."""

WAIT_HEADER = "Wl-Wait"
"""On a message that says only that the answer is still to come."""

REPORTS_SINCE = "since"
"""The subject of an entry of no stream, in an answer about a network: since when all reports are known, as a time. What
was reported before that may have been removed."""

_CHUNK_BYTES = 1 << 18
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
    is_brief: bool = False
    """Only the BGP plan is asked for, which costs far less. Of no meaning with `then`."""


class PastEntry(NamedTuple):
    """A message as it stood in a stream then, or would: of STATE, REACH, BGP or PATHS."""

    stream: str
    """Empty for what stands in none (`REPORTS_SINCE`)."""
    sequence: int
    """Its place there; 0 for what was derived anew."""
    subject: str
    payload: bytes


def pack(entries: Iterable[PastEntry]) -> Iterator[bytes]:
    """Entries as the messages of an answer. What stands in streams is JSON on one line."""
    waiting: list[bytes] = []
    size = 0
    for entry in entries:
        line = b"%s %d %s %s" % (entry.stream.encode(), entry.sequence, entry.subject.encode(), entry.payload)
        waiting.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES:
            yield zlib.compress(b"\n".join(waiting), 1)
            waiting, size = [], 0
    if waiting:
        yield zlib.compress(b"\n".join(waiting), 1)


def unpack(message: bytes) -> list[PastEntry]:
    """The entries of one message of an answer."""
    split = (line.split(b" ", 3) for line in zlib.decompress(message).split(b"\n"))
    return [
        PastEntry(stream.decode(), int(sequence), subject.decode(), payload)
        for stream, sequence, subject, payload in split
    ]


async def answer(client: Client, message: Msg, entries: Sequence[PastEntry]) -> None:
    """Answer a request."""
    for packed in pack(entries):
        await client.publish(message.reply, packed)
        await asyncio.sleep(0)
    await client.publish(message.reply, b"", headers={END_HEADER: str(len(entries))})


async def say_more_comes(client: Client, message: Msg) -> None:
    """Tell who asked that the answer is being worked on, so that he waits for it, until cancelled."""
    while True:
        await asyncio.sleep(_SILENCE_SECONDS / 4)
        await client.publish(message.reply, b"", headers={WAIT_HEADER: "1"})


async def ask_past(client: Client, subject: str, request: PastRequest) -> list[PastEntry]:
    """What the topology service answers to a request.

    Raises what it refused with, and `UnavailableError` where it does not answer, or not to the end.
    """
    found: list[PastEntry] = []
    async with aclosing(past_entries(client, subject, request)) as chunks:
        async for chunk in chunks:
            found += chunk
    return found


async def past_entries(client: Client, subject: str, request: PastRequest) -> AsyncGenerator[list[PastEntry]]:
    """As `ask_past`, a part of the answer after the other as they come. Only after the last is it known to be whole."""
    bus_client = BusClient.of(client)
    inbox = client.new_inbox()
    arrived: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()
    subscription = await bus_client.subscribe_raw(
        inbox, lambda _subject, _reply, data, headers: arrived.put_nowait((data, headers_of(headers)))
    )
    count = 0
    try:
        await client.publish(subject, request.model_dump_json().encode(), reply=inbox)
        while True:
            async with asyncio.timeout(_SILENCE_SECONDS):
                data, headers = await arrived.get()
            if ERROR_CODE_HEADER in headers:
                raise WireloomError.from_problem(orjson.loads(data))
            if END_HEADER in headers:
                if int(headers[END_HEADER]) != count:
                    raise UnavailableError("A part of the answer about the past was lost.", hint="Ask again.")
                return
            if WAIT_HEADER in headers:
                continue
            if not data:
                raise UnavailableError("No topology service answers.", hint="Check that one runs, then ask again.")
            chunk = unpack(data)
            count += len(chunk)
            yield chunk
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError("The topology service does not answer about the past.", hint="Ask again.") from error
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
