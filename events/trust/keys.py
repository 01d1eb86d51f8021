"""Keys in NATS's own form (*nkeys*): Ed25519, in base32 with a letter that says what the key is for. Pure but for
randomness.

A public key begins with that letter, a seed (the private half) with `S` and that letter: `UDXB…` and `SUAM…` belong to
a user. Wireloom uses the form for its own signing keys too.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import Literal

import nkeys
from nacl.exceptions import BadSignatureError
from nacl.signing import SigningKey, VerifyKey
from nacl.utils import random

Kind = Literal["operator", "account", "user"]

_PREFIXES: dict[Kind, int] = {
    "operator": nkeys.PREFIX_BYTE_OPERATOR,
    "account": nkeys.PREFIX_BYTE_ACCOUNT,
    "user": nkeys.PREFIX_BYTE_USER,
}
_RAW = 35


class Key:
    """A private key. It never shows itself: neither in `repr` nor in a traceback's `str`."""

    def __init__(self, seed: str) -> None:
        """Raises ValueError where `seed` is none; the message does not contain it."""
        try:
            prefix, raw = nkeys.decode_seed(seed.encode())
            if nkeys.encode_seed(raw, prefix).decode() != seed:
                raise ValueError  # the library does not look at the checksum
            self._signing = SigningKey(bytes(raw))
            self.kind: Kind = next(kind for kind, byte in _PREFIXES.items() if byte == prefix)
        except (nkeys.NkeysError, binascii.Error, ValueError, TypeError, StopIteration):
            raise ValueError("this is not the seed of a key") from None
        self.seed = seed
        self.public = encode_public(self.kind, bytes(self._signing.verify_key))

    def __repr__(self) -> str:
        return f"Key({self.public})"

    def sign(self, data: bytes) -> bytes:
        """The signature of `data`: 64 bytes (RFC 8032)."""
        return self._signing.sign(data).signature


def generate(kind: Kind) -> Key:
    """A fresh key."""
    return Key(nkeys.encode_seed(random(32), _PREFIXES[kind]).decode())


def encode_public(kind: Kind, raw: bytes) -> str:
    """The text of a public key of 32 bytes."""
    body = bytes([_PREFIXES[kind]]) + raw
    return base64.b32encode(body + _checksum(body)).decode().rstrip("=")


def check_public(text: str, kind: Kind) -> str:
    """`text` if it is the public key of a `kind`. Raises ValueError."""
    _decode(text, kind)
    return text


def verify(public: str, kind: Kind, data: bytes, signature: bytes) -> bool:
    """Whether `signature` is that of `data` by the owner of a public key. A damaged key signs nothing."""
    try:
        VerifyKey(_decode(public, kind)).verify(data, signature)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def fingerprint(public: str) -> str:
    """A short name for a public key: 16 hexadecimal digits. For telling keys apart, not for trusting them."""
    return hashlib.sha256(public.encode()).hexdigest()[:16]


def _decode(text: str, kind: Kind) -> bytes:
    wrong = ValueError(f"this is not the public key of a {kind}")
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except (binascii.Error, ValueError):
        raise wrong from None
    if len(raw) != _RAW or raw[0] != _PREFIXES[kind] or raw[-2:] != _checksum(raw[:-2]):
        raise wrong
    if base64.b32encode(raw).decode().rstrip("=") != text:
        raise wrong
    return raw[1:-2]


def _checksum(body: bytes) -> bytes:
    return bytes(nkeys.crc16_checksum(bytearray(body)))
