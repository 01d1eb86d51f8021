"""Reading a stream so that what was acknowledged is seen, on one server or several. A shell.

The stream's leader says which message is the newest; the messages themselves come from whichever server is asked
(Direct Get), again and again if that one lags behind its leader.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
from typing import Any

import nats.errors
import orjson
from eventsourcing.persistence import OperationalError

from events.client import BusClient, Entry, header, status
from events.errors import UnavailableError
from events.feed import StreamMissingError, jetstream

PAGE = 1000
"""So many messages are asked for at once."""

_NO_MESSAGE_FOUND = 10037
_ATTEMPT_SECONDS = 5.0
_PATIENCE_SECONDS = 15.0
_PAUSE_SECONDS = 0.05


async def newest(client: BusClient, stream: str, subject: str) -> Entry | None:
    """The newest message on `subject`, which may have wildcards, as the stream's leader has it."""
    return await _from_leader(client, stream, {"last_by_subj": subject})


async def next_from(client: BusClient, stream: str, subject: str, sequence: int) -> Entry | None:
    """The first message on `subject` at `sequence` or later, as the stream's leader has it."""
    return await _from_leader(client, stream, {"seq": sequence, "next_by_subj": subject})


async def span(
    client: BusClient, stream: str, subject: str, *, first: int, last: int, limit: int | None = None
) -> list[Entry]:
    """The messages on `subject` from the sequence `first` to `last`, where there is one; at most `limit`.

    Raises `OperationalError` if no server has them all in time.
    """
    found: list[Entry] = []
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while first <= last and (limit is None or len(found) < limit):
        wanted = PAGE if limit is None else min(PAGE, limit - len(found))
        page = await _page(client, stream, {"seq": first, "next_by_subj": subject, "batch": wanted})
        found += (entry for entry in page if entry.sequence <= last)
        if page:
            first = page[-1].sequence + 1
        elif asyncio.get_running_loop().time() > deadline:
            raise OperationalError(f"the stream {stream} does not give what stands at {last}")
        else:
            await asyncio.sleep(_PAUSE_SECONDS)
    return found


async def _from_leader(client: BusClient, stream: str, request: dict[str, Any]) -> Entry | None:
    deadline = asyncio.get_running_loop().time() + _PATIENCE_SECONDS
    while True:
        try:
            answer = await jetstream(client, f"STREAM.MSG.GET.{stream}", request, _NO_MESSAGE_FOUND)
            break
        except StreamMissingError:
            raise
        except UnavailableError:
            if client.is_closed or asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(_PAUSE_SECONDS)
    if "error" in answer:
        return None
    message = answer["message"]
    return Entry(
        int(message["seq"]),
        str(message["subject"]),
        base64.b64decode(message.get("hdrs", "")),
        base64.b64decode(message.get("data", "")),
    )


async def _page(client: BusClient, stream: str, request: dict[str, Any]) -> list[Entry]:
    """The answer to one Direct Get for several messages; what came of it if the connection was lost on the way."""
    found: list[Entry] = []
    ended = asyncio.get_running_loop().create_future()

    def take(_subject: bytes, _reply: bytes, data: bytes, headers: bytes) -> None:
        sequence = header(headers, b"Nats-Sequence")
        if sequence is not None and not status(headers):
            subject = header(headers, b"Nats-Subject") or b""
            found.append(Entry(int(sequence), subject.decode(), headers, data))
        elif not ended.done():
            ended.set_result(None)

    inbox = client.new_inbox()
    subscription = await client.subscribe_raw(inbox, take)
    try:
        await client.publish(f"$JS.API.DIRECT.GET.{stream}", orjson.dumps(request), reply=inbox)
        async with asyncio.timeout(_ATTEMPT_SECONDS):
            await ended
    except (nats.errors.Error, TimeoutError) as error:
        if client.is_closed:
            raise OperationalError("the connection to the bus is closed") from error
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()
    return found
