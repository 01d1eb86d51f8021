"""The plan of BGP sessions where a member tells what is not so, or where little is known of the others."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from events.peering import BgpPlan
from services.topology.bgp_sight import Sight
from tests.support.speakers import Speakers, machine


def _with_reflectors(size: int) -> Speakers:
    speakers = Speakers(random.Random(1))
    for number in range(size):
        speakers.start(machine(number))
    speakers.run(10)
    speakers.want(with_reflectors=True)
    speakers.run(60)
    assert speakers.plan.stage == "reflectors"
    return speakers


@pytest.mark.parametrize("size", [3, 4, 5, 12])
def test_one_member_that_says_it_reaches_nobody_does_not_make_the_others_gone(size: int) -> None:
    speakers = _with_reflectors(size)
    before = speakers.plan
    liar = max(speakers.members - before.reflectors, default=max(speakers.members))
    for other in speakers.members - {liar}:
        speakers.sight.link(liar, other, is_direct=False)
    speakers.run(120)
    assert speakers.plan == before
    assert speakers.reached() == speakers.everybody()


@pytest.mark.parametrize(("size", "dead"), [(5, 3), (8, 5), (12, 8)])
def test_reflectors_that_die_with_most_of_the_others_are_replaced_all_the_same(size: int, dead: int) -> None:
    speakers = _with_reflectors(size)
    others = sorted(speakers.members - speakers.plan.reflectors)
    for one in [*speakers.plan.reflectors, *others][:dead]:
        speakers.kill(one)
    speakers.run(150)
    assert speakers.plan.reflectors <= speakers.running.keys()
    assert speakers.reached() == speakers.everybody()


def test_a_member_that_nobody_reaches_does_not_keep_a_network_switching() -> None:
    speakers = Speakers(random.Random(1))
    for number in range(5):
        speakers.start(machine(number))
    speakers.run(10)
    lonely = machine(9)
    speakers.members.add(lonely)
    speakers.sight.member(lonely, is_member=True)
    speakers.sight.speaker(lonely, "running")
    for other in map(machine, range(5)):
        speakers.sight.link(lonely, other, is_direct=False)
        speakers.sight.link(other, lonely, is_direct=False)
    speakers.want(with_reflectors=True)
    speakers.run(90)
    assert speakers.plan.stage == "reflectors"
    assert lonely not in speakers.plan.reflectors
    speakers.want(pinned=(machine(0), lonely))
    speakers.run(90)
    assert speakers.reached() == speakers.everybody()
    speakers.want(with_reflectors=False)
    speakers.run(90)
    assert speakers.plan == BgpPlan()


def test_reflectors_stay_when_what_was_reported_is_lost_and_reported_anew_little_by_little() -> None:
    speakers = _with_reflectors(6)
    before = speakers.plan
    clients = sorted(speakers.members - before.reflectors)
    speakers.sight = Sight()
    for one in speakers.members:
        speakers.sight.member(one, is_member=True)
    for one in [*clients, *sorted(before.reflectors)]:
        speakers.sight.speaker(one, "running")
        for reflector in before.reflectors - {one}:
            speakers.sight.session(one, reflector, "client", is_established=True)
        speakers.run(20)
        assert speakers.plan == before, one


def test_a_switch_goes_on_when_what_was_reported_is_lost_and_reported_anew() -> None:
    speakers = _with_reflectors(4)
    speakers.sight = Sight()
    for one in speakers.members:
        speakers.sight.member(one, is_member=True)
    speakers.want(with_reflectors=False)
    speakers.run(30)
    first = min(speakers.members)
    speakers.sight.speaker(first, "running")
    for other in speakers.members - {first}:
        speakers.sight.session(first, other, "mesh", is_established=True)
    speakers.run(30)
    for one, other in permutations(speakers.members, 2):
        speakers.sight.speaker(one, "running")
        speakers.sight.session(one, other, "mesh", is_established=True)
    speakers.run(30)
    assert speakers.plan == BgpPlan()
    assert speakers.reached() == speakers.everybody()


def test_where_the_plan_is_lost_the_reflectors_that_most_have_are_chosen_again() -> None:
    speakers = _with_reflectors(9)
    reflectors = speakers.plan.reflectors
    others = speakers.members - reflectors
    for one, other in permutations(others, 2):
        for reflector in reflectors:
            speakers.sight.link(one, reflector, is_direct=one != min(others))
        speakers.sight.link(one, other, is_direct=True)
    speakers.plan = BgpPlan()
    speakers.run(1)
    assert speakers.plan == BgpPlan("switching", reflectors)
