"""Which machines are online and what they have applied, from their agents' heartbeats. Pure: the time is an argument.

A machine is online while its newest heartbeat is at most `ONLINE_FOR` old and did not say that the agent was leaving.
Presence is kept in memory only, by each gateway for itself: after a restart a machine counts as offline until its
first heartbeat, at most ten seconds later.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import UUID

from events.records import Heartbeat

ONLINE_FOR = timedelta(seconds=30)
"""Agents send a heartbeat every ten seconds: two may be lost."""

FORMER_BOOTS = 16
"""Of how many starts of an agent it is remembered that they are over, so that their heartbeats count no more."""

_REASON = re.compile(r"[a-z][a-z_-]{0,31}")
_MAX_REASONS = 16
_MAX_COUNT = 2**53


@dataclass(frozen=True, slots=True)
class Sighting:
    """The newest heartbeat of a machine."""

    boot_id: UUID
    counter: int
    leaving: bool
    seen_at: datetime
    applied: Mapping[UUID, int]
    """For each network, the revision up to which the machine's interface agrees with the records."""
    refused: Mapping[str, int]
    """How many records the agent has refused since it started, by reason."""
    online_since: datetime
    """Since when it was online without a break, with this run of its agent."""
    former: tuple[UUID, ...] = ()
    """The boot ids before this one, the newest first."""


class Presence:
    """When each machine was last heard of, and what it said."""

    is_recorded: ClassVar[bool] = True
    """False for a moment that is past: nobody wrote down who was online then."""

    def __init__(self) -> None:
        self._sightings: dict[UUID, Sighting] = {}
        self._turned: set[UUID] = set()

    def beat(self, machine_id: UUID, heartbeat: Heartbeat, now: datetime) -> bool:
        """Note a heartbeat. False where it is a repetition, came out of order, or is of an agent's run that is over: it
        proves nothing."""
        known, former = self._sightings.get(machine_id), tuple[UUID, ...]()
        if known is not None:
            former = known.former
            if heartbeat.boot_id in former:
                return False
            if heartbeat.boot_id != known.boot_id:
                former = (known.boot_id, *former)[:FORMER_BOOTS]
            elif heartbeat.counter <= known.counter:
                return False
        was_online = self.is_online(machine_id, now)
        self._sightings[machine_id] = Sighting(
            heartbeat.boot_id,
            heartbeat.counter,
            heartbeat.leaving,
            now,
            heartbeat.applied,
            _believable(heartbeat.refused),
            known.online_since if known is not None and was_online and known.boot_id == heartbeat.boot_id else now,
            former,
        )
        if was_online == heartbeat.leaving:
            self._turned.add(machine_id)
        return True

    def turned(self) -> set[UUID]:
        """The machines that a heartbeat showed to have come online, or to leave, since this was last asked: also those
        that are now as they were."""
        turned, self._turned = self._turned, set()
        return turned

    def forget(self, machine_id: UUID) -> None:
        """A machine was deleted or revoked."""
        self._sightings.pop(machine_id, None)

    def is_online(self, machine_id: UUID, now: datetime) -> bool:
        """Whether the machine's agent is alive and connected."""
        known = self._sightings.get(machine_id)
        return known is not None and not known.leaving and now - known.seen_at <= ONLINE_FOR

    def told(self, machine_id: UUID, now: datetime) -> bool | None:
        """As `is_online`, for people to read: None where it is not recorded."""
        return self.is_online(machine_id, now) if self.is_recorded else None

    def last_seen_at(self, machine_id: UUID) -> datetime | None:
        """When the machine was last heard of; None if not since this gateway started."""
        known = self._sightings.get(machine_id)
        return known.seen_at if known is not None else None

    def applied(self, machine_id: UUID, network_id: UUID) -> int:
        """The revision of a network's records up to which the machine's interface agrees with them; 0 if unknown."""
        known = self._sightings.get(machine_id)
        return known.applied.get(network_id, 0) if known is not None else 0

    def online_since(self, machine_id: UUID) -> datetime | None:
        """Since when its agent has been heard of without a break; None if not since this gateway started."""
        known = self._sightings.get(machine_id)
        return known.online_since if known is not None else None

    def refused(self, machine_id: UUID) -> dict[str, int]:
        """How many records the machine's agent has refused since it started, by reason."""
        known = self._sightings.get(machine_id)
        return dict(known.refused) if known is not None else {}

    def online(self, now: datetime) -> frozenset[UUID]:
        """The machines that are online."""
        return frozenset(machine_id for machine_id in self._sightings if self.is_online(machine_id, now))

    def online_count(self, now: datetime) -> int:
        """How many machines are online."""
        return sum(self.is_online(machine_id, now) for machine_id in self._sightings)


class Unrecorded(Presence):
    """Of a moment that is past: of nobody is it known whether he was online."""

    is_recorded = False


def _believable(refused: Mapping[str, int]) -> dict[str, int]:
    """What a machine says about itself is shown to people: it gets no names and numbers of any kind and size."""
    reasons = sorted(reason for reason in refused if _REASON.fullmatch(reason))[:_MAX_REASONS]
    return {reason: max(0, min(refused[reason], _MAX_COUNT)) for reason in reasons}
