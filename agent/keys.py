"""WireGuard keys: Curve25519, 32 bytes, in base64."""

from __future__ import annotations

import base64
import hashlib

from nacl.bindings import crypto_scalarmult_base
from nacl.utils import random


def generate_private_key() -> str:
    """A fresh private key, clamped (RFC 7748, section 5), so that the system gives it back as it was set."""
    raw = bytearray(random(32))
    raw[0] &= 248
    raw[31] = (raw[31] & 127) | 64
    return base64.b64encode(bytes(raw)).decode()


def public_key(private_key: str) -> str:
    """The public key of a private one."""
    return base64.b64encode(crypto_scalarmult_base(base64.b64decode(private_key))).decode()


def is_due(public: str, made_at: float, max_age: float, now: float) -> bool:
    """Whether a key, named by its public half, is too old. Times in seconds; with a `max_age` of 0 none ever is.

    Up to a tenth of the age is taken off, for each key another part, so that machines that were set up together do not
    all change their keys together.
    """
    early = int.from_bytes(hashlib.sha256(public.encode()).digest()[:2]) / 2**16 / 10
    return max_age > 0 and now - made_at >= max_age * (1 - early)


def throwaway_public_key() -> str:
    """A public key that nobody holds the private one of."""
    return base64.b64encode(random(32)).decode()
