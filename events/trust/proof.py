"""What a machine signs with its identity key to show that it is itself. Pure.

Both messages are bound to a challenge that the gateway gave shortly before, so that neither can be used twice, and
neither can be taken for the other, nor for what nats-server has its clients sign.
"""

from __future__ import annotations

import base64
import binascii
from uuid import UUID

from events.trust.keys import Key, verify

ENROL = "enrol"
RENEW = "renew"


def prove(key: Key, purpose: str, machine_id: UUID, challenge: str) -> str:
    """The proof, in base64, that the owner of the key wants `purpose` for a machine."""
    return base64.b64encode(key.sign(_message(purpose, machine_id, challenge))).decode()


def is_proven(identity_key: str, purpose: str, machine_id: UUID, challenge: str, proof: str) -> bool:
    """Whether the owner of the public identity key made the proof."""
    try:
        signature = base64.b64decode(proof, validate=True)
    except (binascii.Error, ValueError):
        return False
    return verify(identity_key, "user", _message(purpose, machine_id, challenge), signature)


def _message(purpose: str, machine_id: UUID, challenge: str) -> bytes:
    return f"wireloom {purpose} 1\n{machine_id}\n{challenge}".encode()
