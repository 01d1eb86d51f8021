"""How far the machines of a network agree with its records: who has applied which revision, who lags, and how soon the
last changes were applied. Pure: the time is an argument.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from uuid import UUID

from services.gateway.convergence import Convergence, Convergences, percentile
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence


@dataclass(frozen=True, slots=True)
class Laggard:
    """A machine that has not applied all."""

    machine_id: UUID
    hostname: str
    is_online: bool
    last_seen_at: datetime | None
    revision: int | None
    """Up to which it has; None where it has not said so since the gateway started."""
    since: datetime | None
    """When the first change that it lacks was said, as far as that is known."""


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """How it stands."""

    network_id: UUID
    revision: int
    changed_at: datetime | None
    machine_count: int
    online_count: int
    revisions: tuple[tuple[int, int], ...]
    """How many machines are at which revision, the newest first; without those of which it is not known."""
    laggards: tuple[Laggard, ...]
    """Those online first, then who lacks most."""
    changes: tuple[Convergence, ...]
    """The newest changes, the newest first."""

    def percentile(self, percent: int) -> float | None:
        """After so many seconds, so many percent of all machines' applications of the last changes were done."""
        return percentile(chain.from_iterable(change.seconds for change in self.changes), percent)


def status_of(
    mirror: Mirror, presence: Presence, convergences: Convergences, network_id: UUID, now: datetime
) -> NetworkStatus:
    """The status of a network. Raises `NotFoundError`."""
    network, _ = mirror.network(network_id)
    revision, changed_at = mirror.revision_of(network_id)
    counts: Counter[int] = Counter()
    laggards: list[Laggard] = []
    for _, machine_id in network.by_address.rows:
        # Machines say what they like, and may have heard of a revision before this gateway did.
        applied = max(0, min(presence.applied(machine_id, network_id), revision)) or None
        if applied is not None:
            counts[applied] += 1
        if applied is None or applied < revision:
            known = mirror.machines[machine_id].record
            since = convergences.first_after(network_id, applied or 0) or mirror.first_after(network_id, applied or 0)
            laggards.append(
                Laggard(
                    machine_id=machine_id,
                    hostname=known.hostname if known is not None else str(machine_id),
                    is_online=presence.is_online(machine_id, now),
                    last_seen_at=presence.last_seen_at(machine_id),
                    revision=applied,
                    since=since if applied is not None else None,
                )
            )
    laggards.sort(key=lambda laggard: (not laggard.is_online, laggard.revision or 0, laggard.hostname))
    return NetworkStatus(
        network_id=network_id,
        revision=revision,
        changed_at=changed_at,
        machine_count=len(network.members),
        online_count=sum(presence.is_online(machine_id, now) for machine_id in network.members),
        revisions=tuple(sorted(counts.items(), reverse=True)),
        laggards=tuple(laggards),
        changes=convergences.of(network_id)[::-1],
    )
