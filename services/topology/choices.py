"""What is chosen for each pair of a network, and which pairs must be chosen anew when a link changes. Pure.

Marked are all pairs whose ways may become others, and few more. For a pair with ways through one transit each, a link
matters if it is between an end and a machine that could be the transit. For one with longer ways or none, a link
between any two willing machines may matter, if it is near enough. So the cost of a link follows the pairs that the link
can matter to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from events.transit import MAX_HOPS
from services.topology.choice import Chosen, choose, cost
from services.topology.reach import UNREACHABLE, UNWILLING, Reach, Turn

Pair = tuple[int, int]
"""Two machines, the lower number first."""


def pair_of(one: int, other: int) -> Pair:
    """Two machines as a pair."""
    return (one, other) if one < other else (other, one)


class Choices:
    """The pairs of a network without a direct path: each is chosen for, or marked, or both."""

    def __init__(self, reach: Reach) -> None:
        self.held: dict[Pair, Chosen] = {}
        self.marked: set[Pair] = set()
        """The pairs to be chosen anew."""
        self._reach = reach
        self._loose: defaultdict[int, set[int]] = defaultdict(set)
        """For each machine the other ends of its pairs that no single transit joins."""
        self._short: set[Pair] = set()
        """The pairs with ways through two transits."""
        self._long: set[Pair] = set()
        """The pairs with a way through more, or with none although both ends reach transits."""
        self._on: defaultdict[int, set[Pair]] = defaultdict(set)
        """For each machine the pairs on whose ways through several transits it is, also as an end."""

    def turned(self, turn: Turn) -> None:
        """A pair's link changed."""
        one, other = turn.one, turn.other
        if UNREACHABLE in (turn.before, turn.after):
            self.marked.add(pair_of(one, other))
        if not self.held or not (turn.before or turn.after):
            return  # where nothing is chosen, all are marked
        if turn.before:
            self.marked |= self._on[one] & self._on[other]
        if turn.after:
            self._mark_served(one, other)
            self._mark_served(other, one)
            self._mark_joined(one, other)
        else:
            self._mark_lost(one, other)
            self._mark_lost(other, one)

    def will_changed(self, number: int) -> None:
        """A member is a transit more gladly or less than before: that is done by hand, and rarely."""
        near = self._reach.near[number].keys()
        for end in near:
            self._mark(end, self._reach.far[end] & near)
            self._mark(end, self._loose[end])
        self.marked |= self._short | self._long | self._on[number]

    def choose(self) -> tuple[Pair, Chosen | None, Chosen | None]:
        """Choose for one of the marked pairs: it, and what is chosen for it before and after; None where its ends reach
        each other, or where that is not known."""
        pair = self.marked.pop()
        one, other = pair
        before = self.held.pop(pair, None)
        if before is not None:
            self._take_out(pair, before)
        if other not in self._reach.far[one]:
            return pair, before, None
        after = choose(self._reach, one, other)
        self.held[pair] = after
        self._put_in(pair, after)
        return pair, before, after

    def _mark(self, end: int, peers: Iterable[int]) -> None:
        self.marked.update(pair_of(end, peer) for peer in peers)

    def _mark_lost(self, transit: int, end: int) -> None:
        """`transit` reaches `end` no more: mark the pairs that went through it alone."""
        for peer in self._reach.far[end] & self._reach.near[transit].keys():
            pair = pair_of(end, peer)
            if pair not in self.marked and (transit,) in self.held[pair].ways:
                self.marked.add(pair)

    def _mark_served(self, transit: int, end: int) -> None:
        """`transit` reaches `end`, in so many milliseconds: mark the pairs for which it is, or was, good enough."""
        if self._reach.ranks[transit] >= UNWILLING:
            return
        for peer in self._reach.far[end] & self._reach.near[transit].keys():
            pair = pair_of(end, peer)
            if pair in self.marked:
                continue
            chosen = self.held[pair]
            is_better = chosen.limit is None or cost(self._reach, end, peer, transit) < chosen.limit
            if is_better or (transit,) in chosen.ways:
                self.marked.add(pair)

    def _mark_joined(self, one: int, other: int) -> None:
        """Two machines reach each other: mark the pairs that may get a better way through several transits."""
        ranks = self._reach.ranks
        if ranks[other] < UNWILLING:
            self._mark(one, self._loose[one])
        if ranks[one] < UNWILLING:
            self._mark(other, self._loose[other])
        if max(ranks[one], ranks[other]) >= UNWILLING:
            return
        here, there = self._reach.near[one], self._reach.near[other]
        self.marked.update(
            (first, last)
            for first, last in self._short
            if (first in here and last in there) or (first in there and last in here)
        )
        if self._long:
            self._mark_long(self._distances(one), self._distances(other))

    def _mark_long(self, here: dict[int, int], there: dict[int, int]) -> None:
        beyond = MAX_HOPS + 1
        for first, last in self._long:
            hops = (
                here.get(first, beyond) + there.get(last, beyond),
                there.get(first, beyond) + here.get(last, beyond),
            )
            if min(hops) <= MAX_HOPS:
                self.marked.add((first, last))

    def _distances(self, start: int) -> dict[int, int]:
        """How many links away the machines are, through willing ones, that are less than `MAX_HOPS` away."""
        near, ranks = self._reach.near, self._reach.ranks
        found, edge = {start: 0}, {start}
        for distance in range(1, MAX_HOPS):
            willing = [near[number].keys() for number in edge if ranks[number] < UNWILLING]
            edge = set().union(*willing) - found.keys()
            found |= dict.fromkeys(edge, distance)
        return found

    def _put_in(self, pair: Pair, chosen: Chosen) -> None:
        one, other = pair
        length = len(chosen.ways[0]) if chosen.ways else 0
        if length == 1:
            return
        self._loose[one].add(other)
        self._loose[other].add(one)
        if length == 2:
            self._short.add(pair)
        elif length or (self._reaches_transits(one) and self._reaches_transits(other)):
            self._long.add(pair)
        for number in {number for way in chosen.ways for number in (one, *way, other)}:
            self._on[number].add(pair)

    def _take_out(self, pair: Pair, chosen: Chosen) -> None:
        if chosen.ways and len(chosen.ways[0]) == 1:
            return
        one, other = pair
        self._loose[one].discard(other)
        self._loose[other].discard(one)
        self._short.discard(pair)
        self._long.discard(pair)
        for number in {number for way in chosen.ways for number in (one, *way, other)}:
            self._on[number].discard(pair)

    def _reaches_transits(self, number: int) -> bool:
        return any(self._reach.ranks[peer] < UNWILLING for peer in self._reach.near[number])
