"""Removing personal data from events without breaking the chain. Pure.

Of an event from which something was removed there stays: its place, its version and topic, its other fields, and the
digest that it had. The chain and the checkpoints go by that digest, so both are as they were. That the control plane
itself removed it, and nothing else was changed, the root key's signature says, over all that is left and the digest.

What can be removed: the name of an account that was deleted (also in the names of those who gave commands), the names
of its tokens, and the hostnames and endpoints of a machine that was deleted. Their ids stay: they are random.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from events.codec import REDACTED, digest
from events.fields import Frozen, Moment
from events.trust.keys import Key
from events.trust.signing import is_signed_as_root, sign_as_root


class Redaction(Frozen):
    """What an event says of what was removed from it."""

    digest: str
    """The digest that it had before."""
    time: Moment
    signature: str = ""
    """Empty where the control plane has no keys."""


class Stored(NamedTuple):
    """An event as it stands in the log."""

    subject: str
    described: str
    """Its version, a space, and its topic."""
    state: bytes


class RedactionError(ValueError):
    """Raised where an event's account of what was removed from it does not hold."""


def redacted(event: Stored, fields: dict[str, Any], now: datetime, root: Key | None) -> bytes:
    """The state of an event whose fields are now these."""
    left = orjson.dumps({name: value for name, value in fields.items() if name != REDACTED})
    mark = Redaction(digest=digest_of(event), time=now)
    signature = sign_as_root(root, _statement(event, mark, left)) if root is not None else ""
    signed = mark.model_copy(update={"signature": signature})
    return orjson.dumps(orjson.loads(left) | {REDACTED: signed.model_dump(mode="json")})


def check(event: Stored, root: str) -> Redaction:
    """What was removed when, where that holds. `root` is the public root key; where it is empty, nobody signs.

    Raises `RedactionError`.
    """
    try:
        fields = orjson.loads(event.state)
        mark = Redaction.model_validate_json(orjson.dumps(fields.pop(REDACTED)))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RedactionError("what it says of what was removed from it cannot be read") from error
    if event.state != orjson.dumps(fields | {REDACTED: mark.model_dump(mode="json")}):
        raise RedactionError("it is not as it was left when something was removed from it")
    if root and not is_signed_as_root(root, _statement(event, mark, orjson.dumps(fields)), mark.signature):
        raise RedactionError("that something was removed from it, the control plane's root key has not signed")
    return mark


def digest_of(event: Stored) -> str:
    """The digest that an event has, and had at first. Raises ValueError where it is none."""
    version, _, topic = event.described.partition(" ")
    return digest(UUID(event.subject.rpartition(".")[2]), int(version), topic, event.state)


def _statement(event: Stored, mark: Redaction, left: bytes) -> bytes:
    place = f"wireloom redaction 1\n{event.subject} {event.described}\n{mark.digest} {mark.time.isoformat()}\n"
    return place.encode() + hashlib.sha256(left).digest()
