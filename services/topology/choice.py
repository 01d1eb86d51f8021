"""Which ways through transit machines a pair gets that has no direct path. Pure.

One transit is better than several, one that is `always` willing better than others, then the lower sum of round trips
counts. Among equals with one transit, each pair draws its own lot (*rendezvous hashing*), so they spread, and the loss
of a machine moves nothing but what went through it.

Ways through several transits draw lots by link, the same for all pairs. So the best way is one alone, any part of it is
the best way too, and it is the same from both ends: whichever ways lead to a transit address through some machine, they
go on to the same next one. That holds for alternatives through two transits too, since they end with another transit,
and so in another address; through more, where it would not, there is no alternative.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from events.transit import ALTERNATIVES, MAX_HOPS
from services.topology.reach import UNWILLING, Reach

Way = tuple[int, ...]

_BITS = (1 << 64) - 1
_RTT = 1 << 70
_RANK = 1 << 100


class Chosen(NamedTuple):
    """The ways of a pair, in order, from its first machine to its second."""

    ways: tuple[Way, ...]
    limit: int | None
    """The cost of the last way where a transit must cost less to be one of them; None where any would be."""


def choose(reach: Reach, one: int, other: int) -> Chosen:
    """The ways from `one` to `other`."""
    best = _best_transits(reach, one, other)
    if best:
        limit = best[-1][0] if len(best) == ALTERNATIVES else None
        return Chosen(tuple((transit,) for _, transit in best), limit)
    first = _chain(reach, one, other, MAX_HOPS, set())
    ways = [first] if first else []
    while ways and len(ways) < ALTERNATIVES and len(ways[0]) == 2:
        further = _chain(reach, one, other, 2, {transit for way in ways for transit in way})
        if not further:
            break
        ways.append(further)
    return Chosen(tuple(ways), None)


def cost(reach: Reach, one: int, other: int, transit: int) -> int:
    """What a transit that reaches both costs the pair: the less, the better. No two cost the same, but by a miracle."""
    links = reach.near[transit]
    plain = _plain_cost(reach.ranks[transit], links[one] + links[other])
    return plain << 64 | _lot(reach.keys[one] ^ reach.keys[other], reach.keys[transit])


def _plain_cost(rank: int, rtt: int) -> int:
    return rank << 16 | rtt


def _best_transits(reach: Reach, one: int, other: int) -> list[tuple[int, int]]:
    """The cheapest transits that reach both, each with its cost."""
    ranks, keys, here, there = reach.ranks, reach.keys, reach.near[one], reach.near[other]
    equals: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
    for number in here.keys() & there.keys():
        if ranks[number] < UNWILLING:
            equals[ranks[number], here[number] + there[number]].append(number)
    # Lots are drawn only among those that may be taken: round trips come in few steps, so that there are many equals.
    best: list[tuple[int, int]] = []
    for rank, rtt in sorted(equals):
        if len(best) >= ALTERNATIVES:
            break
        plain, seed = _plain_cost(rank, rtt) << 64, keys[one] ^ keys[other]
        best += sorted((plain | _lot(seed, keys[number]), number) for number in equals[rank, rtt])
    return best[:ALTERNATIVES]


def _chain(reach: Reach, one: int, other: int, most: int, without: set[int]) -> Way | None:
    """The best of the ways with the fewest transits, at least two and at most `most`, and none of `without`."""
    if len(reach.near[one]) > len(reach.near[other]):
        way = _chain(reach, other, one, most, without)
        return way and way[::-1]
    around = reach.around(one)
    for hops in range(2, min(most, len(around)) + 1):
        stages = [stage - without for stage in around[:hops]]
        stages[-1] &= reach.near[other].keys()
        # Back from the end: of each stage only what leads on is looked at.
        for place in range(hops - 2, -1, -1):
            leading: set[int] = set().union(*(reach.near[number].keys() for number in stages[place + 1]))
            stages[place] &= leading
        if stages[0]:
            return _cheapest(reach, one, stages, other)
    return None


def _cheapest(reach: Reach, one: int, stages: list[set[int]], other: int) -> Way:
    """The best way that goes through one transit of each stage."""
    best: dict[int, tuple[int, Way]] = {one: (0, ())}
    for stage in stages:
        best = {
            number: min(
                (
                    best[before][0] + _step(reach, before, number) + reach.ranks[number] * _RANK,
                    (*best[before][1], number),
                )
                for before in best.keys() & reach.near[number].keys()
            )
            for number in stage
            if not best.keys().isdisjoint(reach.near[number])
        }
    return min((spent + _step(reach, last, other), way) for last, (spent, way) in best.items())[1]


def _step(reach: Reach, one: int, other: int) -> int:
    """What a link costs on a way through several transits."""
    return reach.near[one][other] * _RTT + _lot(reach.keys[one] ^ reach.keys[other], 0)


def _lot(seed: int, key: int) -> int:
    """A number of 64 bits that follows from two, as good as chance (the finalizer of SplitMix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + key) & _BITS
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _BITS
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _BITS
    return mixed ^ mixed >> 31
