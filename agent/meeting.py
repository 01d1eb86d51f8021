"""Which end of a pair begins WireGuard's first handshake, and when. Pure.

A handshake that goes astray is repeated after 5 seconds only (Rekey-Timeout; WireGuard's paper, section 6.1); and of
two that cross each other neither succeeds, because each end answers the other's and forgets its own. So WireGuard knows
a new peer, but no endpoint of it, until probes have found it; then the end with the lesser key begins. If it does not,
the other end does a little later.
"""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

TURN = 0.5
"""Seconds, once it has found the other end, for which one waits for the handshake that the other should begin."""

AWAIT = 6.0
"""Seconds for which probes may look for a peer before WireGuard tries by itself: for a burst and a way."""


def begins(own_key: str, peer_key: str) -> bool:
    """Whether this end begins."""
    return own_key < peer_key


class Meetings:
    """The peers that are awaited, and since when."""

    def __init__(self) -> None:
        self._since: dict[UUID, float | None] = {}
        self._found: dict[UUID, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def __contains__(self, machine_id: UUID) -> bool:
        return machine_id in self._since

    def __iter__(self) -> Iterator[UUID]:
        return iter(tuple(self._since))

    def expect(self, machine_id: UUID) -> None:
        """Await a peer."""
        self._since.setdefault(machine_id, None)

    def over(self, machine_id: UUID) -> None:
        """Await it no more."""
        self._since.pop(machine_id, None)
        self._found.pop(machine_id, None)

    def is_late(self, now: float, machine_id: UUID, is_found: bool) -> bool:
        """Whether a peer that is awaited has been for too long."""
        since = self._since[machine_id]
        if since is None:
            since = self._since[machine_id] = now
        if not is_found:
            self._found.pop(machine_id, None)
        elif now - self._found.setdefault(machine_id, now) >= TURN:
            return True
        return now - since >= AWAIT
