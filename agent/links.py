"""Network links, addresses and routes of this machine, through rtnetlink."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_interface

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from agent.device import INTERFACE_PREFIX, Changes, DeviceError

_MAIN_TABLE = 254
_SCOPE_LINK = 253
_IFF_UP = 1
_PROTOCOL_STATIC = 4


@dataclass(frozen=True, slots=True)
class Link:
    """A network link as it is now."""

    index: int
    kind: str
    mtu: int
    up: bool
    addresses: frozenset[str]
    routes: frozenset[str]


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
                yield f"{address.get('local') or address.get('address')}/{address['prefixlen']}"

    def _routes(self, index: int) -> Iterator[str]:
        for route in self._netlink.get_routes(family=socket.AF_INET, oif=index, table=_MAIN_TABLE):
            destination = route.get("dst") or IPv4Address(0)
            yield f"{destination}/{route['dst_len']}"

    def create(self, name: str, kind: str) -> None:
        """Make a link."""
        with refusals(f"create the {kind} link {name}"):
            self._netlink.link("add", ifname=name, kind=kind)

    def delete(self, name: str) -> None:
        """Remove a link, if there is one of this name."""
        with refusals(f"remove the link {name}", harmless=errno.ENODEV):
            self._netlink.link("del", ifname=name)

    def prepare(self, name: str, changes: Changes) -> None:
        """Make the changes to the link itself and its addresses, before those to WireGuard: an interface that is up
        says at once if its port is taken."""
        if not (changes.mtu or changes.up or changes.add_addresses or changes.remove_addresses):
            return
        index = self._index(name)
        with refusals(f"configure the link {name}"):
            if changes.mtu is not None:
                self._netlink.link("set", index=index, mtu=changes.mtu)
            if changes.up:
                self._netlink.link("set", index=index, state="up")
        # Taking the last address away would take the routes along: so new ones come first.
        for action, addresses in (("add", changes.add_addresses), ("del", changes.remove_addresses)):
            for address in sorted(addresses):
                self._change_address(action, name, index, address)

    def _change_address(self, action: str, name: str, index: int, address: str) -> None:
        interface = ip_interface(address)
        harmless = errno.EEXIST if action == "add" else errno.EADDRNOTAVAIL
        with refusals(f"{action} the address {address} on {name}", harmless=harmless):
            self._netlink.addr(action, index=index, address=str(interface.ip), prefixlen=interface.network.prefixlen)

    def add_routes(self, name: str, changes: Changes) -> None:
        """Make the changes to the routes; the last step, because routes need a link that is up."""
        if not changes.add_routes:
            return
        index = self._index(name)
        for route in sorted(changes.add_routes):
            with refusals(f"route {route} through {name}", harmless=errno.EEXIST):
                self._netlink.route("add", dst=route, oif=index, scope=_SCOPE_LINK, proto=_PROTOCOL_STATIC)
        with refusals(f"read the routes of {name}"):
            missing = changes.add_routes - frozenset(self._routes(index))
        if missing:
            raise DeviceError(
                f"Another interface has a route to {', '.join(sorted(missing))} already.",
                hint="Remove that route, or use a mesh network with another range.",
            )

    def _index(self, name: str) -> int:
        with refusals(f"find the link {name}"):
            found: list[int] = list(self._netlink.link_lookup(ifname=name))
        if not found:
            raise DeviceError(f"There is no interface {name}.")
        return found[0]


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
