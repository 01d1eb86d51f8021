"""The records of every scope in the order of their revisions, to tell a listener what it missed. Pure.

Records are kept as they stand in STATE, to the byte, each with the signature beside it.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from events.records import Record, SignedRecord, SyncReply

PAGE = 400
"""How many records one reply carries. Most have no more than 2,000 bytes with their signature."""

PAGE_BYTES = 500_000
"""How many bytes of records one reply carries, or one record alone: quoted, it stays under the bus's limit of 1 MB."""


class Held(NamedTuple):
    """The newest record of a subject."""

    revision: int
    time: datetime
    payload: str
    signature: str


class Scope:
    """What one scope's listeners are told: the newest record of each subject, tombstones included."""

    def __init__(self) -> None:
        self.revision = 0
        self._subjects: dict[str, Held] = {}
        self._by_revision: dict[int, str] = {}
        self._revisions: list[int] = []

    def put(self, subject: str, record: Record, payload: bytes, signature: str = "") -> bool:
        """Take a record in. False where it is not newer than what is known of its subject; if it is the same one with
        another signature, that one counts from now on."""
        known = self._subjects.get(subject)
        if known is not None:
            if known.revision > record.revision:
                return False
            if known.revision == record.revision:
                self._subjects[subject] = known._replace(signature=signature)
                return False
            del self._by_revision[known.revision]
        self._subjects[subject] = Held(record.revision, record.time, payload.decode(), signature)
        self._by_revision[record.revision] = subject
        insort(self._revisions, record.revision)
        self.revision = max(self.revision, record.revision)
        self._compact()
        return True

    def drop(self, subjects: Iterable[str]) -> None:
        """Forget subjects without a trace in the scope's history."""
        for subject in subjects:
            known = self._subjects.pop(subject, None)
            if known is not None:
                del self._by_revision[known.revision]
        self._compact()

    def subjects(self) -> list[str]:
        """Every subject that has a record."""
        return list(self._subjects)

    def held(self, subject: str) -> Held | None:
        """The newest record of a subject."""
        return self._subjects.get(subject)

    def signatures(self) -> Iterator[str]:
        """The signature of each record."""
        return (held.signature for held in self._subjects.values())

    def times(self) -> Iterator[datetime]:
        """When each of the records was caused."""
        return (held.time for held in self._subjects.values())

    def first_after(self, revision: int) -> Held | None:
        """The oldest record that stands of those after a revision."""
        for following in self._revisions[bisect_right(self._revisions, revision) :]:
            if (subject := self._by_revision.get(following)) is not None:
                return self._subjects[subject]
        return None

    def newest(self) -> Held | None:
        """The newest record."""
        subject = self._by_revision.get(self.revision)
        return None if subject is None else self._subjects[subject]

    def page(self, since: int) -> tuple[tuple[SignedRecord, ...], bool]:
        """The first records after revision `since`, in order, and whether there are more."""
        found: list[SignedRecord] = []
        size = 0
        for index in range(bisect_right(self._revisions, since), len(self._revisions)):
            subject = self._by_revision.get(self._revisions[index])
            if subject is None:
                continue
            held = self._subjects[subject]
            size += len(held.payload)
            if found and (len(found) == PAGE or size > PAGE_BYTES):
                return tuple(found), True
            found.append(SignedRecord(subject=subject, payload=held.payload, signature=held.signature))
        return tuple(found), False

    def reply(self, name: str, since: int) -> SyncReply:
        """What a listener that holds revision `since` of this scope needs."""
        reset = not 0 <= since <= self.revision
        records, more = self.page(0 if reset else since)
        revision = self._subjects[records[-1].subject].revision if more else self.revision
        return SyncReply(scope=name, revision=revision, reset=reset, more=more, records=records)

    def _compact(self) -> None:
        if len(self._revisions) > 2 * len(self._by_revision) + 64:
            self._revisions = sorted(self._by_revision)
