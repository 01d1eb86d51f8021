"""Telling the service manager how the program is doing (sd_notify(3))."""

from __future__ import annotations

import os
import socket
from contextlib import suppress


def notify(state: str) -> None:
    """Say `state`, for example `READY=1`, to the service manager, if there is one that wants to know."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as client, suppress(OSError):
        client.sendto(state.encode(), address.replace("@", "\0", 1))
