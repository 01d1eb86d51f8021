"""Domain events as bytes and back: stable names, schema versions, upcasting, and the hash chain. Pure.

An event's *topic* is its kind and schema version, `network.created:1`. Its *state* is the JSON of its fields without
the two that the log keeps beside it (`originator_id`, `originator_version`).

From an event personal data may have been removed since (`events.audit.redaction`). Its state then says under
`$redacted` which digest it had, and still has: so the chain goes on. Whether that is true, a check of the log finds by
the signature beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from pydantic import ValidationError

from events.domain import EVENT_TYPES, DomainEvent
from events.errors import InternalError

Upcast = Callable[[dict[str, Any]], dict[str, Any]]
"""Lifts an event's fields from one schema version to the next."""

UPCASTS: dict[tuple[str, int], Upcast] = {}
"""For each kind and *old* schema version, how to lift it by one."""

_TYPES: dict[str, type[DomainEvent]] = {event_type.kind: event_type for event_type in EVENT_TYPES}
_STORED = "_stored"
_BESIDE = {"originator_id", "originator_version"}

REDACTED = "$redacted"
"""What an event says beside its fields from which something was removed; no event's field is called so."""

_REDACTED = f'"{REDACTED}":'.encode()
"""In a text of an event the quotes would be escaped."""


class UnreadableEventError(InternalError):
    """Raised when an event in the log cannot be read: an unknown kind, a newer schema, or damaged fields."""

    code = "unreadable-event"
    title = "An event in the log cannot be read"


def topic_of(event_type: type[DomainEvent]) -> str:
    """The topic under which events of this type are written."""
    return f"{event_type.kind}:{event_type.schema_version}"


def encode(event: DomainEvent) -> bytes:
    """The state of an event: the same event always gives the same bytes."""
    return orjson.dumps(event.model_dump(mode="json", exclude=_BESIDE))


def decode(originator_id: UUID, originator_version: int, topic: str, state: bytes) -> DomainEvent:
    """The event that stands in the log under `topic` with `state`.

    Raises `UnreadableEventError`.
    """
    kind, _, schema_text = topic.partition(":")
    event_type = _TYPES.get(kind)
    if event_type is None or not schema_text.isdigit():
        raise _unreadable(originator_id, originator_version, topic, "its kind is not known here")
    schema = int(schema_text)
    if schema > event_type.schema_version:
        raise _unreadable(originator_id, originator_version, topic, "its schema is newer than this program")
    try:
        fields = orjson.loads(state)
        fields.pop(REDACTED, None)
        while schema < event_type.schema_version:
            fields = UPCASTS[kind, schema](fields)
            schema += 1
        fields["originator_id"] = originator_id
        fields["originator_version"] = originator_version
        event = event_type.model_validate(fields)
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValidationError) as error:
        raise _unreadable(originator_id, originator_version, topic, "its fields are damaged") from error
    # Beside the fields, so that it is neither compared nor written: the digest is of what stands in the log, which a
    # newer program might write otherwise.
    event.__dict__[_STORED] = (topic, state)
    return event


def digest(originator_id: UUID, originator_version: int, topic: str, state: bytes) -> str:
    """The SHA-256 of an event as it was written to the log, in hex: the `previous_hash` of the one after it."""
    if _REDACTED in state and (former := _former_digest(state)):
        return former
    place = f"{originator_id} {originator_version} {topic}\n".encode()
    return hashlib.sha256(place + state).hexdigest()


def is_redacted(state: bytes) -> bool:
    """Whether an event's state says that something was removed from it."""
    return _REDACTED in state


def _former_digest(state: bytes) -> str:
    """The digest that an event says it had; empty where it says nothing."""
    try:
        mark = orjson.loads(state)[REDACTED]
        return str(mark["digest"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""


def digest_of(event: DomainEvent) -> str:
    """The digest of an event: as it was read, or as it is about to be written."""
    topic, state = event.__dict__.get(_STORED) or (topic_of(type(event)), encode(event))
    return digest(event.originator_id, event.originator_version, topic, state)


def _unreadable(originator_id: UUID, version: int, topic: str, why: str) -> UnreadableEventError:
    return UnreadableEventError(
        f"Event {version} of {originator_id} ({topic}) cannot be read: {why}.",
        hint="Run a program at least as new as the one that wrote it, and verify the log.",
    )
