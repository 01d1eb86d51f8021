"""The log and the reports as the lines of a file (`events.archive`), as they are now. Shell."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime

from nats.aio.client import Client

from events import log
from events.archive.format import STREAMS, Archived, Header, Writer
from events.audit.asking import ask_checkpoint
from events.client import Entry, header
from events.errors import WireloomError
from events.feed import StreamMissingError, entries, newest_sequence
from events.identity import Identity
from events.subjects import (
    BGP_PREFIX,
    BGP_STREAM,
    CHECKPOINTS_PREFIX,
    CHECKPOINTS_STREAM,
    EVENT_HEADER,
    LOG_STREAM,
    PLANS_PREFIX,
    PLANS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
)
from events.trust.signing import SIGNATURE_HEADER

_PREFIXES = {
    CHECKPOINTS_STREAM: CHECKPOINTS_PREFIX,
    REACH_STREAM: REACH_PREFIX,
    BGP_STREAM: BGP_PREFIX,
    PLANS_STREAM: PLANS_PREFIX,
}
_BESIDE = {LOG_STREAM: EVENT_HEADER.encode(), CHECKPOINTS_STREAM: SIGNATURE_HEADER.encode()}
_CHUNK = 1 << 16
_CHECKPOINT_SECONDS = 5.0
"""So long a checkpoint of the log's end is waited for."""


async def archive(client: Client, identity: Identity | None, release: str) -> AsyncGenerator[bytes]:
    """The file, in pieces, compressed with gzip: the log up to where it ends now, and what machines have reported.

    Raises `UnavailableError`; what was given until then is no whole file, and shows it.
    """
    packer = zlib.compressobj(wbits=zlib.MAX_WBITS | 16)
    packed = bytearray()
    async with aclosing(_lines(client, identity, release)) as lines:
        async for line in lines:
            packed += packer.compress(line)
            if len(packed) >= _CHUNK:
                yield bytes(packed)
                packed.clear()
    yield bytes(packed) + packer.flush()


async def _lines(client: Client, identity: Identity | None, release: str) -> AsyncGenerator[bytes]:
    writer = Writer()
    yield writer.header(
        Header(
            release=release,
            made_at=datetime.now(UTC),
            root=identity.public.root if identity is not None else "",
            ring=identity.ring() if identity is not None else None,
        )
    )
    # What no checkpoint vouches for, anybody who has the file could change. Without one it is a backup all the same.
    with suppress(WireloomError, TimeoutError):
        async with asyncio.timeout(_CHECKPOINT_SECONDS):
            await ask_checkpoint(client)
    # The log's end before the checkpoints: none may tell of more than is in the file.
    end = await log.last_sequence(client)
    for stream in STREAMS:
        async with aclosing(_messages(client, stream, end)) as batches:
            async for batch in batches:
                for entry in batch:
                    if stream != CHECKPOINTS_STREAM or int(entry.subject.rpartition(".")[2]) <= end:
                        yield writer.message(_archived(stream, entry))
    yield writer.footer()


async def _messages(client: Client, stream: str, log_end: int) -> AsyncGenerator[list[Entry]]:
    """What a stream holds now; nothing where there is none."""
    try:
        end = log_end if stream == LOG_STREAM else await newest_sequence(client, stream, f"{_PREFIXES[stream]}.>")
    except StreamMissingError:
        return
    if not end:
        return
    async with aclosing(entries(client, stream, 0)) as batches:
        async for batch in batches:
            yield [entry for entry in batch if entry.sequence <= end]
            if batch[-1].sequence >= end:
                return


def _archived(stream: str, entry: Entry) -> Archived:
    beside = header(entry.headers, _BESIDE[stream]) if stream in _BESIDE else None
    return Archived(stream, entry.sequence, entry.subject, (beside or b"").decode(), entry.data)
