"""Which machines are online, from their agents' heartbeats. Pure: the time is an argument.

A machine is online while its newest heartbeat is at most `ONLINE_FOR` old and did not say that the agent was leaving.
Presence is kept in memory only, by each gateway for itself: after a restart a machine counts as offline until its
first heartbeat, at most ten seconds later.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from events.records import Heartbeat

ONLINE_FOR = timedelta(seconds=30)
"""Agents send a heartbeat every ten seconds: two may be lost."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """The newest heartbeat of a machine."""

    boot_id: UUID
    counter: int
    leaving: bool
    seen_at: datetime


class Presence:
    """When each machine was last heard of."""

    def __init__(self) -> None:
        self._sightings: dict[UUID, Sighting] = {}

    def beat(self, machine_id: UUID, heartbeat: Heartbeat, now: datetime) -> bool:
        """Note a heartbeat. False where it is a repetition or came out of order: it proves nothing."""
        known = self._sightings.get(machine_id)
        if known is not None and known.boot_id == heartbeat.boot_id and heartbeat.counter <= known.counter:
            return False
        self._sightings[machine_id] = Sighting(heartbeat.boot_id, heartbeat.counter, heartbeat.leaving, now)
        return True

    def forget(self, machine_id: UUID) -> None:
        """A machine was deleted."""
        self._sightings.pop(machine_id, None)

    def is_online(self, machine_id: UUID, now: datetime) -> bool:
        """Whether the machine's agent is alive and connected."""
        known = self._sightings.get(machine_id)
        return known is not None and not known.leaving and now - known.seen_at <= ONLINE_FOR

    def last_seen_at(self, machine_id: UUID) -> datetime | None:
        """When the machine was last heard of; None if not since this gateway started."""
        known = self._sightings.get(machine_id)
        return known.seen_at if known is not None else None

    def online_count(self, now: datetime) -> int:
        """How many machines are online."""
        return sum(self.is_online(machine_id, now) for machine_id in self._sightings)
