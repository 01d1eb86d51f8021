"""Keeps the parts of a control plane running: starts each again when it dies, and says who died and of what.

Whatever happens to one part, the others run on.
"""

from __future__ import annotations

import asyncio
import signal
import time
from typing import Protocol

import structlog

from events.errors import WireloomError

FIRST_DELAY = 0.2
LONGEST_DELAY = 10.0
SETTLED_AFTER = 20.0
"""A part that ran this many seconds is started again as promptly as the first time."""


class Part(Protocol):
    """What can be supervised: something that runs until it ends or is stopped, and can be started again."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    async def start(self) -> object:
        """Start it. Raises a `WireloomError` if that cannot be; then nothing is left running."""

    async def wait(self) -> int:
        """Its exit status once it has ended; negative for the signal that ended it."""

    async def stop(self) -> None:
        """End it in good order."""


def next_delay(previous: float, ran: float) -> float:
    """Seconds to wait before a restart, after the delay before it and a run of `ran` seconds: doubling, to a limit."""
    if previous == 0 or ran >= SETTLED_AFTER:
        return FIRST_DELAY
    return min(previous * 2, LONGEST_DELAY)


def describe_exit(status: int) -> str:
    """How a process ended, in words, from its exit status (negative: a signal)."""
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


class Supervised:
    """One part that is to run until it is told to stop."""

    def __init__(self, name: str, part: Part) -> None:
        self.name = name
        self._part = part
        self._log = structlog.get_logger("services.cli.supervisor").bind(part=name)
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it, and from now on start it again whenever it ends. Raises what its first start raises."""
        await self._part.start()
        self._log.info("started", pid=self._part.pid)
        self._watching = asyncio.create_task(self._watch(), name=f"watch the {self.name}")

    async def stop(self) -> None:
        """Stop it for good. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        await self._part.stop()

    async def _watch(self) -> None:
        delay, started = 0.0, time.monotonic()
        while True:
            why = describe_exit(await self._part.wait())
            delay = next_delay(delay, time.monotonic() - started)
            while True:
                self._log.warning(f"the {self.name} {why}, starting it again", delay=delay)
                await asyncio.sleep(delay)
                started = time.monotonic()
                try:
                    await self._part.start()
                    break
                except WireloomError as error:
                    why = f"does not start ({error})"
                    delay = next_delay(delay, 0)
            self._log.info("started again", pid=self._part.pid)
