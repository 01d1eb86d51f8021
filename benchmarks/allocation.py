"""The price of one more address: in a network of 60,000 machines beside one of 100."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median
from uuid import UUID

from benchmarks.plane import Plane, running_plane
from benchmarks.result import Result

SMALL, LARGE, CALLS = 100, 60_000, 600


async def run(data_dir: Path) -> list[Result]:
    """Median time of an assignment and of giving the address back, in turns in both networks."""
    async with running_plane(data_dir) as plane:
        machines = await plane.machines(LARGE)
        newcomer = (await plane.machines(1))[0]
        small = await plane.network("small", "10.1.0.0/16")
        large = await plane.network("large", "10.2.0.0/16")
        await plane.assign(small, machines[:SMALL])
        await plane.assign(large, machines)
        times: dict[UUID, list[float]] = {small: [], large: []}
        for _ in range(CALLS):
            for network_id in (small, large):
                times[network_id].append(await _come_and_go(plane, network_id, newcomer))
    return [
        Result(
            f"allocation at {LARGE:,} machines against {SMALL}",
            median(times[large]) * 1e3,
            median(times[small]) * 1e3,
            "at most",
            1.5,
            "ms",
        )
    ]


async def _come_and_go(plane: Plane, network_id: UUID, machine_id: UUID) -> float:
    start = time.perf_counter()
    await plane.command("assign-machine", network_id=network_id, machine_id=machine_id)
    await plane.command("unassign-machine", network_id=network_id, machine_id=machine_id)
    return time.perf_counter() - start
