"""The plan of BGP sessions over random histories of a model of speakers."""

from __future__ import annotations

import random
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from events.peering import BgpPlan
from events.routing import DEFAULT_REFLECTORS
from services.topology.bgp_core import Settings, next_step, settled
from services.topology.bgp_sight import Sight
from tests.support.speakers import START, Speakers, machine

SETTLED = 150
"""After so many seconds in which nothing happens everything is as it will be."""


def _happen(speakers: Speakers, chance: random.Random, fresh: list[int]) -> None:
    """Something happens."""
    running = sorted(speakers.running)
    stopped = sorted(speakers.members - speakers.running.keys())
    possible = [
        lambda: speakers.want(with_reflectors=True),
        lambda: speakers.want(with_reflectors=not speakers.settings.with_reflectors),
        lambda: speakers.want(pinned=chance.sample(sorted(speakers.members), min(len(speakers.members), 2))),
        lambda: speakers.want(pinned=()),
    ]
    if fresh:
        possible.append(lambda: speakers.start(machine(fresh.pop())))
    if len(running) > 2:
        chosen = [lambda: speakers.kill(chance.choice(running)), lambda: speakers.turn_off(chance.choice(running))]
        reflectors = sorted(speakers.plan.reflectors.intersection(running))
        if reflectors:
            chosen.append(lambda: speakers.kill(chance.choice(reflectors)))
        possible += [*chosen, lambda: speakers.leave(chance.choice(running))]
    if stopped:
        possible.append(lambda: speakers.start(chance.choice(stopped)))
    chance.choice(possible)()


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(2, 7), st.integers(0, 12))
def test_nobody_loses_a_route_by_a_plan_and_in_the_end_all_is_as_it_was_wanted(
    seed: int, size: int, length: int
) -> None:
    chance = random.Random(seed)
    speakers = Speakers(chance)
    for number in range(size):
        speakers.start(machine(number))
    speakers.run(20)
    fresh = list(range(size, size + 3))
    for _ in range(length):
        _happen(speakers, chance, fresh)
        speakers.run(chance.choice((0.5, 2, 5, 20, 60)))
    speakers.run(SETTLED)
    plan, alive = speakers.plan, set(speakers.running)
    assert speakers.reached() == speakers.everybody()
    changes = speakers.changes
    speakers.run(60)
    assert speakers.changes == changes, "it does not change its mind"
    if not speakers.settings.with_reflectors:
        assert plan == BgpPlan()
    elif plan.stage == "mesh":
        assert len(alive) < 2
    else:
        pinned = alive.intersection(speakers.settings.pinned)
        assert plan.stage == "reflectors"
        assert plan.reflectors <= alive
        assert pinned <= plan.reflectors
        assert len(plan.reflectors) == min(len(alive), max(2, len(pinned)) if pinned else DEFAULT_REFLECTORS)


@given(st.integers(0, 2**32))
def test_whatever_the_order_of_the_reports_the_same_follows(seed: int) -> None:
    chance = random.Random(seed)
    machines = [machine(number) for number in range(chance.randint(2, 6))]
    reports = [lambda sight, one=one: sight.speaker(one, chance_of[one]) for one in machines]
    chance_of = {one: chance.choice(("running", "running", "failed", "off")) for one in machines}
    reports += [lambda sight, one=one: sight.member(one, is_member=True) for one in machines]
    for one in machines:
        for other in machines:
            if one != other:
                direct, mesh, client = (chance.random() < 0.8 for _ in range(3))
                reports += [
                    lambda sight, one=one, other=other, direct=direct: sight.link(one, other, is_direct=direct),
                    lambda sight, one=one, other=other, mesh=mesh: sight.session(
                        one, other, "mesh", is_established=mesh
                    ),
                    lambda sight, one=one, other=other, client=client: sight.session(
                        one, other, "client", is_established=client
                    ),
                ]
    wanted = Settings(chance.random() < 0.7, tuple(chance.sample(machines, chance.randint(0, 2))))
    plan = BgpPlan(chance.choice(("mesh", "switching", "reflectors")), frozenset(chance.sample(machines, 2)))
    answers = set()
    for _ in range(3):
        chance.shuffle(reports)
        sight = Sight()
        for report in reports:
            report(sight)
        sight.look(START)
        answers.add(next_step(plan, START, wanted, sight, START + timedelta(seconds=40)))
    assert len(answers) == 1


@settings(max_examples=40)
@given(st.integers(0, 2**32), st.integers(2, 7), st.integers(0, 5))
def test_what_a_network_would_settle_at_is_told_before(seed: int, size: int, length: int) -> None:
    chance = random.Random(seed)
    speakers = Speakers(chance)
    for number in range(size):
        speakers.start(machine(number))
    speakers.run(20)
    for _ in range(length):
        _happen(speakers, chance, [])
        speakers.run(SETTLED)
    speakers.want(
        with_reflectors=chance.random() < 0.8, pinned=chance.sample(sorted(speakers.members), chance.randint(0, 2))
    )
    now = START + timedelta(seconds=speakers.now)
    told = settled(speakers.plan, speakers.settings, speakers.sight, now)
    speakers.run(SETTLED)
    assert speakers.plan == told
