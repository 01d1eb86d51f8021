"""The price of a change in who reaches whom: ways for the pairs to which it can matter, beside ways for all pairs.

A third of the machines is behind translators that cannot be punched through, so that a tenth of the pairs has no direct
path. Of 1,000 machines every pair is known. Of 10,000 that would be 50 million pairs, more than fit here: each machine
knows the 200 that are nearest to it, so that a million pairs is known. A machine has the same part of all links as it
would have, and the pairs of two neighbours have as many transits to choose from as they have neighbours in common.
Round trips follow from where on a map a machine is.
"""

from __future__ import annotations

import gc
import random
import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import product
from math import dist
from pathlib import Path
from statistics import median
from uuid import UUID

from benchmarks.result import Result
from events.records import LinkState, PathRecord, ReachEvent
from events.transit import rtt_step
from services.topology.choice import choose
from services.topology.choices import pair_of
from services.topology.paths_core import Paths, Wanted
from services.topology.reach import Reach

AIM = 1 / 20
LINKS, TRANSITS = 200, 5
"""So many links are lost and come back, and so many transits."""
SAMPLE = 10_000
"""Ways are chosen for so many pairs where they are chosen for all, and the time of all follows from theirs."""

_HARD = 0.32
"""The part of the machines of which no two reach each other: a tenth of the pairs."""
_ACROSS = 100.0
"""Milliseconds from one side of the map to the other."""
_PAIRS_AT_ONCE = 500
_NETWORK = UUID(int=1, version=4)
_BOOT = UUID(int=2, version=4)
_EARLY = datetime(2026, 1, 1, tzinfo=UTC)

Link = tuple[int, int, int | None]
"""Two machines, and the round trip in milliseconds, or None where there is no direct path."""


async def run(_: Path) -> list[Result]:
    """A link lost and back, and a transit lost, at 1,000 and 10,000 machines."""
    results = []
    for size, peers in ((1_000, 999), (10_000, 200)):
        links = _links(size, peers)
        floor = _choose_for_all(size, links)
        network = Network(size, links)
        with _no_garbage():
            of_link, of_transit = network.lose_links(), network.lose_transits()
        results += [
            Result(f"ways at {size:,} machines, a link lost or back", of_link * 1e3, floor * 1e3, "at most", AIM, "ms"),
            Result(f"ways at {size:,} machines, a transit lost", of_transit * 1e3, floor * 1e3, "at most", AIM, "ms"),
        ]
    return results


class Network:
    """Machines that report their links, and the records that follow."""

    def __init__(self, size: int, links: Sequence[Link]) -> None:
        self._links = links
        self._ids = _ids(size)
        self._sequence = 0
        self._paths = Paths()
        self._uses: Counter[UUID] = Counter()
        """For each machine the ways through it, from either end."""
        for machine_id in self._ids:
            self._paths.member(_NETWORK, machine_id, "auto")
        for link in links:
            self._tell(_report(self._ids, link))
        self._settle()

    def lose_links(self) -> float:
        """Seconds until the records are right again after one end says that it has lost its link to another machine, or
        that it is back: the median of many."""
        times = []
        for one, other, rtt in random.Random(1).sample([link for link in self._links if link[2] is not None], LINKS):
            times += [self._after([_report(self._ids, (one, other, now))]) for now in (None, rtt)]
        return median(times)

    def lose_transits(self) -> float:
        """Seconds until the records are right again after all say that they have lost their link to a transit: the
        median of those that are on the most ways. Each is back before the next is lost."""
        times = []
        for transit, _ in self._uses.most_common(TRANSITS):
            links = [link for link in self._links if transit in (self._ids[link[0]], self._ids[link[1]])]
            times.append(self._after([_report(self._ids, (one, other, None)) for one, other, _ in links]))
            self._after([_report(self._ids, link) for link in links])
        return median(times)

    def _after(self, events: list[ReachEvent]) -> float:
        start = time.perf_counter()
        for event in events:
            self._tell(event)
        self._settle()
        return time.perf_counter() - start

    def _tell(self, event: ReachEvent) -> None:
        self._sequence += 1
        self._paths.link(self._sequence, event)

    def _settle(self) -> None:
        while not self._paths.is_settled:
            for _, before, after in self._paths.drain(_PAIRS_AT_ONCE):
                self._uses.subtract(_transits(before))
                self._uses.update(_transits(after))


def _choose_for_all(size: int, links: Sequence[Link]) -> float:
    """Seconds to choose ways for every pair that has no direct path, when it is known already who reaches whom."""
    reach, ids = Reach(), _ids(size)
    for machine_id in ids:
        deque(reach.enter(machine_id, "auto"), 0)
    for place, link in enumerate(links, start=1):
        deque(reach.report(place, ids[link[0]], _report(ids, link).link), 0)
    pairs = [link[:2] for link in links if link[2] is None]
    tried = pairs[:SAMPLE]
    with _no_garbage():
        start = time.perf_counter()
        chosen = {pair: choose(reach, *pair) for pair in tried}
        took = time.perf_counter() - start
    assert all(each.ways for each in chosen.values())
    return took * len(pairs) / len(tried)


def _links(size: int, peers: int) -> list[Link]:
    """Each machine with so many peers, in any order: those that come before and after it on a ring."""
    chance = random.Random(size)
    spots = [(chance.random(), chance.random()) for _ in range(size)]
    hard = {number for number in range(size) if chance.random() < _HARD}
    ring = product(range(size), range(1, (peers + 1) // 2 + 1))
    links: list[Link] = []
    for one, other in sorted({pair_of(one, (one + further) % size) for one, further in ring}):
        rtt = rtt_step(_ACROSS * dist(spots[one], spots[other]))
        links.append((one, other, None if {one, other} <= hard else rtt))
    chance.shuffle(links)
    return links


def _ids(size: int) -> list[UUID]:
    """As many machines, the same ones each time."""
    chance = random.Random(size)
    return [UUID(int=chance.getrandbits(128), version=4) for _ in range(size)]


def _report(ids: Sequence[UUID], link: Link) -> ReachEvent:
    """What the first machine of a link says of it."""
    one, other, rtt = link
    state = LinkState(peer_id=ids[other], state="unreachable" if rtt is None else "direct", rtt=rtt)
    return ReachEvent(network_id=_NETWORK, machine_id=ids[one], boot_id=_BOOT, counter=1, time=_EARLY, link=state)


def _transits(wanted: Wanted) -> Iterator[UUID]:
    if isinstance(wanted, PathRecord):
        for way in wanted.ways:
            yield from way


@contextmanager
def _no_garbage() -> Iterator[None]:
    """In this block what was there before is no matter for the garbage collection."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
