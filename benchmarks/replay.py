"""Reading the whole log back from the server, beside only decoding what was read."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.plane import running_plane
from benchmarks.result import Result
from events import feed, log
from events.subjects import LOG_STREAM

EVENTS = 100_000


async def run(data_dir: Path) -> list[Result]:
    """Events per second of a replay, and of decoding the same messages in memory."""
    async with running_plane(data_dir, services=("allocator", "gateway")) as plane:
        await plane.machines(EVENTS)
        end = await log.last_sequence(plane.client)
        messages = []
        async for batch in feed.feed(plane.client, LOG_STREAM, 0):
            messages += batch
            if batch[-1][0] >= end:
                break
        rates, floors = [], []
        for _ in range(3):
            start = time.perf_counter()
            for sequence, message in messages:
                log.read_message(sequence, message)
            floors.append(len(messages) / (time.perf_counter() - start))
            start = time.perf_counter()
            async for events in log.follow(plane.client, 0):
                if events[-1].sequence >= end:
                    break
            rates.append(len(messages) / (time.perf_counter() - start))
    return [Result(f"replay of {EVENTS:,} events", max(rates), max(floors), "at least", 0.5, "/s")]
