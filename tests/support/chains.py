"""Chains over a log that is all in memory: what `services.gateway.why.finding` finds on a bus, by plain search."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from ipaddress import IPv4Address
from typing import ClassVar, TypeVar
from uuid import UUID

from events.codec import digest_of
from events.domain import REGISTRY_ID, DomainEvent, MachinesAssigned, MachinesUnassigned
from events.log import LoggedEvent
from events.state import encode_record
from services.gateway.findings import Findings
from services.gateway.ledger import lives_of
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence
from services.gateway.why.known import Answer, At, Found, Known, LastOf, Need, Networks, Taken, Timed
from services.topology.core import Topology

Chain = TypeVar("Chain")


def logged(events: Iterable[DomainEvent]) -> list[LoggedEvent]:
    """Events as they stand in a log."""
    return [LoggedEvent(place, event, digest_of(event)) for place, event in enumerate(events, 1)]


class Sight:
    """The mesh after these events: a `services.gateway.seen.Seen`."""

    is_past: ClassVar[bool] = False

    def __init__(self, events: list[LoggedEvent]) -> None:
        self.events = events
        self.mirror = Mirror()
        self.presence = Presence()
        self.tracks = Findings()
        topology = Topology()
        for each in events:
            for told in topology.apply(each.sequence, each.event).records:
                self.mirror.apply(told.subject, encode_record(told.record))

    def now(self) -> datetime:
        return self.events[-1].event.time if self.events else datetime.min.replace(tzinfo=UTC)

    async def look_into(self, network_ids: Iterable[UUID]) -> None:
        """Nothing: all is known."""

    def explained(self, build: Callable[[Known], Chain]) -> Chain:
        """What `build` makes of all that it needs."""
        known = Known()
        while True:
            known.missing.clear()
            chain = build(known)
            if not known.missing:
                return chain
            known.answers |= {need: self._find(need) for need in known.missing}

    def _find(self, need: Need) -> Answer:
        match need:
            case At(position):
                return Found(self.events[position - 1])
            case Timed(aggregate_id, time, kinds, mention):
                return Found(
                    next((one for one in self._of(aggregate_id, kinds, mention) if one.event.time == time), None)
                )
            case LastOf(aggregate_id, until, kinds, mention, first):
                some = [one for one in self._of(aggregate_id, kinds, mention) if first <= one.sequence <= until]
                return Found(some[-1] if some else None)
            case Networks(until):
                return lives_of(one for one in self.events[:until] if one.event.originator_id == REGISTRY_ID)
            case Taken(network_id, position):
                return self._taken(network_id, position)

    def _of(self, aggregate_id: UUID, kinds: tuple[str, ...], mention: str) -> Iterable[LoggedEvent]:
        for one in self.events:
            event = one.event
            if event.originator_id == aggregate_id and event.kind in kinds and mention in event.model_dump_json():
                yield one

    def _taken(self, network_id: UUID, position: int) -> frozenset[IPv4Address]:
        taken: set[IPv4Address] = set()
        for event in (one.event for one in self.events[: position - 1] if one.event.originator_id == network_id):
            if isinstance(event, MachinesAssigned):
                taken |= {each.address for each in event.assignments}
            elif isinstance(event, MachinesUnassigned):
                taken -= {each.address for each in event.assignments}
        return frozenset(taken)
