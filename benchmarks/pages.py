"""The dashboard's pages where there is much to show; beside the same pages where there is little."""

from __future__ import annotations

import time
from pathlib import Path
from statistics import median

import httpx2

from benchmarks.plane import running_plane
from benchmarks.result import Result

FEW, MANY = 100, 10_000
MEMBERS = 2_000
LOADS = 20
_PAGES = {
    "machines": "/machines",
    "machines, searched": "/machines?search=9.99",
    "events": "/events",
}
_OF_NETWORK = {
    "network": "/networks/{}",
    "members": "/networks/{}/machines",
    "map": "/networks/{}/map",
    "sessions": "/networks/{}/bgp",
}


async def run(data_dir: Path) -> list[Result]:
    """How long a whole page takes until its last byte, the median of some."""
    async with running_plane(data_dir) as plane, httpx2.AsyncClient(base_url=plane.http_url, timeout=60) as http:
        small, large = await plane.network("small", "10.0.0.0/16"), await plane.network("large", "10.9.0.0/16")
        few = await plane.machines(FEW)
        await plane.assign(small, few)
        floors = {name: await _median(http, path) for name, path in _PAGES.items()}
        floors |= {name: await _median(http, path.format(small)) for name, path in _OF_NETWORK.items()}
        many = await plane.machines(MANY - FEW)
        await plane.assign(large, many[:MEMBERS])
        values = {name: await _median(http, path) for name, path in _PAGES.items()}
        values |= {name: await _median(http, path.format(large)) for name, path in _OF_NETWORK.items()}
    return [
        Result(f"page: {name}, {_much(name)}", values[name] * 1e3, floors[name] * 1e3, "at most", 3, "ms")
        for name in floors
    ]


def _much(name: str) -> str:
    return f"{MEMBERS:,} members" if name in _OF_NETWORK else f"{MANY:,} machines"


async def _median(http: httpx2.AsyncClient, path: str) -> float:
    times = []
    for _ in range(LOADS):
        start = time.perf_counter()
        answer = await http.get(path)
        times.append(time.perf_counter() - start)
        answer.raise_for_status()
    return median(times)
