"""Who has which BGP sessions in a network, by its plan. Pure.

In full mesh everybody has one with everybody. With reflectors (RFC 4456) everybody has one, as a client, with each
reflector, and the reflectors have sessions of the full mesh among themselves. While a network is *switching* it has
both. A machine that is *turning* into a reflector, or from one into a client, is both for that time: it has sessions of
the mesh with all that are reflectors or turning, takes clients' sessions like a reflector, and is a client of the
reflectors. So nobody loses a session before he has another that carries the same routes.
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
    turning: frozenset[UUID] = frozenset()

    @classmethod
    def of(cls, record: BgpPlanRecord | None) -> BgpPlan:
        """What a record says; without one, full mesh."""
        if record is None:
            return cls()
        return cls(record.stage, frozenset(record.reflectors), frozenset(record.turning))

    def record(self, network_id: UUID) -> BgpPlanRecord:
        """As a record."""
        return BgpPlanRecord(
            network_id=network_id,
            stage=self.stage,
            reflectors=tuple(sorted(self.reflectors)),
            turning=tuple(sorted(self.turning)),
        )

    def takes_clients(self, machine_id: UUID) -> bool:
        """Whether a machine takes clients' sessions."""
        return self.stage != "mesh" and (machine_id in self.reflectors or machine_id in self.turning)

    def mesh_with(self, machine_id: UUID, members: Collection[UUID]) -> set[UUID]:
        """With whom a member has sessions of the full mesh."""
        if self.stage != "reflectors":
            others = set(members)
        elif self.takes_clients(machine_id):
            others = (self.reflectors | self.turning).intersection(members)
        else:
            others = set()
        return set(others) - {machine_id}

    def reflectors_of(self, machine_id: UUID, members: Collection[UUID]) -> set[UUID]:
        """With whom a member has a session as a client."""
        if self.stage == "mesh" or machine_id in self.reflectors:
            return set()
        if machine_id in self.turning:
            return set(self.reflectors.intersection(members))
        return set((self.reflectors | self.turning).intersection(members))

    def sessions(self, machine_id: UUID, members: Collection[UUID]) -> set[Peering]:
        """All sessions that a member is to have, as it sees them itself."""
        if machine_id not in members:
            return set()
        found: set[Peering] = {(peer, "mesh") for peer in self.mesh_with(machine_id, members)}
        found |= {(peer, "client") for peer in self.reflectors_of(machine_id, members)}
        if self.takes_clients(machine_id):
            found |= {(peer, "reflector") for peer in members if machine_id in self.reflectors_of(peer, members)}
        return found

    def count(self, members: Collection[UUID]) -> int:
        """How many sessions the network has, each counted once."""
        size, inner = len(members), (self.reflectors | self.turning).intersection(members)
        turning = self.turning.intersection(members)
        full = size * (size - 1) // 2
        if self.stage == "mesh":
            return full
        reflectors = len(inner) - len(turning)
        clients = (size - len(inner)) * len(inner) + len(turning) * reflectors
        return clients + (full if self.stage == "switching" else len(inner) * (len(inner) - 1) // 2)
