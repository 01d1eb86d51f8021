"""What may happen to a mesh at random, and who must reach whom then, by theory. Pure."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import combinations

from deploy.lab.theory import CARRIER, GUARDED, HOME, OFFICE, OPEN, SIX, WALLED, Mapping, Place, Spot, Way, predict
from events.transit import MAX_HOPS

HUB = "hub"
"""In the open; the one machine that the guarded may speak to. It keeps its address, which firewalls know it by."""

_LAN = "family"
"""A home that several machines share."""
_FEWEST = 5
"""So many stay members."""
_MOST_ASLEEP, _MOST_CUTS = 2, 4
"""So many machines are without link or power at once, and so many pairs are cut."""


class Kind(Enum):
    """What happens to a machine, in words."""

    ARRIVE = "is new, and joins"
    JOIN = "joins"
    LEAVE = "leaves"
    MOVE = "gets another address"
    MOVE_ROUTER = "is behind a router that gets another address"
    CUT = "can exchange nothing with"
    MEND = "can exchange packets again with"
    UNPLUG = "loses its link"
    PLUG = "has its link again"
    FAIL = "loses its power"
    REVIVE = "has power again"


_WEIGHTS = {Kind.ARRIVE: 3, Kind.PLUG: 3, Kind.REVIVE: 3, Kind.JOIN: 2, Kind.MEND: 2, Kind.FAIL: 2}
"""How much more often than the others these happen, where they may."""


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that happens."""

    kind: Kind
    name: str
    other: str = ""
    """The other end of a link that is cut or mended."""
    place: Place | None = None
    """Where a new machine is."""

    def __str__(self) -> str:
        where = f" at a place that is {self.place.name}" if self.place else ""
        return f"{self.name} {self.kind.value} {self.other}".rstrip() + where


class Turmoil:
    """A mesh as it is by what has happened. Steps change it by `note`, and only so."""

    def __init__(self, chance: random.Random, most: int) -> None:
        """There will be at most so many machines."""
        self.spots: dict[str, Spot] = {}
        self.members: set[str] = set()
        self.dark: set[str] = set()
        """Those without power."""
        self.unplugged: set[str] = set()
        self.cuts: set[tuple[str, str]] = set()
        """Pairs of machines; what is cut is cut between their sites."""
        self._chance = chance
        self._most = most
        self._arrived = 0

    def site(self, name: str) -> str:
        """What machines behind one router have in common: others see them at its address."""
        return self.spots[name].lan or name

    def can_speak(self, one: str, other: str) -> bool:
        """Whether packets can go straight between two machines. To punch, those who are translated must have been seen
        by somebody who lets in what nobody asked for: else nobody knows where from their packets come."""
        if not self._is_open_between(one, other):
            return False
        way = predict(self.spots[one], self.spots[other])
        return way is Way.DIRECT or (way is Way.PUNCHED and self._is_seen(one) and self._is_seen(other))

    def _is_open_between(self, one: str, other: str) -> bool:
        sites = {self.site(one), self.site(other)}
        is_cut = any({self.site(a), self.site(b)} == sites for a, b in self.cuts)
        return {one, other} <= self.awake and not is_cut

    def _is_seen(self, name: str) -> bool:
        if self.spots[name].place.mapping is Mapping.NONE:
            return True
        return any(4 in self.spots[each].place.families and self._is_open_between(name, each) for each in self.seers())

    def seers(self) -> set[str]:
        """The members in the open, where they can be reached unasked."""
        return {name for name in self.members & self.awake if not self.spots[name].place.only_answers}

    def connected(self) -> set[tuple[str, str]]:
        """The pairs that must reach each other, straight or through transits, in alphabetical order."""
        members = sorted(self.members)
        near = {one: {other for other in members if other != one and self.can_speak(one, other)} for one in members}
        return {pair_of(one, other) for one in members for other in _within(near, one)}

    def transits(self) -> list[str]:
        """The machines through which a pair may go that cannot go straight."""
        parted = [pair for pair in self.connected() if not self.can_speak(*pair)]
        return [
            name
            for name in sorted(self.members)
            if any(name not in pair and all(self.can_speak(name, end) for end in pair) for pair in parted)
        ]

    @property
    def awake(self) -> set[str]:
        """The machines that have a link and power."""
        return self.spots.keys() - self.dark - self.unplugged

    def next(self) -> Step:
        """What happens next: each kind that may happen as likely as its weight says."""
        possible = {kind: steps for kind, find in self._finders().items() if (steps := sorted(find(), key=str))}
        kinds = list(possible)
        kind = self._chance.choices(kinds, [_WEIGHTS.get(kind, 1) for kind in kinds])[0]
        return self._chance.choice(possible[kind])

    def _finders(self) -> dict[Kind, Callable[[], Iterator[Step]]]:
        return {
            Kind.ARRIVE: self._arrivals,
            Kind.JOIN: lambda: (Step(Kind.JOIN, name) for name in self.awake - self.members),
            Kind.LEAVE: self._leavings,
            Kind.MOVE: lambda: (Step(Kind.MOVE, name) for name in self.awake - {HUB}),
            Kind.MOVE_ROUTER: self._router_moves,
            Kind.CUT: self._possible_cuts,
            Kind.MEND: self._mendings,
            Kind.UNPLUG: self._unpluggings,
            Kind.PLUG: lambda: (Step(Kind.PLUG, name) for name in self.unplugged),
            Kind.FAIL: self._failures,
            Kind.REVIVE: lambda: (Step(Kind.REVIVE, name) for name in self.dark),
        }

    def _arrivals(self) -> Iterator[Step]:
        if len(self.spots) < self._most:
            for place in (OPEN, HOME, OFFICE, CARRIER, WALLED, GUARDED, SIX):
                yield Step(Kind.ARRIVE, f"{place.name}-{self._arrived}", place=place)

    def _leavings(self) -> Iterator[Step]:
        if len(self.members) > _FEWEST:
            yield from (Step(Kind.LEAVE, name) for name in self._dispensable(self.members))

    def _router_moves(self) -> Iterator[Step]:
        for name in self.awake:
            if self.spots[name].place.mapping is not Mapping.NONE:
                yield Step(Kind.MOVE_ROUTER, name)

    def _possible_cuts(self) -> Iterator[Step]:
        if len(self.cuts) < _MOST_CUTS:
            for one, other in combinations(sorted(self.members), 2):
                if self.site(one) != self.site(other) and self.can_speak(one, other):
                    yield Step(Kind.CUT, one, other)

    def _mendings(self) -> Iterator[Step]:
        """Not of a cut that leaves a pair no way at all: ends that find none try again ever less often, at last every
        five minutes, and a soak is not to wait for that."""
        connected = self.connected()
        for one, other in self.cuts:
            if pair_of(one, other) in connected or not {one, other} <= self.members & self.awake:
                yield Step(Kind.MEND, one, other)

    def _unpluggings(self) -> Iterator[Step]:
        if len(self.dark | self.unplugged) < _MOST_ASLEEP:
            yield from (Step(Kind.UNPLUG, name) for name in self._dispensable(self.awake & self.members))

    def _failures(self) -> Iterator[Step]:
        if len(self.dark | self.unplugged) < _MOST_ASLEEP:
            yield from (Step(Kind.FAIL, name) for name in self._dispensable(self.transits()))

    def _dispensable(self, names: Iterable[str]) -> Iterator[str]:
        """Without those who alone see where others' packets come from: else hardly anybody would reach anybody."""
        seers = {name for name in self.seers() if 4 in self.spots[name].place.families}
        return (name for name in names if seers != {name})

    def arrival(self, name: str, place: Place) -> tuple[str, str]:
        """For a machine that is about to come: the network that it shares with others, and the one machine that it may
        exchange UDP with; "" where there is none."""
        lan = _LAN if place is HOME and self._chance.random() < 0.5 else ""
        return lan, HUB if place.limited else ""

    def note(self, step: Step, spot: Spot | None = None) -> None:
        """A step was taken; with where the machine is, if that is new."""
        if spot is not None:
            self.spots[step.name] = spot
        match step.kind:
            case Kind.ARRIVE:
                self._arrived += 1
                self.members.add(step.name)
            case Kind.JOIN:
                self.members.add(step.name)
            case Kind.LEAVE:
                self.members.discard(step.name)
            case Kind.CUT:
                self.cuts.add((step.name, step.other))
            case Kind.MEND:
                self.cuts.discard((step.name, step.other))
            case Kind.UNPLUG:
                self.unplugged.add(step.name)
            case Kind.PLUG:
                self.unplugged.discard(step.name)
            case Kind.FAIL:
                self.dark.add(step.name)
            case Kind.REVIVE:
                self.dark.discard(step.name)
            case Kind.MOVE | Kind.MOVE_ROUTER:
                pass


def pair_of(one: str, other: str) -> tuple[str, str]:
    """Two machines as a pair, in alphabetical order."""
    return (one, other) if one < other else (other, one)


def _within(near: dict[str, set[str]], start: str) -> set[str]:
    """Who is reached from a machine through at most `MAX_HOPS` others."""
    found, edge = {start}, {start}
    for _ in range(MAX_HOPS + 1):
        edge = {other for one in edge for other in near[one]} - found
        found |= edge
    return found - {start}
