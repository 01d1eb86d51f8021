"""Pings that go on while other things happen: many at once, in a thread of their own, each remembered.

ICMP (RFC 792) through raw sockets that belong to the machines' networks: no program runs for it on the machines, and
what is measured is not how fast programs start.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterable
from itertools import count
from typing import Self

from deploy.lab.machine import Machine

_ECHO_REPLY = 0
_ECHO_REQUEST = 8
_SOL_RAW = 255
_ICMP_FILTER = 1
_ALL_BUT_REPLIES = ~(1 << _ECHO_REPLY) & 0xFFFFFFFF
_SEQUENCES = 1 << 16
_FILLING = b"wireloom lab"


class Flow:
    """Pings from one machine to one address: when each was sent, and when answered, by `time.monotonic`.

    It is written by the thread that pings and read by others, who see it grow.
    """

    def __init__(self, source: str, target: str, address: str, number: int, every: float) -> None:
        self.source = source
        self.target = target
        self.address = address
        self.number = number
        self.every = every
        self.next_at = 0.0
        self.sent: list[float] = []
        self.answered: dict[int, float] = {}
        """By the place in `sent`."""

    def first_through(self, since: float = 0.0) -> float | None:
        """When the first ping that was sent after `since` was answered."""
        through = [at for place, at in list(self.answered.items()) if self.sent[place] >= since]
        return min(through, default=None)

    def lost(self, since: float, until: float) -> int:
        """How many of those sent in a span of time were not answered."""
        sent = [place for place, at in enumerate(list(self.sent)) if since <= at < until]
        return sum(place not in self.answered for place in sent)

    def round_trip(self, last: int = 5) -> float | None:
        """Milliseconds: the median of the last answers."""
        places = list(self.answered)[-last:]
        return statistics.median((self.answered[p] - self.sent[p]) * 1000 for p in places) if places else None


class Pings:
    """Pings on their way. As a context manager it ends them."""

    def __init__(self) -> None:
        self._sockets: dict[str, socket.socket] = {}
        self._flows: dict[int, Flow] = {}
        self._numbers = count(1)
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="pings", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        self._thread.join()
        self._selector.close()
        for opened in self._sockets.values():
            opened.close()

    def add(self, source: Machine, target: str, address: str, every: float) -> Flow:
        """Ping an address from a machine every so many seconds, from now on."""
        flow = Flow(source.name, target, address, next(self._numbers), every)
        with self._lock:
            if source.name not in self._sockets:
                self._sockets[source.name] = opened = _echo_socket(source)
                self._selector.register(opened, selectors.EVENT_READ)
            self._flows[flow.number] = flow
        return flow

    def end(self, flows: Iterable[Flow]) -> None:
        """Send no more of these."""
        with self._lock:
            for flow in flows:
                self._flows.pop(flow.number, None)

    def _run(self) -> None:
        while not self._over:
            now = time.monotonic()
            with self._lock:
                flows = list(self._flows.values())
            for flow in flows:
                if flow.next_at <= now:
                    self._send(flow)
            soonest = min((flow.next_at for flow in flows), default=now + 0.05)
            for key, _ in self._selector.select(min(max(soonest - time.monotonic(), 0.0), 0.05)):
                assert isinstance(key.fileobj, socket.socket)
                self._receive(key.fileobj)

    def _send(self, flow: Flow) -> None:
        now = time.monotonic()
        flow.next_at = max(flow.next_at + flow.every, now)
        sequence = len(flow.sent) % _SEQUENCES
        flow.sent.append(now)
        # Where there is no route or no interface yet, it is a ping that was lost.
        with contextlib.suppress(OSError):
            self._sockets[flow.source].sendto(_echo(flow.number, sequence), (flow.address, 0))

    def _receive(self, opened: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, _ = opened.recvfrom(2048)
                now = time.monotonic()
                header = (packet[0] & 0x0F) * 4
                _, _, _, number, sequence = struct.unpack_from("!BBHHH", packet, header)
                flow = self._flows.get(number)
                if flow is not None and flow.sent:
                    # The last one sent that has this number: they begin again after 65,536.
                    place = len(flow.sent) - 1 - (len(flow.sent) - 1 - sequence) % _SEQUENCES
                    if place >= 0:
                        flow.answered.setdefault(place, now)


def _echo_socket(machine: Machine) -> socket.socket:
    with machine.network():
        opened = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    opened.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", _ALL_BUT_REPLIES))
    opened.setblocking(False)
    return opened


def _echo(number: int, sequence: int) -> bytes:
    message = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, number, sequence) + _FILLING
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, _checksum(message), number, sequence) + _FILLING


def _checksum(message: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
