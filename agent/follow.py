"""Following one scope's records without missing any. Pure.

What is heard live applies at once while each record follows the one before. After a gap, a lost connection or a start,
the follower is *behind*: it keeps what it hears, and whoever runs it asks for what is missing until the answers and
what was heard meanwhile join up.

Where records are signed, the follower *never goes back*: what is older than what the records themselves have shown is
refused, whoever says it. What an answer claims beyond that counts only until somebody shows otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agent.trust import Entry
from events.records import SyncReply, SyncRequest

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

    records: tuple[Entry, ...] = ()
    keep: frozenset[str] | None = None
    revision: int = 0
    """0 while a scope is being read from its start, so that a crash in the middle reads it again."""
    gone: bool = False
    """The scope does not exist, or is not this machine's to hear."""
    progress: bool = False
    """Whether to ask on at once."""
    older: bool = False
    """The answer would take the scope back, and is refused."""


class Past:
    """What the records themselves have shown of a scope: the newest of each subject, tombstones too."""

    def __init__(self, revision: int) -> None:
        self.revision = revision
        """The highest revision of any record."""
        self._newest: dict[str, tuple[int, int]] = {}

    def take(self, entry: Entry) -> None:
        """A record was taken in."""
        self.revision = max(self.revision, entry.record.revision)
        self._newest[entry.subject] = (entry.record.revision, hash(entry.payload))

    def repeats(self, entry: Entry) -> bool:
        """Whether a record says again what is held: that happens when the control plane signs anew."""
        known = self._newest.get(entry.subject)
        return entry.record.body is None if known is None else known == (entry.record.revision, hash(entry.payload))

    def is_older(self, entry: Entry) -> bool:
        """Whether a record is older than the one that is held in its place."""
        return entry.record.revision < self._newest.get(entry.subject, (0, 0))[0]


class Follower:
    """The state of following one scope. Mutable, in memory only."""

    def __init__(self, scope: str, revision: int = 0, *, never_back: bool = False) -> None:
        """`revision` is what is known from an earlier life."""
        self.scope = scope
        self.revision = revision
        self.behind = True
        """Whether to ask."""
        self.may_go_back = False
        """Whether one history that is older is believed all the same: the keys have changed since."""
        self._past = Past(revision) if never_back else None
        self._heard = revision
        self._kept: dict[int, Entry] = {}
        self._newest = 0
        self._from_start = revision == 0
        self._confirmed: set[str] | None = None
        self._gathered: list[Entry] = []
        self._stale = 0
        self._short = 0

    @property
    def shown(self) -> int:
        """The revision that is beyond doubt."""
        return self.revision if self._past is None else self._past.revision

    def hold(self, entry: Entry) -> None:
        """A record is known from an earlier life."""
        if self._past is not None:
            self._past.take(entry)

    def subscribed(self, revision: int) -> None:
        """A new subscription begins, from when `revision` was `shown`: what is older was heard before."""
        self._heard = revision

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
        since = self.shown if self._confirmed is None else self.revision
        return SyncRequest(scope=self.scope, since=0 if self._from_start else since)

    def is_replay(self, entry: Entry) -> bool:
        """Whether a live record was heard before, and is not what is held: somebody says it again. Live records come in
        their order, so one that comes late because an answer overtook it is none."""
        if self._past is None or self.may_go_back or entry.record.revision > self._heard:
            return False
        return not self._past.repeats(entry)

    def hear(self, entry: Entry) -> bool:
        """Whether a live record is to be applied now. If not, it is old news, or `behind` is true and it is kept."""
        record = entry.record
        self._heard = max(self._heard, record.revision)
        if not self.behind:
            if record.previous == self.revision:
                self.revision = record.revision
                self.hold(entry)
                return True
            if record.revision <= self.shown:
                return False
            self.behind = True
        self._newest = max(self._newest, record.revision)
        if len(self._kept) < MAX_KEPT:
            self._kept[record.revision] = entry
        return False

    def answer(self, reply: SyncReply, entries: Sequence[Entry]) -> Update:
        """Take in the answer to `request`; `entries` are its records."""
        if reply.gone:
            return Update(gone=True, revision=self._lasting)
        if self._goes_back(reply, entries):
            return self._stale_answer()
        if self._from_start:
            self._from_start = False
            self._confirmed = set()
            self._gathered = []
            self.revision = 0
        elif self._confirmed is None:
            self.revision = self.shown
        fresh = [entry for entry in entries if entry.record.revision > self.revision]
        self.revision = max(self.revision, reply.revision)
        if reply.more:
            return Update(self._page(fresh), revision=self._lasting, progress=bool(fresh))
        fresh = [*self._gathered, *fresh, *self._join_up()]
        self._confirm(fresh)
        keep = None if self._confirmed is None else frozenset(self._confirmed)
        self._confirmed = None
        self._gathered = []
        self._settle()
        return Update(tuple(fresh), keep, self.shown)

    def _goes_back(self, reply: SyncReply, entries: Iterable[Entry]) -> bool:
        if reply.reset and not self._from_start:
            return True
        if reply.revision < self.shown and not reply.more:
            return True
        return self._past is not None and any(self._past.is_older(entry) for entry in entries)

    def _stale_answer(self) -> Update:
        # A gateway that is behind the times says the same as one whose history is another: time tells.
        self._stale += 1
        if self._past is not None:
            self._from_start = self._from_start or self._confirmed is not None
            self._confirmed = None
            if not self.may_go_back:
                return Update(revision=self._lasting, older=True)
        if self._stale >= MAX_STALE:
            self._from_start = True
            self.revision = 0
            if self._past is not None:
                self._past = Past(0)
                self._heard = 0
        return Update(revision=self._lasting)

    def _page(self, fresh: list[Entry]) -> tuple[Entry, ...]:
        """What to apply of a page that is not the last. Only the last shows whether a scope that is read from its
        start goes back."""
        if self._past is not None and self._confirmed is not None:
            self._gathered += fresh
            return ()
        self._confirm(fresh)
        return tuple(fresh)

    @property
    def _lasting(self) -> int:
        """The revision to go on from after a crash."""
        return self.shown if self._confirmed is None or self._past is not None else 0

    def _settle(self) -> None:
        """Behind still, if something newer was heard than this answer knows; but not for ever, since what was heard
        may belong to a history that the control plane no longer has."""
        self.behind = self._newest > self.revision
        self.may_go_back = False
        self._stale = 0
        self._short = self._short + 1 if self.behind else 0
        if self._short >= MAX_SHORT:
            self.behind = False
        if not self.behind:
            self._short = 0
            self._newest = 0
            self._kept.clear()

    def _join_up(self) -> Iterable[Entry]:
        for revision in sorted(self._kept):
            entry = self._kept[revision]
            if revision > self.revision:
                if entry.record.previous != self.revision:
                    return
                self.revision = revision
                yield entry
            del self._kept[revision]

    def _confirm(self, entries: Iterable[Entry]) -> None:
        for entry in entries:
            self.hold(entry)
            if self._confirmed is None:
                continue
            if entry.record.body is None:
                self._confirmed.discard(entry.subject)
            else:
                self._confirmed.add(entry.subject)
