"""A TCP proxy between a client and its bus that can break the connection at the worst moment."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Literal

Direction = Literal["to_server", "to_client"]


class Proxy:
    """Passes everything on, but for what it is told to lose."""

    def __init__(self, host: str, port: int) -> None:
        self.url = ""
        self.lost = 0
        """How many times something was lost."""
        self._target = host, port
        self.flowing = asyncio.Event()
        """While this is not set, nothing is passed on."""
        self.flowing.set()
        self._marker: dict[Direction, bytes] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._is_stopped = False

    def lose(self, direction: Direction, marker: bytes) -> None:
        """Break the connection, once, instead of passing on the next bytes that contain `marker`."""
        self._marker[direction] = marker

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection. One that comes when all were broken for good is closed."""
        if self._is_stopped:
            writer.close()
            return
        task = asyncio.create_task(self._serve(reader, writer))
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # Also of one that is cancelled before it has begun.
        task.add_done_callback(lambda _: writer.close())

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            server_reader, server_writer = await self._open()
            flowing = self.flowing
            ways = [
                asyncio.create_task(self._pass("to_server", reader, server_writer, flowing)),
                asyncio.create_task(self._pass("to_client", server_reader, writer, flowing)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                for end in (server_writer, writer):
                    end.close()  # at once: waiting may be cancelled
                await asyncio.gather(*ways, return_exceptions=True)
                for end in (server_writer, writer):
                    with contextlib.suppress(OSError):
                        await end.wait_closed()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to the server, which nobody is left with who is stopped while it opens."""
        opening = asyncio.create_task(asyncio.open_connection(*self._target))
        try:
            return await asyncio.shield(opening)
        except asyncio.CancelledError:
            _, writer = await opening
            writer.close()
            raise

    def strand(self) -> None:
        """Pass on nothing more on the connections that there are, as when an end of them has another address now. New
        ones are not concerned."""
        self.flowing.clear()
        self.flowing = asyncio.Event()
        self.flowing.set()

    async def stop(self) -> None:
        """Break all connections, for good."""
        self._is_stopped = True
        for connection in list(self._connections):
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _pass(
        self,
        direction: Direction,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        flowing: asyncio.Event,
    ) -> None:
        while data := await source.read(65536):
            marker = self._marker.get(direction)
            if marker is not None and marker in data:
                del self._marker[direction]
                self.lost += 1
                return
            await flowing.wait()
            sink.write(data)
            await sink.drain()


@asynccontextmanager
async def proxy_to(url: str) -> AsyncIterator[Proxy]:
    """A proxy before the server at `url`, for as long as the block lasts."""
    host, _, port = url.removeprefix("nats://").rpartition(":")
    proxy = Proxy(host, int(port))
    listener = await asyncio.start_server(proxy.accept, "127.0.0.1", 0)
    proxy.url = f"nats://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    try:
        yield proxy
    finally:
        listener.close()
        await proxy.stop()
        await listener.wait_closed()
