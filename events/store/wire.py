"""Stored events as messages and back. Pure.

An event is a message on `<prefix>.<aggregate>` with the header `Wl-Event: <version> <topic>` and its state as payload.
A state too big for one message is cut into parts, each with the header `Wl-Part: <number>/<count>`, which stand one
after the other. How far another application's events were processed stands on `<prefix>.tracking.<application>`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote
from uuid import UUID

from eventsourcing.persistence import StoredEvent

from events.client import Entry, header
from events.subjects import EVENT_HEADER

PART_HEADER = "Wl-Part"
EXPECTED_SUBJECT_SEQUENCE = "Nats-Expected-Last-Subject-Sequence"
EXPECTED_SEQUENCE = "Nats-Expected-Last-Sequence"

_EVENT = EVENT_HEADER.encode()
_PART = PART_HEADER.encode()


@dataclass(slots=True)
class Draft:
    """A message that is to be written."""

    subject: str
    payload: bytes
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoredPart:
    """An event as a message holds it: all of it, or one part of its state."""

    sequence: int
    token: str
    version: int
    topic: str
    state: bytes
    part: int
    parts: int

    @property
    def first_sequence(self) -> int:
        """Where the event's first part stands."""
        return self.sequence - self.part + 1


def token_of(originator_id: UUID | str) -> str:
    """An aggregate's id, or an application's name, as one token of a subject."""
    if isinstance(originator_id, UUID):
        return str(originator_id)
    return quote(originator_id, safe="").replace(".", "%2E")


def originator_of(token: str, *, is_text: bool) -> UUID | str:
    """The aggregate's id that `token_of` made `token` of."""
    return unquote(token) if is_text else UUID(token)


def draft_event(prefix: str, event: StoredEvent, part_size: int | None) -> list[Draft]:
    """The message of an event, or several if its state may be cut and is longer than `part_size` bytes."""
    subject = f"{prefix}.{token_of(event.originator_id)}"
    described = f"{event.originator_version} {event.topic}"
    state = event.state
    if part_size is None or len(state) <= part_size:
        return [Draft(subject, state, {EVENT_HEADER: described})]
    count = -(-len(state) // part_size)
    return [
        Draft(
            subject,
            state[number * part_size : (number + 1) * part_size],
            {EVENT_HEADER: described, PART_HEADER: f"{number + 1}/{count}"},
        )
        for number in range(count)
    ]


def read_part(entry: Entry) -> StoredPart:
    """What a message holds of an event. Raises ValueError where it is no event."""
    described = header(entry.headers, _EVENT)
    if described is None:
        raise ValueError(f"the message {entry.sequence} on {entry.subject} has no header {EVENT_HEADER}")
    version, _, topic = described.decode().partition(" ")
    part, _, parts = (header(entry.headers, _PART) or b"1/1").partition(b"/")
    token = entry.subject.rpartition(".")[2]
    return StoredPart(entry.sequence, token, int(version), topic, entry.data, int(part), int(parts))


def join_parts(parts: Sequence[StoredPart]) -> list[StoredPart]:
    """The whole events among `parts`, which stand in the order of the stream; each at the sequence of its last part.

    What remains of an event whose first parts were purged is left out.
    """
    whole: list[StoredPart] = []
    states: list[bytes] = []
    for part in parts:
        if part.parts == 1:
            whole.append(part)
            continue
        if part.part == 1:
            states = []
        states.append(part.state)
        if part.part == part.parts == len(states):
            state = b"".join(states)
            whole.append(StoredPart(part.sequence, part.token, part.version, part.topic, state, part.part, part.parts))
    return whole
