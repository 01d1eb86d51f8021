"""What a view is made from: the present, or a moment that is past. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.gateway.findings import Findings
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence


class Seen(Protocol):
    """The mesh as it is seen at one moment. `services.gateway.http.changes.Gateway` is the present,
    `services.gateway.past.Past` another moment."""

    @property
    def mirror(self) -> Mirror:
        """The networks, machines and all else that was decided."""

    @property
    def presence(self) -> Presence:
        """Who was heard of. Nobody writes that down: of a moment that is past nothing is known."""

    @property
    def tracks(self) -> Findings:
        """What machines had reported, and what followed."""

    @property
    def is_past(self) -> bool:
        """Whether this is not the present."""

    def now(self) -> datetime:
        """The moment."""

    async def look_into(self, network_ids: Iterable[UUID]) -> None:
        """Have `tracks` tell about these networks. Raises `UnavailableError`."""

    async def look_at_plans(self, network_ids: Iterable[UUID]) -> None:
        """Have `tracks` tell the BGP plans of these networks, at far less cost. Raises `UnavailableError`."""
