"""Between Wireloom's messages and what the `eventsourcing` library stores. Pure."""

from __future__ import annotations

from typing import Any, cast
from uuid import UUID

from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent

from events import codec
from events.domain import DomainEvent
from services.allocator.snapshots import Snapshot


class EventMapper(Mapper[UUID]):
    """Stores events under their stable topics, as `events.codec` writes them."""

    def __init__(self) -> None:
        super().__init__(transcoder=JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The event as it stands in the log."""
        event = cast(DomainEvent, domain_event)
        return StoredEvent(
            originator_id=event.originator_id,
            originator_version=event.originator_version,
            topic=codec.topic_of(type(event)),
            state=codec.encode(event),
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """The event that stands in the log. Raises `UnreadableEventError`."""
        return codec.decode(
            cast(UUID, stored_event.originator_id),
            stored_event.originator_version,
            stored_event.topic,
            stored_event.state,
        )


class SnapshotMapper(Mapper[UUID]):
    """Stores snapshots as they are."""

    def __init__(self) -> None:
        super().__init__(transcoder=JSONTranscoder())

    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The snapshot as it is stored."""
        snapshot = cast(Snapshot, domain_event)
        return StoredEvent(
            originator_id=snapshot.originator_id,
            originator_version=snapshot.originator_version,
            topic=snapshot.topic,
            state=snapshot.state,
        )

    def to_domain_event(self, stored_event: StoredEvent) -> Any:
        """The stored snapshot."""
        return Snapshot(
            originator_id=cast(UUID, stored_event.originator_id),
            originator_version=stored_event.originator_version,
            topic=stored_event.topic,
            state=stored_event.state,
        )
