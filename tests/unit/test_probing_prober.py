"""The prober among others, in a world whose clock is turned: who is reached, how soon, and how steadily."""

from __future__ import annotations

import itertools
import math
from random import Random
from uuid import UUID

import pytest

from agent.probing.budget import LIMIT, Budget
from agent.probing.outputs import Link, Output, Send, Use
from agent.probing.peer import Peer
from agent.probing.prober import Prober
from agent.probing.punching import SLOT, window
from agent.probing.wire import Ping, Pong
from tests.support.udp_world import Node, PlainSealer, World, most_in_a_second

KINDS = ("public", "independent", "dependent", "firewall", "twice")
PUNCH = {"public", "independent", "firewall", "twice"}
"""Whose address and port do not depend on whom they send to."""


def a_node(world: World, kind: str, number: int) -> Node:
    host = f"198.51.100.{number}"
    if kind == "public":
        return world.node(world.outside, host)
    if kind == "firewall":
        return world.node(world.outside.behind("firewall", host), host)
    if kind == "twice":
        inner = world.outside.behind("independent", host).behind("independent", f"100.64.0.{number}")
        return world.node(inner, f"10.{number}.0.2")
    return world.node(world.outside.behind(kind, host), f"10.{number}.0.2")


def reached(one: Node, other: Node) -> bool:
    return one.state(other) == other.state(one) == "direct"


@pytest.mark.parametrize(("first", "second"), list(itertools.combinations_with_replacement(KINDS, 2)))
def test_whoever_can_meet_by_theory_meets_within_three_seconds(first: str, second: str) -> None:
    world = World()
    helpers = [a_node(world, "public", 1), a_node(world, "public", 2)]
    one, other = a_node(world, first, 11), a_node(world, second, 12)
    world.meet()
    can_meet = "public" in (first, second) or {first, second} <= PUNCH
    world.run(3 + world.announces if can_meet else 60)
    assert all(reached(one, helper) and reached(other, helper) for helper in helpers)
    assert reached(one, other) == can_meet
    if not can_meet:
        assert one.state(other) == other.state(one) == "unreachable"


def test_fifty_machines_reach_each_other_as_theory_says() -> None:
    world = World(seed=3)
    nodes = [a_node(world, KINDS[number % len(KINDS)], number + 1) for number in range(50)]
    kinds = {node.machine_id: KINDS[number % len(KINDS)] for number, node in enumerate(nodes)}
    world.meet()
    world.run(90)
    for one, other in itertools.combinations(nodes, 2):
        pair = {kinds[one.machine_id], kinds[other.machine_id]}
        assert reached(one, other) == ("public" in pair or pair <= PUNCH), (pair, one, other)
    assert max(most_in_a_second(node.sent) for node in nodes) <= LIMIT


def test_a_dependent_mapping_is_not_announced_and_an_independent_one_is() -> None:
    world = World()
    a_node(world, "public", 1)
    a_node(world, "public", 2)
    hard, easy = a_node(world, "dependent", 11), a_node(world, "independent", 12)
    world.meet()
    world.run(5)
    assert hard.observed == ()
    assert easy.observed == ("198.51.100.12:40000",)


def test_one_witness_is_enough_if_there_is_only_one() -> None:
    world = World()
    a_node(world, "public", 1)
    node = a_node(world, "independent", 11)
    world.meet()
    world.run(3)
    assert node.observed == ("198.51.100.11:40000",)


def test_machines_of_one_lan_use_it() -> None:
    world = World()
    a_node(world, "public", 1)
    a_node(world, "public", 2)
    lan = world.outside.behind("independent", "198.51.100.9")
    one, other = world.node(lan, "10.9.0.2", near="10.9."), world.node(lan, "10.9.0.3", near="10.9.")
    world.meet()
    world.run(10)
    assert one.endpoint_of(other) == "10.9.0.3:51820"
    assert other.endpoint_of(one) == "10.9.0.2:51820"


def test_the_lan_is_used_although_a_way_around_answers_first() -> None:
    world = World()
    one, other = world.node(world.outside, "10.9.0.2", near="10.9."), world.node(world.outside, "10.9.0.3")
    around = "198.51.100.9:1"
    world.outside.hosts[around] = other
    other.announced = (around, other.endpoint)
    world.delay_of = lambda source, target: 0.0049 if target == around else None
    world.meet()
    world.run(1)
    assert [endpoint for _, endpoint in one.uses[other.machine_id]] == [around, other.endpoint]
    world.run(600)
    assert len(one.uses[other.machine_id]) == 2


def test_when_a_machine_learns_where_it_is_seen_both_ends_try_again_at_once() -> None:
    world = World()
    one, other = a_node(world, "independent", 11), a_node(world, "firewall", 12)
    world.meet()
    world.run(900)
    world.run_until(lambda: world.now - one.sent[-1] > 40, 300)
    assert not reached(one, other)
    witness = a_node(world, "public", 1)
    witness.prober.peer(world.now, one.machine_id, one.key, one.announced)
    world.tell(witness, world.now)
    world.run_until(lambda: reached(one, other), 3)


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("rtt", [0.002, 0.05, 0.13])
def test_a_cut_is_noticed_within_1_2_seconds_under_traffic(seed: int, rtt: float) -> None:
    world = World(seed)
    world.latency, world.jitter = rtt / 2, 0.1
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.meet()
    world.run(2)
    one.prober.traffic(world.now, other.machine_id, True)
    world.run(10 + seed * 0.07)
    world.drops = lambda source, target: True
    took = world.run_until(lambda: one.state(other) == "unreachable", 5)
    assert took <= 1.2


def test_a_link_that_comes_back_is_direct_in_the_next_window_and_after_three_answers() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.meet()
    world.run(5)
    world.drops = lambda source, target: True
    world.run(30)
    assert one.state(other) == "unreachable"
    world.drops = lambda source, target: False
    sent = len(one.sent)
    world.run_until(lambda: reached(one, other), 32)
    assert len(one.sent) - sent >= 3


def test_another_candidate_takes_over_without_the_peer_being_lost() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    second = "203.0.113.2:51820"
    world.outside.hosts[second] = other
    other.announced = (other.endpoint, second)
    world.meet()
    world.run(12)
    one.prober.traffic(world.now, other.machine_id, True)
    first = one.endpoint_of(other)
    world.run(3)
    del world.outside.hosts[first]
    took = world.run_until(lambda: one.endpoint_of(other) != first, 5)
    assert took <= 1.2
    assert [state for _, state in one.links[other.machine_id]] == ["direct", "direct"]


def test_jitter_of_a_fifth_changes_neither_the_endpoint_nor_the_step() -> None:
    world = World(seed=5)
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    second = "203.0.113.2:51820"
    world.outside.hosts[second] = other
    other.announced = (other.endpoint, second)
    world.jitter = 0.2
    world.delay_of = lambda source, target: 0.021 if target == second else 0.02
    world.meet()
    world.run(5)
    one.prober.traffic(world.now, other.machine_id, True)
    world.run(600)
    assert len(one.uses[other.machine_id]) == 1
    assert len(one.links[other.machine_id]) <= 2, one.rtts


def test_a_clearly_faster_candidate_is_used_after_a_while() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    second = "203.0.113.2:51820"
    world.outside.hosts[second] = other
    world.latency = 0.04
    world.delay_of = lambda source, target: 0.01 if target == second else None
    world.meet()
    world.run(5)
    other.announced = (other.endpoint, second)
    heard = world.now
    world.tell(other, heard)
    world.run(10)
    (first_at, _), (then_at, then) = one.uses[other.machine_id]
    assert then == second
    assert 3 <= then_at - heard <= 6
    assert first_at < heard


def test_little_loss_does_not_make_a_link_fail() -> None:
    world = World(seed=9)
    world.loss = 0.03
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.meet()
    world.run(2)
    one.prober.traffic(world.now, other.machine_id, True)
    world.run(300)
    assert [state for _, state in one.links[other.machine_id]] == ["direct"]


def test_pairs_try_again_at_the_same_moments_and_ever_less_often() -> None:
    world = World()
    one, other = a_node(world, "dependent", 1), a_node(world, "dependent", 2)
    world.meet()
    world.run(3600)
    for node in (one, other):
        bursts = [at for last, at in itertools.pairwise([-math.inf, *node.sent]) if at - last > 4]
        gaps = [after - before for before, after in itertools.pairwise(bursts)]
        assert gaps[-1] == pytest.approx(300, abs=0.2)
        assert len(bursts) < 25
    assert abs(one.sent[-1] - other.sent[-1]) < 0.1


def test_windows_of_one_more_patient_are_among_those_of_the_other() -> None:
    for failures in range(12):
        rare = window("a", "b", 12345.0, failures + 1, 0)
        often, wall = 0.0, 12345.0
        while often < rare - 1e-6:
            often = wall = window("b", "a", wall, failures, 0)
        assert often == pytest.approx(rare)
    assert window("a", "b", 0.0, 0, 0) <= SLOT
    assert window("a", "b", 0.0, 0, 5000) - window("a", "b", -21600.0, 0, 5000) == pytest.approx(21600)


def test_a_candidate_that_is_announced_no_more_stays_while_it_works() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.meet()
    world.run(3)
    one.prober.peer(world.now, other.machine_id, other.key, ("192.0.2.77:1",))
    world.run(5)
    assert one.state(other) == "direct"
    assert len(one.uses[other.machine_id]) == 1
    world.drops = lambda source, target: True
    world.run(60)
    (status,) = one.prober.snapshot()
    assert status.state == "unreachable"
    assert [(c.endpoint, c.result) for c in status.candidates] == [("192.0.2.77:1", "no answer")]


def ping(world: World, node: Node, sender: Node, source: str, sent: float) -> list[Output]:
    packet = PlainSealer(sender.key).seal(node.key, Ping(int(sent * 1000) % 2**32, sent))
    node.prober.received(world.now, source, packet)
    return node.prober.tick(world.now)


def test_learned_candidates_are_few_and_an_old_ping_teaches_nothing() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.meet()
    world.run(3)
    for number in range(50):
        world.run(0.1)
        ping(world, one, other, f"192.0.2.{number + 1}:9", world.now)
    (status,) = one.prober.snapshot()
    assert len(status.candidates) == 5
    ping(world, one, other, "192.0.2.200:9", world.now - 100)
    assert "192.0.2.200:9" not in {c.endpoint for c in one.prober.snapshot()[0].candidates}
    world.run(400)
    assert [c.endpoint for c in one.prober.snapshot()[0].candidates] == [other.endpoint]


def test_strangers_are_not_answered_and_one_peer_not_too_often() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.run(1)
    one.prober.received(world.now, "192.0.2.1:1", PlainSealer("nobody").seal(one.key, Ping(1, 0.0)))
    assert one.prober.tick(world.now) == []
    one.prober.peer(world.now, other.machine_id, other.key, (other.endpoint,))
    theirs, answers = PlainSealer(other.key), 0
    theirs.add(one.key)
    for _ in range(99):
        outputs = ping(world, one, other, other.endpoint, world.now)
        opened = [theirs.open(output.packet) for output in outputs if isinstance(output, Send)]
        answers += sum(found is not None and isinstance(found[1], Pong) for found in opened)
        world.now += 0.01
    assert 10 < answers <= 30
    one.prober.drop(other.machine_id)
    assert ping(world, one, other, other.endpoint, 9.0) == []
    assert one.prober.due(world.now) == math.inf


def test_another_key_makes_another_peer() -> None:
    world = World()
    one, other = a_node(world, "public", 1), a_node(world, "public", 2)
    world.meet()
    world.run(3)
    one.prober.peer(world.now, other.machine_id, "other-key", other.announced)
    assert not one.prober.is_direct(other.machine_id)
    assert one.prober.snapshot()[0].state == "searching"


class Crowd:
    """One prober, and so many peers that answer at once, or not at all."""

    def __init__(self, count: int, answer: float, busy: int) -> None:
        self.now = 0.0
        self.budget = Budget()
        self.own = PlainSealer("own")
        self.prober = Prober(self.own, self.budget, Random(1))
        self.sent: list[float] = []
        self.direct: dict[UUID, float] = {}
        self.steps = 0
        self.longest = 0
        chance = Random(2)
        self.silent = set()
        self.addresses = {}
        for number in range(count):
            machine_id, key = UUID(int=number), f"k{number}"
            address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}:1"
            self.addresses[address] = key
            if chance.random() > answer:
                self.silent.add(address)
            self.prober.peer(0.0, machine_id, key, (address, f"192.0.2.{number % 250 + 1}:{number + 1}"))
            self.prober.traffic(0.0, machine_id, number < busy)

    def run(self, until: float) -> None:
        while (due := max(self.now, self.prober.due(self.now))) <= until:
            self.now = due
            outputs = self.prober.tick(self.now)
            self.steps += 1
            self.longest = max(self.longest, len(outputs))
            for output in outputs:
                if isinstance(output, Send):
                    self.sent.append(self.now)
                    self._answer(output)
                elif isinstance(output, Use):
                    self.direct.setdefault(output.machine_id, self.now)
                elif isinstance(output, Link) and output.state.state == "unreachable":
                    self.direct.pop(output.machine_id, None)
        self.now = until

    def _answer(self, output: Send) -> None:
        key = self.addresses.get(output.endpoint)
        if key is None or output.endpoint in self.silent:
            return
        theirs = PlainSealer(key)
        theirs.add("own")
        opened = theirs.open(output.packet)
        assert opened is not None
        if isinstance(opened[1], Ping):
            pong = theirs.seal("own", Pong(opened[1].tx, "198.51.100.1:51820"))
            self.prober.received(self.now + 1e-4, output.endpoint, pong)
            # It watches us as we watch it.
            self.prober.received(self.now + 2e-4, output.endpoint, theirs.seal("own", Ping(opened[1].tx, self.now)))


@pytest.mark.parametrize(("peers", "all_within"), [(10, 1), (1_000, 60), (10_000, 600)])
def test_the_budget_holds_whatever_the_number_of_peers(peers: int, all_within: float) -> None:
    crowd = Crowd(peers, answer=0.9, busy=5)
    span = max(300, 8 * all_within)
    crowd.run(span)
    begin = most_in_a_second(crowd.sent)
    rate = sum(at > span * 0.75 for at in crowd.sent) / (span * 0.25)
    answering = peers - len(crowd.silent)
    print(
        f"{peers} peers, a tenth of them unreachable: at most {begin} packets in a second; {rate:.0f} a second once "
        f"settled; the last of {answering} peers found after {max(crowd.direct.values()):.1f} s"
    )
    assert begin <= LIMIT
    assert len(crowd.direct) == answering
    assert max(crowd.direct.values()) <= all_within


def test_what_a_tick_touches_does_not_grow_with_the_number_of_peers(monkeypatch: pytest.MonkeyPatch) -> None:
    touched = 0
    original = Peer.step

    def counted(self: Peer, now: float, wall_offset: float) -> None:
        nonlocal touched
        touched += 1
        original(self, now, wall_offset)

    monkeypatch.setattr(Peer, "step", counted)
    per_second = {}
    for peers in (500, 4_000):
        crowd = Crowd(peers, answer=1.0, busy=0)
        crowd.run(500)
        assert len(crowd.direct) == peers
        touched = 0
        crowd.run(560)
        per_second[peers] = touched / 60
    assert per_second[4_000] < 1.5 * per_second[500] + 5
    assert per_second[4_000] < LIMIT


def test_two_networks_of_one_machine_share_one_budget() -> None:
    budget = Budget()
    probers = [Prober(PlainSealer(f"own{n}"), budget, Random(n)) for n in range(2)]
    for prober, number in itertools.product(probers, range(200)):
        prober.peer(0.0, UUID(int=number), f"k{number}", (f"192.0.2.1:{number + 1}",))
    now, sent = 0.0, []
    while now < 5:
        for prober in probers:
            sent += [now for output in prober.tick(now) if isinstance(output, Send)]
        now = max(now + 1e-4, min(prober.due(now) for prober in probers))
    assert most_in_a_second(sent) <= LIMIT
    assert budget.peers["lost"] == 400
    probers[0].close()
    assert budget.peers["lost"] == 200
