"""A machine joins: how long until every other one has it as a peer, and how many bytes each hears of it.

The floor is a bare publish of as many bytes that reaches as many raw sockets.
"""

from __future__ import annotations

import asyncio
import base64
import os
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from uuid import UUID

import orjson
from nats.aio.msg import Msg

from benchmarks import fleet
from benchmarks.plane import Plane, running_plane
from benchmarks.result import Result
from events.records import MembershipRequest
from events.subjects import ask

FLEETS = (250, 1000)
PROCESSES = os.cpu_count() or 1
"""The agents, and the raw sockets too, are shared out among so many processes: real ones do not queue for one core."""
JOINS = 21
SIZE = 380
"""Bytes of the bare message: what a join's message has on the wire."""


async def run(data_dir: Path) -> list[Result]:
    """Time to everybody at 250 and 1,000 agents, and bytes per agent at 10 and 1,000."""
    results, bytes_heard = [], {}
    for count in (10, *FLEETS):
        async with running_plane(data_dir / str(count)) as plane:
            values, floors, bytes_heard[count] = await _measure(plane, count)
        if count in FLEETS:
            name = f"join to everybody, {count:,} agents"
            results.append(Result(name, median(values) * 1e3, median(floors) * 1e3, "at most", 3, "ms"))
    name = "bytes per agent per join, at 1,000 against 10"
    results.append(Result(name, bytes_heard[1000], bytes_heard[10], "at most", 1.1, "B"))
    return results


async def _measure(plane: Plane, count: int) -> tuple[list[float], list[float], float]:
    network_id = await plane.network("bench", "10.0.0.0/16")
    machines = await plane.machines(count + JOINS)
    await plane.assign(network_id, machines)
    ears = _Ears()
    await plane.client.subscribe(fleet.HEARD, cb=ears.take)
    agents = [
        {"machines": [str(each) for each in machines[start:count:PROCESSES]], "peers": count - 1}
        for start in range(PROCESSES)
    ]
    sockets = [{"count": len(order["machines"])} for order in agents]
    async with _fleet(plane, "agents", agents), _fleet(plane, "sockets", sockets):
        values, floors = [], []
        before = await _bytes(plane)
        for turn, newcomer in enumerate(machines[count:]):
            floors.append(await _bare(plane, ears, turn))
            values.append(await _join(plane, ears, network_id, newcomer))
        heard = (await _bytes(plane) - before) / count / JOINS
    return values, floors, heard


async def _join(plane: Plane, ears: _Ears, network_id: UUID, newcomer: UUID) -> float:
    key = base64.b64encode(os.urandom(32)).decode()
    request = MembershipRequest(
        network_id=network_id, public_key=key, listen_port=51820, endpoints=("192.0.2.200:51820",)
    )
    start = time.monotonic()
    await plane.client.publish(ask(newcomer, "membership"), request.model_dump_json().encode())
    return await ears.wait_for(key) - start


async def _bare(plane: Plane, ears: _Ears, turn: int) -> float:
    mark = fleet.MARK + b"%08d" % turn
    start = time.monotonic()
    await plane.client.publish(fleet.BARE, mark.ljust(SIZE, b"x"))
    return await ears.wait_for(mark.decode()) - start


async def _bytes(plane: Plane) -> int:
    inbox = plane.client.new_inbox()
    subscription = await plane.client.subscribe(inbox)
    await plane.client.publish(fleet.STATS, reply=inbox)
    total = sum([int((await subscription.next_msg(timeout=30)).data) for _ in range(PROCESSES)])
    await subscription.unsubscribe()
    return total


@dataclass
class _Ears:
    """When everybody had heard what."""

    _times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def take(self, message: Msg) -> None:
        what, moment = orjson.loads(message.data)
        self._times[what].append(moment)
        self._news.set()

    async def wait_for(self, what: str) -> float:
        async with asyncio.timeout(60):
            while len(self._times[what]) < PROCESSES:
                self._news.clear()
                await self._news.wait()
        return max(self._times[what])


@asynccontextmanager
async def _fleet(plane: Plane, kind: str, orders: Sequence[dict[str, object]]) -> AsyncIterator[None]:
    """A process for each order, all ready."""
    subscription = await plane.client.subscribe(fleet.READY)
    await plane.client.flush()
    processes = []
    try:
        for order in orders:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "benchmarks.fleet", kind, plane.url, stdin=asyncio.subprocess.PIPE
            )
            processes.append(process)
            assert process.stdin is not None
            process.stdin.write(orjson.dumps(order) + b"\n")
            await process.stdin.drain()
        for _ in orders:
            await subscription.next_msg(timeout=240)
        yield
    finally:
        for process in processes:
            process.terminate()
            await process.wait()
        await subscription.unsubscribe()
