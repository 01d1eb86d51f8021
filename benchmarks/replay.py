"""Reading the whole log back from the server, beside only decoding what was read."""

from __future__ import annotations

import time
from contextlib import aclosing
from pathlib import Path

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
        messages: list[Entry] = []
        async with aclosing(feed.entries(plane.client, LOG_STREAM, 0)) as batches:
            async for batch in batches:
                messages += batch
                if batch[-1].sequence >= end:
                    break
        rates, floors = [], []
        for _ in range(3):
            start = time.perf_counter()
            for message in messages:
                log.read_entry(message)
            floors.append(len(messages) / (time.perf_counter() - start))
            start = time.perf_counter()
            async with aclosing(log.follow(plane.client, 0)) as followed:
                async for events in followed:
                    if events[-1].sequence >= end:
                        break
            rates.append(len(messages) / (time.perf_counter() - start))
    return [Result(f"replay of {EVENTS:,} events", max(rates), max(floors), "at least", 0.5, "/s")]
