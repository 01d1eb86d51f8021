"""Whether the ports that BIRD listens on are there to be had: a shell.

BIRD turns a session off for good where another program has its port: FRR, or a BIRD of the whole system with sessions.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Collection

from agent.bgp.intent import BgpIntent
from agent.bgp.names import network_label


def taken(intent: BgpIntent, unheard: Collection[tuple[str, int]]) -> str:
    """Which of the ports that BIRD does not listen on another program has, and what to do, for people to read; empty if
    none is taken. Each comes with the label of its network."""
    addresses = {network_label(network.network_id): network.address for network in intent.networks}
    for label, port in sorted(unheard):
        if (address := addresses.get(label)) is not None and _is_taken(str(address), port):
            return (
                f"Another program has TCP port {port}, so that no session begins at {address}. "
                f"See which with `ss -lntp sport = :{port}`, and let it listen at its own addresses only."
            )
    return ""


def _is_taken(address: str, port: int) -> bool:
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((address, port))
            tried.listen()
        except OSError as error:
            return error.errno == errno.EADDRINUSE
    return False
