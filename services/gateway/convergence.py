"""How soon the machines of a network have applied what changed, from their acknowledgements. Pure.

A change is a revision of the network's records; it was said when the event behind it was decided. A machine has applied
it when its interface agreed with it, as the machine's heartbeat says: so the time between the two is all of the way,
from the decision to the tunnel. A machine that was away when a change was said tells nothing about it.

This is kept in memory, of the newest `KEPT` changes of each network: a gateway that starts knows of none.
"""

from __future__ import annotations

from array import array
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

KEPT = 64


@dataclass(slots=True)
class Convergence:
    """A change, and after how many seconds machines had applied it."""

    revision: int
    said_at: datetime
    seconds: array[float] = field(default_factory=lambda: array("f"))

    def percentile(self, percent: int) -> float | None:
        """After so many seconds, so many percent of those who have applied it by now had."""
        return percentile(self.seconds, percent)


class Convergences:
    """The newest changes of all networks."""

    def __init__(self) -> None:
        self._changes: defaultdict[UUID, deque[Convergence]] = defaultdict(lambda: deque(maxlen=KEPT))
        self._acknowledged: dict[tuple[UUID, UUID], tuple[int, int]] = {}
        """What a machine said last of a network, and the most that it ever said: it is counted once for each change."""

    def changed(self, network_id: UUID, revision: int, said_at: datetime) -> None:
        """A network has come to a revision."""
        changes = self._changes[network_id]
        if not changes or changes[-1].revision < revision:
            changes.append(Convergence(revision, said_at))

    def acknowledged(
        self, machine_id: UUID, network_id: UUID, revision: int, applied_at: datetime, online_since: datetime
    ) -> bool:
        """A machine has applied a network's records up to a revision; whether that is news."""
        before, most = self._acknowledged.get((machine_id, network_id), (0, 0))
        self._acknowledged[machine_id, network_id] = revision, max(revision, most)
        for change in reversed(self._changes.get(network_id, ())):
            if change.revision <= most or change.said_at < online_since:
                break
            if change.revision <= revision:
                change.seconds.append(max(0.0, (applied_at - change.said_at).total_seconds()))
        return revision != before

    def of(self, network_id: UUID) -> tuple[Convergence, ...]:
        """The newest changes of a network, the oldest first."""
        return tuple(self._changes.get(network_id, ()))

    def first_after(self, network_id: UUID, revision: int) -> datetime | None:
        """When the first change after a revision was said; None where it is not known any more, or there is none."""
        changes = self._changes.get(network_id, ())
        if not changes or changes[0].revision > revision + 1:
            return None
        return next((change.said_at for change in changes if change.revision > revision), None)

    def forget_network(self, network_id: UUID) -> None:
        """A network was deleted."""
        self._changes.pop(network_id, None)
        for key in [key for key in self._acknowledged if key[1] == network_id]:
            del self._acknowledged[key]

    def forget_machine(self, machine_id: UUID) -> None:
        """A machine was deleted or revoked."""
        for key in [key for key in self._acknowledged if key[0] == machine_id]:
            del self._acknowledged[key]


def percentile(values: Iterable[float], percent: int) -> float | None:
    """The smallest of the values that at least so many percent do not exceed (nearest rank); None of none."""
    ordered: Sequence[float] = sorted(values)
    return ordered[max(0, -(-len(ordered) * percent // 100) - 1)] if ordered else None
