"""A log as messages, for tests that damage it: written as the journal writes, or with its chains made to fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

import orjson

from events import codec
from events.audit import running
from events.audit.checkpoints import Checkpoint
from events.audit.findings import Finding
from events.audit.verifier import LogVerifier
from events.client import Entry, header
from events.domain import GENESIS_HASH, DomainEvent
from events.subjects import EVENT_HEADER, log_subject

WHEN = datetime(2026, 5, 4, 8, 30, tzinfo=UTC)


def entries_of(events: Iterable[DomainEvent], batch: int = 1) -> list[Entry]:
    """Events as they stand in the log, written `batch` at once."""
    found: list[Entry] = []
    tips: dict[UUID, int] = {}
    waiting = list(events)
    for position, event in enumerate(waiting, 1):
        lines = [f"{EVENT_HEADER}: {event.originator_version} {codec.topic_of(type(event))}"]
        number = (position - 1) % batch + 1
        last = min(position - number + batch, len(waiting))
        if event.originator_id not in tips or tips[event.originator_id] <= position - number:
            lines.append(f"Nats-Expected-Last-Subject-Sequence: {tips.get(event.originator_id, 0)}")
        if number == 1:
            lines.append(f"Nats-Expected-Last-Sequence: {position - 1}")
        if last > position - number + 1:
            lines += [f"Nats-Batch-Id: {position - number:032x}", f"Nats-Batch-Sequence: {number}"]
            lines += ["Nats-Batch-Commit: 1"] * (position == last)
        tips[event.originator_id] = position
        block = "NATS/1.0\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n"
        found.append(Entry(position, log_subject(event.originator_id), block.encode(), codec.encode(event)))
    return found


def renumbered(entries: Iterable[Entry]) -> list[Entry]:
    """The same messages without a gap, as another stream would hold them, with nothing but the event's own header."""
    return [Entry(position, entry.subject, _bare(entry), entry.data) for position, entry in enumerate(entries, 1)]


def rechained(entries: Sequence[Entry]) -> list[Entry]:
    """The same events with versions and digests computed anew, by somebody who knows how."""
    tips: dict[str, tuple[int, str]] = {}
    found: list[Entry] = []
    for entry in renumbered(entries):
        topic = (header(entry.headers, EVENT_HEADER.encode()) or b"").decode().partition(" ")[2]
        version, last = tips.get(entry.subject, (0, GENESIS_HASH))
        data = orjson.dumps(orjson.loads(entry.data) | {"previous_hash": last})
        block = f"NATS/1.0\r\n{EVENT_HEADER}: {version + 1} {topic}\r\n\r\n".encode()
        aggregate = UUID(entry.subject.partition(".")[2])
        tips[entry.subject] = (version + 1, codec.digest(aggregate, version + 1, topic, data))
        found.append(Entry(entry.sequence, entry.subject, block, data))
    return found


def checkpoints_of(entries: Iterable[Entry]) -> list[Checkpoint]:
    """What the log was at every position."""
    digest, found = running.START, []
    for entry in entries:
        described = header(entry.headers, EVENT_HEADER.encode()) or b""
        event = running.digest_in(entry.subject, described, entry.data)
        digest = running.advance(digest, entry.sequence, entry.subject, described, event)
        position = entry.sequence
        found.append(Checkpoint(position=position, count=position, digest=digest.hex(), time=WHEN))
    return found


def checkpoint_at(entries: Sequence[Entry], position: int) -> Checkpoint:
    """What the log was at a position."""
    return checkpoints_of(entries[:position])[-1]


def check(entries: Iterable[Entry], checkpoints: Iterable[Checkpoint] = (), end: int | None = None) -> list[Finding]:
    """What is wrong with a log."""
    verifier = LogVerifier(checkpoints)
    findings = [finding for entry in entries for finding in verifier.take(entry)]
    return findings + verifier.finish(verifier.position if end is None else end)


def _bare(entry: Entry) -> bytes:
    described = (header(entry.headers, EVENT_HEADER.encode()) or b"").decode()
    return f"NATS/1.0\r\n{EVENT_HEADER}: {described}\r\n\r\n".encode()
