"""The machine's BGP speaker: brings BIRD to what is intended, and tells what is seen of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal
from uuid import UUID

import structlog

from agent.bgp.config import LOG_FILE, render
from agent.bgp.control import CommandError, Control, ControlError, connected
from agent.bgp.intent import BgpIntent
from agent.bgp.journal import Journal
from agent.bgp.observed import NetworkObservation, Observation
from agent.bgp.parse import read_started
from agent.bgp.ports import taken
from agent.bgp.process import Bird, BirdError, RefusedError, ended
from agent.bgp.releasing import Releasing
from agent.bgp.watching import Watch
from events.records import SpeakerState

HOW_TO_INSTALL = "BIRD 2 is not installed on this machine. Install it (Debian, Ubuntu: apt install bird2)."
_SOON = 0.5
_GLANCE = 2.0
"""Seconds between looks at whether anything has changed: they cost BIRD a few lines for each network."""
_LONGEST_QUIET = 30.0
"""Seconds after which everything is looked at, whether or not anything seems to have changed."""
_LONG_GLANCE = 30.0
"""Seconds until BIRD is tried again that is not installed, or did not start."""
_MOURNING = 3.2
"""Seconds from BIRD's death to its next life. The others hold its routes meanwhile (graceful restart). By then their
BFD has found out that it was gone; if they found out later, they would end the sessions that it has begun anew."""
_LONGEST_MOURNING = 60.0
_GIVE_UP = 3
"""So many looks in a row without an answer, and BIRD is ended."""
_NONE: Mapping[UUID, NetworkObservation] = {}


class Speaker:
    """One BIRD of the agent's own. `run` is its whole life.

    BIRD outlives the agent: the next one adopts it by its control socket, and no session is lost.
    """

    def __init__(self, run_folder: Path, on_state: Callable[[Observation], None]) -> None:
        """`run_folder` is the speaker's own; it is made if need be. `on_state` is called, in the event loop, with each
        observation that differs from the one before."""
        self._bird = Bird(run_folder)
        self._on_state = on_state
        self._intent: BgpIntent | None = None
        self._effective = BgpIntent()
        """What the configuration in place was written from."""
        self._releasing = Releasing()
        self._changed = asyncio.Event()
        self._observation: Observation | None = None
        self._journal = Journal(run_folder / LOG_FILE)
        self._complaint = ""
        """Why what is intended is not in effect."""
        self._version = ""
        self._started = datetime.now(UTC)
        self._mourning = _MOURNING
        self._revive = False
        """Whether there is a BIRD to follow on from."""
        self._log = structlog.get_logger("agent").bind(part="bgp")

    def apply(self, intent: BgpIntent) -> None:
        """Intend this from now on. Returns at once; what came of it is told to `on_state`. Idempotent.

        An intent without networks stops BIRD, so give one only if the machine is in none. The interfaces that it names
        should be there, and have their addresses.
        """
        if intent != self._intent:
            self._intent = intent
            self._changed.set()

    def lose(self, gone: Mapping[UUID, Collection[UUID]]) -> None:
        """These machines, by network, are not reached in any way: do not hold their routes when their sessions end."""
        if gone != self._releasing.gone:
            self._releasing.gone = gone
            self._changed.set()

    async def run(self) -> None:
        """Bring BIRD to what is intended, and keep it there, until cancelled. BIRD goes on then."""
        while True:
            if self._intent is None:
                await self._wait(None)
            elif not self._intent.networks:
                await self._bird.stop()
                self._observation, self._revive = None, False
                await self._wait(None)
            elif not Bird.is_installed() and await self._bird.find() is None:
                self._tell("off", HOW_TO_INSTALL)
                await self._wait(_LONG_GLANCE)
            else:
                await self._live(self._intent)

    async def stop(self) -> None:
        """Stop BIRD and take its routes out of the kernel: the machine leaves its last network. Only while `run` does
        not run. A speaker that was just made may do it, too."""
        await self._bird.stop()

    async def _wait(self, longest: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(longest):
                await self._changed.wait()
        self._changed.clear()

    # -- a life of BIRD

    async def _live(self, intent: BgpIntent) -> None:
        """From BIRD's start, or from when it is found running, to its end."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            pid = await self._begin(intent)
        except BirdError as error:
            self._log.error("BGP does not run", error=error.detail)
            self._tell("failed", error.detail)
            await self._wait(_LONG_GLANCE)
        else:
            death = loop.create_task(ended(pid))
            death.add_done_callback(lambda _: self._changed.set())
            try:
                await self._tend(pid, death)
            finally:
                death.cancel()
            if not death.done():
                return  # the machine has left its last network
            self._revive = True
            self._log.warning("BIRD has ended; it is started again", pid=pid)
            self._tell("failed", "BIRD has ended; it is started again.")
            self._mourning = _MOURNING if loop.time() - begun > _LONGEST_MOURNING else self._mourning
            await asyncio.sleep(self._mourning)
            self._mourning = min(2 * self._mourning, _LONGEST_MOURNING)

    async def _begin(self, intent: BgpIntent) -> int:
        pid = await self._bird.find()
        self._journal.skip()
        if pid is not None:
            self._log.info("BIRD runs already", pid=pid)
            await self._configure(intent, anyway=True)
        else:
            await self._place(intent)
            pid = await self._bird.start(recover=self._revive or self._bird.died)
            self._log.info("BIRD is started", pid=pid)
        return pid

    async def _place(self, intent: BgpIntent) -> bool:
        """Put the configuration in place. Returns whether it is another. What BIRD finds a fault in is not used: the
        one before stays in place. If there is none, raises RefusedError."""
        before, wanted = self._bird.configuration(), render(intent)
        if wanted != before:
            try:
                await self._bird.place(wanted)
            except RefusedError as error:
                self._complaint = f"{error.detail} The one before stays in use."
                self._log.error("BIRD refuses its configuration", error=error.detail)
                if not before:
                    raise
                return False
        self._complaint = ""
        self._effective = intent
        return wanted != before

    async def _configure(self, intent: BgpIntent, anyway: bool = False) -> None:
        """Let a running BIRD do as intended: sessions that the change is not about stay as they are."""
        with suppress(RefusedError):
            anyway |= await self._place(intent)
        if not anyway:
            return
        try:
            async with connected(self._bird.socket) as control:
                await control.ask("configure")
        except ControlError as error:
            self._complaint = error.detail
            self._log.error("BIRD does not take its configuration", error=error.detail)

    async def _tend(self, pid: int, death: asyncio.Task[None]) -> None:
        """Until BIRD ends, or the machine is in no network any more."""
        loop = asyncio.get_running_loop()
        watch, misses = Watch(), 0
        intent = self._intent
        due = whole_due = loop.time()
        while not death.done():
            if self._intent != intent and self._intent is not None:
                intent = self._intent
                if not intent.networks:
                    return
                await self._configure(intent)
                due = whole_due = min(due, loop.time() + _SOON)
            if loop.time() >= due:
                is_whole = self._pass_on_journal() or loop.time() >= whole_due
                try:
                    await self._look(watch, is_whole)
                    misses = 0
                except ControlError as error:
                    misses += 1
                    self._log.warning("BIRD does not answer", error=error.detail)
                    if misses >= _GIVE_UP:
                        await self._bird.kill(pid)
                due = loop.time() + (_SOON if self._releasing.is_due else _GLANCE)
                whole_due = loop.time() + _LONGEST_QUIET if is_whole else whole_due
            await self._wait(max(0.0, due - loop.time()))

    async def _look(self, watch: Watch, whole: bool) -> None:
        async with connected(self._bird.socket) as control:
            if whole:
                status = await control.ask("show status")
                self._version = control.version
                self._started = read_started(line.text for line in status) or self._started
            await self._releasing.release(control, self._effective)
            await watch.look(control, self._effective, whole)
            complaint = self._complaint or await self._listen(control, watch)
        self._tell("running", complaint, watch.networks)

    async def _listen(self, control: Control, watch: Watch) -> str:
        """Let what had no port begin once that is free. Returns why it cannot."""
        if complaint := taken(self._effective, watch.unheard):
            return complaint
        for name in watch.deaf:
            with suppress(CommandError):  # it has just gone
                await control.ask(f'enable "{name}"')
        return ""

    def _pass_on_journal(self) -> bool:
        """Log what BIRD says. Returns whether it said anything."""
        entries = self._journal.news()
        for entry in entries:
            getattr(self._log, entry.level)(f"bird: {entry.text}")
        return bool(entries)

    def _tell(
        self,
        state: Literal["running", "off", "failed"],
        reason: str = "",
        networks: Mapping[UUID, NetworkObservation] = _NONE,
    ) -> None:
        before = self._observation.speaker if self._observation is not None else None
        if state == "running":
            since = self._started
        else:
            since = before.since if before is not None and before.state == state else datetime.now(UTC)
        speaker = SpeakerState(state=state, reason=reason[:500], version=self._version, since=since)
        observation = Observation(speaker, networks)
        if observation != self._observation:
            self._observation = observation
            self._on_state(observation)
