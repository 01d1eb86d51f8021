"""Network links, addresses and routes of this machine, through rtnetlink."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from pathlib import Path
from typing import Any

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.device import Changes, DeviceError, Route
from events.interfaces import INTERFACE_PREFIX

_MAIN_TABLE = 254
_SCOPE_LINK = 253
_SCOPE_HOST = 254
_IFF_UP = 1
_PROTOCOL_KERNEL = 2
_PROTOCOL_STATIC = 4
_NO_DETECTION = 0x02
_NO_PREFIX_ROUTE = 0x200
"""IFA_F_NODAD and IFA_F_NOPREFIXROUTE: nobody else can have the address, and its /128 is routed locally anyway."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network link as it is now."""

    index: int
    kind: str
    mtu: int
    up: bool
    addresses: frozenset[str]
    routes: frozenset[Route]


class Links:
    """This machine's links. Opens its handle when first used, and belongs to the thread that used it first."""

    def __init__(self) -> None:
        self._handle: IPRoute | None = None

    @property
    def _netlink(self) -> IPRoute:
        if self._handle is None:
            self._handle = IPRoute()
        return self._handle

    def close(self) -> None:
        """Let go of the handle."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None

    def names(self) -> list[str]:
        """The links whose names begin with `INTERFACE_PREFIX`."""
        with refusals("list the links"):
            names = [link.get("ifname") for link in self._netlink.get_links()]
        return sorted(name for name in names if name.startswith(INTERFACE_PREFIX))

    def read(self, name: str) -> Link | None:
        """A link, or None if there is none of this name."""
        with refusals(f"read the link {name}"):
            try:
                (link,) = self._netlink.link("get", ifname=name)
                index = link["index"]
                return Link(
                    index=index,
                    kind=link.get_nested("IFLA_LINKINFO", "IFLA_INFO_KIND") or "",
                    mtu=link.get("mtu"),
                    up=bool(link["flags"] & _IFF_UP),
                    addresses=frozenset(self._addresses(index)),
                    routes=frozenset(self._routes(index)),
                )
            except NetlinkError as error:
                if error.code == errno.ENODEV:
                    return None
                raise

    def _addresses(self, index: int) -> Iterator[str]:
        for address in self._netlink.get_addr(index=index):
            if address["scope"] != _SCOPE_LINK:
                yield str(ip_interface(f"{address.get('local') or address.get('address')}/{address['prefixlen']}"))

    def _routes(self, index: int) -> Iterator[Route]:
        for family, default in ((socket.AF_INET, IPv4Address(0)), (socket.AF_INET6, IPv6Address(0))):
            for route in self._netlink.get_routes(family=family, oif=index, table=_MAIN_TABLE):
                if family == socket.AF_INET6 and route["proto"] == _PROTOCOL_KERNEL:
                    continue
                yield Route(
                    destination=str(ip_network(f"{route.get('dst') or default}/{route['dst_len']}")),
                    mtu=route.get_nested("RTA_METRICS", "RTAX_MTU"),
                    source=route.get("prefsrc"),
                )

    def create(self, name: str, kind: str) -> None:
        """Make a link."""
        with refusals(f"create the {kind} link {name}"):
            self._netlink.link("add", ifname=name, kind=kind)

    def delete(self, name: str) -> None:
        """Remove a link, if there is one of this name."""
        with refusals(f"remove the link {name}", harmless=errno.ENODEV):
            self._netlink.link("del", ifname=name)

    def prepare(self, name: str, changes: Changes) -> None:
        """Make the changes to the link itself and add IPv4 addresses, before the changes to WireGuard: an interface
        that is up says at once if its port is taken."""
        added = {address for address in changes.add_addresses if _version(address) == 4}
        if not (changes.mtu or changes.up or added):
            return
        index = self._index(name)
        with refusals(f"configure the link {name}"):
            if changes.mtu is not None:
                self._netlink.link("set", index=index, mtu=changes.mtu)
            if changes.up:
                self._netlink.link("set", index=index, state="up")
        self._change_addresses("add", name, index, added, changes.answering)

    @contextmanager
    def around(self, name: str, changes: Changes) -> Iterator[None]:
        """Add IPv6 addresses and routes before the changes to WireGuard, which are made within this context, and take
        away after them what is to go.

        WireGuard sends to a peer through a transit as soon as it is told of it, and then tries again only after 5
        seconds: so the address to send from is there first. Routes need a link that is up, and the addresses they name.
        Taking an address away takes routes along, so new ones come first. Error contract: where IPv6 is refused, all
        the rest is done before that is raised.
        """
        refusal: DeviceError | None = None
        try:
            self._add(name, changes)
        except DeviceError as error:
            refusal = error
        yield
        self._take_away(name, changes)
        if refusal is not None:
            raise refusal

    def _add(self, name: str, changes: Changes) -> None:
        added = {address for address in changes.add_addresses if _version(address) == 6}
        if not (added or changes.add_routes):
            return
        index = self._index(name)
        try:
            if added:
                self._allow_ipv6(name)
            self._change_addresses("add", name, index, added)
        finally:
            self._add_routes(name, index, changes)
        self._check_routes(name, index, changes)

    def _take_away(self, name: str, changes: Changes) -> None:
        added = {route.destination for route in changes.add_routes}
        removed = [route for route in changes.remove_routes if route.destination not in added]
        if not (removed or changes.remove_addresses):
            return
        index = self._index(name)
        for route in sorted(removed, key=str):
            with refusals(f"remove the route {route} through {name}", harmless=errno.ESRCH):
                self._netlink.route("del", oif=index, **_route_request(route))
        self._change_addresses("del", name, index, changes.remove_addresses)

    def _change_addresses(
        self, action: str, name: str, index: int, addresses: Iterable[str], answering: Set[str] = frozenset()
    ) -> None:
        """`answering` are those that the system is not to choose as a packet's source."""
        harmless = errno.EEXIST if action == "add" else errno.EADDRNOTAVAIL
        for address in sorted(addresses):
            interface = ip_interface(address)
            options: dict[str, Any] = {"scope": _SCOPE_HOST} if address in answering else {}
            if (action, interface.version) == ("add", 6):
                options["flags"] = _NO_DETECTION | _NO_PREFIX_ROUTE
            with refusals(f"{action} the address {address} on {name}", harmless=harmless):
                self._netlink.addr(
                    action,
                    index=index,
                    address=str(interface.ip),
                    prefixlen=interface.network.prefixlen,
                    **options,
                )

    def _add_routes(self, name: str, index: int, changes: Changes) -> None:
        removed = {route.destination for route in changes.remove_routes}
        for route in sorted(changes.add_routes, key=str):
            action = "replace" if route.destination in removed else "add"
            with refusals(f"route {route} through {name}", harmless=errno.EEXIST):
                self._netlink.route(action, oif=index, **_route_request(route))

    def _check_routes(self, name: str, index: int, changes: Changes) -> None:
        """Raise if another interface's route stands in the way of one."""
        if not changes.add_routes:
            return
        with refusals(f"read the routes of {name}"):
            missing = changes.add_routes - frozenset(self._routes(index))
        if missing:
            raise DeviceError(
                f"Another interface has a route to {', '.join(sorted(map(str, missing)))} already.",
                hint="Remove that route, or use a mesh network with another range.",
            )

    def _allow_ipv6(self, name: str) -> None:
        """Let the link have IPv6 addresses also where this machine's other links have none."""
        setting = Path(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        try:
            if setting.read_text().strip() != "0":
                setting.write_text("0")
        except OSError as error:
            raise DeviceError(
                f"Cannot give {name} an IPv6 address: {error}.",
                hint="Transit needs IPv6 between this machine's programs: boot without ipv6.disable=1.",
            ) from error

    def _index(self, name: str) -> int:
        with refusals(f"find the link {name}"):
            found: list[int] = list(self._netlink.link_lookup(ifname=name))
        if not found:
            raise DeviceError(f"There is no interface {name}.")
        return found[0]


def _version(address: str) -> int:
    return ip_interface(address).version


def _route_request(route: Route) -> dict[str, Any]:
    request: dict[str, Any] = {"dst": route.destination, "table": _MAIN_TABLE, "proto": _PROTOCOL_STATIC}
    if ip_network(route.destination).version == 4:
        request["scope"] = _SCOPE_LINK
    if route.mtu is not None:
        request["metrics"] = {"mtu": route.mtu}
    if route.source is not None:
        request["prefsrc"] = route.source
    return request


@contextmanager
def refusals(doing: str, harmless: int | None = None) -> Iterator[None]:
    """Raise netlink's refusals as `DeviceError`, but for the errno `harmless`."""
    try:
        yield
    except NetlinkError as error:
        if error.code == harmless:
            return
        hint = "Run the agent as root." if error.code in {errno.EPERM, errno.EACCES} else ""
        raise DeviceError(f"Cannot {doing}: {error}.", hint=hint) from error
    except OSError as error:
        raise DeviceError(f"Cannot {doing}: {error}.") from error
