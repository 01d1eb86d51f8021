"""Several messages of a stream at once, from whichever server is asked (Direct Get, ADR-31 of NATS). A shell.

That server may lag behind the stream's leader: what it does not have yet is not in the answer.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any, NamedTuple

import nats.errors
import orjson
from nats.aio.client import Client

from events.client import BusClient, Entry, header, status
from events.errors import UnavailableError
from events.feed import jetstream

MOST_SUBJECTS = 1000
"""A server gives the newest messages of a little more subjects than that at once."""

_ATTEMPT_SECONDS = 5.0
_PATIENCE_TRIES = 3
_TOO_MANY = b"413"
_DONE = (b"204", b"404")
_NO_MESSAGE_FOUND = 10037


class Page(NamedTuple):
    """What an answer came to."""

    entries: list[Entry]
    status: bytes
    """`204` or `404` for a whole answer, `413` where there was too much; empty where the answer broke off."""


async def direct_get(client: Client, stream: str, request: dict[str, Any]) -> Page:
    """The answer to one Direct Get for several messages; what came of it if the connection was lost on the way.

    Raises `UnavailableError` when the connection is closed for good.
    """
    bus_client = BusClient.of(client)
    found: list[Entry] = []
    ended: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    def take(_subject: bytes, _reply: bytes, data: bytes, headers: bytes) -> None:
        sequence = header(headers, b"Nats-Sequence")
        if sequence is not None and not status(headers):
            subject = header(headers, b"Nats-Subject") or b""
            found.append(Entry(int(sequence), subject.decode(), headers, data))
        elif not ended.done():
            ended.set_result(status(headers))

    inbox = client.new_inbox()
    subscription = await bus_client.subscribe_raw(inbox, take)
    try:
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(request), reply=inbox)
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            return Page(found, await ended)
    except (nats.errors.Error, TimeoutError) as error:
        if client.is_closed:
            raise UnavailableError("The connection to the bus is closed.", hint="Start again.") from error
        return Page(found, b"")
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def newest_until(client: Client, stream: str, subjects: str, last: int) -> list[Entry] | None:
    """Of each subject under `subjects` the newest message whose sequence is at most `last`, ordered by sequence; None
    where there are more than `MOST_SUBJECTS`, or so.

    Raises `UnavailableError`.
    """
    if last <= 0:
        return []
    for _ in range(_PATIENCE_TRIES):
        page = await direct_get(client, stream, {"multi_last": [subjects], "up_to_seq": last})
        if page.status == _TOO_MANY:
            return None
        if page.status in _DONE:
            return sorted(page.entries)
    raise UnavailableError(f"The stream {stream} does not answer.", hint="Ask again.")


async def next_at(client: Client, stream: str, subjects: str, sequence: int) -> Entry | None:
    """The first message under `subjects` at `sequence` or later, as the stream's leader has it. Raises
    `UnavailableError`."""
    request = {"seq": sequence, "next_by_subj": subjects}
    answer = await jetstream(client, f"STREAM.MSG.GET.{stream}", request, _NO_MESSAGE_FOUND)
    return None if "error" in answer else entry_of(answer["message"])


def entry_of(message: dict[str, Any]) -> Entry:
    """A message as the JetStream API gives it."""
    return Entry(
        int(message["seq"]),
        str(message["subject"]),
        base64.b64decode(message.get("hdrs", "")),
        base64.b64decode(message.get("data", "")),
    )
