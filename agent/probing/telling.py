"""What a prober says of a peer's direct path: changes only. Pure."""

from __future__ import annotations

import math
from uuid import UUID

from agent.probing.choice import Candidate, Reluctance
from agent.probing.outputs import Link, Use
from events.records import LinkState
from events.transit import keeps_step, rtt_step

_SETTLE, _MOST_SETTLED = 10.0, 600.0
"""Seconds, at least, between two reports of another round trip, or of other tries in vain; and after many."""


class Telling:
    """What was said of one peer, and what has yet to be handed on."""

    def __init__(self, machine_id: UUID) -> None:
        self.said: list[Use | Link] = []
        """What the prober has yet to hand on."""
        self.told: LinkState | None = None
        self._machine_id = machine_id
        self._told_at = -math.inf
        self._settle = Reluctance(_SETTLE, _MOST_SETTLED)

    def use(self, now: float, candidate: Candidate) -> None:
        """The peer is reached by this candidate."""
        self.said.append(Use(self._machine_id, candidate.endpoint))
        step = rtt_step(candidate.srtt * 1000)
        self._tell(now, LinkState(peer_id=self._machine_id, state="direct", rtt=step, endpoint=candidate.endpoint))

    def rtt(self, now: float, candidate: Candidate) -> None:
        """The round trip of the candidate in use was measured again."""
        told, milliseconds = self.told, candidate.srtt * 1000
        if (
            told is None
            or told.rtt is None
            or now - self._told_at < self._settle.seconds
            or keeps_step(told.rtt, milliseconds)
        ):
            return
        self._settle.changed(now)
        self._tell(now, told.model_copy(update={"rtt": rtt_step(milliseconds)}))

    def unreachable(self, now: float, candidates: tuple[Candidate, ...]) -> bool:
        """None of these works. Returns whether that is news; how they failed may be told again although it is not."""
        tried = tuple((candidate.endpoint, candidate.result) for candidate in candidates)
        told = self.told
        is_news = told is None or told.state != "unreachable"
        if not is_news:
            if (told is not None and told.tried == tried) or now - self._told_at < self._settle.seconds:
                return False
            self._settle.changed(now)
        self._tell(now, LinkState(peer_id=self._machine_id, state="unreachable", tried=tried))
        return is_news

    def _tell(self, now: float, state: LinkState) -> None:
        self.told, self._told_at = state, now
        self.said.append(Link(self._machine_id, state))
