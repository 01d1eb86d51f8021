"""What the gateway makes from its own keys: challenges, and the tokens of machines and programs for the bus. Pure: time
and randomness are arguments.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from events.trust import jwt
from events.trust.keys import Key
from events.trust.permissions import network_tag

CHALLENGE_SECONDS = 60
PROGRAM_SECONDS = 600
"""How long a program's access to the bus lasts: so long its connection may outlive its API token, of no use."""

_AHEAD_SECONDS = 5
_NONCE = 16
_TIME = 8
_PURPOSE = b"wireloom challenge 1\n"


class Challenges:
    """Texts that count for a minute, once at each gateway, and are not remembered before they are used.

    Gateways with the same mint key take each other's.
    """

    def __init__(self, mint: bytes) -> None:
        self._mint = mint
        self._used: dict[str, int] = {}

    def make(self, now: int, nonce: bytes) -> str:
        """A challenge; `nonce` is 16 random bytes."""
        body = now.to_bytes(_TIME) + nonce
        return base64.urlsafe_b64encode(body + self._mac(body)).decode()

    def use(self, challenge: str, now: int) -> bool:
        """Whether a challenge counts. From now on it does not."""
        made = self._made(challenge)
        if made is None or not -_AHEAD_SECONDS <= now - made <= CHALLENGE_SECONDS or challenge in self._used:
            return False
        self._used = {used: at for used, at in self._used.items() if now - at <= CHALLENGE_SECONDS}
        self._used[challenge] = made
        return True

    def _made(self, challenge: str) -> int | None:
        """When a gateway made a challenge; None if none did."""
        try:
            raw = base64.b64decode(challenge, b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        body, mac = raw[: _TIME + _NONCE], raw[_TIME + _NONCE :]
        # Other spellings of the same bytes would count again.
        if not hmac.compare_digest(mac, self._mac(body)) or base64.urlsafe_b64encode(raw).decode() != challenge:
            return None
        return int.from_bytes(body[:_TIME])

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._mint, _PURPOSE + body, hashlib.sha256)


@dataclass(frozen=True, slots=True)
class Minter:
    """Makes the bus's tokens for machines and programs."""

    account: str
    """The public key of the account on the bus."""
    machine_key: Key
    program_key: Key

    def machine(
        self, machine_id: UUID, identity_key: str, networks: Iterable[UUID], *, issued_at: int, expires_at: int
    ) -> str:
        """A token with which the owner of an identity key hears these networks."""
        return jwt.user(
            self.machine_key,
            self.account,
            identity_key,
            str(machine_id),
            issued_at=issued_at,
            expires_at=expires_at,
            tags=[network_tag(network_id) for network_id in networks],
        )

    def program(self, principal: UUID, public_key: str, *, issued_at: int, expires_at: int) -> str:
        """A token with which the owner of a key gives commands with the API token `principal`."""
        return jwt.user(
            self.program_key, self.account, public_key, str(principal), issued_at=issued_at, expires_at=expires_at
        )
