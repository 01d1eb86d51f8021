"""Who has which BGP sessions in a network, by its plan. Pure.

In full mesh everybody has one with everybody. With reflectors (RFC 4456) everybody is a client of each reflector, also
the reflectors of each other, so that each two of them have two: nobody gives up a session by becoming a reflector, or
by being one no more. While a network is *switching* it has those of both kinds.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from events.records import BgpPlanRecord
from events.routing import PlanStage, SessionKind

Peering = tuple[UUID, SessionKind]
"""The machine at the other end, and what the session is for, as seen from this end."""


@dataclass(frozen=True, slots=True)
class BgpPlan:
    """How a network's members are to speak BGP."""

    stage: PlanStage = "mesh"
    reflectors: frozenset[UUID] = frozenset()

    @classmethod
    def of(cls, record: BgpPlanRecord | None) -> BgpPlan:
        """What a record says; without one, full mesh."""
        return cls() if record is None else cls(record.stage, frozenset(record.reflectors))

    def record(self, network_id: UUID) -> BgpPlanRecord:
        """As a record."""
        return BgpPlanRecord(network_id=network_id, stage=self.stage, reflectors=tuple(sorted(self.reflectors)))

    def sessions(self, machine_id: UUID, members: Collection[UUID]) -> set[Peering]:
        """All sessions that a member is to have, as it sees them itself."""
        others = set(members) - {machine_id}
        found: set[Peering] = set()
        if self.stage != "reflectors":
            found |= {(peer, "mesh") for peer in others}
        if self.stage != "mesh":
            found |= {(peer, "client") for peer in self.reflectors & others}
        if self.stage != "mesh" and machine_id in self.reflectors:
            found |= {(peer, "reflector") for peer in others}
        return found

    def count(self, members: Collection[UUID]) -> int:
        """How many sessions the network has, each counted once."""
        mesh = full_mesh(len(members))
        reflected = len(self.reflectors.intersection(members)) * (len(members) - 1)
        return {"mesh": mesh, "switching": mesh + reflected, "reflectors": reflected}[self.stage]


def full_mesh(size: int) -> int:
    """How many sessions a full mesh of so many machines has."""
    return size * (size - 1) // 2
