"""From when on a machine's tokens for the bus must be made in order to count. Pure.

Taking a machine out of a network, revoking or deleting it makes the tokens that it holds say too much. Its *cutoff* is
the second up to which they are revoked: a little after the change, so that it also covers a token that a gateway made
before it heard of it. A token that is made afterwards is dated after the cutoff, even if that is in the future still;
so every further cutoff is later than the one before.

Each gateway computes the cutoffs from the records. One that started since may have missed a record that was replaced,
and would be a second or so lower: then what the bus holds counts (`learn`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from events.enrolment import ACCESS_SECONDS
from events.records import IdentityRecord

MARGIN_SECONDS = 5
"""How much later than a change's time its cutoff is: for clocks that differ, and gateways that hear late."""


@dataclass(frozen=True, slots=True)
class _Cutoff:
    second: int
    cause: int


class Cutoffs:
    """The cutoff of every machine that has one."""

    def __init__(self) -> None:
        self.version = 0
        """Rises with every change that the records make."""
        self._by_machine: dict[UUID, _Cutoff] = {}
        self._on_bus: Mapping[str, int] = {}

    def note(self, machine_id: UUID, time: datetime, cause: int) -> None:
        """What a machine may hear became less: by the event at log position `cause`, at `time`."""
        second = int(time.timestamp()) + MARGIN_SECONDS
        known = self._by_machine.get(machine_id)
        if known is not None:
            if known.cause == cause:
                return
            second = max(second, known.second + 1)
        self._by_machine[machine_id] = _Cutoff(second, cause)
        self.version += 1

    def learn(self, on_bus: Mapping[str, int]) -> None:
        """What the bus holds now, by identity key."""
        self._on_bus = on_bus

    def of(self, identity: IdentityRecord) -> int:
        """Up to which second the tokens of a machine do not count; 0 for none."""
        known = self._by_machine.get(identity.machine_id)
        return max(known.second if known is not None else 0, self._on_bus.get(identity.identity_key, 0))

    def wanted(self, identities: Iterable[IdentityRecord], now: int) -> dict[str, int]:
        """The revocations that the bus must hold, by identity key: those that still concern a token."""
        return {
            identity.identity_key: known.second
            for identity in identities
            if (known := self._by_machine.get(identity.machine_id)) is not None and not is_over(known.second, now)
        }


def merged(on_bus: Mapping[str, int], wanted: Mapping[str, int], now: int) -> dict[str, int]:
    """What the bus should hold, given what it holds: the later of two cutoffs, without those that are over."""
    both = on_bus.keys() | wanted.keys()
    latest = {key: max(on_bus.get(key, 0), wanted.get(key, 0)) for key in both}
    return {key: second for key, second in latest.items() if not is_over(second, now)}


def is_over(cutoff: int, now: int) -> bool:
    """Whether every token that a cutoff concerns has expired."""
    return cutoff + ACCESS_SECONDS < now
