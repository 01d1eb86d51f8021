"""What a prober says: what is to be sent and done, what it found, and what it shows to people. Data types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from events.records import LinkState


@dataclass(frozen=True)
class Send:
    """Send this packet, from WireGuard's port. Best effort: what cannot be sent counts as lost."""

    endpoint: str
    packet: bytes


@dataclass(frozen=True)
class Use:
    """This is the best address of the peer now: its WireGuard endpoint, as long as it is reached directly."""

    machine_id: UUID
    endpoint: str


@dataclass(frozen=True)
class Link:
    """The direct path to the peer is so, from now on. Only changes are said."""

    machine_id: UUID
    state: LinkState


@dataclass(frozen=True)
class Observed:
    """The addresses that peers see this machine's packets come from, and that others may use too: all, sorted. Said
    when they change."""

    endpoints: tuple[str, ...]


Output = Send | Use | Link | Observed

Source = Literal["announced", "learned"]
"""Whether the peer announced a candidate, or its packets came from there."""


@dataclass(frozen=True)
class CandidateStatus:
    """A candidate as people see it."""

    endpoint: str
    source: Source
    result: str
    """How the last try went, in words: `answers`, `no answer`, `not tried yet`."""
    rtt: float | None
    """The smoothed round trip in milliseconds."""
    answered_at: float | None
    """When the last pong came, by the prober's clock."""


@dataclass(frozen=True)
class PeerStatus:
    """A peer as people see it."""

    machine_id: UUID
    state: Literal["direct", "unreachable", "searching"]
    since: float
    """By the prober's clock."""
    endpoint: str
    """The candidate in use; empty if there is none."""
    rtt: float | None
    """Milliseconds."""
    candidates: tuple[CandidateStatus, ...]
