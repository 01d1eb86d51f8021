"""Listeners by the thousand in a process of their own: real agents with interfaces in memory, or raw sockets.

Started as `python -m benchmarks.fleet agents|sockets URL`, with JSON on standard input. It says on the bus when all are
there (`bench.ready`), and when the last of them has heard something (`bench.heard`), with the time of the clock that
all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from ipaddress import ip_interface
from urllib.parse import urlsplit
from uuid import UUID

import nats
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from agent.access import open_bus
from agent.agent import Agent
from agent.context import Options
from agent.desired import Locality
from agent.device import Changes
from agent.recording import RecordingDevices
from agent.store import MemoryStore
from agent.surroundings import FixedSurroundings

READY, HEARD, STATS = "bench.ready", "bench.heard", "bench.stats"
BARE = "bench.bare"
MARK = b"mark:"
MARK_SIZE = len(MARK) + 8

_STARTING_AT_ONCE = 50


async def run_agents(url: str, machine_ids: list[str], peers: int) -> None:
    """Run an agent for each machine; all are there when each has `peers` peers."""
    speaker = await nats.connect(url)
    tally = _Tally(speaker, len(machine_ids))
    clients: list[Client] = []
    connected = asyncio.Semaphore(_STARTING_AT_ONCE)

    async def joined(machine_id: str, back: Callable[[], None], closed: Callable[[], None]) -> Client:
        async with connected:
            client = await open_bus(url, "agent", UUID(machine_id))(back, closed)
        clients.append(client)
        return client

    async def tell_bytes(message: Msg) -> None:
        await message.respond(str(sum(client.stats["in_bytes"] for client in clients)).encode())

    devices = [_WatchedDevices(tally) for _ in machine_ids]
    agents = [
        Agent(
            UUID(machine_id),
            Options(f"m{index}", beat_interval=600, reconcile_interval=600),
            connect=partial(joined, machine_id),
            devices=devices[index],
            store=MemoryStore(),
            surroundings=FixedSurroundings(
                Locality((ip_interface(f"10.99.{index >> 8}.{index & 255}/16"),), frozenset({4}))
            ),
        )
        for index, machine_id in enumerate(machine_ids)
    ]
    await speaker.subscribe(STATS, cb=tell_bytes)
    lives = [asyncio.ensure_future(agent.run()) for agent in agents]
    while not all(each.has_peers(peers) for each in devices):
        for life in lives:
            if life.done():
                await life
        await asyncio.sleep(0.1)
    gc.collect()
    gc.freeze()  # one agent has a small heap: it is not to pay for all the others' when garbage is collected
    await speaker.publish(READY)
    await asyncio.gather(*lives)


class _Tally:
    """Counts who has heard of what, and says when all have."""

    def __init__(self, client: Client, listeners: int) -> None:
        self._client = client
        self._listeners = listeners
        self._heard: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()

    def heard(self, what: str) -> None:
        self._heard[what] += 1
        if self._heard[what] == self._listeners:
            said = orjson.dumps([what, time.monotonic()])
            task = asyncio.ensure_future(self._client.publish(HEARD, said))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


class _WatchedDevices(RecordingDevices):
    def __init__(self, tally: _Tally) -> None:
        super().__init__()
        self._tally = tally

    def apply(self, interface: str, changes: Changes) -> None:
        super().apply(interface, changes)
        for change in changes.peers:
            if change.add_allowed_ips:
                self._tally.heard(change.public_key)

    def has_peers(self, count: int) -> bool:
        interfaces = self.interfaces()
        return bool(interfaces) and len(self.peers(interfaces[0])) >= count


async def run_sockets(url: str, count: int) -> None:
    """Hold so many connections that subscribe to one subject and do nothing with what they hear but look for a mark."""
    speaker = await nats.connect(url)
    tally = _Tally(speaker, count)
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    for _ in range(count):
        _, socket = await loop.create_connection(lambda: _RawSocket(tally), address.hostname, address.port)
        await socket.subscribed.wait()
    await speaker.publish(READY)
    await asyncio.Event().wait()


class _RawSocket(asyncio.Protocol):
    def __init__(self, tally: _Tally) -> None:
        self._tally = tally
        self.subscribed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        transport.write(b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB ' + BARE.encode() + b" 1\r\nPING\r\n")

    def data_received(self, data: bytes) -> None:
        place = data.find(MARK)
        if place >= 0:
            self._tally.heard(data[place : place + MARK_SIZE].decode())
        elif b"PONG" in data:
            self.subscribed.set()
        if b"PING\r\n" in data:
            self._transport.write(b"PONG\r\n")


def main() -> None:
    """Run what the command line says."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    kind, url = sys.argv[1:3]
    order = orjson.loads(sys.stdin.readline())
    with suppress(KeyboardInterrupt):
        if kind == "agents":
            asyncio.run(run_agents(url, order["machines"], order["peers"]))
        else:
            asyncio.run(run_sockets(url, order["count"]))


if __name__ == "__main__":
    main()
