"""Where this machine stands in the networks underneath, and when that changes, through rtnetlink."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator
from contextlib import suppress
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from typing import Any, Protocol

from pyroute2 import IPRoute

from agent.desired import Locality
from agent.links import refusals
from events.commands import MAX_ENDPOINTS
from events.fields import join_endpoint, split_endpoint
from events.interfaces import INTERFACE_PREFIX

_IFF_UP_AND_RUNNING = 0x1 | 0x40
_IFF_LOOPBACK = 0x8
_UNFIT_IPV6 = 0x01 | 0x20 | 0x40
"""Temporary, deprecated and tentative addresses (RFC 8981; RFC 4862): not to be announced."""

_RTM_UNICAST = 1
_TABLE_MAIN = 254
_IPV6_LINK_LOCAL = "fe80"

_NETLINK_ROUTE = 0
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""Links, IPv4 and IPv6 addresses, IPv4 and IPv6 routes (rtnetlink(7))."""

_SETTLE = 0.3
"""Seconds to wait after a change, because changes come in swarms."""


class Surroundings(Protocol):
    """What an agent needs to know of the machine it runs on."""

    blocking: bool
    """Whether `look` waits for the system, so that it belongs into a thread."""

    def look(self) -> Locality:
        """Where the machine stands now. Raises `DeviceError`."""

    async def changed(self) -> None:
        """Returns when something about links, addresses or routes has changed."""

    def close(self) -> None:
        """Let go of the system's handles."""


class FixedSurroundings:
    """Surroundings that are given and never change: for tests and simulations."""

    blocking = False

    def __init__(self, locality: Locality) -> None:
        self.locality = locality

    def look(self) -> Locality:
        """See `Surroundings.look`."""
        return self.locality

    async def changed(self) -> None:
        """Never returns."""
        await asyncio.Event().wait()

    def close(self) -> None:
        """Nothing to do."""


class SystemSurroundings:
    """This machine's own, in its network namespace."""

    blocking = True

    def __init__(self) -> None:
        self._netlink: IPRoute | None = None
        self._events: socket.socket | None = None

    def look(self) -> Locality:
        """See `Surroundings.look`."""
        with refusals("read this machine's addresses"):
            if self._netlink is None:
                self._netlink = IPRoute()
            links = {link["index"]: link for link in self._netlink.get_links()}
            fit = {index for index, link in links.items() if _is_fit(link)}
            addresses = [a for a in self._netlink.get_addr() if a["index"] in fit and _is_global(a)]
            families = frozenset(self._families({index for index, link in links.items() if _is_outer(link)}))
            router = self._router(fit)
        addresses.sort(key=lambda address: (address["family"], address["index"]))
        return Locality(tuple(_interface(address) for address in addresses), families, router)

    def _families(self, indexes: set[int]) -> Iterator[int]:
        assert self._netlink is not None
        for family, version in ((socket.AF_INET, 4), (socket.AF_INET6, 6)):
            for route in self._netlink.get_routes(family=family, table=_TABLE_MAIN):
                destination = route.get("dst") or ""
                # A route through several gateways names its links inside, and none by itself.
                leads_out = route.get("oif") in indexes or route.get("multipath")
                if route["type"] == _RTM_UNICAST and leads_out and not destination.startswith(_IPV6_LINK_LOCAL):
                    yield version
                    break

    def _router(self, indexes: set[int]) -> str:
        """Where the default route with the lowest metric leads, if that is by one router."""
        assert self._netlink is not None
        routes = [
            (route.get("priority") or 0, str(route.get("gateway")))
            for route in self._netlink.get_routes(family=socket.AF_INET, table=_TABLE_MAIN)
            if not route["dst_len"] and route.get("gateway") and route.get("oif") in indexes
        ]
        return min(routes)[1] if routes else ""

    async def changed(self) -> None:
        """See `Surroundings.changed`. What the kernel says is not read but taken as a sign that something happened:
        so nothing is lost when it says more than the socket holds."""
        if self._events is None:
            self._events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_ROUTE)
            self._events.bind((0, _GROUPS))
        loop = asyncio.get_running_loop()
        sign = asyncio.Event()
        loop.add_reader(self._events, sign.set)
        try:
            await sign.wait()
        finally:
            loop.remove_reader(self._events)
        await asyncio.sleep(_SETTLE)
        self._drain(self._events)

    @staticmethod
    def _drain(events: socket.socket) -> None:
        while True:
            try:
                events.recv(65536)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise

    def close(self) -> None:
        """See `Surroundings.close`."""
        if self._netlink is not None:
            self._netlink.close()
        if self._events is not None:
            self._events.close()


def candidates(by_hand: tuple[str, ...], locality: Locality, listen_port: int) -> tuple[str, ...]:
    """The endpoint candidates to announce: those given by hand (an address alone gets the port), then the machine's
    own addresses. Pure."""
    given = [endpoint_with_port(text, listen_port) for text in by_hand]
    own = [join_endpoint(interface.ip, listen_port) for interface in locality.addresses]
    return tuple(dict.fromkeys(given + own))[:MAX_ENDPOINTS]


def endpoint_with_port(text: str, port: int) -> str:
    """An endpoint given by hand, as address and port or as address alone. Raises ValueError. Pure."""
    with suppress(ValueError):
        return join_endpoint(ip_interface(text.strip("[]")).ip, port)
    return join_endpoint(*split_endpoint(text))


def _is_fit(link: Any) -> bool:
    flags = link["flags"]
    return flags & _IFF_UP_AND_RUNNING == _IFF_UP_AND_RUNNING and _is_outer(link)


def _is_outer(link: Any) -> bool:
    """Whether a link leads to other machines, and not through a mesh."""
    return not link["flags"] & _IFF_LOOPBACK and not str(link.get("ifname")).startswith(INTERFACE_PREFIX)


def _is_global(address: Any) -> bool:
    flags = address.get("flags") or 0
    return address["scope"] == 0 and not (address["family"] == socket.AF_INET6 and flags & _UNFIT_IPV6)


def _interface(address: Any) -> IPv4Interface | IPv6Interface:
    return ip_interface(f"{address.get('local') or address.get('address')}/{address['prefixlen']}")
