"""The plan of BGP sessions, case by case."""

from __future__ import annotations

import random

import pytest

from events.peering import BgpPlan, full_mesh
from services.topology.bgp_core import DWELL
from services.topology.bgp_sight import GONE_AFTER
from tests.support.speakers import Speakers, machine


def _started(size: int, *, seed: int = 1, with_reflectors: bool = True) -> Speakers:
    speakers = Speakers(random.Random(seed))
    for number in range(size):
        speakers.start(machine(number))
    speakers.run(10)
    speakers.want(with_reflectors=with_reflectors)
    speakers.run(60)
    return speakers


@pytest.mark.parametrize(("size", "reflectors"), [(1, 0), (2, 2), (3, 3), (8, 3)])
def test_there_are_three_reflectors_where_there_are_machines_enough(size: int, reflectors: int) -> None:
    plan = _started(size).plan
    assert (plan.stage, len(plan.reflectors)) == ("reflectors" if reflectors else "mesh", reflectors)


def test_pinned_machines_are_reflectors_and_no_others_but_for_a_second_one() -> None:
    speakers = _started(6)
    for pinned in ((3, 4, 5), (0, 1), (2,)):
        speakers.want(pinned=map(machine, pinned))
        speakers.run(60)
        assert speakers.plan.reflectors >= set(map(machine, pinned))
        assert len(speakers.plan.reflectors) == max(2, len(pinned))


def test_a_pinned_machine_whose_speaker_is_off_is_replaced_at_once_until_it_runs() -> None:
    speakers = _started(5)
    speakers.want(pinned=map(machine, (0, 1)))
    speakers.run(60)
    speakers.turn_off(machine(0))
    speakers.run(5)
    assert machine(0) not in speakers.plan.reflectors
    assert len(speakers.plan.reflectors) == 2
    speakers.start(machine(0))
    speakers.run(60)
    assert speakers.plan.reflectors == {machine(0), machine(1)}


def test_a_reflector_that_falls_silent_is_replaced_after_a_while_and_not_before() -> None:
    speakers = _started(5)
    lost = min(speakers.plan.reflectors)
    before = speakers.plan
    speakers.kill(lost)
    speakers.run(10 + GONE_AFTER.total_seconds() - 2)
    assert speakers.plan == before
    speakers.run(10)
    assert lost not in speakers.plan.reflectors
    assert len(speakers.plan.reflectors) == 3
    assert before.reflectors - {lost} < speakers.plan.reflectors, "the others stay"


def test_a_machine_that_joins_changes_no_plan() -> None:
    speakers = _started(5)
    changes = speakers.changes
    speakers.start(machine(9))
    speakers.run(60)
    assert speakers.changes == changes
    assert speakers.reached() == speakers.everybody()


@pytest.mark.parametrize("seed", range(8))
def test_a_mode_that_is_turned_off_at_once_costs_nothing_although_reports_lag_behind(seed: int) -> None:
    speakers = Speakers(random.Random(seed))
    for number in range(4):
        speakers.start(machine(number))
    speakers.run(10)
    speakers.want(with_reflectors=True)
    while speakers.plan.stage != "reflectors":
        speakers.run(0.5)
    speakers.want(with_reflectors=False)
    speakers.run(DWELL.total_seconds())
    assert speakers.plan.stage == "switching"
    speakers.run(60)
    assert speakers.plan == BgpPlan()


def test_a_switch_waits_for_who_is_alive_and_not_for_who_is_dead() -> None:
    speakers = _started(4, with_reflectors=False)
    speakers.kill(machine(3))
    speakers.want(with_reflectors=True)
    speakers.run(30)
    assert speakers.plan.stage == "switching"
    speakers.run(60)
    assert speakers.plan.stage == "reflectors"


def test_how_many_sessions_there_are() -> None:
    machines = set(map(machine, range(250)))
    reflectors = frozenset(map(machine, range(3)))
    for stage, count in (("mesh", 31_125), ("reflectors", 747), ("switching", 31_872)):
        plan = BgpPlan(stage, reflectors)  # type: ignore[arg-type]
        assert plan.count(machines) == count
        assert sum(len(plan.sessions(one, machines)) for one in machines) == 2 * count
    assert full_mesh(250) == 31_125
    assert max(len(BgpPlan("reflectors", reflectors).sessions(one, machines)) for one in machines - reflectors) == 3
