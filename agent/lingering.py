"""Ways that a record names no more, and that stay for a moment. Pure.

The two ends of a pair hear of other ways at moments that differ a little, and packets are under way. So the way in use
stays in use until the other end knows the new ones too, and is taken away only when nothing comes by it any more. And
where ways are taken back because the direct path is there, but it is not (any more), they stay until it is: who took
them back may have heard of that too late, and may not be there to say otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from agent.paths import Way
from events.records import PathRecord

OVERLAP = 1.0
"""Seconds for which a way in use stays in use, if it works."""

LINGER = 5.0
"""Seconds after which it is taken away."""


@dataclass(slots=True)
class _Leaving:
    record: PathRecord
    ways: tuple[Way, ...]
    until_found: bool
    since: float | None = None


class Lingering:
    """The ways that are to go, by peer."""

    def __init__(self) -> None:
        self._leaving: dict[UUID, _Leaving] = {}

    def begin(self, record: PathRecord, ways: tuple[Way, ...], *, until_found: bool) -> None:
        """The record does not name these ways of its peer, which are there now. They may go only when the peer is found
        directly, if `until_found`."""
        self._leaving[record.peer_id] = _Leaving(record, ways, until_found)

    def end(self, peer_id: UUID) -> PathRecord | None:
        """They are gone. Returns what the record says of the peer, if something was to go."""
        leaving = self._leaving.pop(peer_id, None)
        return leaving.record if leaving is not None else None

    def peers(self) -> tuple[UUID, ...]:
        """Those of whom ways are to go."""
        return tuple(self._leaving)

    def holds(self, now: float | None, peer_id: UUID, way: Way) -> bool:
        """Whether a way that is in use is to stay so for now; None for a moment that is not known."""
        leaving = self._leaving.get(peer_id)
        if leaving is None or way not in leaving.ways:
            return False
        return now is None or leaving.since is None or now - leaving.since < OVERLAP

    def is_leaving(self, peer_id: UUID, way: Way) -> bool:
        """Whether a way is to go in any case, and no packet should be sent by it that can go elsewhere, or nowhere."""
        leaving = self._leaving.get(peer_id)
        return leaving is not None and not leaving.until_found and way in leaving.ways

    def is_over(self, now: float, peer_id: UUID, *, is_lost: bool) -> bool:
        """Whether the ways are to be taken away. `is_lost`: probes do not find the peer."""
        leaving = self._leaving[peer_id]
        if leaving.since is None or (leaving.until_found and is_lost):
            leaving.since = now
        return now - leaving.since >= LINGER
