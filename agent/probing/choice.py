"""A candidate address of a peer: how its pings went, and when another is better. Pure."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from agent.probing.outputs import CandidateStatus, Source

LOST = 3
"""Pings in a row without an answer, and a candidate does not work."""

HOLD, MOST_HELD = 3.0, 600.0
"""Seconds for which another candidate must be better than the one in use; and after many changes."""

_CALM = 20
"""Within so many times as long, a change comes soon."""

_KEEP = 3.0
"""Seconds for which a late answer is still taken."""


class Reluctance:
    """How long something must be so before it counts: twice as long after each change that came soon after another."""

    def __init__(self, seconds: float, most: float) -> None:
        self.seconds = seconds
        self._least = seconds
        self._most = most
        self._changed_at = -math.inf

    def changed(self, now: float) -> None:
        """It changed."""
        is_calm = now - self._changed_at > _CALM * self.seconds
        self.seconds = self._least if is_calm else min(self._most, 2 * self.seconds)
        self._changed_at = now


@dataclass(eq=False)
class Candidate:
    """One address at which a peer may be reached."""

    endpoint: str
    source: Source
    is_near: bool
    at: float = math.inf
    """When to ping it next."""
    ticket: int = 0
    """Changes with `at`: so what waits for the budget knows whether it is still wanted."""
    waits: bool = False
    """Its ping is due, and waits for the budget."""
    round: int = 0
    """How many pings of the burst were sent."""
    good: int = 0
    """Answers in a row."""
    lost: int = 0
    """Pings in a row without one."""
    srtt: float = 0.0
    """Seconds, smoothed (RFC 6298, section 2)."""
    variation: float = 0.0
    pinged_at: float = -math.inf
    answered_at: float = -math.inf
    heard_at: float = -math.inf
    """When a ping of the peer's came from here."""
    better_since: float | None = None
    """Since when it is better than the one in use."""
    _open: dict[int, float] = field(default_factory=dict)
    """The pings that may still be answered, with the time that they were sent."""
    _unjudged: deque[tuple[float, int]] = field(default_factory=deque)
    """The pings that may still be in time, with the time until which they are."""

    def wake(self, at: float) -> None:
        """Ping it at this time instead."""
        self.at = at
        self.ticket += 1
        self.waits = False

    def hasten(self, at: float) -> None:
        """Ping it at this time if not sooner."""
        if at < self.at:
            self.wake(at)

    @property
    def next_at(self) -> float:
        """When there is something to do next, but for what waits for the budget."""
        return min(math.inf if self.waits else self.at, self.deadline)

    @property
    def patience(self) -> float:
        """Seconds after which a ping counts as lost: 0.2 to 1."""
        if self.answered_at == -math.inf:
            return 0.5
        return min(1.0, max(0.2, self.srtt + 4 * self.variation))

    @property
    def deadline(self) -> float:
        """When the next ping counts as lost."""
        return self._unjudged[0][0] if self._unjudged else math.inf

    def pinged(self, now: float, tx: int) -> None:
        """A ping was sent."""
        self.pinged_at = now
        for old in [tx for tx, sent in self._open.items() if now - sent > _KEEP]:
            del self._open[old]
        self._open[tx] = now
        last = self._unjudged[-1][0] if self._unjudged else now
        self._unjudged.append((max(last, now + self.patience), tx))

    def answered(self, now: float, tx: int) -> bool:
        """A pong came: whether it answers one of our pings."""
        sent = self._open.pop(tx, None)
        if sent is None or now - sent > _KEEP:
            return False
        while self._unjudged and self._unjudged[0][1] not in self._open:
            self._unjudged.popleft()
        rtt = now - sent
        if self.answered_at == -math.inf:
            self.srtt, self.variation = rtt, rtt / 2
        else:
            self.variation += (abs(self.srtt - rtt) - self.variation) / 4
            self.srtt += (rtt - self.srtt) / 8
        self.answered_at = now
        self.good += 1
        self.lost = 0
        return True

    def judge(self, now: float) -> int:
        """How many pings were lost since the last call."""
        lost = 0
        while self._unjudged and self._unjudged[0][0] <= now:
            if self._unjudged.popleft()[1] in self._open:
                lost += 1
        if lost:
            self.lost += lost
            self.good = 0
            self.better_since = None
        while self._unjudged and self._unjudged[0][1] not in self._open:
            self._unjudged.popleft()
        return lost

    def restart(self, now: float) -> None:
        """Try it anew, from the first ping of a burst."""
        self.round = 0
        self.good = 0
        self.lost = 0
        self.better_since = None
        self.wake(now)

    def beats(self, other: Candidate) -> bool:
        """Whether it is better than the one in use: faster by a fifth and by 2 ms; or nearer and not slower."""
        if self.is_near and not other.is_near:
            return self.srtt <= other.srtt + 0.001
        return self.srtt < other.srtt * 0.8 and self.srtt < other.srtt - 0.002

    @property
    def is_proven(self) -> bool:
        """Whether the peer was there not long ago."""
        return self.answered_at > -math.inf and self.lost < LOST

    @property
    def result(self) -> str:
        """How the last try went, in words."""
        if self.good:
            return "answers"
        if self.answered_at > -math.inf:
            return "answers no more" if self.lost else "answered before"
        return "not tried yet" if self.pinged_at == -math.inf else "no answer"

    def status(self) -> CandidateStatus:
        """As people see it."""
        is_known = self.answered_at > -math.inf
        rtt = self.srtt * 1000 if is_known else None
        return CandidateStatus(self.endpoint, self.source, self.result, rtt, self.answered_at if is_known else None)
