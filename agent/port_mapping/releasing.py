"""Ends the mappings that an agent left, for a machine that leaves: by what is noted of them. A shell."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

from agent.port_mapping import upnp, wire
from agent.port_mapping.asking import Call, Protocol
from agent.port_mapping.notes import Note, Notes
from events.fields import split_endpoint

_PATIENCE = 2.0
"""Seconds for all of them together."""
_REPEAT_AFTER = 0.25


def release(folder: Path) -> None:
    """Ask the router to end every mapping that still counts, and forget them. Best effort; never raises."""
    notes = Notes(folder)
    going = [
        threading.Thread(target=_end, args=(note,), daemon=True)
        for note in notes.read().values()
        if note.until > time.time()
    ]
    _run(going)
    notes.erase()


def _run(threads: Iterable[threading.Thread]) -> None:
    started = list(threads)
    for thread in started:
        thread.start()
    deadline = time.monotonic() + _PATIENCE
    for thread in started:
        thread.join(max(0.0, deadline - time.monotonic()))


def _end(note: Note) -> None:
    with suppress(OSError, ValueError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(_REPEAT_AFTER)
        asking.connect((note.router, wire.ROUTER_PORT))
        if asking.getsockname()[0] != note.own:
            return  # the machine is elsewhere: this router never mapped anything for it
        if note.protocol is Protocol.UPNP:
            _, external_port = split_endpoint(note.endpoint)
            upnp.ask(note.router, note.own, Call(note.port, external_port, 0))
            return
        if note.protocol is Protocol.PCP:
            request = wire.pcp_request(IPv4Address(note.own), bytes.fromhex(note.nonce), note.port, 0)
        else:
            request = wire.pmp_request(note.port, 0, 0)
        for _ in range(3):
            asking.send(request)
            with suppress(TimeoutError):
                asking.recv(2048)
                return
