"""BGP speakers in a model: machines that hear plans late, sessions that take their time, reports that come later still;
and the topology's plan in the midst of it."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from itertools import count
from uuid import UUID

from events.peering import BgpPlan, Peering
from services.topology.bgp_core import Settings, next_step
from services.topology.bgp_sight import Sight

START = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
YOUNG = 6.0
"""A machine that was started less than so many seconds ago is not missed yet."""

UNNOTICED = 6.0
"""So long after a machine died a plan may come that was made before its death was told."""


def machine(number: int) -> UUID:
    """The id of a machine."""
    return UUID(int=0x1000 + number)


class Speakers:
    """One network. Time is in seconds."""

    def __init__(self, chance: random.Random) -> None:
        self.now = 0.0
        self.sight = Sight()
        self.plan = BgpPlan()
        self.settings = Settings()
        self.members: set[UUID] = set()
        self.running: dict[UUID, float] = {}
        """The machines that are alive and whose speaker runs, since when."""
        self.awake: set[UUID] = set()
        """The machines that are alive, also those without a speaker."""
        self._died: dict[UUID, float] = {}
        self.changes = 0
        """How many plans there were."""
        self._made_at = START
        self._chance = chance
        self._heard: dict[UUID, BgpPlan] = {}
        self._established: set[tuple[UUID, UUID, str]] = set()
        """The machine that opens it, the other, and what for; of the full mesh the lower id first."""
        self._told: dict[UUID, float] = {}
        self._told_plan: dict[UUID, float] = {}
        """When a machine's newest report arrives, and when it hears the newest plan."""
        self._tickets = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []

    # What happens to machines

    def start(self, one: UUID) -> None:
        """A machine joins, or its speaker is started again."""
        self.members.add(one)
        self.sight.member(one, is_member=True)
        self.running[one] = self.now
        self.awake.add(one)
        self._heard[one] = self.plan
        self._say(one, lambda: self.sight.speaker(one, "running"))
        for peer in self.members - {one}:
            self._probe(one, peer)
        self._open()

    def kill(self, one: UUID) -> None:
        """A machine falls silent. The others notice it: by BFD, and later by probing."""
        del self.running[one]
        self._died[one] = self.now
        self.awake.discard(one)
        for peer in self.awake:
            self._at(10, lambda peer=peer: self._probe(peer, one))  # type: ignore[misc]
        self._at(3, lambda: self._close(lambda ends: one in ends and one not in self.running))

    def turn_off(self, one: UUID) -> None:
        """A speaker is turned off, and says so."""
        del self.running[one]
        self._say(one, lambda: self.sight.speaker(one, "off"))
        self._close(lambda ends: one in ends)

    def leave(self, one: UUID) -> None:
        """A machine is taken out."""
        self.members.discard(one)
        self.running.pop(one, None)
        self.awake.discard(one)
        self.sight.member(one, is_member=False)
        self._close(lambda ends: one in ends)

    def want(self, *, with_reflectors: bool | None = None, pinned: Iterable[UUID] | None = None) -> None:
        """People want something else."""
        self.settings = Settings(
            self.settings.with_reflectors if with_reflectors is None else with_reflectors,
            self.settings.pinned if pinned is None else tuple(pinned),
        )

    # Time

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            self.now += 0.5
            while self._due and self._due[0][0] <= self.now:
                heapq.heappop(self._due)[2]()
            moment = START + timedelta(seconds=self.now)
            step = next_step(self.plan, self._made_at, self.settings, self.sight, moment)
            if step.plan != self.plan:
                self.plan, self._made_at = step.plan, moment
                self.changes += 1
                for one in self.running:
                    at = self._told_plan[one] = max(self._told_plan.get(one, 0), self.now + self._chance.uniform(0, 1))
                    self._at(at - self.now, lambda one=one, plan=step.plan: self._hear(one, plan))  # type: ignore[misc]

    def reached(self, only: Callable[[UUID], bool] = lambda _: True) -> set[tuple[UUID, UUID]]:
        """Who has the routes of whom, of the machines that are alive and chosen."""
        found = set()
        for origin in self.running:
            if only(origin):
                found |= {(one, origin) for one in self._learning(origin) if one != origin and only(one)}
        return found

    def everybody(self) -> set[tuple[UUID, UUID]]:
        """Every two that are alive."""
        return {(one, other) for one in self.running for other in self.running if one != other}

    # Inside

    def _hear(self, one: UUID, plan: BgpPlan) -> None:
        if one not in self.running:
            return
        before = self.reached(self._is_grown)
        self._heard[one] = plan
        self._close(lambda ends: not self._is_meant(ends))
        lost = before - self.reached(self._is_grown)
        assert not lost or self._all_just_died(plan.reflectors), (
            f"{one} heard {plan} and {len(lost)} lost routes, such as {min(lost)}"
        )
        self._open()

    def _all_just_died(self, reflectors: Iterable[UUID]) -> bool:
        """Whether no reflector is left, and of one nobody can know that yet: such a loss is not the plan's fault."""
        is_left = any(one in self.running for one in reflectors)
        return not is_left and any(self.now - self._died.get(one, -UNNOTICED) < UNNOTICED for one in reflectors)

    def _is_grown(self, one: UUID) -> bool:
        return self.now - self.running[one] > YOUNG

    def _learning(self, origin: UUID) -> set[UUID]:
        """Who learns what a machine announces (RFC 4456, section 6)."""
        learnt, waiting = {origin}, [(origin, True)]
        seen = set(waiting)
        while waiting:
            one, tells_all = waiting.pop()
            for opener, other, kind in self._established:
                if one not in (opener, other):
                    continue
                peer = other if one == opener else opener
                is_my_client = kind == "client" and one == other
                if peer not in self.running or not (tells_all or is_my_client):
                    continue
                learnt.add(peer)
                then = (peer, kind == "client" and peer == other)
                # Who is no reflector tells nobody what he learns; a reflector tells at least his clients.
                if self._heard[peer].stage != "mesh" and peer in self._heard[peer].reflectors and then not in seen:
                    seen.add(then)
                    waiting.append(then)
        return learnt

    def _wants(self, one: UUID) -> set[Peering]:
        return self._heard[one].sessions(one, self.members)

    def _is_meant(self, ends: tuple[UUID, UUID, str]) -> bool:
        opener, other, kind = ends
        if opener not in self.running or other not in self.running:
            return True  # nobody closes it; that nothing is heard does
        mine, theirs = ("mesh", "mesh") if kind == "mesh" else ("client", "reflector")
        return (other, mine) in self._wants(opener) and (opener, theirs) in self._wants(other)

    def _open(self) -> None:
        for one in self.running:
            for peer, kind in self._wants(one):
                ends = (min(one, peer), max(one, peer), kind) if kind == "mesh" else (one, peer, kind)
                if kind != "reflector" and ends not in self._established and peer in self.running:
                    self._at(self._chance.uniform(0.5, 5), lambda ends=ends: self._come_up(ends))  # type: ignore[misc]

    def _come_up(self, ends: tuple[UUID, UUID, str]) -> None:
        are_there = ends[0] in self.running and ends[1] in self.running and set(ends[:2]) <= self.members
        if are_there and ends not in self._established and self._is_meant(ends):
            self._established.add(ends)
            self._say_of(ends, is_established=True)

    def _close(self, chosen: Callable[[tuple[UUID, UUID, str]], bool]) -> None:
        for ends in [ends for ends in sorted(self._established) if chosen(ends)]:
            self._established.discard(ends)
            self._say_of(ends, is_established=False)

    def _say_of(self, ends: tuple[UUID, UUID, str], *, is_established: bool) -> None:
        opener, other, kind = ends
        mine, theirs = ("mesh", "mesh") if kind == "mesh" else ("client", "reflector")
        for one, peer, purpose in ((opener, other, mine), (other, opener, theirs)):
            self._say(one, lambda one=one, peer=peer, purpose=purpose: self.sight.session(  # type: ignore[misc]
                one, peer, purpose, is_established=is_established  # type: ignore[arg-type]
            ))  # fmt: skip

    def _probe(self, one: UUID, peer: UUID) -> None:
        """Both ends find whether there is a direct path, as far as they are there."""
        is_direct = one in self.awake and peer in self.awake
        for mine, theirs in ((one, peer), (peer, one)):
            if mine in self.awake:
                self._say(mine, lambda mine=mine, theirs=theirs: self.sight.link(mine, theirs, is_direct=is_direct))  # type: ignore[misc]

    def _say(self, one: UUID, report: Callable[[], None]) -> None:
        """A machine's reports arrive in the order in which it makes them; those of one that is dead never do."""
        if one not in self.awake:
            return
        at = max(self._told.get(one, 0.0), self.now + self._chance.uniform(0.1, 1))
        self._told[one] = at
        self._at(at - self.now, report)

    def _at(self, seconds: float, what: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._tickets), what))
