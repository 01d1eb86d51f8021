"""Whether streams are still those that were read: what follows from others does not follow from these. A shell."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from nats.aio.client import Client

from events.errors import UnavailableError
from events.feed import StreamMissingError, made_at
from services.topology.paths_writer import PathsDivergedError

_SAME_SECONDS = 2.0


async def when_made(client: Client, streams: Iterable[str]) -> dict[str, str]:
    """When each of these streams was made. Raises `UnavailableError`."""
    return {stream: await made_at(client, stream) for stream in streams}


async def watch(client: Client, made: dict[str, str], waiting: asyncio.Queue[Any]) -> None:
    """Put an error where it is raised, when one of the streams is not the one any more that was `made` then."""
    while True:
        await asyncio.sleep(_SAME_SECONDS)
        try:
            if await when_made(client, made) == made:
                continue
            error: Exception = PathsDivergedError("A stream was deleted, and there is another in its place.")
        except StreamMissingError as missing:
            error = missing
        except UnavailableError:
            continue
        await waiting.put(error)
        return
