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
    lot = _lot(reach.keys[one] ^ reach.keys[other], reach.keys[transit])
    return _plain_cost(reach, one, other, transit) << 64 | lot


def _plain_cost(reach: Reach, one: int, other: int, transit: int) -> int:
    links = reach.near[transit]
    return reach.ranks[transit] << 16 | links[one] + links[other]


def _best_transits(reach: Reach, one: int, other: int) -> list[tuple[int, int]]:
    """The cheapest transits that reach both, each with its cost."""
    ranks = reach.ranks
    shared = reach.near[one].keys() & reach.near[other].keys()
    willing = [(_plain_cost(reach, one, other, number), number) for number in shared if ranks[number] < UNWILLING]
    if len(willing) > ALTERNATIVES:
        most = sorted(plain for plain, _ in willing)[ALTERNATIVES - 1]
        willing = [entry for entry in willing if entry[0] <= most]
    return sorted((cost(reach, one, other, number), number) for _, number in willing)[:ALTERNATIVES]


def _chain(reach: Reach, one: int, other: int, most: int, without: set[int]) -> Way | None:
    """The best of the ways with the fewest transits, at least two and at most `most`, and none of `without`."""
    if len(reach.near[one]) > len(reach.near[other]):
        way = _chain(reach, other, one, most, without)
        return way and way[::-1]
    near, ranks = reach.near, reach.ranks
    goals = {last: _step(reach, last, other) for last in near[other] if ranks[last] < UNWILLING and last not in without}
    reached = {one: 0}
    came_from: dict[int, int] = {}
    seen = {one, other} | without
    for hops in range(1, most + 1):
        if not goals or not reached:
            return None
        if hops > 1 and (last := _arrival(reach, reached, goals, came_from)) is not None:
            return _way_back(came_from, last, one)
        reached = _further(reach, reached, seen, came_from) if hops < most else {}
    return None


def _arrival(reach: Reach, reached: dict[int, int], goals: dict[int, int], came_from: dict[int, int]) -> int | None:
    """The goal to which the best way leads by one more step from what is reached, if there is one."""
    best: tuple[int, int, int] | None = None
    for number, so_far in reached.items():
        for last in reach.near[number].keys() & goals.keys():
            found = (so_far + _step(reach, number, last) + reach.ranks[last] * _RANK + goals[last], last, number)
            if best is None or found < best:
                best = found
    if best is None:
        return None
    _, last, number = best
    came_from[last] = number
    return last


def _further(reach: Reach, reached: dict[int, int], seen: set[int], came_from: dict[int, int]) -> dict[int, int]:
    """The willing machines that are first reached by one more step, each with the cost of its best way."""
    found: dict[int, int] = {}
    for number, so_far in reached.items():
        for following in reach.near[number].keys() - seen:
            if reach.ranks[following] >= UNWILLING:
                continue
            spent = so_far + _step(reach, number, following) + reach.ranks[following] * _RANK
            if following not in found or spent < found[following]:
                found[following], came_from[following] = spent, number
    seen.update(found)
    return found


def _way_back(came_from: dict[int, int], last: int, start: int) -> Way:
    way = [last]
    while (before := came_from[way[-1]]) != start:
        way.append(before)
    return tuple(reversed(way))


def _step(reach: Reach, one: int, other: int) -> int:
    """What a link costs on a way through several transits."""
    return reach.near[one][other] * _RTT + _lot(reach.keys[one] ^ reach.keys[other], 0)


def _lot(seed: int, key: int) -> int:
    """A number of 64 bits that follows from two, as good as chance (the finalizer of SplitMix64)."""
    mixed = (seed * 0x9E3779B97F4A7C15 + key) & _BITS
    mixed = ((mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9) & _BITS
    mixed = ((mixed ^ mixed >> 27) * 0x94D049BB133111EB) & _BITS
    return mixed ^ mixed >> 31
