"""What stands around an event in the log: the header block, held to what the journal and the server leave. Pure.

A stored header block is `NATS/1.0`, one line for each header as `Name: value`, and an empty line (ADR-4 of NATS). The
journal writes `Wl-Event`; beside it stand the conditions that the write was made under (`Nats-Expected-…`) and its
place in an atomic batch (`Nats-Batch-…`, ADR-50). Nothing else belongs there.
"""

from __future__ import annotations

from dataclasses import dataclass

from events.subjects import EVENT_HEADER

_START = b"NATS/1.0\r\n"
_END = b"\r\n\r\n"
_EVENT = EVENT_HEADER.encode()
_NUMBERS = {
    b"Nats-Expected-Last-Subject-Sequence": "after",
    b"Nats-Expected-Last-Sequence": "end",
    b"Nats-Batch-Sequence": "number",
}
_HEX = frozenset(b"0123456789abcdef")
_BATCH_ID = 32


class EnvelopeError(ValueError):
    """Raised when a header block is not one that the journal and the server leave; says why."""


@dataclass(slots=True)
class Envelope:
    """What a header block says; None where it says nothing."""

    described: bytes = b""
    """The value of `Wl-Event`: the version, a space, and the topic."""
    after: int | None = None
    """The position of the aggregate's event before this one, 0 for none."""
    end: int | None = None
    """The position that the log ended at."""
    batch: bytes | None = None
    number: int | None = None
    is_last: bool = False


def read(block: bytes) -> Envelope:
    """What a stored header block says. Raises `EnvelopeError` for anything but the exact form."""
    if not block.startswith(_START) or not block.endswith(_END):
        raise EnvelopeError("its header block does not begin or end as one does")
    envelope = Envelope()
    seen: set[bytes] = set()
    for line in block[len(_START) : -len(_END)].split(b"\r\n"):
        name, colon, value = line.partition(b": ")
        if not colon or name in seen:
            raise EnvelopeError(f"its header block has the line {_shown(line)}")
        seen.add(name)
        _take(envelope, name, value)
    if not envelope.described:
        raise EnvelopeError(f"it has no header {EVENT_HEADER}")
    if (envelope.batch is None) != (envelope.number is None) or (envelope.is_last and envelope.batch is None):
        raise EnvelopeError("its header block tells of a batch by halves")
    return envelope


def _take(envelope: Envelope, name: bytes, value: bytes) -> None:
    if name == _EVENT:
        envelope.described = value
    elif (field := _NUMBERS.get(name)) is not None:
        setattr(envelope, field, _number(name, value))
    elif name == b"Nats-Batch-Id" and len(value) == _BATCH_ID and _HEX.issuperset(value):
        envelope.batch = value
    elif name == b"Nats-Batch-Commit" and value == b"1":
        envelope.is_last = True
    else:
        raise EnvelopeError(f"its header block has the line {_shown(name + b': ' + value)}")


def _number(name: bytes, value: bytes) -> int:
    if not value.isdigit() or str(int(value)).encode() != value:
        raise EnvelopeError(f"its header {name.decode()} is {_shown(value)}, which is no number")
    return int(value)


def _shown(raw: bytes) -> str:
    text = raw.decode("ascii", "backslashreplace")
    return repr(text if len(text) <= 60 else text[:60] + "…")
