"""The library's subscription: an application's events as they are committed. A shell.

Fed by a JetStream consumer, which hears of a batch only once it is committed.
"""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import TYPE_CHECKING

from eventsourcing.persistence import Notification, OperationalError, Subscription

from events.client import Entry
from events.errors import UnavailableError
from events.feed import entries
from events.store.bridge import Bridge
from events.store.journal import Journal
from events.store.wire import StoredPart, read_part

if TYPE_CHECKING:
    from events.store.recorders import JetStreamApplicationRecorder

_BATCHES_WAITING = 8
"""So many batches are read ahead of the one who iterates."""


class JetStreamSubscription(Subscription["JetStreamApplicationRecorder"]):
    """Notifications after a position, without end. One thread iterates; any may stop it."""

    def __init__(
        self,
        recorder: JetStreamApplicationRecorder,
        *,
        bridge: Bridge,
        journal: Journal,
        to_notification: Callable[[StoredPart], Notification],
        gt: int | None,
        topics: Sequence[str],
    ) -> None:
        super().__init__(recorder, gt, topics)
        self._bridge = bridge
        self._journal = journal
        self._to_notification = to_notification
        self._batches: queue.SimpleQueue[list[Notification] | BaseException | None] = queue.SimpleQueue()
        self._room = asyncio.Semaphore(_BATCHES_WAITING)
        self._current: list[Notification] = []
        self._feeding = bridge.submit(self._feed(gt or 0))

    def stop(self) -> None:
        """End the iteration, also of a thread that waits for the next notification. Idempotent."""
        super().stop()
        self._feeding.cancel()
        self._batches.put(None)

    def __next__(self) -> Notification:
        while not self._current and not self._has_been_stopped:
            arrived = self._batches.get()
            if isinstance(arrived, BaseException):
                self.stop()
                raise arrived
            if arrived is not None:
                self._bridge.soon(self._room.release)
                self._current = arrived[::-1]
        if self._has_been_stopped:
            raise StopIteration
        return self._current.pop()

    async def _feed(self, after: int) -> None:
        try:
            async with aclosing(entries(self._journal.client, self._journal.stream, after)) as batches:
                async for batch in batches:
                    await self._room.acquire()
                    self._batches.put([self._to_notification(part) for part in self._wanted(batch)])
        except asyncio.CancelledError:
            self._batches.put(None)
            raise
        except UnavailableError as error:
            self._batches.put(OperationalError(str(error)))
        except Exception as error:
            self._batches.put(error)

    def _wanted(self, batch: Sequence[Entry]) -> list[StoredPart]:
        events = self._journal.prefix.count(".") + 1
        parts = [read_part(entry) for entry in batch if entry.subject.count(".") == events]
        return [part for part in parts if not self._topics or part.topic in self._topics]
