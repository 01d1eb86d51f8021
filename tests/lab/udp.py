"""Plain UDP between the machines of a lab, to see what the places between them let through."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from ipaddress import ip_address

from deploy.lab.surroundings import Surroundings

Address = tuple[str, int]
Pair = tuple[str, str]

_BURST = 5
_GAP = 0.1
_EXPECTED_WITHIN = 0.5


class Talk:
    """A socket for each version of IP on every machine, each on a port that was never used before in the lab."""

    def __init__(self, surroundings: Surroundings, port: int) -> None:
        self._spots = surroundings.spots
        self._stack = ExitStack()
        self._selector = self._stack.enter_context(selectors.DefaultSelector())
        self._sockets: dict[tuple[str, int], socket.socket] = {}
        for number, name in enumerate(self._spots):
            for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
                with surroundings.lab.machines[name].network():
                    opened = self._stack.enter_context(socket.socket(family, socket.SOCK_DGRAM))
                if version == 6:
                    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                # Ports differ between machines, so that those behind one router need no other one there.
                opened.bind(("", port + number))
                opened.setblocking(False)
                self._sockets[name, version] = opened
                self._selector.register(opened, selectors.EVENT_READ, name)
        self.own = {
            name: [(address, port + number) for address in spot.addresses]
            for number, (name, spot) in enumerate(self._spots.items())
        }
        """The addresses that each machine has itself."""

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def arrivals(self, tries: Iterable[tuple[str, str, Address]]) -> dict[Pair, set[Address]]:
        """Have machines send to others at addresses, a few times and all at once: from where what one sent to another
        came to it, by the names of the two."""
        wanted = list(tries)
        came: dict[Pair, set[Address]] = {}
        for _ in range(_BURST):
            for source, target, address in wanted:
                # Some addresses lead nowhere from where a machine is; that is told by sending, or by what is sent next.
                with suppress(OSError):
                    self._sockets[source, ip_address(address[0]).version].sendto(f"{source} {target}".encode(), address)
            self._receive(_GAP, came)
        self._receive(_EXPECTED_WITHIN, came)
        return came

    def _receive(self, seconds: float, came: dict[Pair, set[Address]]) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            for key, _ in self._selector.select(left):
                assert isinstance(key.fileobj, socket.socket)
                with suppress(OSError):
                    payload, sender = key.fileobj.recvfrom(100)
                    source, target = payload.decode().split()
                    if target == key.data:
                        came.setdefault((source, target), set()).add(sender[:2])
