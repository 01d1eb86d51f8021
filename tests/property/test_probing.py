"""The prober, whatever happens in whichever order, and whatever is lost."""

from __future__ import annotations

import itertools
from random import Random
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.probing.budget import LIMIT, Budget, Weight
from agent.probing.mappings import Mappings
from agent.probing.punching import window
from tests.support.udp_world import Node, World, most_in_a_second

KINDS = ("public", "independent", "dependent", "firewall")
CONES = {"independent", "firewall"}

happenings = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.floats(0.01, 40)),
        st.tuples(st.just("busy"), st.integers(0, 5), st.integers(0, 5), st.booleans()),
        st.tuples(st.just("cut"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("mend")),
        st.tuples(st.just("drop"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("hear"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("stir"), st.integers(0, 5)),
        st.tuples(st.just("loss"), st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        st.tuples(st.just("noise"), st.integers(0, 5), st.binary(max_size=100)),
    ),
    max_size=25,
)


def build(world: World, kinds: list[str]) -> list[Node]:
    for number, kind in enumerate(["public", "public", *kinds]):
        host = f"198.51.100.{number + 1}"
        place = world.outside if kind == "public" else world.outside.behind(kind, host)
        world.node(place, host if kind in ("public", "firewall") else f"10.{number}.0.2")
    return world.nodes


def happen(world: World, nodes: list[Node], what: tuple[object, ...], cuts: set[tuple[str, str]]) -> None:
    match what:
        case "wait", float(seconds):
            world.run(seconds)
        case "busy", int(one), int(other), bool(is_busy):
            nodes[one % len(nodes)].prober.traffic(world.now, nodes[other % len(nodes)].machine_id, is_busy)
        case "cut", int(one), int(other):
            first, second = nodes[one % len(nodes)].endpoint, nodes[other % len(nodes)].endpoint
            cuts |= {(first, second), (second, first)}
        case ("mend",):
            cuts.clear()
        case "drop", int(one), int(other):
            nodes[one % len(nodes)].prober.drop(nodes[other % len(nodes)].machine_id)
        case "hear", int(one), int(other) if one % len(nodes) != other % len(nodes):
            peer = nodes[other % len(nodes)]
            nodes[one % len(nodes)].prober.peer(world.now, peer.machine_id, peer.key, peer.announced)
        case "stir", int(one):
            nodes[one % len(nodes)].prober.stir(world.now)
        case "loss", float(loss):
            world.loss = loss
        case _:
            pass


@settings(max_examples=40)
@given(st.lists(st.sampled_from(KINDS), max_size=4), happenings, st.integers(0, 2**16))
def test_once_it_is_quiet_all_that_can_meet_have_met(
    kinds: list[str], story: list[tuple[object, ...]], seed: int
) -> None:
    world = World(seed)
    nodes = build(world, kinds)
    cuts: set[tuple[str, str]] = set()
    world.drops = lambda source, target: (source, target) in cuts
    world.meet()
    for what in story:
        happen(world, nodes, what, cuts)
    cuts.clear()
    world.loss = 0.0
    world.meet()
    world.run(330)
    kind_of = dict(zip((node.machine_id for node in nodes), ["public", "public", *kinds], strict=True))
    for one, other in itertools.combinations(nodes, 2):
        pair = {kind_of[one.machine_id], kind_of[other.machine_id]}
        is_direct = one.prober.is_direct(other.machine_id), other.prober.is_direct(one.machine_id)
        assert is_direct == ((True, True) if "public" in pair or pair <= CONES else (False, False))
    for node in nodes:
        assert most_in_a_second(node.sent) <= LIMIT
        for uses in node.uses.values():
            assert all(endpoint for _, endpoint in uses)


@given(st.lists(st.tuples(st.floats(0, 0.2), st.sampled_from(list(Weight)), st.booleans()), max_size=600))
def test_no_second_holds_more_than_the_budget(tries: list[tuple[float, Weight, bool]]) -> None:
    budget, now, sent, answers = Budget(), 0.0, [], []
    for gap, weight, is_answer in tries:
        now += gap if gap > 0.15 else gap / 50
        if is_answer and budget.take_answer(now, weight, len(answers) % 30):
            answers.append(now)
            sent.append(now)
        elif not is_answer and budget.take(now, weight):
            sent.append(now)
        due = budget.next_at(now, weight)
        assert due >= now
        if due > now:
            assert not budget.take(now, weight)
    assert most_in_a_second(sent) <= LIMIT
    assert most_in_a_second(answers) <= LIMIT / 2


@given(st.integers(0, 20), st.integers(0, 20), st.floats(0, 1e5), st.floats(0, 1e5), st.floats(1e9, 2e9))
def test_of_two_ends_the_less_patient_sends_whenever_the_other_does(
    failures: int, others: int, least: float, others_least: float, wall: float
) -> None:
    one, other = window("a", "b", wall, failures, least), window("b", "a", wall, others, others_least)
    assert one > wall < other
    first, (later, its_failures, its_least) = (
        min(one, other),
        max((one, failures, least), (other, others, others_least)),
    )
    assert abs((later - first + 5) % 10 - 5) < 1e-3
    assert abs(window("a", "b", later - 1, its_failures, its_least) - later) < 1e-3


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 1), st.integers(0, 6)), max_size=60), st.randoms())
def test_what_is_known_of_mappings_follows_from_what_was_last_seen(
    sights: list[tuple[int, int, int]], chance: Random
) -> None:
    step_by_step, last = Mappings(), {}
    for witness, candidate, seen in sights:
        key, endpoint = (UUID(int=witness), f"c:{candidate}"), f"192.0.2.{seen % 2}:{seen + 1}"
        if seen == 6:
            step_by_step.forget(key[0], (key[1],))
            last.pop(key, None)
        else:
            step_by_step.saw(*key, endpoint)
            last[key] = endpoint
    at_once = Mappings()
    order = list(last.items())
    chance.shuffle(order)
    for key, endpoint in order:
        at_once.saw(*key, endpoint)
    witnesses: dict[str, set[UUID]] = {}
    for (witness_id, _), endpoint in last.items():
        witnesses.setdefault(endpoint, set()).add(witness_id)
    sure = {endpoint for endpoint, who in witnesses.items() if len(who) > 1}
    assert step_by_step.known() == at_once.known()
    assert sure <= set(step_by_step.known()) or len(sure) > 4
