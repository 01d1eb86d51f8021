"""How a network's paths are, in numbers, and which machines need a look."""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import combinations
from uuid import UUID

import pytest

from services.gateway import tally as module
from services.gateway.tally import Tally, concerns, spread_pairs, summary, tally
from services.gateway.ways import Kind
from tests.support.reach_net import Net, direct, unreachable

IDS = [UUID(int=number) for number in range(1, 40)]


@pytest.mark.parametrize("size", range(8))
def test_few_pairs_are_all_looked_at(size: int) -> None:
    assert list(spread_pairs(IDS[:size], 28)) == list(combinations(IDS[:size], 2))


@pytest.mark.parametrize("at_most", [1, 7, 100, 740])
def test_of_many_pairs_some_are_looked_at_that_are_spread_evenly(at_most: int) -> None:
    found, every = list(spread_pairs(IDS, at_most)), list(combinations(IDS, 2))
    assert len(found) <= at_most
    step = -(-len(every) // at_most)
    assert found == every[::step]


def test_paths_are_counted_by_kind() -> None:
    net = Net(4)
    one, two, three, four = net.machines
    for here, there in ((one, two), (two, one), (one, three), (three, one)):
        net.report(here, direct(there))
    for here, there in ((two, three), (three, two), (one, four), (four, one)):
        net.report(here, unreachable(there))
    net.choose(two, three, (one,))
    kind_of = partial(net.ways.kind, net.reach, net.id)
    found = tally(net.machines, frozenset({one, two, three}), kind_of)
    assert found.counts == {"direct": 2, "transit": 1, "none": 1, "unknown": 2}
    assert found.is_exact
    assert found.total == 6
    assert found.cut_off == {}, "that one does not reach who is offline is no surprise"
    everybody = tally(net.machines, frozenset(net.machines), kind_of)
    assert everybody.cut_off == {one: {four}, four: {one}}
    mine = summary(net.ways.kinds(net.reach, net.id, two, net.machines), partial(net.way, two))
    assert (mine.direct, mine.transit, mine.none, mine.unknown) == (1, 1, 0, 1)
    assert mine.through == (((one,), 1),)


def test_the_kinds_of_all_ways_are_those_of_each() -> None:
    net = Net(5)
    one, two, three, four, _ = net.machines
    net.report(one, direct(two), direct(three), unreachable(four))
    net.report(two, direct(one))
    net.report(three, unreachable(one))
    net.choose(one, four, (two,))
    for machine in net.machines:
        expected = {peer: net.way(machine, peer).kind for peer in net.machines if peer != machine}
        assert dict(net.ways.kinds(net.reach, net.id, machine, net.machines)) == expected


def test_more_pairs_than_are_counted_are_told_in_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "COUNTED", 200)
    kinds: dict[UUID, Kind] = {IDS[0]: "none"}
    found = tally(IDS, frozenset(), lambda one, other: kinds.get(one, "direct"))
    assert not found.is_exact
    assert (found.looked_at, found.total) == (186, 741)
    assert (found.share("direct"), found.share("none"), found.share("transit")) == ("95%", "5%", "0")
    few = Tally(Counter({"direct": 1999, "none": 1}), 2000, 10_000, {})
    assert (few.share("direct"), few.share("none")) == (">99%", "<1%")


def test_who_reaches_nobody_is_named_and_not_everybody_else() -> None:
    one, two, three, four = IDS[:4]
    cut_off = {one: {two}, two: {one, three, four}, three: {two}, four: {two}}
    found = Tally(Counter(), 6, 6, cut_off)
    named = concerns(IDS[:4], frozenset(IDS[:4]), IDS[:4], found, lambda _: None)
    assert [(each.machine_id, each.worry, each.peers) for each in named] == [(two, "cut off", (one, three, four))]


def test_each_machine_is_named_once_for_the_worst() -> None:
    one, two, three, four = IDS[:4]
    found = Tally(Counter(), 6, 6, {one: {two}, two: {one}})
    failures = {one: "no BIRD", two: "no BIRD"}
    named = concerns(IDS[:4], frozenset({one, two, three}), [one, two], found, failures.get)
    assert [(each.machine_id, each.worry, each.reason) for each in named] == [
        (one, "cut off", ""),
        (two, "BGP failed", "no BIRD"),
        (three, "no key", ""),
        (four, "offline", ""),
    ]
