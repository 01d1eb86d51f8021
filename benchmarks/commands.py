"""The way of a command: program, gateway, allocator, log, and back; beside a bare JetStream publish."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from statistics import median

from benchmarks.plane import running_plane
from benchmarks.result import Result
from events.bus import ensure_streams
from events.subjects import Stream

CALLS = 1500
CALLERS = 64
CALLS_EACH = 60

_PAYLOAD = b"x" * 350
_BARE = Stream("BARE", "bare")


async def run(data_dir: Path) -> list[Result]:
    """Latency of one caller, and throughput of 64."""
    async with running_plane(data_dir) as plane:
        await ensure_streams(plane.client, [_BARE], replicas=1)
        network_id = await plane.network("bench", "10.0.0.0/12")
        machines = await plane.machines(CALLS + CALLERS * CALLS_EACH)
        jetstream = plane.client.jetstream()

        async def bare(_: int) -> None:
            await jetstream.publish("bare.1", _PAYLOAD)

        async def assign(index: int) -> None:
            await plane.command("assign-machine", network_id=network_id, machine_id=machines[index])

        floors, values = [], []
        for start in range(0, CALLS, 100):
            floors += await _one_after_another(bare, range(start, start + 100))
            values += await _one_after_another(assign, range(start, start + 100))
        floor_rate = await _together(bare, CALLS)
        rate = await _together(assign, CALLS)
    return [
        Result("command, p50 of one caller", median(values) * 1e3, median(floors) * 1e3, "at most", 3, "ms"),
        Result(f"commands, {CALLERS} callers", rate, floor_rate, "at least", 1 / 3, "/s"),
    ]


async def _one_after_another(call: Callable[[int], Awaitable[None]], indexes: range) -> list[float]:
    times = []
    for index in indexes:
        start = time.perf_counter()
        await call(index)
        times.append(time.perf_counter() - start)
    return times


async def _together(call: Callable[[int], Awaitable[None]], first: int) -> float:
    async def caller(number: int) -> None:
        for turn in range(CALLS_EACH):
            await call(first + number * CALLS_EACH + turn)

    start = time.perf_counter()
    await asyncio.gather(*(caller(number) for number in range(CALLERS)))
    return CALLERS * CALLS_EACH / (time.perf_counter() - start)
