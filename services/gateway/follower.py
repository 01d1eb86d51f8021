"""Keeps the mirror at the end of the STATE stream, and lets requests wait for it. Shell."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextlib import aclosing
from itertools import count

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.errors import UnavailableError
from events.feed import feed, last_sequence
from events.state import last_message, load, signature_of
from events.subjects import LOG_STREAM, STATE_STREAM
from services.gateway.mirror import Mirror

_RETRY_SECONDS = 0.25


class Follower:
    """Loads STATE into the mirror and follows it. `run` does the work; everything else may be called beside it."""

    def __init__(self, client: Client) -> None:
        self.mirror = Mirror()
        self.loaded = asyncio.Event()
        """Set once the mirror holds everything that STATE held when we began."""
        self._client = client
        self._sequence = 0
        self._complete = 0
        self._tickets = count()
        self._by_position: list[_Waiter] = []
        self._by_sequence: list[_Waiter] = []
        self._listeners: list[Callable[[], None]] = []
        self._record_listeners: list[Callable[[str], None]] = []

    @property
    def position(self) -> int:
        """The log position up to which the mirror shows everything."""
        return self._complete

    def call_on_change(self, listener: Callable[[], None]) -> None:
        """Have `listener` called whenever the mirror has taken something in. It must be quick and not raise."""
        self._listeners.append(listener)

    def call_with_subjects(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called with the subject of each record that the mirror has taken in since it was loaded. It
        must be quick and not raise."""
        self._record_listeners.append(listener)

    async def run(self) -> None:
        """Follow until cancelled. Raises `UnavailableError` when the connection is closed for good."""
        await self._load()
        async with aclosing(feed(self._client, STATE_STREAM, self._sequence)) as batches:
            async for batch in batches:
                for sequence, message in batch:
                    self._take(sequence, message)
                self._wake()

    async def wait_for(self, position: int, timeout: float) -> bool:
        """Wait until the mirror shows everything up to a log position. False if it does not within `timeout` s."""
        return self._complete >= position or await self._wait(self._by_position, position, timeout)

    async def catch_up(self, timeout: float) -> bool:
        """Wait until the mirror shows what STATE holds now. False if that takes longer than `timeout` seconds."""
        if not self.loaded.is_set():
            return False
        try:
            last = await last_message(self._client)
        except UnavailableError:
            return False
        if last is None or last.sequence <= self._sequence:
            return True
        return await self._wait(self._by_sequence, last.sequence, timeout)

    async def catch_up_with_log(self, timeout: float) -> bool:
        """Wait until the mirror shows everything that has been decided by now. False if it does not within `timeout`
        seconds: then something may have been taken away that it still shows."""
        if not self.loaded.is_set():
            return False
        try:
            end = await last_sequence(self._client, LOG_STREAM)
        except UnavailableError:
            return False
        return await self.wait_for(end, timeout)

    async def _load(self) -> None:
        log = structlog.get_logger("gateway")
        while True:
            try:
                dump = await load(self._client)
                break
            except UnavailableError as error:
                if self._client.is_closed:
                    raise
                log.info("waiting for the derived state", reason=error.detail)
                await asyncio.sleep(_RETRY_SECONDS)
        for subject, payload in dump.entries:
            self.mirror.apply(subject, payload, dump.signatures.get(subject, ""))
        self._sequence, self._complete = dump.last_sequence, self.mirror.position
        log.info("mirror loaded", position=self._complete, records=len(dump.entries))
        self.loaded.set()
        self._wake()

    def _take(self, sequence: int, message: Msg) -> None:
        before = self.mirror.position
        record = self.mirror.apply(message.subject, message.data, signature_of(message))
        self._sequence = sequence
        # An event's records are written as one batch but arrive one by one: it shows completely once the batch's last
        # message arrives, or, where a newer one has replaced that, once a later event's record does.
        if record.cause > before:
            self._complete = before
        if _ends_batch(message):
            self._complete = self.mirror.position
        for listener in self._record_listeners:
            listener(message.subject)

    async def _wait(self, waiters: list[_Waiter], until: int, timeout: float) -> bool:
        reached = asyncio.get_running_loop().create_future()
        heapq.heappush(waiters, (until, next(self._tickets), reached))
        try:
            async with asyncio.timeout(timeout):
                await reached
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        for waiters, reached in ((self._by_position, self._complete), (self._by_sequence, self._sequence)):
            while waiters and waiters[0][0] <= reached:
                future = heapq.heappop(waiters)[2]
                if not future.done():
                    future.set_result(None)
        for listener in self._listeners:
            listener()


_Waiter = tuple[int, int, "asyncio.Future[None]"]


def _ends_batch(message: Msg) -> bool:
    """Whether a message is alone or the last of its atomic batch (ADR-50 of NATS)."""
    headers = message.headers or {}
    return "Nats-Batch-Id" not in headers or "Nats-Batch-Commit" in headers
