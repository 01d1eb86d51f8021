"""Which tunnels carry traffic, by WireGuard's counters. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from agent.device import Peer

QUIET_AFTER = 10.0
"""Seconds without traffic after which a tunnel is quiet."""

SILENT_AFTER = 12.0
"""Seconds: WireGuard answers data within 10 (WireGuard's paper, section 6.5), and handshakes at once."""

_KEEPALIVE = 32
"""Bytes of a keepalive: not traffic."""

_HANDSHAKE = 148 + 92 + _KEEPALIVE
"""Bytes of a handshake and what follows it."""


class Traffic:
    """Compares the counters with those that it saw last."""

    def __init__(self) -> None:
        self._seen: dict[str, Peer] = {}
        self._busy: dict[str, float] = {}

    def look(self, now: float, peers: Mapping[str, Peer]) -> dict[str, bool]:
        """Of each public key whose tunnel is busy or has become quiet: whether it is busy."""
        before, self._seen = self._seen, dict(peers)
        for key, peer in peers.items():
            old = before.get(key)
            if old is not None and _moved(old, peer):
                self._busy[key] = now
        told = {key: now - at < QUIET_AFTER for key, at in self._busy.items()}
        self._busy = {key: at for key, at in self._busy.items() if told[key] and key in peers}
        return told


class Silence:
    """Tunnels that packets go into, and none come out of."""

    def __init__(self) -> None:
        self._seen: dict[str, Peer] = {}
        self._since: dict[str, float] = {}

    def look(self, now: float, peers: Mapping[str, Peer]) -> set[str]:
        """The public keys whose tunnel has been silent for `SILENT_AFTER`; counting begins anew for them. `peers` are
        those that are watched."""
        before, self._seen = self._seen, dict(peers)
        self._since = {key: since for key, since in self._since.items() if key in peers}
        for key, peer in peers.items():
            old = before.get(key)
            if old is None or old.rx_bytes != peer.rx_bytes:
                self._since.pop(key, None)
            elif peer.tx_bytes - old.tx_bytes > _KEEPALIVE:
                self._since.setdefault(key, now)
        silent = {key for key, since in self._since.items() if now - since >= SILENT_AFTER}
        for key in silent:
            del self._since[key]
        return silent


def _moved(old: Peer, peer: Peer) -> bool:
    idle = _KEEPALIVE if old.last_handshake == peer.last_handshake else _HANDSHAKE
    return max(peer.rx_bytes - old.rx_bytes, peer.tx_bytes - old.tx_bytes) > idle
