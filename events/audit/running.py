"""The running digest: one number that says what the whole log is, up to a position. Pure.

It covers of every message the sequence, the subject, the value of its header `Wl-Event` and its payload: all that makes
an event. The payload goes in by the event's own digest (`events.codec.digest`), so that personal data can be removed
from an event without another running digest: such an event carries the digest that it had, and what was removed is
checked by the root key's signature (`events.audit.redaction`).

It does not cover the headers that only tell how the message was *written*: `Nats-Expected-…` and `Nats-Batch-…`, which
the server keeps as they came. A log that is exported and imported into another server must come to the same digest, and
there the writes are other ones: a batch's random name cannot be given again, nor can a message that carries one be
written alone. So that these headers are no place where something could be hidden or damaged unseen,
`events.audit.envelope` and `events.audit.verifier` hold them to what they must be, bit by bit.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

from events.codec import digest as event_digest

_TAG = b"wireloom log 1\n"

START = hashlib.sha256(_TAG).digest()
"""The running digest of an empty log."""


def advance(before: bytes, sequence: int, subject: str, described: bytes, digest: str) -> bytes:
    """The running digest after one more message. `described` is the value of its header `Wl-Event`, `digest` what
    `digest_in` gives.

    Neither a subject nor a header's value can have a line break in it, so that no two messages come to the same bytes.
    """
    place = b"%s%s%d %s\n%s\n%s" % (_TAG, before, sequence, _raw(subject), described, digest.encode())
    return hashlib.sha256(place).digest()


def digest_in(subject: str, described: bytes, payload: bytes) -> str:
    """The digest of the event that a message holds; of what is no event, the payload's."""
    try:
        version, _, topic = described.decode("ascii").partition(" ")
        return event_digest(UUID(subject.rpartition(".")[2]), int(version), topic, payload)
    except ValueError:
        return hashlib.sha256(payload).hexdigest()


def _raw(subject: str) -> bytes:
    return subject.encode("utf-8", "surrogateescape")
