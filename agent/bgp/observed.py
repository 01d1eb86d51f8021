"""What is seen of the machine's BGP speaker, as one value. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from events.records import RibRoute, SessionState, SpeakerState


@dataclass(frozen=True, slots=True)
class NetworkObservation:
    """What the speaker does in one network."""

    sessions: tuple[SessionState, ...] = ()
    """By peer and purpose."""
    rib: tuple[RibRoute, ...] = ()
    """After the import policy; what the machine itself announces, too. In the order of prefixes, the best first."""


@dataclass(frozen=True, slots=True)
class Observation:
    """All that is seen of the speaker at one moment."""

    speaker: SpeakerState
    """Without what only others know: `announced` and `vips` are empty."""
    networks: Mapping[UUID, NetworkObservation] = field(default_factory=dict)
    """For each network of the intent that is in effect. Empty while the speaker does not run."""
