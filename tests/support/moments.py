"""Moments of a random story, without a bus: what was decided, what machines reported, and what followed."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID

from events.client import Entry
from events.peering import BgpPlan
from events.records import BgpEvent, LinkState, ReachEvent, Record, SessionState
from events.routing import PlanStage, SessionKind
from events.state import decode_record, encode_record
from events.subjects import bgp_plan, reach
from events.transit import RTT_STEPS
from services.gateway.bgp import subject_of
from services.gateway.findings import Findings
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence
from services.topology.core import Topology
from services.topology.past.ways import ways_of
from services.topology.shelf import Shelf
from tests.support.histories import History

TIME = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
BOOT = UUID(int=1)


class Moment:
    """The mesh at one moment. See `services.gateway.seen.Seen`."""

    is_past = True

    def __init__(self, mirror: Mirror, tracks: Findings) -> None:
        self.mirror = mirror
        self.presence = Presence()
        self.tracks = tracks

    def now(self) -> datetime:
        """The moment."""
        return TIME

    async def look_into(self, network_ids: Iterable[UUID]) -> None:
        """Everything is known."""


class Tale:
    """A history and what machines report meanwhile, both growing."""

    def __init__(self, seed: int = 0, members: int | None = None) -> None:
        """`members` are in its network from the beginning; None for some."""
        self.history = History(seed)
        self.links: list[Entry] = []
        self.sessions: list[tuple[int, BgpEvent]] = []
        self.plans: dict[UUID, BgpPlan] = {}
        self._random = random.Random(seed)
        self._sequence = 0
        self.home = self.history.create_network()
        for number in range(self._random.choice((3, 4, 5, 11)) if members is None else members):
            self.join_to(self.home, f"m-{number}")

    def join_to(self, network_id: UUID, hostname: str) -> UUID:
        """A new machine in a network, which has announced its key."""
        machine_id = self.history.register_machine(hostname)
        self.history.assign(network_id, machine_id)
        self.history.announce(network_id, machine_id)
        return machine_id

    def step(self) -> None:
        """Something happens: an event, or a report."""
        members = [(network, one) for network, all_in in self.history.networks.items() for one in all_in]
        pairs = [(network, one, other) for network, one in members for where, other in members if where == network]
        pairs = [each for each in pairs if each[1] != each[2]]
        match self._random.choices(("event", "link", "session", "plan"), (5, 8, 3, 1))[0]:
            case "link" if pairs:
                steps = (None, *RTT_STEPS[:3])
                network, one, other = self._random.choice(pairs)
                rtts = [self._random.choice(steps)] * 2 if self._random.random() < 0.8 else [None, 1]
                self.link(network, one, other, rtts[0])
                self.link(network, other, one, rtts[1])
            case "session" if pairs:
                network, one, other = self._random.choice(pairs)
                kind: SessionKind = self._random.choice(("mesh", "client", "reflector"))
                self.session(network, one, other, self._random.choice(("established", "active", "gone")), kind)
            case "plan" if members:
                network, _ = self._random.choice(members)
                chosen = self._random.sample(sorted(self.history.networks[network]), 1)
                stage: PlanStage = self._random.choice(("mesh", "switching", "reflectors"))
                self.plans[network] = BgpPlan() if stage == "mesh" else BgpPlan(stage, frozenset(chosen))
            case _:
                self.history.step()

    def link(self, network_id: UUID, one: UUID, other: UUID, rtt: int | None) -> None:
        """A machine reports its link to another: a round trip, or None for no direct path."""
        self._sequence += 1
        state = LinkState(peer_id=other, state="unreachable" if rtt is None else "direct", rtt=rtt)
        event = ReachEvent(
            network_id=network_id, machine_id=one, boot_id=BOOT, counter=self._sequence, time=TIME, link=state
        )
        subject = reach(network_id, one, other)
        self.links.append(Entry(self._sequence, subject, b"", event.model_dump_json().encode()))

    def session(self, network_id: UUID, one: UUID, other: UUID, state: str, purpose: SessionKind = "mesh") -> None:
        """A machine reports its BGP session with another."""
        self._sequence += 1
        body = SessionState.model_validate({"peer_id": other, "purpose": purpose, "state": state, "since": TIME})
        event = BgpEvent(
            network_id=network_id, machine_id=one, boot_id=BOOT, counter=self._sequence, time=TIME, state=body
        )
        self.sessions.append((self._sequence, event))

    def moment(self) -> Moment:
        """As it is now."""
        topology, shelf, mirror, tracks = Topology(), Shelf(), Mirror(), Findings()
        for sequence, event in enumerate(self.history.events, 1):
            shelf.take(topology.apply(sequence, event))
        for subject, payload in shelf.contents().items():
            mirror.apply(subject, payload)
        for sequence, report in self.sessions:
            tracks.take_bgp(subject_of(report), sequence, report.model_dump_json().encode())
        for network_id in topology.networks:
            reports = [entry for entry in self.links if entry.subject.startswith(f"reach.{network_id}.")]
            for entry in reports:
                tracks.take_reach(entry.subject, entry.sequence, entry.data)
            newest = sorted({entry.subject: entry for entry in reports}.values())
            for subject, payload in ways_of(topology, network_id, newest):
                tracks.take_path(subject, decode_record(payload))
            if plan := self.plans.get(network_id):
                body = plan.record(network_id)
                record = Record(revision=1, previous=0, cause=1, time=TIME, body=body)
                tracks.take_path(bgp_plan(network_id), decode_record(encode_record(record)))
        return Moment(mirror, tracks)
