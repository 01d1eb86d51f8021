"""Probe packets: a ping and its pong, sealed between two machines by their WireGuard keys. Pure.

    magic `WLP1` (4) | hint (8) | nonce (24) | sealed by XChaCha20-Poly1305 (27 + 16)

WireGuard takes no notice of them: its packets begin with 1 to 4 and three zeros. The key of each direction comes from
X25519 between the two static keys. The hint tells the receiver whose key to try; it follows from the two public keys,
so that it names a pair and not a machine. Every packet has the same size: a pong is never larger than its ping.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

from nacl.bindings import (
    crypto_aead_xchacha20poly1305_ietf_decrypt,
    crypto_aead_xchacha20poly1305_ietf_encrypt,
    crypto_scalarmult,
)
from nacl.exceptions import CryptoError
from nacl.utils import random

from events.fields import join_endpoint, split_endpoint

MAGIC = b"WLP1"
_HINT = 8
_NONCE = 24
_PING = struct.Struct("!BQd10x")
_PONG = struct.Struct("!BQ16sH")
_PING_KIND = 1
_PONG_KIND = 2
SIZE = len(MAGIC) + _HINT + _NONCE + _PONG.size + 16
"""Bytes of every packet."""


@dataclass(frozen=True)
class Ping:
    """Asks for a pong."""

    tx: int
    """Names the ping; 64 bits by chance."""
    sent: float
    """Seconds since the epoch, by the sender's clock."""


@dataclass(frozen=True)
class Pong:
    """The answer."""

    tx: int
    """The ping's."""
    seen: str
    """The endpoint that the ping came from, as the answering machine saw it."""


Message = Ping | Pong


class Sealer:
    """Seals packets for peers and opens theirs, with one network's keys. Keys are base64, as `wg` prints them."""

    def __init__(self, private_key: str, public_key: str, chance: Callable[[int], bytes] = random) -> None:
        """`chance` gives so many random bytes, for nonces."""
        self.public_key = public_key
        self._private = base64.b64decode(private_key)
        self._public = base64.b64decode(public_key)
        self._chance = chance
        self._peers: dict[bytes, str] = {}
        self._keys: dict[str, tuple[bytes, bytes]] = {}

    def add(self, peer_public_key: str) -> None:
        """Packets of this peer are opened from now on. Costs next to nothing before the first packet."""
        self._peers[_hint(base64.b64decode(peer_public_key), self._public)] = peer_public_key

    def remove(self, peer_public_key: str) -> None:
        """Packets of this peer are opened no more."""
        self._peers.pop(_hint(base64.b64decode(peer_public_key), self._public), None)
        self._keys.pop(peer_public_key, None)

    def seal(self, peer_public_key: str, message: Message) -> bytes:
        """A packet that only this peer opens. Raises ValueError for a key with which nothing can be agreed."""
        head = MAGIC + _hint(self._public, base64.b64decode(peer_public_key))
        nonce = self._chance(_NONCE)
        sending, _ = self._agreed(peer_public_key)
        return head + nonce + crypto_aead_xchacha20poly1305_ietf_encrypt(_pack(message), head, nonce, sending)

    def open(self, packet: bytes) -> tuple[str, Message] | None:
        """Who sealed the packet, and what it says; None for anything that is not to the byte a peer's packet."""
        if len(packet) != SIZE or not packet.startswith(MAGIC):
            return None
        split = len(MAGIC) + _HINT
        head, nonce, sealed = packet[:split], packet[split : split + _NONCE], packet[split + _NONCE :]
        peer = self._peers.get(head[len(MAGIC) :])
        if peer is None:
            return None
        try:
            _, receiving = self._agreed(peer)
            return peer, _unpack(crypto_aead_xchacha20poly1305_ietf_decrypt(sealed, head, nonce, receiving))
        except (CryptoError, ValueError):
            return None

    def _agreed(self, peer_public_key: str) -> tuple[bytes, bytes]:
        """The keys for sending and for receiving."""
        if (keys := self._keys.get(peer_public_key)) is None:
            peer = base64.b64decode(peer_public_key)
            try:
                shared = crypto_scalarmult(self._private, peer)
            except (CryptoError, RuntimeError) as error:
                raise ValueError("no key can be agreed with this public key") from error
            keys = _key(shared, self._public, peer), _key(shared, peer, self._public)
            self._keys[peer_public_key] = keys
        return keys


def _key(shared: bytes, sender: bytes, receiver: bytes) -> bytes:
    return hashlib.blake2b(sender + receiver, key=shared, digest_size=32, person=b"wireloom probe 1").digest()


def _hint(sender: bytes, receiver: bytes) -> bytes:
    return hashlib.blake2b(sender + receiver, digest_size=_HINT, person=b"wireloom hint 1").digest()


def _pack(message: Message) -> bytes:
    if isinstance(message, Ping):
        return _PING.pack(_PING_KIND, message.tx, message.sent)
    host, port = split_endpoint(message.seen)
    mapped = host if isinstance(host, IPv6Address) else IPv6Address(f"::ffff:{host}")
    return _PONG.pack(_PONG_KIND, message.tx, mapped.packed, port)


def _unpack(text: bytes) -> Message:
    """Raises ValueError for what no machine of ours says."""
    if text[0] == _PING_KIND:
        _, tx, sent = _PING.unpack(text)
        if not math.isfinite(sent):
            raise ValueError("a time that no clock shows")
        return Ping(tx, sent)
    if text[0] != _PONG_KIND:
        raise ValueError("neither a ping nor a pong")
    _, tx, packed, port = _PONG.unpack(text)
    if not port:
        raise ValueError("no UDP port")
    address = IPv6Address(packed)
    return Pong(tx, join_endpoint(address.ipv4_mapped or address, port))
