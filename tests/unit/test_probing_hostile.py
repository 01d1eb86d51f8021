"""The prober among machines that lie, flood and replay: what one of them can do to the others stays small."""

from __future__ import annotations

import math
from ipaddress import IPv4Address
from random import Random
from uuid import UUID

import pytest

from agent.desired import Locality
from agent.keys import generate_private_key, public_key
from agent.probing.budget import Budget
from agent.probing.outputs import Link, Observed, Output, Send, Use
from agent.probing.prober import Prober
from agent.probing.wire import Message, Ping, Pong, Sealer
from tests.support.udp_world import PlainSealer

BAD = UUID(int=7)
GOOD = UUID(int=8)


class Target:
    """A prober among peers whose every packet the test makes."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.prober = Prober(PlainSealer("own"), Budget(), Random(1))
        self.outputs: list[Output] = []
        self.answering: dict[str, float] = {}
        """The endpoints that answer pings, after so many seconds."""
        self._later: list[tuple[float, str, bytes]] = []

    def peer(self, machine_id: UUID, *endpoints: str) -> None:
        self.prober.peer(self.now, machine_id, self._key(machine_id), endpoints)

    def hear(self, machine_id: UUID, source: str, message: Message) -> None:
        self.prober.received(self.now, source, self._sealer(machine_id).seal("own", message))

    def run(self, seconds: float) -> list[tuple[float, str, Message]]:
        """Let time pass; what was sent meanwhile."""
        end, sent = self.now + seconds, []
        while True:
            answer_at = min((at for at, _, _ in self._later), default=math.inf)
            at = max(self.now, min(self.prober.due(self.now), answer_at))
            if at > end:
                self.now = end
                return sent
            self.now = at
            for answer in [later for later in self._later if later[0] <= at]:
                self._later.remove(answer)
                self.prober.received(at, *answer[1:])
            for output in self.prober.tick(at):
                self.outputs.append(output)
                if isinstance(output, Send):
                    sent.append((at, output.endpoint, self._sent(output)))

    def last_tx(self, endpoint: str) -> int:
        sends = [output for output in self.outputs if isinstance(output, Send) and output.endpoint == endpoint]
        return next(message.tx for message in map(self._opened, reversed(sends)) if isinstance(message, Ping))

    @property
    def observed(self) -> tuple[str, ...]:
        return next((o.endpoints for o in reversed(self.outputs) if isinstance(o, Observed)), ())

    def _sent(self, output: Send) -> Message:
        message = self._opened(output)
        if isinstance(message, Ping) and output.endpoint in self.answering:
            machine_id = GOOD if output.endpoint.startswith("198.51.100.8") else BAD
            pong = self._sealer(machine_id).seal("own", Pong(message.tx, "203.0.113.1:51820"))
            self._later.append((self.now + self.answering[output.endpoint], output.endpoint, pong))
        return message

    def _opened(self, output: Send) -> Message:
        for machine_id in (GOOD, BAD):
            if (opened := self._sealer(machine_id).open(output.packet)) is not None:
                return opened[1]
        raise AssertionError("to nobody")

    def _key(self, machine_id: UUID) -> str:
        return f"key-{machine_id.int}"

    def _sealer(self, machine_id: UUID) -> PlainSealer:
        sealer = PlainSealer(self._key(machine_id))
        sealer.add("own")
        return sealer


HOME, HONEST = "198.51.100.7:51820", "198.51.100.8:51820"


@pytest.mark.parametrize(
    "seen",
    [
        *("0.0.0.0:9", "224.0.0.5:9", "127.0.0.1:9", "255.255.255.255:9", "169.254.169.254:9"),
        *("[::]:9", "[ff02::1]:9", "[::1]:9", "[fe80::1]:9"),
    ],
)
def test_where_no_machine_can_be_seen_nothing_is_told_to_others(seen: str) -> None:
    target = Target()
    target.peer(BAD, HOME)
    target.run(0)
    target.hear(BAD, HOME, Pong(target.last_tx(HOME), seen))
    target.run(1)
    assert target.observed == ()
    assert target.prober.is_direct(BAD), "what it says otherwise counts"


@pytest.mark.parametrize("message", [Pong(5, "192.0.2.1:0"), Ping(5, math.nan), Ping(5, math.inf), Ping(5, -math.inf)])
def test_what_no_machine_of_ours_says_is_not_opened(message: Message, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = generate_private_key(), generate_private_key()
    one, other = (Sealer(key, public_key(key)) for key in keys)
    one.add(other.public_key)
    other.add(one.public_key)
    monkeypatch.setattr("agent.probing.wire.split_endpoint", lambda endpoint: (IPv4Address("192.0.2.1"), 0))
    assert other.open(one.seal(other.public_key, message)) is None


def test_a_peer_that_announces_ever_new_endpoints_has_few_packets_sent_and_delays_nobody() -> None:
    target, sent = Target(), []
    target.answering[HONEST] = 0.01
    for step in range(120):
        target.peer(BAD, *(f"203.0.113.{step % 250 + 1}:{port}" for port in range(1000, 1016)))
        if step == 100:
            target.peer(GOOD, HONEST)
            begun = target.now
        sent += target.run(0.5)
    astray = [at for at, endpoint, _ in sent if endpoint.startswith("203.")]
    assert len(astray) <= 250 + 4 * 60 + 20
    found = [output for output in target.outputs if isinstance(output, Use) and output.machine_id == GOOD]
    assert found
    assert target.prober.is_direct(GOOD)
    first = next(at for at, endpoint, _ in sent if endpoint == HONEST)
    assert first - begun < 0.2


def test_a_peer_that_pings_without_end_has_few_packets_sent_elsewhere() -> None:
    target, sent = Target(), []
    target.peer(BAD, *(f"203.0.113.5:{port}" for port in range(1000, 1016)))
    for _ in range(300):
        target.hear(BAD, HOME, Ping(int(target.now * 1000), target.now))
        sent += target.run(1)
    assert sum(endpoint.startswith("203.") for _, endpoint, _ in sent) <= 250 + 4 * 300 + 20


def test_a_peer_that_sees_this_machine_elsewhere_all_the_time_is_not_quoted_all_the_time() -> None:
    target = Target()
    target.peer(BAD, HOME)
    for step in range(1800):
        target.run(2)
        target.hear(BAD, HOME, Pong(target.last_tx(HOME), f"203.0.113.{step % 250 + 1}:51820"))
    assert sum(isinstance(output, Observed) for output in target.outputs) <= 8 + 3600 / 120 + 1
    target.prober.stir(target.now)
    target.run(10)
    target.hear(BAD, HOME, Pong(target.last_tx(HOME), "192.0.2.1:51820"))
    target.run(0)
    assert target.observed == ("192.0.2.1:51820",), "when this machine moved, what is seen may well be new"


def test_what_becomes_forbidden_is_left_although_it_works() -> None:
    target, inside = Target(), "198.51.100.7:2"
    forbidden: set[str] = set()
    target.prober = Prober(PlainSealer("own"), Budget(), Random(1), permits=lambda endpoint: endpoint not in forbidden)
    target.answering = {HOME: 0.05, inside: 0.01}
    target.peer(BAD, HOME, inside)
    target.run(60)
    assert [output.endpoint for output in target.outputs if isinstance(output, Use)][-1] == inside
    forbidden.add(inside)
    target.prober.stir(target.now)
    target.run(0)
    assert [output.endpoint for output in target.outputs if isinstance(output, Use)][-1] == HOME
    assert inside not in {endpoint for _, endpoint, _ in target.run(60)}


def test_a_copied_ping_teaches_nothing() -> None:
    target = Target()
    target.peer(BAD, HOME)
    target.run(5)
    ping = Ping(77, target.now)
    target.hear(BAD, HOME, ping)
    for number in range(1, 100):
        target.hear(BAD, f"203.0.113.{number}:9", ping)
        assert not [message for _, to, message in target.run(0.005) if to != HOME and isinstance(message, Ping)]
    (status,) = target.prober.snapshot()
    assert [candidate.endpoint for candidate in status.candidates] == [HOME]


def test_who_floods_with_pings_leaves_answers_for_the_others() -> None:
    target = Target()
    target.peer(GOOD, HONEST)
    bad = [UUID(int=number) for number in range(20, 26)]
    for machine_id in bad:
        target.prober.peer(target.now, machine_id, target._key(machine_id), ())
        target.prober.traffic(target.now, machine_id, True)
    target.run(5)
    answered = 0
    for step in range(500):
        for machine_id in bad:
            target.hear(machine_id, f"203.0.113.{machine_id.int}:9", Ping(step, target.now))
        if step % 25 == 0:
            target.hear(GOOD, HONEST, Ping(step, target.now))
        sends = [output for output in target.prober.tick(target.now) if isinstance(output, Send)]
        said = [target._opened(send) for send in sends if send.endpoint == HONEST]
        answered += any(isinstance(message, Pong) for message in said)
        target.now += 0.01
    assert answered >= 19


def test_a_peer_whose_best_address_changes_all_the_time_is_not_followed_all_the_time() -> None:
    target = Target()
    second = "198.51.100.7:2"
    target.peer(BAD, HOME, second)
    for step in range(100):
        target.answering = {HOME: 0.1 if step % 2 else 0.01, second: 0.01 if step % 2 else 0.1}
        target.run(15)
    assert sum(isinstance(output, Use) for output in target.outputs) < 15
    assert sum(isinstance(output, Link) for output in target.outputs) < 30


def test_who_waits_for_a_first_ping_keeps_the_place_whatever_changes_here() -> None:
    target, tried = Target(), set()
    for number in range(200):
        target.prober.peer(target.now, UUID(int=100 + number), f"key-{100 + number}", (f"203.0.113.9:{number + 1}",))
    for _ in range(20):
        target.prober.stir(target.now)
        target.now += 0.5
        tried |= {output.endpoint for output in target.prober.tick(target.now) if isinstance(output, Send)}
    assert len(tried) == 200


@pytest.mark.parametrize(
    "endpoint",
    [
        *("127.0.0.1:53", "0.0.0.0:53", "239.1.1.1:53", "255.255.255.255:53", "169.254.169.254:53", "240.0.0.1:53"),
        *("[::1]:53", "[::]:53", "[ff02::fb]:53", "[fe80::1]:53", "[::ffff:127.0.0.1]:53", "not an endpoint"),
    ],
)
def test_nothing_is_sent_where_no_other_machine_can_be(endpoint: str) -> None:
    assert Locality().usable((endpoint, HOME)) == (HOME,)
