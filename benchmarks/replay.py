"""Reading the whole log back from the server, beside only decoding what was read."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path

from nats.aio.client import Client

from benchmarks.plane import running_plane
from benchmarks.result import Result
from events import feed, log
from events.client import Entry
from events.subjects import LOG_STREAM

EVENTS = 100_000


async def run(data_dir: Path) -> list[Result]:
    """Events per second of a replay, and of decoding the same messages in memory."""
    async with running_plane(data_dir, services=("allocator", "gateway")) as plane:
        await plane.machines(EVENTS)
        end = await log.last_sequence(plane.client)
        rate = max([await _replay(plane.client, end) for _ in range(3)])
        messages = await _messages(plane.client, end)
        floor = max(_decode(messages) for _ in range(3))
    return [Result(f"replay of {EVENTS:,} events", rate, floor, "at least", 0.5, "/s")]


async def _replay(client: Client, end: int) -> float:
    """Events per second of reading the log from its beginning. Nothing else is kept in memory meanwhile."""
    start, count = time.perf_counter(), 0
    async with aclosing(log.follow(client, 0)) as followed:
        async for events in followed:
            count += len(events)
            if events[-1].sequence >= end:
                break
    return count / (time.perf_counter() - start)


def _decode(messages: list[Entry]) -> float:
    start = time.perf_counter()
    for message in messages:
        log.read_entry(message)
    return len(messages) / (time.perf_counter() - start)


async def _messages(client: Client, end: int) -> list[Entry]:
    messages: list[Entry] = []
    async with aclosing(feed.entries(client, LOG_STREAM, 0)) as batches:
        async for batch in batches:
            messages += batch
            if batch[-1].sequence >= end:
                break
    return messages
