"""The kernel's route table that BIRD fills, and the rules that lead there, through rtnetlink: a shell.

Two rules, in this order: the main table, but for its default route; then the table of learnt routes. So a learnt route
never takes the place of one that the machine has itself, and always comes before the way out into the world. Packets
of WireGuard itself carry a mark and pass the learnt routes by: they would end in the very tunnel that they carry.
"""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import structlog
from pyroute2 import IPRoute
from pyroute2.netlink.rtnl.marshal import MarshalRtnl

from agent.bgp.duties import Hop
from agent.device import OUTER_MARK, DeviceError
from agent.links import refusals

TABLE = 20179
MAIN_PREFERENCE = 20178
LEARNT_PREFERENCE = 20179

_GATHER = 0.02
"""Seconds for which changes are gathered. BIRD replaces a route by taking it away and putting it back: what follows
from the two is one change, then."""

_MAIN_TABLE = 254
_UNICAST = 1
_INVERT = 0x2
"""FIB_RULE_INVERT: the rule is for what does not match."""
_GROUPS = 0x1 | 0x40 | 0x80
"""RTMGRP_LINK, because the kernel does not tell which routes go with a link, RTMGRP_IPV4_ROUTE and RTMGRP_IPV4_RULE."""
_NETLINK_ROUTE = 0
_BUFFER = 1 << 20

_Routes = dict[tuple[IPv4Network, int], tuple[int, IPv4Address]]
"""Link index and gateway by prefix and metric."""


class LearntTable:
    """Reads and rules the table. Calls wait for the system, and belong to one thread."""

    def __init__(self) -> None:
        self._handle: IPRoute | None = None

    @property
    def _netlink(self) -> IPRoute:
        if self._handle is None:
            self._handle = IPRoute()
        return self._handle

    def read(self) -> _Routes:
        """The routes that are in the table. Raises `DeviceError`."""
        with refusals("read the learnt routes"):
            found = self._netlink.get_routes(family=socket.AF_INET, table=TABLE)
            return dict(read for route in found if (read := _route(route)) is not None)

    def rule(self) -> None:
        """Have the rules; harmless to repeat. Raises `DeviceError`."""
        with refusals("set the rules for learnt routes"):
            have = {_essence(rule) for rule in self._netlink.get_rules(family=socket.AF_INET)}
            for request in _RULES:
                if _wanted(request) not in have:
                    self._netlink.rule("add", family=socket.AF_INET, **request)

    def clear(self) -> None:
        """Have neither rules nor routes. Raises `DeviceError`."""
        with refusals("clear the learnt routes away"):
            have = {_essence(rule) for rule in self._netlink.get_rules(family=socket.AF_INET)}
            for request in _RULES:
                if _wanted(request) in have:
                    self._netlink.rule("del", family=socket.AF_INET, **request)
        self.forget()

    def forget(self) -> None:
        """Have no routes. Raises `DeviceError`."""
        with refusals("forget the learnt routes"):
            self._netlink.flush_routes(family=socket.AF_INET, table=TABLE)

    def close(self) -> None:
        """Let go of the system's handle."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None


_RULES: tuple[dict[str, Any], ...] = (
    {"priority": MAIN_PREFERENCE, "table": _MAIN_TABLE, "suppress_prefixlen": 0},
    {"priority": LEARNT_PREFERENCE, "table": TABLE, "fwmark": OUTER_MARK, "flags": _INVERT},
)


def _wanted(request: dict[str, Any]) -> tuple[Any, ...]:
    return (
        request["priority"],
        request["table"],
        request.get("suppress_prefixlen"),
        request.get("fwmark", 0),
        request.get("flags", 0),
    )


def _essence(rule: Any) -> tuple[Any, ...]:
    suppressed = rule.get("suppress_prefixlen")
    return (
        rule.get("priority") or 0,
        rule.get("table") or rule["table"],
        None if suppressed in {None, 0xFFFFFFFF} else suppressed,
        rule.get("fwmark") or 0,
        rule["flags"] & _INVERT,
    )


class RouteWatch:
    """Follows the table: what is in it, and each change."""

    def __init__(
        self,
        table: LearntTable,
        run: Callable[..., Awaitable[Any]],
        changed: Callable[[], None],
        unruled: Callable[[], None] = lambda: None,
    ) -> None:
        """`run` calls a function that may wait for the system; `changed` is called when `routes` is another, `unruled`
        when one of the rules is taken away: systemd-networkd does that when it starts anew, and without them what is
        for a learnt prefix would go out into the world."""
        self._table = table
        self._run = run
        self._changed = changed
        self._unruled = unruled
        self._held: _Routes = {}
        self._again = asyncio.Event()
        self._log = structlog.get_logger("agent")

    @property
    def routes(self) -> Mapping[IPv4Network, Hop]:
        """The learnt prefixes that lead through an interface that is there."""
        names: dict[int, str] = {}
        for index in {index for index, _ in self._held.values()}:
            try:
                names[index] = socket.if_indextoname(index)
            except OSError:  # it has just gone, and its routes with it
                continue
        return {
            prefix: Hop(names[index], gateway)
            for (prefix, _), (index, gateway) in sorted(self._held.items(), reverse=True)
            if index in names
        }

    async def load(self) -> None:
        """Read the table now. What cannot be read is taken to be empty until it can."""
        try:
            self._held = await self._run(self._table.read)
        except DeviceError as error:
            self._log.error("cannot read the learnt routes", error=error.detail, hint=error.hint)

    def look(self) -> None:
        """Read the whole table soon: something may have been missed."""
        self._again.set()

    async def follow(self) -> None:
        """Follow until cancelled."""
        events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_ROUTE)
        loop = asyncio.get_running_loop()
        sign = asyncio.Event()
        try:
            events.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
            events.bind((0, _GROUPS))
            loop.add_reader(events, sign.set)
            self._again.set()
            while True:
                if self._again.is_set():
                    self._again.clear()
                    # What was said before is in what is read now; hearing it once more leads to the same end.
                    await self._reread()
                waits = [asyncio.ensure_future(sign.wait()), asyncio.ensure_future(self._again.wait())]
                try:
                    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    for wait in waits:
                        wait.cancel()
                await asyncio.sleep(_GATHER)
                sign.clear()
                held = dict(self._held)
                for message in self._drain(events):
                    self._hear(held, message)
                self._hold(held)
        finally:
            loop.remove_reader(events)
            events.close()

    async def _reread(self) -> None:
        before = self._held
        await self.load()
        if self._held != before:
            self._changed()

    def _hold(self, routes: _Routes) -> None:
        if routes != self._held:
            self._held = routes
            self._changed()

    def _drain(self, events: socket.socket) -> Iterator[Any]:
        marshal = MarshalRtnl()
        while True:
            try:
                data = events.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self.look()  # the kernel said more than the socket holds
                continue
            yield from marshal.parse(data)

    def _hear(self, held: _Routes, message: Any) -> None:
        match message["event"]:
            case "RTM_NEWROUTE" if (read := _route(message)) is not None:
                held[read[0]] = read[1]
            case "RTM_DELROUTE" if (read := _route(message)) is not None:
                held.pop(read[0], None)
            case "RTM_NEWLINK" | "RTM_DELLINK":
                self.look()
            case "RTM_DELRULE" if _essence(message) in map(_wanted, _RULES):
                self._unruled()


def _route(message: Any) -> tuple[tuple[IPv4Network, int], tuple[int, IPv4Address]] | None:
    """A route of the table; None for any other, and for one that leads to no single neighbour."""
    if (message.get("table") or message["table"]) != TABLE or message["type"] != _UNICAST:
        return None
    gateway, index = message.get("gateway"), message.get("oif")
    if not gateway or not index:
        return None
    prefix = IPv4Network((message.get("dst") or "0.0.0.0", message["dst_len"]))  # noqa: S104 - a destination
    return (prefix, message.get("priority") or 0), (index, IPv4Address(gateway))
