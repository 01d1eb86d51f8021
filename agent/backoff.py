"""Waiting between tries."""

from __future__ import annotations

import asyncio
from random import SystemRandom

_random = SystemRandom()


class Backoff:
    """Waits longer from try to try, each time by chance a little more or less, so that many agents spread out."""

    def __init__(self, first: float, longest: float) -> None:
        """Seconds, both."""
        self._first = first
        self._longest = longest
        self._next = first

    def reset(self) -> None:
        """A try succeeded."""
        self._next = self._first

    async def wait(self) -> None:
        """Wait before the next try."""
        pause = self._next * _random.uniform(0.5, 1.5)
        self._next = min(self._next * 2, self._longest)
        await asyncio.sleep(pause)
