"""What an agent's listeners share in order to believe what they hear: the shell around `agent.trust`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent.trust import Judge, Reason, Refusals
from events.bus import ask
from events.subjects import ask as ask_subject
from events.trust.signing import Ring, UntrustedRingError, read_ring

ASK_TIMEOUT = 5.0
RING_PAUSE = 3.0
"""At least so many seconds pass between two questions for the ring, whoever says what with unknown keys."""


class Belief:
    """Judges, counts what is refused, and asks for another ring where a key is not known."""

    def __init__(self, machine_id: UUID, judge: Judge, *, keep: Callable[[Ring], None], adopted: Callable[[], None]):
        """`keep` is given each newer ring that the root key has signed; then `adopted` is called."""
        self.judge = judge
        self.refusals = Refusals()
        self._ask = ask_subject(machine_id, "ring")
        self._keep = keep
        self._adopted = adopted
        self._asking = asyncio.Lock()
        self._asked = -RING_PAUSE
        self._log = structlog.get_logger("agent").bind(machine=str(machine_id))

    def refuse(self, reason: Reason, why: str, **said: str) -> None:
        """Count a record that is refused, and say so unless that was just said."""
        if self.refusals.count(reason, time.monotonic()):
            self._log.warning(
                "a record is refused",
                reason=reason,
                why=why,
                so_far=self.refusals.counts[reason],
                **said,
            )

    def adopt(self, ring: Ring) -> None:
        """Believe the keys of another ring, if the root key signed it and it is no older than the one at hand."""
        try:
            is_newer = self.judge.adopt(ring)
        except UntrustedRingError as error:
            self._log.error("the control plane's keys are refused", error=error.detail, hint=error.hint)
            return
        if is_newer:
            self._log.info("the control plane has other keys", version=ring.version)
            self._keep(ring)
            self._adopted()

    async def ask_ring(self, client: Client) -> None:
        """Ask for the ring, unless that was done since this was called; not more often than every `RING_PAUSE`.

        Raises any `WireloomError`, but none for a ring that is not to be believed.
        """
        clock = asyncio.get_running_loop().time
        called = clock()
        async with self._asking:
            if self._asked >= called:
                return
            await asyncio.sleep(max(0.0, self._asked + RING_PAUSE - clock()))
            self._asked = clock()
            answer = await ask(client, self._ask, b"", ASK_TIMEOUT)
            try:
                ring = read_ring(answer)
            except UntrustedRingError as error:
                self._log.error("the control plane's keys are refused", error=error.detail, hint=error.hint)
            else:
                self.adopt(ring)
