"""Tokens that people and programs hold: full-entropy secrets, of which only the hash is kept. Pure.

The prefix tells what a token is for, so that a token given in the wrong place, or found where it should not be, is
recognised: `wlb_` lets machines in (*bootstrap*), `wla_` speaks for an account (*API*).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from typing import Literal
from uuid import UUID

Purpose = Literal["bootstrap", "api"]

PREFIXES: dict[Purpose, str] = {"bootstrap": "wlb_", "api": "wla_"}
_SECRET = re.compile(r"[a-z2-7]{52}")


def make(mint: bytes, purpose: Purpose, command_id: UUID) -> str:
    """The token that the command with this id makes: with 256 bits that nobody without the `mint` key can know. The
    same again for the same command, so that a repeated request is answered as the first was."""
    raw = hmac.digest(mint, f"wireloom {purpose} token 1\n{command_id}".encode(), hashlib.sha256)
    return PREFIXES[purpose] + base64.b32encode(raw).decode().rstrip("=").lower()


def looks_like(token: str, purpose: Purpose) -> bool:
    """Whether `token` has the form of one for this purpose."""
    prefix = PREFIXES[purpose]
    return token.startswith(prefix) and _SECRET.fullmatch(token[len(prefix) :]) is not None


def hashed(token: str) -> str:
    """What is kept of a token: SHA-256 in hex. A secret of 256 bits needs neither salt nor slowness."""
    return hashlib.sha256(token.encode()).hexdigest()
