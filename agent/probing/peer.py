"""One peer of a prober: its candidates, which of them is in use, and what was said of it. Pure.

A peer is *searched* from the first try until one answers or the burst has failed; then it is *direct* or *unreachable*.
Unreachable ones are tried in windows (`agent.probing.punching`). Of a direct one the candidate in use is watched; when
it loses a ping the others are asked too, and when it has lost three in a row the best that answered is used, or the
peer is unreachable. It is direct again after three answers in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Literal
from uuid import UUID

from agent.probing.budget import Bucket, Budget, Kind, Weight
from agent.probing.choice import HOLD, LOST, MOST_HELD, Candidate, Reluctance
from agent.probing.freshness import Freshness
from agent.probing.outputs import PeerStatus, Source
from agent.probing.punching import BURST, VERDICT, window
from agent.probing.telling import Telling
from agent.probing.wire import Ping

MAX_ANNOUNCED = 16
MAX_LEARNED = 4

_AGAIN = 3
"""Answers in a row after which a peer that was unreachable is direct."""

_QUICK = 0.15
"""Seconds between pings where something is in doubt."""

_TRIAL = 3
"""Pings to a candidate of a peer that is reached by another."""

_RECHECK = 300.0
"""Seconds, at least, until a candidate that does not work is tried again while another does."""

_FORGET = 30.0
"""Seconds after which a learned candidate that does not answer is dropped."""

_RESTIR = 5.0
"""Seconds, at least, between bursts for what a peer or its traffic does."""

_UNPROVEN, _UNPROVEN_RATE = 250, 4
"""So many pings at once, and so many more a second, go where the peer has not answered: whatever it announces, it
cannot have much sent to somebody else, nor take much of the budget from other peers."""


class Peer:
    """See the module."""

    def __init__(self, now: float, machine_id: UUID, pair: tuple[str, str], budget: Budget, chance: Random) -> None:
        """`pair` are this machine's public key and the peer's."""
        self.machine_id = machine_id
        self.pair = pair
        self.candidates: dict[str, Candidate] = {}
        self.in_use: Candidate | None = None
        self.is_busy = False
        self.telling = Telling(machine_id)
        self.dropped: list[str] = []
        """Candidates that are gone, of which the prober does not know yet."""
        self._budget = budget
        self._chance = chance
        self._since = now
        self._needed = 1
        self._burst_at = -math.inf
        self._verdict_at = math.inf
        self._window_at = math.inf
        self._failures = 0
        self._is_trying = False
        self._doubt_at: float | None = None
        self._freshness = Freshness()
        self._unproven = Bucket(_UNPROVEN, _UNPROVEN_RATE)
        self._hold = Reluctance(HOLD, MOST_HELD)

    @property
    def key(self) -> str:
        """The peer's public key."""
        return self.pair[1]

    @property
    def kind(self) -> Kind:
        """What its pings cost."""
        if self.in_use is None:
            return "lost"
        return "busy" if self.is_busy else "idle"

    # What happens to it

    def offer(self, now: float, endpoints: tuple[str, ...], is_near: Callable[[str], bool]) -> None:
        """The candidates that the peer announces now. One that is no longer announced is kept while it is in use."""
        announced = dict.fromkeys(endpoints[:MAX_ANNOUNCED])
        for candidate in list(self.candidates.values()):
            if candidate.source == "announced" and candidate.endpoint not in announced:
                if candidate is self.in_use:
                    candidate.source = "learned"
                else:
                    self._discard(candidate)
        is_new = self._burst_at == -math.inf
        for endpoint in announced:
            known = self.candidates.get(endpoint)
            if known is None:
                self._add(endpoint, "announced", is_near(endpoint)).restart(now)
                is_new = True
            else:
                known.source = "announced"
                known.is_near = is_near(endpoint)
        if self.in_use is None and is_new:
            self._failures = 0
            self.burst(now)

    def forbid(self, now: float, permits: Callable[[str], bool]) -> None:
        """Leave the candidates that cannot be the peer's any more."""
        for candidate in [each for each in self.candidates.values() if not permits(each.endpoint)]:
            self._discard(candidate)
            if candidate is self.in_use:
                self._doubt_at = -math.inf  # whatever answered last will do
                self._replace(now, candidate)

    def burst(self, now: float) -> None:
        """Try every candidate from the start."""
        for candidate in self.candidates.values():
            if candidate is not self.in_use and not candidate.good:
                candidate.restart(now)
        self._burst_at = now
        self._window_at = math.inf
        if self.in_use is None:
            self._is_trying = True
            self._verdict_at = math.inf if self.candidates else now + VERDICT

    def stir(self, now: float) -> None:
        """Something changed on this machine: see whether that changed anything here."""
        if self.in_use is None:
            self._failures = 0
            self.burst(now)
        else:
            self.in_use.hasten(now)
            self._try_others(now)

    def carry(self, now: float, is_busy: bool) -> None:
        """Its tunnel carries traffic, or no more."""
        if is_busy == self.is_busy:
            return
        self.is_busy = is_busy
        if not is_busy:
            return
        if self.in_use is not None:
            self.in_use.hasten(max(now, self.in_use.answered_at + self._budget.busy_interval()))
        elif not self._is_trying and now - self._burst_at > _RESTIR:
            self.burst(now)

    def heard(self, now: float, source: str, ping: Ping, is_near: Callable[[str], bool]) -> None:
        """A ping came from `source`; so that is a candidate, and if it is not known to work it is tried at once. A copy
        that somebody sends again teaches nothing."""
        is_fresh = self._freshness.takes(now, ping)
        candidate = self.candidates.get(source)
        if candidate is None:
            if not is_fresh or not self._has_room():
                return
            candidate = self._add(source, "learned", is_near(source))
        candidate.heard_at = now
        if self.in_use is None:
            if not self._is_trying and now - self._burst_at > _RESTIR:
                self.burst(now)
            if now - candidate.pinged_at >= _QUICK:
                candidate.hasten(now)
        elif not candidate.good and candidate is not self.in_use and now - candidate.pinged_at >= 1:
            candidate.hasten(now)

    def answered(self, now: float, tx: int) -> Candidate | None:
        """A pong came. Returns the candidate that it is of."""
        candidate = next((c for c in self.candidates.values() if c.answered(now, tx)), None)
        if candidate is None:
            return None
        if self.in_use is None:
            if candidate.good >= self._needed:
                self._adopt(now, candidate)
            else:
                candidate.hasten(now + _QUICK)
        elif candidate is self.in_use:
            if self._doubt_at is not None:
                self._doubt_at = None
                candidate.wake(now + self._interval(candidate))
            self.telling.rtt(now, candidate)
        elif candidate.good == 1 and candidate.at == math.inf:
            candidate.wake(now + self._interval(candidate))
        self._compare(now)
        return candidate

    def step(self, now: float, wall_offset: float) -> None:
        """Let time pass: see what was lost, and what is over. The wall clock shows `wall_offset` more than `now`."""
        for candidate in list(self.candidates.values()):
            if candidate.deadline <= now and candidate.judge(now):
                self._lost(now, candidate)
        if now >= self._verdict_at:
            if any(candidate.waits for candidate in self.candidates.values()):
                self._verdict_at = math.inf
            elif any(candidate.good for candidate in self.candidates.values()):
                self._verdict_at = now + 0.5
            else:
                self._give_up(now, wall_offset)
        if now >= self._window_at:
            self._failures += 1
            self.burst(now)

    def next_at(self) -> float:
        """When there is something to do next, but for what waits for the budget."""
        at = min(self._verdict_at, self._window_at)
        for candidate in self.candidates.values():
            at = min(at, candidate.next_at)
        return at

    # Its pings

    def weight(self, candidate: Candidate) -> Weight:
        """How much the next ping to this candidate matters."""
        if self.in_use is not None:
            if self._doubt_at is not None or (candidate is self.in_use and self.is_busy):
                return Weight.BUSY
            return Weight.IDLE if candidate is self.in_use or candidate.round >= _TRIAL else Weight.MORE
        if self.is_busy and candidate.round < _TRIAL:
            return Weight.BUSY
        return Weight.FIRST if candidate.round == 0 or candidate.good else Weight.MORE

    def may_ping(self, now: float, candidate: Candidate) -> bool:
        """Whether the candidate may be pinged now; if not, that is put off."""
        if candidate is self.in_use or candidate.is_proven or self._unproven.has(now):
            return True
        candidate.wake(self._unproven.next_at(now))
        return False

    def pinged(self, now: float, candidate: Candidate, tx: int) -> None:
        """A ping was sent to the candidate."""
        if candidate is not self.in_use and not candidate.is_proven:
            self._unproven.take()
        if self._is_trying and (candidate.round == 0 or self._verdict_at == math.inf):
            # Only now, because it may have waited for the budget.
            self._verdict_at = now + (VERDICT if candidate.round == 0 else 1.0)
        candidate.pinged(now, tx)
        candidate.wake(now + self._interval(candidate))
        candidate.round += 1

    def _interval(self, candidate: Candidate) -> float:
        """Seconds until the candidate's next ping."""
        if self.in_use is None:
            if candidate.good:
                return _QUICK
            return BURST[candidate.round] if candidate.round < len(BURST) else math.inf
        if candidate is not self.in_use:
            return self._interval_of_other(candidate)
        if self._doubt_at is not None:
            return _QUICK
        interval = self._budget.busy_interval() if self.is_busy else self._budget.idle_interval()
        if any(other.better_since is not None for other in self.candidates.values()):
            interval = min(interval, 1.0)
        return interval * self._chance.uniform(0.85, 1)

    def _interval_of_other(self, candidate: Candidate) -> float:
        """The same for one that is not in use, while another is."""
        if candidate.better_since is not None:
            return 1.0
        if candidate.round + 1 < _TRIAL and not candidate.good:
            return BURST[candidate.round]
        idle = self._budget.idle_interval()
        works = candidate.good or candidate.lost < LOST
        return (max(10.0, 4 * idle) if works else max(_RECHECK, 12 * idle)) * self._chance.uniform(0.85, 1)

    # What follows

    def _lost(self, now: float, candidate: Candidate) -> None:
        if candidate is not self.in_use:
            is_dead = candidate.lost >= LOST and now - max(candidate.heard_at, candidate.answered_at) > _FORGET
            if is_dead and candidate.source == "learned":
                self._discard(candidate)
            elif self._doubt_at is not None and candidate.lost < LOST:
                candidate.hasten(now)
            return
        if candidate.lost >= LOST:
            self._replace(now, candidate)
        elif self._doubt_at is None:
            self._doubt_at = now
            candidate.hasten(now)
            self._try_others(now)

    def _try_others(self, now: float) -> None:
        for other in self.candidates.values():
            if other is not self.in_use:
                other.round = min(other.round, 1)
                other.hasten(now)

    def _replace(self, now: float, lost: Candidate) -> None:
        """The candidate in use does not work any more."""
        since, self._doubt_at = self._doubt_at or now, None
        working = [c for c in self.candidates.values() if c is not lost and c.good and c.answered_at >= since]
        if working:
            self._use(now, min(working, key=_preference))
            lost.restart(now)
            return
        self.in_use = None
        self._tell_unreachable(now)
        for candidate in self.candidates.values():
            candidate.good = 0
        self.burst(now)

    def _give_up(self, now: float, wall_offset: float) -> None:
        """No candidate works. Try again in the pair's next window."""
        self._is_trying = False
        self._verdict_at = math.inf
        self._tell_unreachable(now)
        for candidate in list(self.candidates.values()):
            candidate.wake(math.inf)
            if candidate.source == "learned" and now - max(candidate.heard_at, candidate.answered_at) > _FORGET:
                self._discard(candidate)
        least = self._budget.retry_interval(max(1, len(self.candidates)) * (len(BURST) + 1))
        wall = now + wall_offset
        self._window_at = now + window(*self.pair, wall, self._failures, least) - wall

    def _tell_unreachable(self, now: float) -> None:
        self._needed = _AGAIN
        if self.telling.unreachable(now, tuple(self.candidates.values())):
            self._since = now

    def _adopt(self, now: float, candidate: Candidate) -> None:
        """The peer is direct."""
        self._is_trying = False
        self._verdict_at = self._window_at = math.inf
        self._failures = 0
        self._since = now
        self._use(now, candidate)

    def _use(self, now: float, candidate: Candidate) -> None:
        self.in_use = candidate
        self._needed = _AGAIN
        self._doubt_at = None
        for each in self.candidates.values():
            each.better_since = None
        candidate.wake(now + self._interval(candidate))
        self.telling.use(now, candidate)

    def _compare(self, now: float) -> None:
        """Whether another candidate has been better for long enough."""
        if self.in_use is None or self._doubt_at is not None:
            return
        for other in self.candidates.values():
            if other is self.in_use or not other.good or not other.beats(self.in_use):
                other.better_since = None
                continue
            if other.better_since is None:
                other.better_since = now
                other.hasten(now + 1.0)
                self.in_use.hasten(now + 1.0)
            at_start = now - self._since < 1 and other.is_near and not self.in_use.is_near
            if at_start or (other.good >= _AGAIN and now - other.better_since >= self._hold.seconds):
                self._use(now, other)
                self._hold.changed(now)
                return

    def status(self) -> PeerStatus:
        """As people see it."""
        state: Literal["direct", "unreachable", "searching"] = "direct"
        if self.in_use is None:
            state = "searching" if self.telling.told is None else "unreachable"
        return PeerStatus(
            self.machine_id,
            state,
            self._since,
            self.in_use.endpoint if self.in_use else "",
            self.in_use.srtt * 1000 if self.in_use else None,
            tuple(candidate.status() for candidate in self.candidates.values()),
        )

    # Its candidates

    def _add(self, endpoint: str, source: Source, is_near: bool) -> Candidate:
        candidate = self.candidates[endpoint] = Candidate(endpoint, source, is_near)
        return candidate

    def _discard(self, candidate: Candidate) -> None:
        candidate.wake(math.inf)
        del self.candidates[candidate.endpoint]
        self.dropped.append(candidate.endpoint)

    def _has_room(self) -> bool:
        """Makes room for a learned candidate, if need be in place of the one that was quiet for longest."""
        learned = [c for c in self.candidates.values() if c.source == "learned" and c is not self.in_use]
        if len(learned) < MAX_LEARNED:
            return True
        oldest = min(learned, key=lambda c: max(c.answered_at, c.heard_at))
        if oldest.good:
            return False
        self._discard(oldest)
        return True


def _preference(candidate: Candidate) -> tuple[bool, float]:
    return not candidate.is_near, candidate.srtt
