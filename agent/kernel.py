"""WireGuard interfaces of the Linux kernel, through netlink."""

from __future__ import annotations

import base64
import errno
from typing import Any

from pyroute2 import WireGuard
from pyroute2.netlink.exceptions import NetlinkError

from agent.device import Changes, Device, DeviceError, Peer, PeerChange, PortTakenError
from agent.keys import throwaway_public_key
from agent.links import Links, refusals
from events.fields import join_endpoint, split_endpoint

_KIND = "wireguard"
_NO_KEY = base64.b64encode(bytes(32)).decode()


class KernelDevices:
    """The kernel's WireGuard. Peers are changed one a call, and only what differs: replacing all peers would force
    new handshakes, and setting the port again would bind the socket anew."""

    name = "kernel"
    blocking = True

    def __init__(self, links: Links | None = None) -> None:
        self._links = links or Links()
        self._handle: WireGuard | None = None

    @property
    def _wireguard(self) -> WireGuard:
        if self._handle is None:
            with refusals("reach the kernel's WireGuard"):
                self._handle = WireGuard()
        return self._handle

    def read(self, interface: str) -> Device | None:
        """See `Devices.read`."""
        link = self._links.read(interface)
        if link is None or link.kind != _KIND:
            return None
        with refusals(f"read the WireGuard interface {interface}"):
            parts = self._wireguard.info(interface)
        private_key = _text(parts[0].get_attr("WGDEVICE_A_PRIVATE_KEY"))
        return Device(
            private_key=None if private_key in {"", _NO_KEY} else private_key,
            listen_port=parts[0].get_attr("WGDEVICE_A_LISTEN_PORT") or 0,
            mark=parts[0].get_attr("WGDEVICE_A_FWMARK") or 0,
            mtu=link.mtu,
            up=link.up,
            addresses=link.addresses,
            routes=link.routes,
            peers=_peers(parts),
        )

    def apply(self, interface: str, changes: Changes) -> None:
        """See `Devices.apply`."""
        if changes.create:
            self._links.delete(interface)
            self._links.create(interface, _KIND)
        self._links.prepare(interface, changes)
        with self._links.around(interface, changes):
            if changes.listen_port is not None:
                self._set_port(interface, changes.listen_port)
            if changes.mark is not None:
                self._set(interface, fwmark=changes.mark)
            if changes.private_key is not None:
                self._set(interface, private_key=changes.private_key)
            for change in changes.peers:
                self._set_peer(interface, change)

    def _set_port(self, interface: str, port: int) -> None:
        try:
            self._wireguard.set(interface, listen_port=port)
        except NetlinkError as error:
            if error.code == errno.EADDRINUSE:
                raise PortTakenError(f"UDP port {port} is taken.", hint="The agent chooses another.") from error
            raise DeviceError(f"Cannot let {interface} listen on UDP port {port}: {error}.") from error

    def _set_peer(self, interface: str, change: PeerChange) -> None:
        if change.remove_allowed_ips:
            # There is no removing one allowed IP. Another peer can take it over, atomically, and go.
            throwaway = throwaway_public_key()
            taken = sorted(change.remove_allowed_ips)
            self._set(interface, peer={"public_key": throwaway, "allowed_ips": taken})
            self._set(interface, peer={"public_key": throwaway, "remove": True})
        peer: dict[str, Any] = {"public_key": change.public_key}
        if change.remove:
            peer["remove"] = True
        if change.endpoint is not None:
            address, port = split_endpoint(change.endpoint)
            peer |= {"endpoint_addr": str(address), "endpoint_port": port}
        if change.keepalive is not None:
            peer["persistent_keepalive"] = change.keepalive
        if change.add_allowed_ips:
            peer["allowed_ips"] = sorted(change.add_allowed_ips)
        self._set(interface, peer=peer)

    def _set(self, interface: str, **what: Any) -> None:
        with refusals(f"configure the WireGuard interface {interface}"):
            self._wireguard.set(interface, **what)

    def remove(self, interface: str) -> None:
        """See `Devices.remove`."""
        self._links.delete(interface)

    def interfaces(self) -> list[str]:
        """See `Devices.interfaces`."""
        return self._links.names()

    def close(self) -> None:
        """See `Devices.close`."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
        self._links.close()


def _peers(parts: Any) -> dict[str, Peer]:
    """The peers of a dump. It comes in parts, and a peer with many allowed IPs may go on in the next one."""
    peers: dict[str, Peer] = {}
    for part in parts:
        for entry in part.get_attr("WGDEVICE_A_PEERS") or ():
            key = _text(entry.get_attr("WGPEER_A_PUBLIC_KEY"))
            allowed_ips = frozenset(allowed["addr"] for allowed in entry.get_attr("WGPEER_A_ALLOWEDIPS") or ())
            if key in peers:
                allowed_ips |= peers[key].allowed_ips
            peers[key] = _peer(entry, allowed_ips)
    return peers


def _peer(entry: Any, allowed_ips: frozenset[str]) -> Peer:
    handshake = entry.get_attr("WGPEER_A_LAST_HANDSHAKE_TIME")
    return Peer(
        allowed_ips=allowed_ips,
        endpoint=_endpoint(entry.get_attr("WGPEER_A_ENDPOINT")),
        keepalive=entry.get_attr("WGPEER_A_PERSISTENT_KEEPALIVE_INTERVAL") or 0,
        preshared=_text(entry.get_attr("WGPEER_A_PRESHARED_KEY")) not in {"", _NO_KEY},
        last_handshake=handshake["tv_sec"] + handshake["tv_nsec"] / 1e9 if handshake else 0.0,
        rx_bytes=entry.get_attr("WGPEER_A_RX_BYTES") or 0,
        tx_bytes=entry.get_attr("WGPEER_A_TX_BYTES") or 0,
    )


def _endpoint(found: Any) -> str | None:
    if not found:
        return None
    host = f"[{found['addr']}]" if ":" in found["addr"] else found["addr"]
    return join_endpoint(*split_endpoint(f"{host}:{found['port']}"))


def _text(key: bytes | str | None) -> str:
    return key.decode() if isinstance(key, bytes) else key or ""
