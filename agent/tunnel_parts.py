"""What is told of this machine's tunnels, from its interfaces as they are. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address
from uuid import UUID

from agent.device import Device, Peer
from events.fields import join_endpoint, split_endpoint
from events.tunnels import MAX_ITEMS, MAX_PARTS, Tunnel, TunnelPeer

_MAX_AGE = 4e9
_MAX_BYTES = (1 << 63) - 1

Described = tuple[Tunnel, tuple[TunnelPeer, ...]]
"""A tunnel without its peers, and these."""


def described(bare: Tunnel, device: Device | None, machines: Mapping[str, UUID], now: float) -> Described:
    """A tunnel, of which only what `bare` says was known, with what its interface says. `machines` tells whose each
    public key is: other peers are not told of. `now` is seconds since 1970."""
    if device is None:
        return bare.model_copy(update={"state": "missing"}), ()
    known = {"state": "up" if device.up else "down", "listen_port": device.listen_port, "mtu": device.mtu}
    peers = (_peer(machines[key], peer, now) for key, peer in device.peers.items() if key in machines)
    return bare.model_copy(update=known), tuple(peers)


def parted(tunnels: Iterable[Described]) -> tuple[list[tuple[Tunnel, ...]], int]:
    """All of it in parts that are small enough, one at least, and how much is left out: a tunnel with many peers goes
    on in the next part."""
    parts: list[list[Tunnel]] = [[]]
    room, left_out = MAX_ITEMS, 0
    for bare, peers in tunnels:
        start, is_begun = 0, False
        while start < len(peers) or not is_begun:
            if room < 2:
                if len(parts) == MAX_PARTS:
                    left_out += len(peers) - start + (not is_begun)
                    break
                parts.append([])
                room = MAX_ITEMS
            told = peers[start : start + room - 1]
            parts[-1].append(bare.model_copy(update={"peers": told}))
            start, room, is_begun = start + len(told), room - 1 - len(told), True
    return [tuple(part) for part in parts], left_out


def _peer(machine_id: UUID, peer: Peer, now: float) -> TunnelPeer:
    return TunnelPeer(
        machine_id=machine_id,
        endpoint=_endpoint(peer.endpoint),
        handshake=min(max(0.0, round(now - peer.last_handshake, 3)), _MAX_AGE) if peer.last_handshake else None,
        rx_bytes=min(peer.rx_bytes, _MAX_BYTES),
        tx_bytes=min(peer.tx_bytes, _MAX_BYTES),
    )


def _endpoint(text: str | None) -> str:
    """Without the link that a link-local address is on: that means something on this machine only. Empty for none."""
    try:
        address, port = split_endpoint(text or "")
    except ValueError:
        return ""
    if isinstance(address, IPv6Address) and address.scope_id:
        address = IPv6Address(int(address))
    return join_endpoint(address, port)
