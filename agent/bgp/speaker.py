"""The machine's BGP speaker: brings BIRD to what is intended, and tells what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from shutil import which

from agent.bgp.intent import BgpIntent
from agent.bgp.observed import Observation
from events.records import SpeakerState

HOW_TO_INSTALL = "BIRD 2 is not installed on this machine. Install it (Debian, Ubuntu: apt install bird2)."


class Speaker:
    """One BIRD of the agent's own. `run` is its whole life.

    BIRD outlives the agent: the next one adopts it by its control socket, and no session is lost.
    """

    def __init__(self, run_folder: Path, on_state: Callable[[Observation], None]) -> None:
        """`run_folder` is the speaker's own; it is made if need be. `on_state` is called, in the event loop, with each
        observation that differs from the one before."""
        self._folder = run_folder
        self._on_state = on_state
        self._intent: BgpIntent | None = None
        self._changed = asyncio.Event()
        self._observation: Observation | None = None

    def apply(self, intent: BgpIntent) -> None:
        """Intend this from now on. Returns at once; what came of it is told to `on_state`. Idempotent.

        An intent without networks stops BIRD. The interfaces that it names should be there.
        """
        if intent != self._intent:
            self._intent = intent
            self._changed.set()

    async def run(self) -> None:
        """Bring BIRD to what is intended, and keep it there, until cancelled. BIRD goes on then."""
        while True:
            await self._changed.wait()
            self._changed.clear()
            if self._intent is not None and self._intent.networks and which("bird") is None:
                self._tell(SpeakerState(state="off", reason=HOW_TO_INSTALL, since=datetime.now(UTC)))

    async def stop(self) -> None:
        """Stop BIRD and take its routes out of the kernel: the machine leaves its last network. Call it once `run`
        has ended."""

    def _tell(self, speaker: SpeakerState) -> None:
        self._observation = Observation(speaker)
        self._on_state(self._observation)
