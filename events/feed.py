"""A stream's messages in order from a position on, without end, across lost connections and server restarts.

A shell around an ephemeral JetStream push consumer without acknowledgements (what clients call an *ordered consumer*).
The server says once a second that it is there. When that stops, the connection changes or a message is missing, the
consumer is replaced by a new one that goes on after the last message that came.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from events.client import BusClient, Entry, header, headers_of, status
from events.ending import end
from events.errors import UnavailableError

ANSWER_SECONDS = 2.0
"""So long the JetStream API is waited for. Of three servers, none answers while a stream's leader is being elected:
who asks then must ask again, the sooner the better."""

_HEARTBEAT_SECONDS = 1
_SILENCE_SECONDS = 2.5
_LOOK_SECONDS = 0.25
_STREAM_NOT_FOUND = 10059
_NO_MESSAGE_FOUND = 10037
_NOT_YET = frozenset({10005, 10008, 10009})
"""The servers that are there are too few for the copies wanted; there is no leader; who answers does not lead."""
_RETRY_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class StreamMissingError(UnavailableError):
    """Raised when there is no such stream (yet)."""

    code = "stream-missing"
    title = "A stream is missing on the bus"


class NotReadyError(UnavailableError):
    """Raised when JetStream does not answer, or says that it cannot for now."""

    code = "not-ready"
    title = "The message bus is not ready"


async def jetstream(
    client: Client, verb: str, request: dict[str, Any], *expected_errors: int, timeout: float = ANSWER_SECONDS
) -> dict[str, Any]:
    """The answer of the JetStream API to a request. Its refusals are raised but for those that are expected, told by
    their `err_code`.

    Raises `StreamMissingError`, `NotReadyError`, and `UnavailableError` for any other refusal.
    """
    try:
        reply = await client.request(f"$JS.API.{verb}", orjson.dumps(request), timeout=timeout)
    except (nats.errors.Error, TimeoutError) as error:
        raise NotReadyError(
            "JetStream does not answer.",
            hint="It may be starting: try again. If this lasts, see whether the message bus runs with JetStream.",
        ) from error
    answer: dict[str, Any] = orjson.loads(reply.data)
    refusal = answer.get("error", {})
    if not refusal or refusal.get("err_code") in expected_errors:
        return answer
    if refusal.get("err_code") == _STREAM_NOT_FOUND:
        stream = verb.rsplit(".", 1)[-1]
        raise StreamMissingError(f"There is no stream {stream}.", hint="Start the service that creates it.")
    detail = f"JetStream refuses: {refusal.get('description')}."
    if refusal.get("err_code") in _NOT_YET:
        hint = "It may be starting: try again. If this lasts, see whether enough servers of the cluster run."
        raise NotReadyError(detail, hint=hint)
    raise UnavailableError(detail, hint="Mend that on the message bus, then try again.")


async def last_sequence(client: Client, stream: str) -> int:
    """The sequence of the newest message that a stream ever had, 0 for none. Raises `UnavailableError`."""
    info = await jetstream(client, f"STREAM.INFO.{stream}", {})
    sequence: int = info["state"]["last_seq"]
    return sequence


async def made_at(client: Client, stream: str) -> str:
    """When a stream was made, as text that differs after it was deleted and made anew.

    Raises `StreamMissingError`, `UnavailableError`.
    """
    info = await jetstream(client, f"STREAM.INFO.{stream}", {})
    return str(info["created"])


async def newest_sequence(client: Client, stream: str, subjects: str) -> int:
    """The sequence of the newest message under `subjects` that stands in a stream, 0 for none. Raises
    `UnavailableError`."""
    answer = await jetstream(client, f"STREAM.MSG.GET.{stream}", {"last_by_subj": subjects}, _NO_MESSAGE_FOUND)
    return 0 if "error" in answer else int(answer["message"]["seq"])


async def standing(client: Client, stream: str, subjects: str, after: int = 0) -> AsyncGenerator[list[tuple[int, Msg]]]:
    """The newest message of each subject that stands in a stream under `subjects`, all that it holds, with a sequence
    greater than `after`. As many at once as have arrived. Some that are replaced meanwhile may come too, before what
    took their place.

    Raises `UnavailableError`.
    """
    async with aclosing(feed(client, stream, after, newest_of=subjects)) as batches:
        arriving = asyncio.ensure_future(anext(batches))
        try:
            while after < (newest := await newest_sequence(client, stream, subjects)):
                # What is waited for may be purged meanwhile, and then never comes.
                while after < newest and (await asyncio.wait({arriving}, timeout=_LOOK_SECONDS))[0]:
                    batch = arriving.result()
                    yield batch
                    after = batch[-1][0]
                    arriving = asyncio.ensure_future(anext(batches))
        finally:
            await end([arriving])


async def feed(
    client: Client, stream: str, after: int, *, newest_of: str = ""
) -> AsyncGenerator[list[tuple[int, Msg]]]:
    """As `entries`, as nats-py's messages."""
    async with aclosing(entries(client, stream, after, newest_of=newest_of)) as batches:
        async for batch in batches:
            yield [
                (entry.sequence, Msg(client, entry.subject, data=entry.data, headers=headers_of(entry.headers)))
                for entry in batch
            ]


async def entries(client: Client, stream: str, after: int, *, newest_of: str = "") -> AsyncGenerator[list[Entry]]:
    """The messages of `stream` whose sequence is greater than `after`: all that are there, then those to come. As many
    at once as have arrived. Where `newest_of` names subjects and `after` is 0, of those that are there only the newest
    of each subject, as far as the connection holds.

    Raises `UnavailableError` when the connection is closed for good.
    """
    attempt = 0
    while True:
        consumer = _Consumer(BusClient.of(client), stream, after, newest_of)
        try:
            await consumer.start()
            while batch := await consumer.batch():
                after, attempt = batch[-1].sequence, 0
                yield batch
        except (nats.errors.Error, UnavailableError) as error:
            structlog.get_logger("events.feed").warning("cannot follow a stream yet", stream=stream, error=str(error))
        finally:
            await consumer.stop()
        if client.is_closed:
            raise UnavailableError("The connection to the bus is closed.", hint="Start again.")
        await asyncio.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
        attempt += 1


class _Consumer:
    """One ephemeral consumer and the messages that it has delivered in order."""

    def __init__(self, client: BusClient, stream: str, after: int, newest_of: str) -> None:
        self._client = client
        self._newest_of = newest_of
        self._stream = stream
        self._after = after
        self._arrived: list[Entry] = []
        self._replies: list[bytes] = []
        self._delivered = 0
        self._broken = False
        self._wake = asyncio.Event()
        self._connection = client.stats["reconnects"]
        self._heard = 0.0
        self._is_heard = False
        self._now = asyncio.get_running_loop().time
        self._subscription: Subscription | None = None

    async def start(self) -> None:
        inbox = self._client.new_inbox()
        self._subscription = await self._client.subscribe_raw(inbox, self._take)
        request = {"stream_name": self._stream, "config": self._config(inbox)}
        await jetstream(self._client, f"CONSUMER.CREATE.{self._stream}", request)
        self._heard = self._now()

    def _config(self, inbox: str) -> dict[str, Any]:
        if self._newest_of and not self._after:
            start: dict[str, Any] = {"deliver_policy": "last_per_subject", "filter_subject": self._newest_of}
        else:
            start = {"deliver_policy": "by_start_sequence", "opt_start_seq": self._after + 1}
        return start | {
            "deliver_subject": inbox,
            "ack_policy": "none",
            "max_deliver": 1,
            "mem_storage": True,
            "num_replicas": 1,
            "flow_control": True,
            "idle_heartbeat": _HEARTBEAT_SECONDS * 1_000_000_000,
        }

    async def batch(self) -> list[Entry]:
        """What has arrived since the last call, waiting for it; nothing when this consumer is of no use any more."""
        while not self._arrived:
            if self._is_lost():
                return []
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            if not self._arrived:
                await self._let_flow()
        batch, self._arrived = self._arrived, []
        await self._let_flow()
        return batch

    async def _let_flow(self) -> None:
        """Have the server send more while what it sent is being read: a slow reader is not flooded, a fast one does
        not wait."""
        if self._replies:
            replies, self._replies = self._replies, []
            for reply in replies:
                await self._client.publish(reply.decode())
            await asyncio.sleep(0)  # lets nats-py write them to the socket

    async def stop(self) -> None:
        if self._subscription is not None:
            with contextlib.suppress(nats.errors.Error, ValueError):
                await self._subscription.unsubscribe()

    def _is_lost(self) -> bool:
        if self._is_heard:
            self._is_heard, self._heard = False, self._now()
        silent = self._now() - self._heard > _SILENCE_SECONDS
        reconnected = self._client.stats["reconnects"] != self._connection
        return self._broken or silent or reconnected or self._client.is_closed

    def _take(self, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        self._is_heard = True
        if self._broken:
            return
        if not data and status(headers) == b"100":
            self._take_control(reply, headers)
            return
        sequence, delivered = _place(reply)
        if delivered != self._delivered + 1:
            self._break()
            return
        self._delivered = delivered
        # A server that lags behind the stream's leader begins at its own end when asked for what it does not have yet.
        if sequence > self._after:
            self._arrived.append(Entry(sequence, subject.decode(), headers, data))
            self._wake.set()

    def _take_control(self, reply: bytes, headers: bytes) -> None:
        if flow := reply or header(headers, b"Nats-Consumer-Stalled"):
            self._replies.append(flow)
            self._wake.set()
        if int(header(headers, b"Nats-Last-Consumer") or 0) > self._delivered:
            self._break()

    def _break(self) -> None:
        self._broken = True
        self._wake.set()


def _place(reply: bytes) -> tuple[int, int]:
    """The stream and consumer sequence that stand in a delivered message's reply subject (ADR-15 of NATS)."""
    tokens = reply.split(b".")
    first = 5 if len(tokens) == 9 else 7
    return int(tokens[first]), int(tokens[first + 1])
