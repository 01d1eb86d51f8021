"""Networks of machines that report their links, without a bus: what the topology derives from them, and whether packets
arrive that are sent by it."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import combinations, pairwise, permutations
from typing import Literal
from uuid import UUID

from events.fields import TransitMode
from events.records import LinkState, PathRecord, ReachEvent, RelayRecord
from events.subjects import path, relay
from events.transit import MAX_HOPS, RTT_STEPS
from services.topology.paths_core import Change, Paths, Wanted

NETWORK = UUID("11111111-0000-4000-8000-000000000000")
BOOT = UUID("22222222-0000-4000-8000-000000000000")
EARLY = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
TRANSITS: tuple[TransitMode, ...] = ("auto", "always", "never")


def machine(number: int) -> UUID:
    """The id of a machine."""
    return UUID(int=random.Random(number).getrandbits(128), version=4)


def report(one: UUID, other: UUID, rtt: int | None, network_id: UUID = NETWORK, counter: int = 1) -> ReachEvent:
    """What `one` reports of its link to `other`: a round trip, or None for no direct path."""
    state: Literal["direct", "unreachable"] = "unreachable" if rtt is None else "direct"
    link = LinkState(peer_id=other, state=state, rtt=rtt)
    return ReachEvent(network_id=network_id, machine_id=one, boot_id=BOOT, counter=counter, time=EARLY, link=link)


def drained(paths: Paths, limit: int = 1000) -> list[Change]:
    """Everything that has changed."""
    changes: list[Change] = []
    while not paths.is_settled:
        changes += paths.drain(limit)
    return changes


class Model:
    """A network by its plainest rules, and the topology's paths of it beside that."""

    def __init__(self) -> None:
        self.paths = Paths()
        self.members: dict[UUID, TransitMode] = {}
        self.reports: dict[tuple[UUID, UUID], tuple[int, int | None]] = {}
        """Of one machine about another: its place in REACH, and the round trip."""
        self.records: dict[str, PathRecord | RelayRecord] = {}
        """What PATHS holds."""
        self.sequence = 0

    def enter(self, machine_id: UUID, transit: TransitMode) -> None:
        self.members[machine_id] = transit
        self.paths.member(NETWORK, machine_id, transit)

    def leave(self, machine_id: UUID) -> None:
        self.members.pop(machine_id, None)
        self.paths.gone(NETWORK, machine_id)

    def say(self, one: UUID, other: UUID, rtt: int | None) -> None:
        self.sequence += 1
        self.reports[one, other] = self.sequence, rtt
        self.paths.link(self.sequence, report(one, other, rtt))

    def drain(self, limit: int = 1000) -> list[Change]:
        """Take in what changed; whatever is told must differ from what was."""
        changes = drained(self.paths, limit)
        for subject, before, body in changes:
            assert self.records.get(subject) == before != body, f"{subject} was told again"
            assert self.paths.wanted(subject) == body or limit < 1000
            if body is None:
                self.records.pop(subject, None)
            else:
                self.records[subject] = body
        return changes

    def afresh(self, chance: random.Random) -> dict[str, Wanted]:
        """The records that follow from what counts now, told to new paths in any order."""
        paths = Paths()
        told = [lambda m=m, t=t: paths.member(NETWORK, m, t) for m, t in self.members.items()]
        told += [
            lambda a=a, b=b, s=s, rtt=rtt: paths.link(s, report(a, b, rtt)) for (a, b), (s, rtt) in self.reports.items()
        ]
        chance.shuffle(told)
        for tell in told:
            tell()
        return {change.subject: change.body for change in drained(paths)}

    def link(self, one: UUID, other: UUID) -> int | None:
        """The round trip between two members: 0 for unreachable, None where nobody knows."""
        if one not in self.members or other not in self.members:
            return None
        said = [self.reports[pair][1] for pair in ((one, other), (other, one)) if pair in self.reports]
        if not said:
            return None
        return 0 if None in said else max(rtt for rtt in said if rtt is not None)

    def parted(self) -> list[tuple[UUID, UUID]]:
        """The pairs that have no direct path."""
        return [pair for pair in combinations(sorted(self.members), 2) if self.link(*pair) == 0]

    def possible(self, one: UUID, other: UUID, hops: int) -> list[tuple[UUID, ...]]:
        """All ways through so many transits."""
        willing = [each for each, transit in self.members.items() if transit != "never" and each not in (one, other)]
        return [way for way in permutations(willing, hops) if self.holds((one, *way, other))]

    def holds(self, chain: tuple[UUID, ...]) -> bool:
        """Whether each machine of a chain reaches the next."""
        return all(self.link(a, b) for a, b in pairwise(chain))

    def burden(self, one: UUID, way: tuple[UUID, ...], other: UUID) -> tuple[int, int]:
        """By what ways of equal length are compared: the transits that are not preferred, and the round trips."""
        chain = (one, *way, other)
        trips = [self.link(a, b) or 0 for a, b in pairwise(chain)]
        return sum(self.members[each] != "always" for each in way), sum(trips)

    def ways(self, one: UUID, other: UUID) -> tuple[tuple[UUID, ...], ...] | None:
        """The ways that PATHS has for a pair."""
        record = self.records.get(path(one, NETWORK, other))
        assert record is None or isinstance(record, PathRecord)
        return None if record is None else record.ways

    def fewest(self, one: UUID, other: UUID) -> int:
        """The fewest transits that join a pair, or 0."""
        return next((hops for hops in range(1, MAX_HOPS + 1) if self.possible(one, other, hops)), 0)


class Forwarding:
    """What the agents make of the records: by which peer each machine sends to a transit address."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tables: dict[UUID, dict[tuple[UUID, UUID], UUID]] = {each: {} for each in model.members}
        for each in model.members:
            for peer in model.members:
                if model.link(each, peer):
                    self._route(each, (peer, each), peer)
        for subject, record in model.records.items():
            if isinstance(record, PathRecord):
                assert subject == path(record.machine_id, NETWORK, record.peer_id)
                for way in record.ways:
                    self._route(record.machine_id, (record.peer_id, way[-1]), way[0])
            else:
                assert subject == relay(record.machine_id, NETWORK, record.peer_id)
                for address in record.behind:
                    self._route(record.machine_id, address, record.peer_id)

    def _route(self, at: UUID, address: tuple[UUID, UUID], peer: UUID) -> None:
        """A peer's allowed IPs hold an address. An address is in those of one peer only."""
        assert self._tables[at].setdefault(address, peer) == peer, "two peers would have one address"

    def send(self, one: UUID, way: tuple[UUID, ...], other: UUID) -> None:
        """Have a packet travel a way. Each machine takes it only from the peer that has its source address."""
        source, target = (one, way[0]), (other, way[-1])
        at, came = one, None
        for following in (*way, other):
            assert self._tables[at][target] == following
            came, at = at, following
            if at != other or len(way) > 1 or came != way[-1]:
                assert self._tables[at][source] == came or at == other
        assert self._tables[other][source] == way[-1]


def random_step(model: Model, chance: random.Random, machines: list[UUID], density: float) -> None:
    """Something that may happen."""
    one, other = chance.sample(machines, 2)
    match chance.choices(("say", "enter", "leave", "drain"), (12, 3, 1, 2))[0]:
        case "say":
            rtt = chance.choice(RTT_STEPS[:4]) if chance.random() < density else None
            model.say(one, other, rtt)
            if chance.random() < 0.7:
                model.say(other, one, rtt)
        case "enter":
            model.enter(one, chance.choice(TRANSITS))
        case "leave":
            model.leave(one)
        case _:
            model.drain()
