"""How many probe packets a machine sends, whatever the number of its networks and peers. Pure.

No second, wherever it begins, holds more than `LIMIT` packets, pings and pongs together, of which no more than half are
pongs. What matters more has a reserve: it still goes when the rest has to wait.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Literal

Kind = Literal["busy", "idle", "lost"]
"""What a peer counts as: reached directly, with or without traffic, or not reached."""

LIMIT = 100
"""Packets a second."""

_BUSY_PINGS = 20
_IDLE_PINGS = 10
_RETRY_PINGS = 10
"""Pings a second that watching tunnels with and without traffic, and trying again, should take: intervals grow."""


_SHARE = 4
"""So many pongs to one peer leave one more for the others."""


class Weight(IntEnum):
    """What matters more, first."""

    BUSY = 0
    """Tunnels with traffic, and those that are being lost."""
    ANSWER = 1
    """Pongs."""
    FIRST = 2
    """The first try of a candidate."""
    MORE = 3
    """Further tries."""
    IDLE = 4
    """Tunnels without traffic."""


class Bucket:
    """So much at once, and so much more with every second."""

    def __init__(self, room: float, rate: float) -> None:
        self._room = room
        self._rate = rate
        self._level = self._room
        self._time = float("-inf")

    def _fill(self, now: float) -> None:
        if now > self._time:
            gained = 0.0 if self._time == float("-inf") else (now - self._time) * self._rate
            self._level = min(self._room, self._level + gained)
            self._time = now

    def has(self, now: float, reserve: float = 0.0) -> bool:
        """Whether there is one to take, and the reserve besides."""
        self._fill(now)
        return self._level >= 1 + reserve

    def take(self) -> None:
        """Take one."""
        self._level -= 1

    def next_at(self, now: float, reserve: float = 0.0) -> float:
        """When there will be one to take: now, if there is."""
        self._fill(now)
        missing = 1 + reserve - self._level
        return now + missing / self._rate + 1e-6 if missing > 0 else now


class Budget:
    """The packets that all of a machine's probers may send together. Counts the peers that share it."""

    def __init__(self, limit: float = LIMIT) -> None:
        # What a bucket holds when full, and what runs in during a second, are the limit together.
        self._all = Bucket(limit / 5, limit * 4 / 5)
        self._answers = Bucket(limit / 10, limit * 2 / 5)
        self._step = limit / 50
        self.peers: dict[Kind, int] = {"busy": 0, "idle": 0, "lost": 0}
        """How many peers share it."""

    def change(self, kind: Kind | None, by: int) -> None:
        """There are so many peers more of a kind."""
        if kind is not None:
            self.peers[kind] += by

    def take(self, now: float, weight: Weight) -> bool:
        """Whether a packet may be sent now; if so, it counts as sent."""
        if not self._all.has(now, weight * self._step):
            return False
        self._all.take()
        return True

    def take_answer(self, now: float, weight: Weight, before: int) -> bool:
        """The same for a pong to a peer that was given so many `before` in this second: who asks more than others has
        to wait for them."""
        if not self._answers.has(now, weight * self._step + before / _SHARE) or not self.take(now, weight):
            return False
        self._answers.take()
        return True

    def next_at(self, now: float, weight: Weight) -> float:
        """When a packet of this weight may be sent, if nothing else is."""
        return self._all.next_at(now, weight * self._step)

    def busy_interval(self) -> float:
        """Seconds between two pings of a tunnel with traffic: a half for up to ten such."""
        return max(0.5, self.peers["busy"] / _BUSY_PINGS)

    def idle_interval(self) -> float:
        """Seconds between two pings of a tunnel without traffic: 2 to 25, as a NAT's memory needs, for up to 250."""
        idle = self.peers["idle"]
        return max(idle / _IDLE_PINGS, min(25.0, 2 + idle / 5))

    def retry_interval(self, pings: int) -> float:
        """At least so many seconds between two bursts of `pings` at a peer that is not reached."""
        return self.peers["lost"] * pings / _RETRY_PINGS
