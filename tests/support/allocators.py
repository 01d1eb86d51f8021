"""Allocators over a log in memory that keeps the same promises as the one in JetStream."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    EventStore,
    IntegrityError,
    Notification,
    OperationalError,
    StoredEvent,
)
from eventsourcing.popo import POPOAggregateRecorder, POPOApplicationRecorder

from events.commands import Command, Outcome
from events.errors import WireloomError
from services.allocator.application import Allocator, Answer
from services.allocator.mapper import SnapshotMapper

MOMENT = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)


class PositionedRecorder(POPOApplicationRecorder):
    """A log in memory that checks the expected position, and can lose an acknowledgement or a write."""

    def __init__(self) -> None:
        super().__init__()
        self.lose_next: str | None = None
        """`acknowledgement`: the next write is made, but fails all the same; `write`: it fails and is not made."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        lose, self.lose_next = self.lose_next, None
        expected = kwargs.pop("expected_position", None)
        if lose == "write":
            raise OperationalError("no answer")
        with self._database_lock:
            if expected is not None and expected != (self.max_notification_id() or 0):
                raise IntegrityError("somebody else wrote first")
            recorded = super().insert_events(stored_events, **kwargs)
        if lose == "acknowledgement":
            raise OperationalError("no answer")
        return recorded

    def select_placed(self, originator_id: UUID, *, gt: int | None = None) -> list[Notification]:
        """As the recorder of the log in JetStream."""
        return [
            each
            for each in self.select_notifications(None, len(self._stored_events))
            if each.originator_id == originator_id and each.originator_version > (gt or 0)
        ]

    @property
    def stored_events(self) -> list[StoredEvent]:
        """Everything in the log, in order."""
        return self._stored_events


class MemoryAllocator(Allocator):
    """An allocator over recorders that outlive it."""

    def __init__(self, recorder: PositionedRecorder, snapshots: POPOAggregateRecorder | None = None) -> None:
        self._recorder = recorder
        self._snapshot_recorder = snapshots or POPOAggregateRecorder()
        self.moment = MOMENT
        """What this allocator takes for the time."""
        super().__init__({"PERSISTENCE_MODULE": "eventsourcing.popo"}, now=lambda: self.moment)

    def construct_recorder(self) -> ApplicationRecorder:
        return self._recorder

    def construct_snapshot_store(self) -> EventStore[UUID]:
        recorder: AggregateRecorder = self._snapshot_recorder
        return EventStore(SnapshotMapper(), recorder)

    def answers(self, commands: Sequence[Command]) -> list[Answer]:
        """Execute commands, in a test without an event loop."""
        return asyncio.run(self.execute(commands))

    def do(self, command_type: type[Command], **fields: Any) -> Outcome:
        """Execute one command; its refusal is raised."""
        fields = {"command_id": uuid4(), "actor": "test:somebody"} | fields
        answer = self.answers([command_type(**fields)])[0]
        if isinstance(answer, WireloomError):
            raise answer
        return answer

    def refuses(self, kind: type[WireloomError], command_type: type[Command], **fields: Any) -> WireloomError:
        """Execute one command, which must be refused with an error of exactly this kind and change nothing; the
        refusal."""
        before = list(self._recorder.stored_events)
        with pytest.raises(kind) as refusal:
            self.do(command_type, **fields)
        assert refusal.type is kind
        assert refusal.value.hint, "a refusal says what to do"
        assert self._recorder.stored_events == before, "a refusal changes nothing"
        return refusal.value
