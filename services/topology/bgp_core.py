"""The plan of a network's BGP sessions: which machines are reflectors, and how one gets there from what is. Pure.

A plan is left only for one that costs nobody anything: what is added comes first, and what it takes the place of goes
when all that are alive have what they need instead. So a network is *switching*, with the sessions of both kinds, until
each of its machines has those of the kind that it is to keep; and a reflector that takes another's place is one beside
it, until all are its clients. A reflector that is gone has no sessions left that anybody could lose.

What machines report comes a moment after what they do. So for `DWELL` after each plan nothing is taken away, lest what
is reported of the plan before be taken for what is.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from events.peering import BgpPlan
from events.routing import DEFAULT_REFLECTORS, MIN_REFLECTORS
from services.topology.bgp_sight import GONE_AFTER, Machines, Sight, each

DWELL = timedelta(seconds=3)
"""So long after a plan was made nothing is taken away."""

PATIENCE = timedelta(seconds=30)
"""After so long one reflector of those that a machine is to have is enough for going on."""


class Settings(NamedTuple):
    """What people want of a network."""

    with_reflectors: bool = False
    pinned: tuple[UUID, ...] = ()


class Step(NamedTuple):
    """What is to be now, and when to look again, if nothing is told: None for not at all."""

    plan: BgpPlan
    look_at: datetime | None


def next_step(plan: BgpPlan, made_at: datetime, settings: Settings, sight: Sight, now: datetime) -> Step:
    """The plan that is to follow the one that was made at `made_at`, or the same."""
    look_at = sight.look(now)
    step = _Stepping(plan, settings, sight, now, now - made_at)
    after = step.next()
    times = [look_at, made_at + DWELL, made_at + PATIENCE] if step.is_waiting or after != plan else [look_at]
    return Step(after, min((moment for moment in times if moment is not None and moment > now), default=None))


def settled(plan: BgpPlan, settings: Settings, sight: Sight, now: datetime) -> BgpPlan:
    """The plan at which a network comes to rest in the end, if nothing else is told from now on and each machine does
    as it should. Who seems to be gone now counts as gone."""
    sight.look(now - GONE_AFTER)
    sight.look(now)
    return _Stepping(plan, settings, sight, now, PATIENCE).settled()


class _Stepping:
    """One step, and what it is made from."""

    def __init__(self, plan: BgpPlan, settings: Settings, sight: Sight, now: datetime, age: timedelta) -> None:
        self.is_waiting = False
        """Whether there is a plan to go on to once it costs nobody anything."""
        self._plan = plan
        self._sight = sight
        self._now = now
        self._age = age
        self._present = sight.bits(plan.reflectors) & sight.members
        self._live = sight.live(now, self._present)
        self._proven = self._present | sight.serving(self._live)
        self._wanted = self._choose(settings.pinned) if settings.with_reflectors else 0
        self._with_reflectors = settings.with_reflectors

    def next(self) -> BgpPlan:
        """The plan that is to be."""
        if not self._with_reflectors:
            return self._towards_mesh()
        if not self._live:
            return self._plan
        return self._towards_reflectors()

    def settled(self) -> BgpPlan:
        """The plan that comes of all steps."""
        if not self._with_reflectors:
            return BgpPlan()
        if not self._live or (self._plan.stage == "mesh" and self._wanted.bit_count() < MIN_REFLECTORS):
            return self._plan
        return BgpPlan("reflectors", self._sight.named(self._wanted))

    def _towards_mesh(self) -> BgpPlan:
        if self._plan.stage == "reflectors":
            return BgpPlan("switching", self._plan.reflectors)
        if self._plan.stage == "switching":
            if self._age >= DWELL and self._sight.has_full_mesh(self._live):
                return BgpPlan()
            self.is_waiting = True
        return self._plan

    def _towards_reflectors(self) -> BgpPlan:
        wanted, stage = self._wanted, self._plan.stage
        if stage == "mesh":
            enough = wanted.bit_count() >= MIN_REFLECTORS
            return BgpPlan("switching", self._sight.named(wanted)) if enough else self._plan
        reflectors = self._without_superfluous(self._present | wanted)
        self.is_waiting = reflectors != wanted
        if stage == "switching" and reflectors == wanted:
            if self._age >= DWELL and self._is_ready(wanted):
                stage = "reflectors"
            else:
                self.is_waiting = True
        return BgpPlan(stage, self._sight.named(reflectors))

    def _without_superfluous(self, reflectors: Machines) -> Machines:
        """The reflectors without those that are not wanted and that nobody needs any more."""
        wanted = self._wanted
        if self._age >= DWELL and self._is_ready(wanted):
            return wanted
        return sum(1 << one for one in each(reflectors) if wanted >> one & 1 or self._is_needed(one, wanted))

    def _is_needed(self, number: int, wanted: Machines) -> bool:
        """Whether a reflector that is not wanted has to stay: it is alive, or somebody would lose his only one."""
        if self._live >> number & 1:
            return True
        return any(
            not self._sight.lacks(machine, 1 << number) and self._sight.lacks(machine, wanted) == wanted
            for machine in each(self._live & ~wanted)
        )

    def _is_ready(self, wanted: Machines) -> bool:
        """Whether all that are alive have sessions with these reflectors: each with all of them, or if that takes too
        long each with one of them; these with each other in any case. Who reaches nobody cannot have any."""
        joined = self._live & ~self._sight.lonely(self._live)
        wanted &= joined
        for number in each(joined):
            lacking = self._sight.lacks(number, wanted)
            is_reflector = wanted >> number & 1
            if lacking and (is_reflector or self._age < PATIENCE or lacking == wanted):
                return False
        return True

    def _choose(self, pinned: tuple[UUID, ...]) -> Machines:
        """Who is to be reflector: the pinned ones that are alive, and as many others as are missing."""
        live = self._live
        chosen = self._sight.bits(pinned) & live
        size = max(MIN_REFLECTORS, chosen.bit_count()) if chosen else DEFAULT_REFLECTORS
        others = sorted(each(live & ~chosen), key=self._rank)
        return chosen | sum(1 << number for number in others[: size - chosen.bit_count()])

    def _rank(self, number: int) -> tuple[bool, bool, int, bytes]:
        """The lower, the better a reflector: within reach of most; one already, or that most have as one, should the
        plan be lost; with many direct links; else by lot."""
        is_remote = bool(self._sight.remote(self._now) >> number & 1)
        is_proven = bool(self._proven >> number & 1)
        lot = hashlib.sha256(b"reflector" + self._sight.ids[number].bytes).digest()
        return is_remote, not is_proven, -self._sight.linked(number, self._live), lot
