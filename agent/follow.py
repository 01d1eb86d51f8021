"""Following one scope's records without missing any. Pure.

What is heard live applies at once while each record follows the one before. After a gap, a lost connection or a start,
the follower is *behind*: it keeps what it hears, and whoever runs it asks for what is missing until the answers and
what was heard meanwhile join up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from events.records import Record, SubjectRecord, SyncReply, SyncRequest

MAX_KEPT = 10_000
"""How many live records are kept while behind; past it they are fetched again instead."""

MAX_STALE = 6
"""How many answers in a row may be older than what the follower holds before it believes them and starts afresh."""

MAX_SHORT = 20
"""How many answers in a row may fall short of what was heard live before the follower is content with them."""


@dataclass(frozen=True, slots=True)
class Update:
    """What an answer leads to, in this order: apply `records`; where `keep` is not None, forget every other subject of
    the scope; hold `revision` as what is known."""

    records: tuple[SubjectRecord, ...] = ()
    keep: frozenset[str] | None = None
    revision: int = 0
    """0 while a scope is being read from its start, so that a crash in the middle reads it again."""
    gone: bool = False
    """The scope does not exist, or is not this machine's to hear."""
    progress: bool = False
    """Whether to ask on at once."""


class Follower:
    """The state of following one scope. Mutable, in memory only."""

    def __init__(self, scope: str, revision: int = 0) -> None:
        """`revision` is what is known from an earlier life."""
        self.scope = scope
        self.revision = revision
        self.behind = True
        """Whether to ask."""
        self._kept: dict[int, SubjectRecord] = {}
        self._newest = 0
        self._from_start = revision == 0
        self._confirmed: set[str] | None = None
        self._stale = 0
        self._short = 0

    def resync(self) -> None:
        """Something may have been missed: ask. What was kept is dropped: on a new connection, it may be of a history
        that the control plane no longer has. How new it was is remembered."""
        self.behind = True
        self._kept.clear()

    def restart(self) -> None:
        """What is held may be wrong: ask for everything."""
        self.behind = True
        self._from_start = True

    def request(self) -> SyncRequest:
        """What to ask."""
        return SyncRequest(scope=self.scope, since=0 if self._from_start else self.revision)

    def hear(self, subject: str, record: Record) -> bool:
        """Whether a live record is to be applied now. If not, it is old news, or `behind` is true and it is kept."""
        if not self.behind:
            if record.previous == self.revision:
                self.revision = record.revision
                return True
            if record.revision <= self.revision:
                return False
            self.behind = True
        self._newest = max(self._newest, record.revision)
        if len(self._kept) < MAX_KEPT:
            self._kept[record.revision] = SubjectRecord(subject=subject, record=record)
        return False

    def answer(self, reply: SyncReply) -> Update:
        """Take in the answer to `request`."""
        if reply.gone:
            return Update(gone=True, revision=self._lasting)
        is_older = reply.revision < self.revision and not reply.more
        if is_older or (reply.reset and not self._from_start):
            return self._stale_answer()
        if self._from_start:
            self._from_start = False
            self._confirmed = set()
            self.revision = 0
        fresh = [entry for entry in reply.records if entry.record.revision > self.revision]
        self.revision = max(self.revision, reply.revision)
        if reply.more:
            self._confirm(fresh)
            return Update(tuple(fresh), revision=self._lasting, progress=bool(reply.records))
        fresh += self._join_up()
        self._confirm(fresh)
        keep = None if self._confirmed is None else frozenset(self._confirmed)
        self._confirmed = None
        self._settle()
        return Update(tuple(fresh), keep, self.revision)

    def _stale_answer(self) -> Update:
        # A gateway that is behind the times says the same as one whose history is another: time tells.
        self._stale += 1
        if self._stale >= MAX_STALE:
            self._from_start = True
            self.revision = 0
        return Update(revision=self._lasting)

    @property
    def _lasting(self) -> int:
        """The revision to go on from after a crash."""
        return self.revision if self._confirmed is None else 0

    def _settle(self) -> None:
        """Behind still, if something newer was heard than this answer knows; but not for ever, since what was heard
        may belong to a history that the control plane no longer has."""
        self.behind = self._newest > self.revision
        self._stale = 0
        self._short = self._short + 1 if self.behind else 0
        if self._short >= MAX_SHORT:
            self.behind = False
        if not self.behind:
            self._short = 0
            self._newest = 0
            self._kept.clear()

    def _join_up(self) -> Iterable[SubjectRecord]:
        for revision in sorted(self._kept):
            entry = self._kept[revision]
            if revision > self.revision:
                if entry.record.previous != self.revision:
                    return
                self.revision = revision
                yield entry
            del self._kept[revision]

    def _confirm(self, entries: Iterable[SubjectRecord]) -> None:
        if self._confirmed is None:
            return
        for entry in entries:
            if entry.record.body is None:
                self._confirmed.discard(entry.subject)
            else:
                self._confirmed.add(entry.subject)
