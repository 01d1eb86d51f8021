"""nats-py's client with one addition: messages handed on as they come off the wire. A shell.

nats-py makes an object and a parsed header of every message and passes it through a queue to a task. Reading a log of
millions of events that costs more than the events themselves, so a raw subscription calls a plain function instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

import nats.errors
from nats.aio.client import Client
from nats.aio.subscription import Subscription

Sink = Callable[[bytes, bytes, bytes, bytes], None]
"""Takes the subject, the reply subject, the payload and the header block of a message; what is not there is empty."""


class Entry(NamedTuple):
    """A message that stands in a stream, with its header block as it came."""

    sequence: int
    subject: str
    headers: bytes
    data: bytes


class BusClient(Client):
    """A connection to the bus that has raw subscriptions too."""

    def __init__(self) -> None:
        super().__init__()
        self._sinks: dict[int, Sink] = {}

    async def subscribe_raw(self, subject: str, sink: Sink) -> Subscription:
        """Have `sink` called, in the event loop, with every message on `subject`. It must be quick and not raise."""
        subscription = await self.subscribe(subject)
        self._sinks[subscription._id] = sink
        return subscription

    def give_up_requests(self) -> None:
        """Fail the requests under way. Called when the connection is lost, it spares callers that try again anyway the
        wait for answers that were probably lost with it."""
        for waiting in list(self._resp_map.values()):
            if not waiting.done():
                waiting.set_exception(nats.errors.ConnectionReconnectingError())

    async def close(self) -> None:
        """Close the connection for good, also while it is lost."""
        if not self.is_connected:
            # nats-py would write what waits for a new connection to the broken one, and fail.
            self._pending.clear()
            self._pending_data_size = 0
        try:
            await super().close()
        except asyncio.CancelledError:
            # nats-py ends its reconnecting, and with that the wait for the broken transport's end, which it then
            # waits for itself. That is no cancellation of ours.
            if (task := asyncio.current_task()) is not None and task.cancelling():
                raise

    @classmethod
    def of(cls, client: Client) -> BusClient:
        """`client` itself, which `events.bus.connect` must have made; else raises TypeError."""
        if not isinstance(client, cls):
            raise TypeError("this connection to the bus was not made by events.bus.connect")
        return client

    async def _process_msg(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
        if (sink := self._sinks.get(sid)) is not None:
            self.stats["in_msgs"] += 1
            self.stats["in_bytes"] += len(data)
            sink(subject, reply, data, headers or b"")
        else:
            await super()._process_msg(sid, subject, reply, data, headers)

    async def _process_pong(self) -> None:
        if self._pongs and self._pongs[0].done():
            # Who waited for it has given up. nats-py would fail to tell him, and read no more on this connection.
            self._pongs[0] = asyncio.get_running_loop().create_future()
        await super()._process_pong()

    def _remove_sub(self, sid: int, max_msgs: int = 0) -> None:
        self._sinks.pop(sid, None)
        super()._remove_sub(sid, max_msgs)


def header(block: bytes, name: bytes) -> bytes | None:
    """The value of a header in a header block as servers send it (ADR-4 of NATS), or None."""
    start = block.find(b"\r\n" + name + b":")
    if start < 0:
        return None
    start += len(name) + 3
    return block[start : block.find(b"\r\n", start)].strip()


def headers_of(block: bytes) -> dict[str, str]:
    """All headers of a header block."""
    lines = (line.partition(b":") for line in block.split(b"\r\n")[1:] if line)
    return {name.strip().decode(): value.strip().decode("utf-8", "replace") for name, _, value in lines}


def status(block: bytes) -> bytes:
    """The status in the first line of a header block, such as `100` or `404`; empty where there is none."""
    return block[9:12] if block.startswith(b"NATS/1.0 ") else b""
