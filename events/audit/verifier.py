"""Checking the log, message after message: a pure in-memory check, without a bus.

What is checked of each message: that none is missing before it; that it is an event, exactly as the journal writes one
(`events.audit.envelope`), on the subject of an aggregate; that it can be read; that its version is one more than its
aggregate's last, and its `previous_hash` the digest of that; that what its headers say of its write fits the log; and
that the events of one command agree. And the running digest of it all (`events.audit.running`) is compared with the
checkpoints that are given.

What is bent is told once: the check goes on from what it found. Events of the log are never cut into parts.

A flip of a single bit in an event is always found: in all but an aggregate's newest event by its chain, and in every
event that a checkpoint covers by that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from events.audit import redaction, running
from events.audit.checkpoints import Checkpoint
from events.audit.envelope import Envelope, EnvelopeError, read
from events.audit.findings import Code, Finding
from events.client import Entry, header
from events.codec import UnreadableEventError, decode, is_redacted
from events.domain import GENESIS_HASH, DomainEvent
from events.subjects import EVENT_HEADER, LOG_PREFIX

SET_BACK = timedelta(hours=1)
"""A time that lies so far before that of an earlier event is told; less comes of several allocators' clocks."""

_EVENT = EVENT_HEADER.encode()
_SUBJECT_START = f"{LOG_PREFIX}."


class _Tip(NamedTuple):
    """The newest event of an aggregate."""

    version: int
    digest: str
    position: int


class _Place(NamedTuple):
    """Where an event belongs, and what it is."""

    aggregate: UUID
    version: int
    topic: str


class _Batch(NamedTuple):
    """The atomic batch that the message before belongs to, while it is not at its end."""

    name: bytes
    number: int


_NOTHING = _Tip(0, GENESIS_HASH, 0)


class LogVerifier:
    """Takes the messages of LOG in order, from the first, and tells what is wrong with them.

    Costs about as much as reading the events (some 30 µs each), and some 300 bytes for each aggregate.
    """

    def __init__(self, checkpoints: Iterable[Checkpoint] = (), root: str = "") -> None:
        """`checkpoints` say what the log was at their positions: they must be trusted already.
        `root` is the public root key, which signs what was removed from events; empty where there are no keys."""
        self._root = root
        self.position = 0
        """The position of the newest message taken."""
        self.count = 0
        """How many messages were taken."""
        self.digest = running.START
        """The running digest up to `position`."""
        self.covered = 0
        """Up to here the log is what the checkpoints say."""
        self.redacted = 0
        """From how many events something was removed."""
        self.matched: set[int] = set()
        """The positions of the checkpoints that the log fits."""
        self.serious = 0
        """How many findings there were that are no notices."""
        self._marks = sorted(checkpoints, key=lambda checkpoint: checkpoint.position)
        self._next_mark = 0
        self._sound_from = 0
        self._tips: dict[UUID, _Tip] = {}
        self._command: DomainEvent | None = None
        self._batch: _Batch | None = None
        self._newest: datetime | None = None
        self._found: list[Finding] = []

    def take(self, entry: Entry) -> list[Finding]:
        """What is wrong with the next message of LOG."""
        self._found = []
        if entry.sequence <= self.position:
            self._say("version", entry.sequence, f"position {entry.sequence} comes after position {self.position}")
            return self._told()
        if entry.sequence != self.position + 1:
            self._miss(entry.sequence - 1)
        self._look(entry)
        self.position, self.count = entry.sequence, self.count + 1
        self._compare_marks(entry.sequence)
        return self._told()

    def finish(self, end: int) -> list[Finding]:
        """What is wrong with the end of the log, whose last position was `end` according to the server."""
        self._found = []
        if end > self.position:
            self._miss(end)
            self.position = end
            self._compare_marks(end)
        if self._batch is not None:
            self._say("missing", self.position, "the last batch of events was not written to its end")
        for mark in self._marks[self._next_mark :]:
            self._say(
                "truncated",
                mark.position,
                f"the log ends at position {self.position}; by the checkpoint of {mark.time:%Y-%m-%d %H:%M:%S} UTC it "
                f"reached {mark.position}",
                f"{mark.count} events up to position {mark.position}",
            )
        self._next_mark = len(self._marks)
        return self._told()

    def _look(self, entry: Entry) -> None:
        try:
            envelope = read(entry.headers)
        except EnvelopeError as error:
            self._say("envelope", entry.sequence, f"the message is not as an event is written: {error}")
            envelope = Envelope(header(entry.headers, _EVENT) or b"")
        digest = running.digest_in(entry.subject, envelope.described, entry.data)
        self.digest = running.advance(self.digest, entry.sequence, entry.subject, envelope.described, digest)
        try:
            self._check(entry, envelope, _place(entry.subject, envelope.described), digest)
        except ValueError:
            self._say("foreign", entry.sequence, f"the message on {entry.subject!r} is no event")

    def _check(self, entry: Entry, envelope: Envelope, place: _Place, digest: str) -> None:
        aggregate, version, topic = place
        tip = self._tips.get(aggregate, _NOTHING)
        self._tips[aggregate] = _Tip(version, digest, entry.sequence)
        self._check_write(entry, envelope, tip, aggregate)
        if is_redacted(entry.data):
            self._check_redaction(entry, envelope, aggregate)
        event = None
        try:
            event = decode(aggregate, version, topic, entry.data)
        except UnreadableEventError as error:
            self._say("unreadable", entry.sequence, error.detail, aggregate=aggregate)
        if version != tip.version + 1:
            expected = f"version {tip.version + 1}"
            self._say("version", entry.sequence, _misplaced(version, tip), expected, aggregate)
        elif event is not None and event.previous_hash != tip.digest:
            problem = f"{topic} (version {version}) was not written after {_named(tip)}"
            expected = f"previous_hash {tip.digest or 'empty'}; it has {event.previous_hash or 'none'}"
            self._say("chain", entry.sequence, problem, expected, aggregate)
        if event is not None:
            self._check_moment(entry.sequence, event)

    def _check_write(self, entry: Entry, envelope: Envelope, tip: _Tip, aggregate: UUID) -> None:
        """What the headers say of the conditions under which the message was written, and of its batch."""
        position = entry.sequence
        if envelope.after is not None and envelope.after != tip.position:
            self._say(
                "envelope",
                position,
                f"it says that it was written after position {envelope.after} of its aggregate, which had its last "
                f"event at {tip.position}",
                f"Nats-Expected-Last-Subject-Sequence {tip.position}",
                aggregate,
            )
        if envelope.end is not None and envelope.end != position - 1:
            self._say(
                "envelope",
                position,
                f"it says that it was written after position {envelope.end} of the log",
                f"Nats-Expected-Last-Sequence {position - 1}",
                aggregate,
            )
        before, follows = self._batch, envelope.number is not None and envelope.number > 1
        if before is not None or follows:
            fitting = _Batch(envelope.batch or b"", (envelope.number or 0) - 1)
            if before != fitting:
                self._say("envelope", position, "it is not what its batch of events goes on with", "", aggregate)
        is_open = envelope.batch is not None and not envelope.is_last
        self._batch = _Batch(envelope.batch or b"", envelope.number or 0) if is_open else None

    def _check_redaction(self, entry: Entry, envelope: Envelope, aggregate: UUID) -> None:
        self.redacted += 1
        try:
            redaction.check(redaction.Stored(entry.subject, envelope.described.decode(), entry.data), self._root)
        except redaction.RedactionError as error:
            self._say("redaction", entry.sequence, str(error), aggregate=aggregate)

    def _check_moment(self, position: int, event: DomainEvent) -> None:
        """Times, and that the events of one command agree in who gave it and when."""
        before, self._command = self._command, event
        is_of_same = before is not None and before.command_id == event.command_id
        if is_of_same and before is not None and (before.actor, before.time) != (event.actor, event.time):
            problem = f"the events of command {event.command_id} do not agree in who gave it and when"
            self._say("command", position, problem, f"{before.actor}, {before.time.isoformat()}", event.originator_id)
        if self._newest is not None and event.time < self._newest - SET_BACK:
            self._say(
                "time",
                position,
                f"its time, {event.time.isoformat()}, is before that of an earlier event, {self._newest.isoformat()}",
                aggregate=event.originator_id,
            )
            self._newest = event.time
        elif self._newest is None or event.time > self._newest:
            self._newest = event.time

    def _miss(self, last: int) -> None:
        first = self.position + 1
        what = f"position {first} is missing" if first == last else f"positions {first} to {last} are missing"
        self._say("missing", first, what, "an event at every position")
        self._batch = None

    def _compare_marks(self, position: int) -> None:
        """Compare with the checkpoints up to `position`. After one that differs the running digest goes on from what
        that one says, so that a change is placed between two checkpoints."""
        while self._next_mark < len(self._marks) and self._marks[self._next_mark].position <= position:
            mark = self._marks[self._next_mark]
            self._next_mark += 1
            is_same = mark.position == position and (mark.digest, mark.count) == (self.digest.hex(), mark.position)
            if is_same:
                self.covered = position
                self.matched.add(position)
            else:
                self._say(
                    "digest",
                    self._sound_from + 1,
                    f"the log from position {self._sound_from + 1} to {mark.position} is not what it was when the "
                    f"checkpoint of {mark.time:%Y-%m-%d %H:%M:%S} UTC was made",
                    f"running digest {mark.digest} at position {mark.position}",
                )
                self.digest = bytes.fromhex(mark.digest)
            self._sound_from = mark.position

    def _say(self, code: Code, position: int, problem: str, expected: str = "", aggregate: UUID | None = None) -> None:
        self._found.append(
            Finding(code=code, position=position, problem=problem, expected=expected, aggregate=aggregate)
        )

    def _told(self) -> list[Finding]:
        self.serious += sum(not finding.is_notice for finding in self._found)
        return self._found


def _place(subject: str, described: bytes) -> _Place:
    """What the subject and the header say. Raises ValueError where one is not exactly as the journal writes it."""
    token = subject[len(_SUBJECT_START) :]
    aggregate = UUID(token)
    version_text, _, topic = described.decode("ascii").partition(" ")
    version = int(version_text)
    if subject != f"{_SUBJECT_START}{aggregate}" or version < 1 or str(version) != version_text or not topic:
        raise ValueError(subject)
    return _Place(aggregate, version, topic)


def _misplaced(version: int, tip: _Tip) -> str:
    if version <= tip.version:
        return f"version {version} of its aggregate comes after version {tip.version}, at position {tip.position}"
    missing = (
        f"version {tip.version + 1}" if version == tip.version + 2 else f"versions {tip.version + 1} to {version - 1}"
    )
    return f"version {version} of its aggregate is here, but {missing} is not before it"


def _named(tip: _Tip) -> str:
    if not tip.version:
        return "nothing, as the first event of its aggregate should be"
    return f"the event at position {tip.position} (version {tip.version}) as that stands there now"
