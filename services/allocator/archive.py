"""The log as a book to look things up in: what a command did, and how an aggregate came to be. A shell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, cast
from uuid import UUID

from eventsourcing.persistence import ApplicationRecorder, EventStore, Mapper, Notification

from events.domain import DomainEvent
from services.allocator import snapshots
from services.allocator.aggregates import Aggregate, blank, project
from services.allocator.desk import Placed
from services.allocator.lookups import MAX_BATCH_EVENTS

_FARTHER = 4


class _PlacedRecorder(Protocol):
    """What the log's recorder can do beside what the library asks of it."""

    def select_placed(self, originator_id: UUID, *, gt: int | None = None) -> Sequence[Notification]:
        """The events of an aggregate after a version, each with its place in the log."""


class LogArchive:
    """See `services.allocator.desk.Archive`. Each look reads from the bus; it raises `PersistenceError`."""

    def __init__(
        self,
        recorder: ApplicationRecorder,
        mapper: Mapper[UUID],
        events: EventStore[UUID],
        taken: EventStore[UUID] | None,
    ) -> None:
        """`taken` are the snapshots."""
        self._recorder = recorder
        self._mapper = mapper
        self._events = events
        self._snapshots = taken

    def between(self, first: int, last: int) -> list[Placed]:
        """See `Archive`."""
        return self._read(first, MAX_BATCH_EVENTS + 1, last)

    def neighbours(self, first: int, last: int) -> list[Placed]:
        """See `Archive`. Positions rise, but not always by one: so the one before is looked for farther and farther."""
        earlier: list[Placed] = []
        start, reach = first, 1
        while not earlier and start > 1:
            start = max(1, first - reach)
            earlier = self._read(start, reach, first - 1)
            reach *= _FARTHER
        return earlier[-1:] + self._read(last + 1, 1)

    def before(self, event: DomainEvent) -> Aggregate:
        """See `Archive`."""
        version = event.originator_version - 1
        base = self._snapshot(event.originator_id, version)
        stored = self._events.get(event.originator_id, gt=base.version if base else None, lte=version)
        return project(base, cast("Iterable[DomainEvent]", stored)) or blank(event)

    def since(self, aggregate_id: UUID, version: int = 0) -> list[Placed]:
        """See `Archive`."""
        recorder = cast(_PlacedRecorder, self._recorder)
        return [self._placed(each) for each in recorder.select_placed(aggregate_id, gt=version)]

    def _snapshot(self, aggregate_id: UUID, version: int) -> Aggregate | None:
        """The newest snapshot that was taken by then, if it can be read."""
        assert self._snapshots is not None
        for stored in self._snapshots.get(aggregate_id, lte=version, desc=True, limit=1):
            return snapshots.restore(cast(Any, stored))
        return None

    def _read(self, first: int, limit: int, last: int | None = None) -> list[Placed]:
        return [self._placed(each) for each in self._recorder.select_notifications(first, limit, last)]

    def _placed(self, notification: Notification) -> Placed:
        return Placed(notification.id, cast(Any, self._mapper.to_domain_event(notification)))
