"""The choice of ways: the rules one by one, and what they cost."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from events.subjects import path
from events.transit import RTT_STEPS
from services.topology.paths_core import Paths
from tests.support.links import NETWORK, Model, drained, machine, report

A, B, T, U, V, W = (machine(number) for number in range(6))


@pytest.fixture
def model() -> Model:
    model = Model()
    for each in (A, B, T, U, V, W):
        model.enter(each, "auto")
    return model


def linked(model: Model, *links: tuple[UUID, UUID, int | None]) -> None:
    for one, other, rtt in links:
        model.say(one, other, rtt)
    model.drain()


def test_nothing_is_said_of_a_pair_before_anybody_reports_it(model: Model) -> None:
    linked(model, (A, T, 5), (T, B, 5))
    assert model.records == {}


def test_one_end_s_word_is_enough_for_no_path_and_also_for_a_path_where_the_other_is_silent(model: Model) -> None:
    linked(model, (A, T, 5), (T, B, 5), (A, B, 5))
    assert model.records == {}
    linked(model, (B, A, None))
    assert model.ways(A, B) == ((T,),)
    linked(model, (A, B, None), (B, A, 5))
    assert model.ways(A, B) == ((T,),), "the other end does not agree yet"
    linked(model, (A, B, 5))
    assert model.ways(A, B) is None


def test_the_lower_sum_of_round_trips_wins_and_a_preferred_transit_beats_it(model: Model) -> None:
    linked(model, (A, T, 50), (T, B, 1), (A, U, 20), (U, B, 20), (A, V, 100), (V, B, 1), (A, B, None))
    assert model.ways(A, B) == ((U,), (T,))
    model.enter(V, "always")
    model.drain()
    assert model.ways(A, B) == ((V,), (U,))
    model.enter(V, "never")
    model.enter(U, "never")
    model.drain()
    assert model.ways(A, B) == ((T,),)
    assert model.ways(B, A) == ((T,),)


def test_an_older_report_that_comes_late_changes_nothing(model: Model) -> None:
    linked(model, (A, T, 5), (T, B, 5), (A, B, None))
    model.paths.link(1, report(A, B, 5))
    model.paths.link(model.sequence, report(A, B, 5))
    assert model.drain() == []


def test_a_longer_round_trip_of_the_two_ends_counts(model: Model) -> None:
    linked(model, (A, T, 1), (T, A, 50), (T, B, 1), (A, U, 20), (U, B, 20), (A, B, None))
    assert model.ways(A, B) == ((U,), (T,))


def test_two_transits_where_one_is_not_enough_and_back_when_it_is(model: Model) -> None:
    linked(model, (A, T, 5), (T, U, 5), (U, B, 5), (A, V, 5), (V, W, 5), (W, B, 20), (A, B, None))
    assert model.ways(A, B) == ((T, U), (V, W))
    assert model.ways(B, A) == ((U, T), (W, V))
    linked(model, (T, B, 1000))
    assert model.ways(A, B) == ((T,),)
    assert {record.kind for record in model.records.values()} == {"path"}, "no relays are needed any more"


def test_equal_transits_share_the_pairs(model: Model) -> None:
    model = Model()
    transits, others = [machine(number) for number in range(8)], [machine(number) for number in range(8, 72)]
    for each in transits + others:
        model.enter(each, "auto")
    for one in others:
        for transit in transits:
            model.say(one, transit, 5)
    for number, one in enumerate(others):
        for other in others[:number]:
            model.say(one, other, None)
    model.drain()
    pairs = [(one, other) for number, one in enumerate(others) for other in others[:number]]
    first = Counter((model.ways(*pair) or ())[0] for pair in pairs)
    assert len(first) == 8
    assert max(first.values()) < 1.3 * len(pairs) / 8
    per_machine = Counter((model.ways(others[0], other) or ())[0] for other in others[1:])
    assert len(per_machine) >= 6, "no machine hangs on one transit"


def test_a_report_of_itself_is_none(model: Model) -> None:
    model.paths.link(1, report(A, A, None))
    assert model.drain() == []


def test_a_machine_that_was_deleted_is_forgotten(model: Model) -> None:
    linked(model, (A, T, 5), (T, B, 5), (A, B, None))
    model.leave(T)
    model.paths.forget(T)
    model.drain()
    assert model.ways(A, B) == ()
    assert model.paths.wanted(path(T, NETWORK, A)) is None
    model.paths.member(NETWORK, T, "auto")
    assert drained(model.paths) == [], "its reports count no more"


def _fleet(size: int, transits: int = 10) -> tuple[Paths, list[UUID], Callable[[UUID, UUID, int | None], None]]:
    """Machines behind NATs that reach ten transits each, and of which every twentieth pair was found unreachable."""
    paths, members, sequence = Paths(), [uuid4() for _ in range(size)], 0

    def say(one: UUID, other: UUID, rtt: int | None) -> None:
        nonlocal sequence
        sequence += 1
        paths.link(sequence, report(one, other, rtt))

    for number, one in enumerate(members):
        paths.member(NETWORK, one, "auto" if number < transits else "never")
        for transit in members[: min(number, transits)]:
            say(one, transit, RTT_STEPS[number % 5])
        for other in members[max(transits, number - 20) : number]:
            say(one, other, None)
    drained(paths)
    return paths, members, say


def test_the_cost_of_one_report_does_not_follow_the_size_of_the_network(capsys: pytest.CaptureFixture[str]) -> None:
    costs = {}
    for size in (100, 1000):
        paths, members, say = _fleet(size)
        one, near, transit = members[size // 2], members[size // 2 + 1], members[3]
        taken = []
        for number in range(50):
            began = time.perf_counter()
            say(one, near, 5 if number % 2 else None)
            say(one, transit, None if number % 2 else 5)
            changes = drained(paths)
            taken.append(time.perf_counter() - began)
            assert len(changes) <= 2 * 50, "only pairs of the machine itself"
        costs[size] = sorted(taken)[len(taken) // 2]
    with capsys.disabled():
        told = ", ".join(f"{cost * 1e6:.0f} µs at {size:,} members" for size, cost in costs.items())
        print(f"\n  two links change: {told}")
    assert costs[1000] < 5 * costs[100]


def test_a_network_with_very_much_to_choose_holds_up_no_other() -> None:
    paths = Paths()
    crowded, quiet = sorted((uuid4(), uuid4()))
    members = [machine(number) for number in range(60)]
    for network in (crowded, quiet):
        for each in members:
            paths.member(network, each, "auto")
    drained(paths)
    for number, one in enumerate(members):
        for other in members[:number]:
            paths.link(1, report(one, other, None, crowded))
    paths.link(2, report(members[0], members[1], None, quiet))
    told = {change.subject for _ in range(2) for change in paths.drain(10)}
    assert path(members[0], quiet, members[1]) in told
    assert not paths.is_settled
