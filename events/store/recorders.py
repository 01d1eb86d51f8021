"""The library's recorders on JetStream. Each is a thin synchronous face of a journal; any thread may call it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar
from uuid import UUID

from eventsourcing.persistence import (
    AggregateRecorder,
    ApplicationRecorder,
    IntegrityError,
    InterfaceError,
    Notification,
    OperationalError,
    ProcessRecorder,
    StoredEvent,
    Tracking,
    TrackingRecorder,
)

from events.store import fetch
from events.store.bridge import Bridge
from events.store.commit import ExpectationError, RefusedError, UncertainError, commit
from events.store.journal import ATTEMPT_SECONDS, Journal
from events.store.subscription import JetStreamSubscription
from events.store.wire import EXPECTED_SUBJECT_SEQUENCE, Draft, StoredPart, originator_of, token_of

T = TypeVar("T")

_TRACKING_ATTEMPTS = 5


class JetStreamRecorder:
    """What the recorders share."""

    def __init__(self, bridge: Bridge, journal: Journal, *, has_text_ids: bool = False) -> None:
        self._bridge = bridge
        self._journal = journal
        self._has_text_ids = has_text_ids

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self._bridge.call(coroutine)

    def _stored_event(self, part: StoredPart) -> StoredEvent:
        return StoredEvent(
            originator_id=originator_of(part.token, is_text=self._has_text_ids),
            originator_version=part.version,
            topic=part.topic,
            state=part.state,
        )

    def _notification(self, part: StoredPart) -> Notification:
        return Notification(
            id=part.sequence,
            originator_id=originator_of(part.token, is_text=self._has_text_ids),
            originator_version=part.version,
            topic=part.topic,
            state=part.state,
        )


class JetStreamAggregateRecorder(JetStreamRecorder, AggregateRecorder):
    """Aggregates' events, or their snapshots."""

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Write all events or none. Raises `IntegrityError`, `InterfaceError`, `OperationalError`."""
        self._insert(stored_events, **kwargs)
        return None

    def _insert(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        if not stored_events:
            return []
        return self._call(self._journal.append(stored_events, kwargs.get("expected_position")))

    def select_events(
        self,
        originator_id: UUID | str,
        *,
        gt: int | None = None,
        lte: int | None = None,
        desc: bool = False,
        limit: int | None = None,
    ) -> Sequence[StoredEvent]:
        """The events of an aggregate. What anybody was told was written is among them."""
        parts = self._call(self._journal.select(originator_id, gt, lte, desc=desc, limit=limit))
        return [self._stored_event(part) for part in parts]


class JetStreamApplicationRecorder(JetStreamAggregateRecorder, ApplicationRecorder):
    """An application's events, in the order of its stream: the notification ids are the stream's sequences.

    `insert_events` takes `expected_position`: the notification id after which nothing may have been written.
    """

    def insert_events(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int] | None:
        """Write all events or none; their notification ids. Raises as `JetStreamAggregateRecorder` does."""
        return self._insert(stored_events, **kwargs)

    def select_placed(self, originator_id: UUID | str, *, gt: int | None = None) -> Sequence[Notification]:
        """The events of an aggregate after a version, each with its place in the stream."""
        parts = self._call(self._journal.select(originator_id, gt, None, desc=False, limit=None))
        return [self._notification(part) for part in parts]

    def select_notifications(
        self,
        start: int | None,
        limit: int,
        stop: int | None = None,
        topics: Sequence[str] = (),
        *,
        inclusive_of_start: bool = True,
    ) -> Sequence[Notification]:
        """The application's events in order."""
        first = 1 if start is None else start + (not inclusive_of_start)
        found: list[Notification] = []
        while len(found) < limit:
            parts = self._call(self._journal.select_span(first, stop, fetch.PAGE if topics else limit))
            found += [self._notification(part) for part in parts if not topics or part.topic in topics]
            if not topics or not parts:
                break
            first = parts[-1].sequence + 1
        return found[:limit]

    def max_notification_id(self) -> int | None:
        """The position of the newest event, or None if there is none."""
        return self._call(self._journal.newest_sequence()) or None

    def subscribe(self, gt: int | None = None, topics: Sequence[str] = ()) -> JetStreamSubscription:
        """The application's events after `gt`, then those to come."""
        return JetStreamSubscription(
            self, bridge=self._bridge, journal=self._journal, to_notification=self._notification, gt=gt, topics=topics
        )


class JetStreamTrackingRecorder(JetStreamRecorder, TrackingRecorder):
    """How far other applications' events were processed. A view keeps its own state by overriding nothing and writing
    it with `_track`, in the same atomic batch."""

    def insert_tracking(self, tracking: Tracking) -> None:
        """Move a position forward. Raises `IntegrityError` if it is there or further already."""
        self._call(self._track(tracking))

    def max_tracking_id(self, application_name: str) -> int | None:
        """The position up to which an application's events were processed, or None."""
        return self._call(self._position(application_name))[0]

    async def _track(self, tracking: Tracking, further: Sequence[Draft] = ()) -> None:
        """Write a position, and `further` messages with it."""
        drafts = [await self._draft_tracking(tracking), *further]
        for attempt in range(1, _TRACKING_ATTEMPTS + 1):
            try:
                await commit(self._journal.client, drafts, ATTEMPT_SECONDS)
                return
            except RefusedError as error:
                raise InterfaceError(str(error)) from error
            except ExpectationError as error:
                # A position is written once only, so after a lost acknowledgement it stands there by our own hand.
                if attempt > 1 and (await self._position(tracking.application_name))[0] == tracking.notification_id:
                    return
                raise IntegrityError(f"another position was written first: {error}") from error
            except UncertainError as error:
                if attempt == _TRACKING_ATTEMPTS:
                    raise OperationalError(f"the bus does not say whether it wrote: {error}") from error
                await asyncio.sleep(0.1 * attempt)

    async def _position(self, application_name: str) -> tuple[int | None, int]:
        """The tracked position of an application and the sequence of the message that says so."""
        entry = await fetch.newest(self._journal.client, self._journal.stream, self._tracking_subject(application_name))
        return (int(entry.data), entry.sequence) if entry else (None, 0)

    async def _draft_tracking(self, tracking: Tracking) -> Draft:
        position, sequence = await self._position(tracking.application_name)
        if position is not None and position >= tracking.notification_id:
            raise IntegrityError(f"{tracking.application_name} was processed up to {position} already")
        return Draft(
            self._tracking_subject(tracking.application_name),
            str(tracking.notification_id).encode(),
            {EXPECTED_SUBJECT_SEQUENCE: str(sequence)},
        )

    def _tracking_subject(self, application_name: str) -> str:
        return f"{self._journal.prefix}.tracking.{token_of(application_name)}"


class JetStreamProcessRecorder(JetStreamTrackingRecorder, JetStreamApplicationRecorder, ProcessRecorder):
    """An application's events together with how far it has processed others': written in one atomic batch."""

    def _insert(self, stored_events: Sequence[StoredEvent], **kwargs: Any) -> Sequence[int]:
        tracking: Tracking | None = kwargs.get("tracking")
        if tracking is None:
            return super()._insert(stored_events, **kwargs)
        return self._call(self._insert_and_track(stored_events, tracking, kwargs.get("expected_position")))

    async def _insert_and_track(
        self, stored_events: Sequence[StoredEvent], tracking: Tracking, expected_position: int | None
    ) -> Sequence[int]:
        if not stored_events:
            await self._track(tracking)
            return []
        draft = await self._draft_tracking(tracking)
        return await self._journal.append(stored_events, expected_position, [draft])
