"""Tells a peer's pings from copies of them that somebody sends again, later or from elsewhere. Pure."""

from __future__ import annotations

import math

from agent.probing.wire import Ping

_SKEW = 1.0
"""Seconds by which pings that take different ways may come in another order than they were sent."""

_FORGET = 60.0
"""Seconds without a ping of the peer's after which its clock may have been set back."""

_MOST = 64
"""Of so many pings within `_SKEW` is remembered that they came; more of them are not believed."""


class Freshness:
    """What came from one peer."""

    def __init__(self) -> None:
        self._newest_sent = -math.inf
        self._newest_heard = -math.inf
        self._came: dict[int, float] = {}

    def takes(self, now: float, ping: Ping) -> bool:
        """Whether the ping is the peer's own and not a copy, as far as can be told; then it counts as having come."""
        if now - self._newest_heard > _FORGET:
            self._newest_sent = -math.inf
            self._came.clear()
        if ping.sent < self._newest_sent - _SKEW or ping.tx in self._came or len(self._came) >= _MOST:
            return False
        self._newest_sent, self._newest_heard = max(self._newest_sent, ping.sent), now
        self._came[ping.tx] = ping.sent
        for tx in [tx for tx, sent in self._came.items() if sent < self._newest_sent - _SKEW]:
            del self._came[tx]
        return True
