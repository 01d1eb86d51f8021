"""The records of every scope in the order of their revisions, to tell a listener what it missed. Pure."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterable, Iterator
from datetime import datetime

from events.records import Record, SubjectRecord, SyncReply

PAGE = 400
"""How many records one reply carries. The largest record (a peer with 16 IPv6 endpoints and the longest hostname) has
some 1,600 bytes, so a reply stays well under the bus's limit of 1 MB."""


class Scope:
    """What one scope's listeners are told: the newest record of each subject, tombstones included."""

    def __init__(self) -> None:
        self.revision = 0
        self._subjects: dict[str, Record] = {}
        self._by_revision: dict[int, str] = {}
        self._revisions: list[int] = []

    def put(self, subject: str, record: Record) -> bool:
        """Take a record in. False where it is not newer than what is known of its subject."""
        known = self._subjects.get(subject)
        if known is not None:
            if known.revision >= record.revision:
                return False
            del self._by_revision[known.revision]
        self._subjects[subject] = record
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

    def times(self) -> Iterator[datetime]:
        """When each of the records was caused."""
        return (record.time for record in self._subjects.values())

    def page(self, since: int) -> tuple[tuple[SubjectRecord, ...], bool]:
        """The first records after revision `since`, in order, and whether there are more."""
        found: list[SubjectRecord] = []
        for index in range(bisect_right(self._revisions, since), len(self._revisions)):
            subject = self._by_revision.get(self._revisions[index])
            if subject is None:
                continue
            if len(found) == PAGE:
                return tuple(found), True
            found.append(SubjectRecord(subject=subject, record=self._subjects[subject]))
        return tuple(found), False

    def reply(self, name: str, since: int) -> SyncReply:
        """What a listener that holds revision `since` of this scope needs."""
        reset = not 0 <= since <= self.revision
        records, more = self.page(0 if reset else since)
        revision = records[-1].record.revision if more else self.revision
        return SyncReply(scope=name, revision=revision, reset=reset, more=more, records=records)

    def _compact(self) -> None:
        if len(self._revisions) > 2 * len(self._by_revision) + 64:
            self._revisions = sorted(self._by_revision)
