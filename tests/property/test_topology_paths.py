"""The derivation of paths over random histories of members and reports."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from events.records import PathRecord
from events.transit import ALTERNATIVES, MAX_HOPS
from tests.support.links import Forwarding, Model, machine, random_step


def _model(seed: int, count: int, length: int, density: float) -> Model:
    chance, model = random.Random(seed), Model()
    machines = [machine(number) for number in range(count)]
    for each in machines:
        model.enter(each, chance.choice(("auto", "auto", "always", "never")))
    for _ in range(length):
        random_step(model, chance, machines, density)
    model.drain()
    return model


models = st.builds(
    _model, st.integers(0, 2**32), st.integers(3, 8), st.integers(0, 120), st.sampled_from([0.3, 0.5, 0.8])
)


@given(models, st.randoms(use_true_random=False))
def test_whatever_the_order_the_same_comes_of_it_as_from_scratch(model: Model, chance: random.Random) -> None:
    assert model.records == model.afresh(chance)


@given(models)
def test_every_pair_without_a_direct_path_has_its_ways_and_no_other_pair_has_any(model: Model) -> None:
    parted = model.parted()
    subjects = {
        (record.machine_id, record.peer_id) for record in model.records.values() if isinstance(record, PathRecord)
    }
    assert subjects == {*parted, *(pair[::-1] for pair in parted)}
    for one, other in parted:
        ways, fewest = model.ways(one, other), model.fewest(one, other)
        assert ways is not None
        assert bool(ways) == bool(fewest), "who is joined by a chain gets a way, and nobody else"
        assert all(len(way) == fewest <= MAX_HOPS for way in ways)


@given(models)
def test_the_best_way_comes_first_and_none_uses_what_it_must_not(model: Model) -> None:
    for one, other in model.parted():
        ways = model.ways(one, other) or ()
        for way in ways:
            assert model.holds((one, *way, other)), "every link on it is there"
            assert all(model.members[each] != "never" for each in way)
            assert len({one, other, *way}) == len(way) + 2
        if ways:
            possible = model.possible(one, other, len(ways[0]))
            burdens = [model.burden(one, way, other) for way in possible]
            assert model.burden(one, ways[0], other) == min(burdens)
            assert [model.burden(one, way, other) for way in ways] == sorted(
                model.burden(one, way, other) for way in ways
            )
            disjoint = [way for way in possible if not set(way) & set(ways[0])]
            if disjoint and len(ways[0]) <= 2:
                assert len(ways) == ALTERNATIVES
                assert model.burden(one, ways[1], other) == min(model.burden(one, way, other) for way in disjoint)


@given(models)
def test_both_ends_have_the_same_ways_and_alternatives_share_no_transit(model: Model) -> None:
    for one, other in model.parted():
        ways = model.ways(one, other) or ()
        assert model.ways(other, one) == tuple(way[::-1] for way in ways)
        used = [each for way in ways for each in way]
        assert len(used) == len(set(used))
        assert len(ways) <= ALTERNATIVES


@given(models)
def test_packets_arrive_on_every_way_and_no_machine_has_an_address_twice(model: Model) -> None:
    forwarding = Forwarding(model)
    for record in model.records.values():
        if isinstance(record, PathRecord):
            for way in record.ways:
                forwarding.send(record.machine_id, way, record.peer_id)


@given(models, st.randoms(use_true_random=False))
def test_who_leaves_moves_only_what_went_through_him(model: Model, chance: random.Random) -> None:
    if not model.members:
        return
    leaving = chance.choice(sorted(model.members))
    before = {pair: model.ways(*pair) for pair in model.parted()}
    model.leave(leaving)
    changed = {change.subject for change in model.drain()}
    for (one, other), ways in before.items():
        if leaving not in (one, other) and not any(leaving in way for way in ways or ()):
            assert model.ways(one, other) == ways
            assert not [subject for subject in changed if f"{one}.path." in subject and subject.endswith(str(other))]


@settings(max_examples=30)
@given(models, st.integers(1, 5), st.randoms(use_true_random=False))
def test_what_is_told_in_small_portions_comes_to_the_same(model: Model, limit: int, chance: random.Random) -> None:
    machines = [machine(number) for number in range(8)]
    for _ in range(30):
        random_step(model, chance, machines, 0.5)
    model.drain(limit)
    assert model.records == model.afresh(chance)


@given(models)
def test_a_network_that_is_gone_leaves_nothing(model: Model) -> None:
    from tests.support.links import NETWORK

    model.paths.network_gone(NETWORK)
    assert model.drain() == []
    assert all(model.paths.wanted(subject) is None for subject in model.records)
    model.records.clear()
    members, model.members = model.members, {}
    for each, transit in members.items():
        model.enter(each, transit)
    model.drain()
    assert model.records == model.afresh(random.Random(1)), "as if it had never been away"
