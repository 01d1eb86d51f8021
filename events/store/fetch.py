"""Reading a stream so that what was acknowledged is seen, on one server or several. A shell.

The stream's leader says which message is the newest; the messages themselves come from whichever server is asked
(Direct Get), again and again if that one lags behind its leader.
"""

from __future__ import annotations

import asyncio
from typing import Any

from eventsourcing.persistence import OperationalError

from events.client import BusClient, Entry
from events.direct import direct_get, entry_of
from events.errors import UnavailableError
from events.feed import StreamMissingError, jetstream

PAGE = 1000
"""So many messages are asked for at once."""

_NO_MESSAGE_FOUND = 10037
_PATIENCE_SECONDS = 30.0
"""As for a write: see `events.store.journal`."""
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
    return entry_of(answer["message"])


async def _page(client: BusClient, stream: str, request: dict[str, Any]) -> list[Entry]:
    try:
        return (await direct_get(client, stream, request)).entries
    except UnavailableError as error:
        raise OperationalError("the connection to the bus is closed") from error
