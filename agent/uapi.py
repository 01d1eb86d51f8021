"""WireGuard's cross-platform user space protocol, as text: what to say to wireguard-go, and what it says. Pure.

https://www.wireguard.com/xplatform/ describes it: `key=value` lines, keys in hex, an empty line at the end.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from agent.device import Changes, Peer, PeerChange

GET = b"get=1\n\n"


@dataclass(frozen=True, slots=True)
class Tunnel:
    """What WireGuard itself knows of an interface."""

    private_key: str | None = field(repr=False)
    listen_port: int
    peers: dict[str, Peer]
    mark: int = 0


def encode_set(changes: Changes, throwaway_key: str) -> bytes:
    """The request that makes the WireGuard part of `changes`; empty if there is none.

    `throwaway_key` is a public key that no peer has: allowed IPs are taken away with its help.
    """
    lines: list[str] = []
    if changes.private_key is not None:
        lines.append(f"private_key={_hex(changes.private_key)}")
    if changes.listen_port is not None:
        lines.append(f"listen_port={changes.listen_port}")
    if changes.mark is not None:
        lines.append(f"fwmark={changes.mark}")
    for change in changes.peers:
        lines += _peer_lines(change, throwaway_key)
    return "\n".join(["set=1", *lines, "", ""]).encode() if lines else b""


def _peer_lines(change: PeerChange, throwaway_key: str) -> list[str]:
    lines = []
    if change.remove_allowed_ips:
        # There is no removing one allowed IP. Another peer can take it over, atomically, and go.
        throwaway = _hex(throwaway_key)
        lines.append(f"public_key={throwaway}")
        lines += [f"allowed_ip={allowed_ip}" for allowed_ip in sorted(change.remove_allowed_ips)]
        lines += [f"public_key={throwaway}", "remove=true"]
    lines.append(f"public_key={_hex(change.public_key)}")
    if change.remove:
        return [*lines, "remove=true"]
    if change.endpoint is not None:
        lines.append(f"endpoint={change.endpoint}")
    if change.keepalive is not None:
        lines.append(f"persistent_keepalive_interval={change.keepalive}")
    lines += [f"allowed_ip={allowed_ip}" for allowed_ip in sorted(change.add_allowed_ips)]
    return lines


def parse_error(answer: bytes) -> int:
    """The errno of an answer; 0 where all is well."""
    for line in answer.decode().splitlines():
        if line.startswith("errno="):
            return abs(int(line.removeprefix("errno=")))
    raise ValueError("the answer has no errno")


def parse_get(answer: bytes) -> Tunnel:
    """The interface that an answer to `GET` describes."""
    private_key: str | None = None
    listen_port = mark = 0
    peers: dict[str, Peer] = {}
    current = ""
    for line in answer.decode().splitlines():
        name, _, value = line.partition("=")
        if name == "public_key":
            current = _base64(value)
            peers[current] = Peer()
        elif name == "private_key":
            private_key = None if set(value) == {"0"} else _base64(value)
        elif name == "listen_port":
            listen_port = int(value)
        elif name == "fwmark":
            mark = int(value)
        elif current:
            peers[current] = _with(peers[current], name, value)
    return Tunnel(private_key, listen_port, peers, mark)


def _with(peer: Peer, name: str, value: str) -> Peer:
    read = _PEER_FIELDS.get(name)
    return read(peer, value) if read else peer


_PEER_FIELDS: dict[str, Callable[[Peer, str], Peer]] = {
    "allowed_ip": lambda peer, value: replace(peer, allowed_ips=peer.allowed_ips | {value}),
    "endpoint": lambda peer, value: replace(peer, endpoint=value),
    "persistent_keepalive_interval": lambda peer, value: replace(peer, keepalive=int(value)),
    "preshared_key": lambda peer, value: replace(peer, preshared=set(value) != {"0"}),
    "last_handshake_time_sec": lambda peer, value: replace(peer, last_handshake=peer.last_handshake + int(value)),
    "last_handshake_time_nsec": lambda peer, value: replace(
        peer, last_handshake=peer.last_handshake + int(value) / 1e9
    ),
    "rx_bytes": lambda peer, value: replace(peer, rx_bytes=int(value)),
    "tx_bytes": lambda peer, value: replace(peer, tx_bytes=int(value)),
}
"""What each line about a peer says; lines of other names are not needed."""


def _hex(key: str) -> str:
    return base64.b64decode(key).hex()


def _base64(key: str) -> str:
    return base64.b64encode(bytes.fromhex(key)).decode()
