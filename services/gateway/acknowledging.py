"""What heartbeats acknowledge, as far as it can be believed, and what there is to acknowledge. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from events.records import Heartbeat
from services.gateway.convergence import Convergences
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence

_LONGEST_MS = 365 * 24 * 3600 * 1000


class Acknowledging:
    """Notes when networks change, and when machines have applied it."""

    def __init__(self, mirror: Mirror, presence: Presence) -> None:
        self.convergences = Convergences()
        self._changed: set[UUID] = set()
        self._mirror = mirror
        self._presence = presence

    def record(self, subject: str) -> None:
        """A record has come into the mirror."""
        match subject.split("."):
            case _, "network", network, *_:
                network_id = UUID(network)
                revision, said_at = self._mirror.revision_of(network_id)
                if subject.endswith(".info") and network_id not in self._mirror.networks:
                    self.convergences.forget_network(network_id)
                elif said_at is not None:
                    self.convergences.changed(network_id, revision, said_at)
            case _, "machine", machine, "info" if not self._mirror.has_machine(UUID(machine)):
                self.convergences.forget_machine(UUID(machine))

    def topics(self) -> list[str]:
        """What pages may show otherwise since this was last asked: `status:<uuid>` of networks."""
        changed, self._changed = self._changed, set()
        return [f"status:{network_id}" for network_id in changed]

    def beat(self, machine_id: UUID, heartbeat: Heartbeat, now: datetime) -> None:
        """A heartbeat that `Presence` has taken: of networks that the machine is in, and not beyond what was said."""
        online_since = self._presence.online_since(machine_id)
        for network_id in self._mirror.networks_of(machine_id):
            revision = heartbeat.applied.get(network_id)
            if revision is None or online_since is None:
                continue
            ago = timedelta(milliseconds=max(0, min(heartbeat.applied_ago.get(network_id, 0), _LONGEST_MS)))
            said = min(revision, self._mirror.revision_of(network_id)[0])
            if self.convergences.acknowledged(machine_id, network_id, said, now - ago, online_since):
                self._changed.add(network_id)
