"""Connections of the agent itself, which go by this machine's own routes and never by learnt ones. A shell.

A learnt route may cover where the control plane is. Whoever announced that by mistake could not take it back if the
agents' own connections went there.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Any

from agent.device import OUTER_MARK


def mark(opened: socket.socket) -> None:
    """Have what a socket sends pass learnt routes by. Without the right to do so, there are none either."""
    with suppress(PermissionError):
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, OUTER_MARK)


class OuterLoop(asyncio.SelectorEventLoop):
    """An event loop whose outgoing connections do."""

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """See `asyncio.loop.sock_connect`."""
        mark(sock)
        await super().sock_connect(sock, address)


def create_connection(address: tuple[str, int], timeout: float, *_: Any) -> socket.socket:
    """Like `socket.create_connection`, for connections that do. Raises OSError."""
    failure: OSError | None = None
    for family, kind, protocol, _name, where in socket.getaddrinfo(*address, type=socket.SOCK_STREAM):
        opened = socket.socket(family, kind, protocol)
        try:
            opened.settimeout(timeout)
            mark(opened)
            opened.connect(where)
        except OSError as error:
            opened.close()
            failure = error
        else:
            return opened
    raise failure or OSError(f"{address[0]} has no address")
