"""How a network's paths are, in numbers, and which of its machines need a look. Pure.

A network of many machines has very many pairs. Up to `COUNTED` of them all are looked at; of more, so many that are
spread evenly, and whoever shows the numbers says so.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from events.peering import full_mesh
from services.gateway.ways import Kind, Way

COUNTED = 5_000
"""So many pairs are looked at: all those of a network of 100 machines."""

Worry = Literal["cut off", "BGP failed", "no key", "offline"]
"""Why a machine needs a look, the worst first."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many pairs have a path of which kind, among those that were looked at."""

    counts: Counter[Kind]
    looked_at: int
    total: int
    cut_off: dict[UUID, set[UUID]]
    """The machines without a path to peers, each with those; both ends are online."""

    @property
    def is_exact(self) -> bool:
        """Whether all pairs were looked at."""
        return self.looked_at == self.total

    def share(self, kind: Kind) -> str:
        """How many have a path of this kind; of some only, in percent."""
        count = self.counts[kind]
        if self.is_exact or not count:
            return f"{count:,}"
        percent = round(100 * count / self.looked_at)
        return "<1%" if percent == 0 else ">99%" if percent == 100 and count < self.looked_at else f"{percent}%"


@dataclass(frozen=True, slots=True)
class Summary:
    """How one machine reaches its peers."""

    direct: int
    none: int
    unknown: int
    through: tuple[tuple[tuple[UUID, ...], int], ...]
    """The ways in use through others, and how many peers each leads to, the most first."""

    @property
    def transit(self) -> int:
        """How many peers it reaches through others."""
        return sum(count for _, count in self.through)


@dataclass(frozen=True, slots=True)
class Concern:
    """A machine that needs a look."""

    machine_id: UUID
    worry: Worry
    peers: tuple[UUID, ...] = ()
    """To which it has no path."""
    reason: str = ""
    """Why its BGP speaker fails."""


def tally(members: Sequence[UUID], online: frozenset[UUID], kind_of: Callable[[UUID, UUID], Kind]) -> Tally:
    """How the paths of a network are whose machines these are."""
    counts: Counter[Kind] = Counter()
    cut_off: dict[UUID, set[UUID]] = {}
    for one, other in spread_pairs(members, COUNTED):
        kind = kind_of(one, other)
        counts[kind] += 1
        if kind == "none" and one in online and other in online:
            cut_off.setdefault(one, set()).add(other)
            cut_off.setdefault(other, set()).add(one)
    return Tally(counts, counts.total(), full_mesh(len(members)), cut_off)


def summary(kinds: Iterable[tuple[UUID, Kind]], way_to: Callable[[UUID], Way]) -> Summary:
    """How a machine reaches its peers, given the kind of the way to each."""
    counts: Counter[Kind] = Counter()
    through: Counter[tuple[UUID, ...]] = Counter()
    for peer_id, kind in kinds:
        counts[kind] += 1
        if kind == "transit":
            through[way_to(peer_id).ways[0]] += 1
    return Summary(counts["direct"], counts["none"], counts["unknown"], tuple(through.most_common()))


def concerns(
    members: Sequence[UUID],
    online: frozenset[UUID],
    keyed: Iterable[UUID],
    found: Tally,
    bgp_failure: Callable[[UUID], str | None],
) -> list[Concern]:
    """The machines of a network that need a look, the worst first, each once; of two machines that do not reach each
    other, the one that fewer reach."""
    worried = {concern.machine_id: concern for concern in _cut_off(found.cut_off)}
    has_key = set(keyed)
    later: list[Concern] = []
    for machine_id in members:
        if machine_id in worried:
            continue
        if machine_id not in online:
            later.append(Concern(machine_id, "offline"))
        elif (reason := bgp_failure(machine_id)) is not None:
            worried[machine_id] = Concern(machine_id, "BGP failed", reason=reason)
        elif machine_id not in has_key:
            worried[machine_id] = Concern(machine_id, "no key")
    return [*worried.values(), *later]


def spread_pairs(members: Sequence[UUID], at_most: int) -> Iterator[tuple[UUID, UUID]]:
    """All pairs of these, or of more than `at_most` about so many that are spread evenly, always the same."""
    size, total = len(members), full_mesh(len(members))
    one = first = 0  # `first` is the number of the first pair that has `one`
    for number in range(0, total, max(1, -(-total // at_most))):
        while number >= first + size - 1 - one:
            first += size - 1 - one
            one += 1
        yield members[one], members[one + 1 + number - first]


def _cut_off(cut_off: dict[UUID, set[UUID]]) -> Iterator[Concern]:
    told: set[UUID] = set()
    for machine_id, peers in sorted(cut_off.items(), key=lambda item: (-len(item[1]), item[0])):
        if not peers <= told:
            told.add(machine_id)
            yield Concern(machine_id, "cut off", tuple(sorted(peers)))
