"""What was at some moment of a log of a million events, beside making it from the whole log before.

Asked as a gateway asks, until its mirror of that moment is made, each moment for the first time; half of them by their
time, which has to be found in the log first. Who answers is a process of its own.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from statistics import median

from nats.aio.client import Client

from benchmarks.long_log import APART, BEGINNING, write_long_log
from benchmarks.result import Result
from events import bus
from events.errors import UnavailableError
from events.feed import jetstream, last_sequence
from events.instants import Instant
from events.memory import collect_rarely
from events.past import PAST_STATE, PastRequest, ask_past
from events.subjects import BGP, HISTORY, REACH
from services.cli.embedded import EmbeddedServer
from services.cli.process import ChildProcess
from services.gateway.past import Pasts
from services.topology.past.chronicler import Chronicler
from services.topology.past.service import serve_past

EVENTS = 1_000_000
MOMENTS = 20
PROMISED_SECONDS = 2.0
AIM = 1 / 5


async def run(data_dir: Path) -> list[Result]:
    """The slowest and the median of some moments anywhere in the log."""
    collect_rarely()
    async with AsyncExitStack() as stack:
        server = EmbeddedServer(data_dir, port=0)
        url = await server.start()
        stack.push_async_callback(server.stop)
        client = await bus.connect(url, "benchmark")
        stack.push_async_callback(client.close)
        await write_long_log(client, EVENTS)
        await bus.ensure_streams(client, (HISTORY, REACH, BGP), 1)
        await Chronicler(client, rest=0).write_due()
        await stack.enter_async_context(_answering(url, client))
        await _tell_room(client)
        end = await last_sequence(client, "LOG")
        chance = random.Random(1)
        times = [await _ask(client, chance.randint(1, end), by_time=number % 2 == 0) for number in range(MOMENTS)]
        await jetstream(client, f"STREAM.PURGE.{HISTORY.name}", {})
        replay = await _ask(client, end // 2, by_time=False)
    name = f"the mesh at a moment of {EVENTS:,} events"
    return [
        Result(f"{name}, median", median(times), replay, "at most", AIM, "s"),
        Result(f"{name}, slowest of {MOMENTS}", max(times), PROMISED_SECONDS, "at most", 1, "s"),
    ]


async def _ask(client: Client, position: int, *, by_time: bool) -> float:
    """Seconds until the mesh at a position is there."""
    instant = Instant(time=BEGINNING + (position - 1) * APART) if by_time else Instant(position=position)
    pasts = Pasts(client)
    start = time.perf_counter()
    past = await pasts.at(instant)
    passed = time.perf_counter() - start
    assert past.position == position, (past.position, position)
    return passed


async def _tell_room(client: Client) -> None:
    taken = {}
    for stream in ("LOG", HISTORY.name):
        taken[stream] = (await jetstream(client, f"STREAM.INFO.{stream}", {}))["state"]["bytes"]
    print(", ".join(f"{stream} {size / 1e6:,.0f} MB" for stream, size in taken.items()), flush=True)


@asynccontextmanager
async def _answering(url: str, client: Client) -> AsyncIterator[None]:
    """Who answers, for as long as the block lasts."""
    child = ChildProcess([sys.executable, "-m", "benchmarks.past", url], os.environ)
    await child.start()
    try:
        async with asyncio.timeout(30):
            while not await _answers(client):
                await asyncio.sleep(0.05)
        yield
    finally:
        await child.stop()


async def _answers(client: Client) -> bool:
    try:
        await ask_past(client, PAST_STATE, PastRequest(position=0))
    except UnavailableError:
        return False
    return True


async def _serve(url: str) -> None:
    collect_rarely()
    await serve_past(await bus.connect(url, "topology"))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
