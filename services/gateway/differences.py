"""What a difference between two moments is made of. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal
from uuid import UUID

What = Literal[
    "network",
    "machine",
    "address",
    "peer",
    "path",
    "session",
    "route",
    "vip",
    "policy",
    "gateway",
    "announcement",
]
"""What a change is about, in the order in which changes are told."""

ChangeKind = Literal["added", "removed", "changed"]


@dataclass(frozen=True, slots=True)
class Named:
    """A network, machine, route or the like, and what it is called."""

    uuid: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is otherwise at one moment than at another."""

    what: What
    kind: ChangeKind
    text: str
    """In words, as of the later side: what is so there, and what was before."""
    network: Named | None = None
    machines: tuple[Named, ...] = ()
    """Whom it is about; of a change that stands for many, those that have a part in each of them."""
    item: Named | None = None
    """The route, virtual IP or route policy."""
    field: str = ""
    """What of it changed; empty where it was added or removed."""
    before: str | None = None
    after: str | None = None
    count: int = 1
    """For how many changes of this kind it stands."""
    is_lesser: bool = False
    """That only a round trip takes another step, by which nobody need be troubled."""

    def became(self, field: str, text: str, before: str | None, after: str | None) -> Change:
        """That something about the same is otherwise."""
        return replace(self, kind="changed", field=field, text=text, before=before, after=after)


@dataclass(frozen=True, slots=True)
class Tally:
    """How many changes there are about one thing."""

    what: What
    added: int = 0
    removed: int = 0
    changed: int = 0


@dataclass(frozen=True, slots=True)
class Difference:
    """All that is otherwise at one moment than at another, in order."""

    changes: tuple[Change, ...] = ()
    """The first of them, up to as many as were wanted."""
    total: int = 0
    """How many there are."""
    tallies: tuple[Tally, ...] = ()
    """Of what there are changes, and how many: what stands for several counts as so many."""

    def __bool__(self) -> bool:
        return self.total > 0

    @classmethod
    def of(cls, changes: Iterable[Change], most: int) -> Difference:
        """The difference that these changes make, with the first `most` of them."""
        gathering = Gathering(most)
        for change in changes:
            gathering.take(change)
        return gathering.difference()


class Gathering:
    """Counts changes, and keeps the first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: list[Change] = []
        self._total = 0
        self._counts: dict[What, dict[ChangeKind, int]] = {}

    def take(self, change: Change) -> None:
        """One change more."""
        self._total += 1
        if len(self._kept) < self._most:
            self._kept.append(change)
        counts = self._counts.setdefault(change.what, {"added": 0, "removed": 0, "changed": 0})
        counts[change.kind] += change.count

    def difference(self) -> Difference:
        """What came together."""
        tallies = (Tally(what, **counts) for what, counts in self._counts.items())
        return Difference(tuple(self._kept), self._total, tuple(tallies))
