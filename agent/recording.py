"""WireGuard interfaces in memory: for tests, and for simulations with thousands of agents."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from agent.device import Changes, Device, DeviceError, Peer, PeerChange, PortTakenError, Route


@dataclass(slots=True)
class _Interface:
    private_key: str | None = None
    listen_port: int = 0
    mark: int = 0
    mtu: int = 1420
    up: bool = False
    addresses: frozenset[str] = frozenset()
    routes: frozenset[Route] = frozenset()
    peers: dict[str, Peer] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    """The public key of the peer that has an allowed IP: only one can."""


class RecordingDevices:
    """Interfaces that behave as WireGuard's do, and can count what was done to them."""

    name = "recording"
    blocking = False

    def __init__(self) -> None:
        self._interfaces: dict[str, _Interface] = {}
        self.taken_ports: set[int] = set()
        """UDP ports that other programs hold."""
        self.applied = 0
        """How often changes were applied."""

    def read(self, interface: str) -> Device | None:
        """See `Devices.read`."""
        found = self._interfaces.get(interface)
        if found is None:
            return None
        return Device(
            private_key=found.private_key,
            listen_port=found.listen_port,
            mark=found.mark,
            mtu=found.mtu,
            up=found.up,
            addresses=found.addresses,
            routes=found.routes,
            peers=dict(found.peers),
        )

    def peers(self, interface: str) -> Mapping[str, Peer]:
        """A live view of an interface's peers by public key, without copying; empty where there is no interface."""
        found = self._interfaces.get(interface)
        return MappingProxyType(found.peers if found else {})

    def apply(self, interface: str, changes: Changes) -> None:
        """See `Devices.apply`."""
        if changes.create:
            self._interfaces[interface] = _Interface()
        found = self._interfaces.get(interface)
        if found is None:
            raise DeviceError(f"There is no interface {interface}.")
        self.applied += 1
        _apply_link(found, changes)
        if changes.listen_port is not None:
            if changes.listen_port in self.taken_ports:
                raise PortTakenError(f"UDP port {changes.listen_port} is taken.")
            found.listen_port = changes.listen_port
        if changes.mark is not None:
            found.mark = changes.mark
        if changes.private_key is not None:
            found.private_key = changes.private_key
        for change in changes.peers:
            _apply_peer(found, change)

    def remove(self, interface: str) -> None:
        """See `Devices.remove`."""
        self._interfaces.pop(interface, None)

    def interfaces(self) -> list[str]:
        """See `Devices.interfaces`."""
        return sorted(self._interfaces)

    def close(self) -> None:
        """See `Devices.close`."""


def _apply_link(found: _Interface, changes: Changes) -> None:
    if changes.mtu is not None:
        found.mtu = changes.mtu
    if changes.add_addresses or changes.remove_addresses:
        found.addresses = (found.addresses | changes.add_addresses) - changes.remove_addresses
    found.up = found.up or changes.up
    if changes.add_routes or changes.remove_routes:
        found.routes = (found.routes - changes.remove_routes) | changes.add_routes


def _apply_peer(found: _Interface, change: PeerChange) -> None:
    key = change.public_key
    if change.remove:
        gone = found.peers.pop(key, None)
        for allowed_ip in gone.allowed_ips if gone else ():
            del found.owners[allowed_ip]
        return
    for allowed_ip in change.remove_allowed_ips:
        _disown(found, allowed_ip)
    for allowed_ip in change.add_allowed_ips:
        if found.owners.get(allowed_ip, key) != key:
            _disown(found, allowed_ip)
        found.owners[allowed_ip] = key
    old = found.peers.get(key)
    if old is None:
        found.peers[key] = Peer(change.add_allowed_ips, change.endpoint, change.keepalive or 0)
        return
    found.peers[key] = replace(
        old,
        allowed_ips=old.allowed_ips | change.add_allowed_ips,
        endpoint=old.endpoint if change.endpoint is None else change.endpoint,
        keepalive=old.keepalive if change.keepalive is None else change.keepalive,
    )


def _disown(found: _Interface, allowed_ip: str) -> None:
    """Whoever has it loses it, as when a throwaway peer takes it."""
    owner = found.owners.pop(allowed_ip, None)
    if owner is not None:
        found.peers[owner] = replace(found.peers[owner], allowed_ips=found.peers[owner].allowed_ips - {allowed_ip})
