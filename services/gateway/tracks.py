"""Follows REACH, BGP and PATHS into memory, and writes what machines report. Shell."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from typing import TypeVar
from uuid import UUID

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from events.ending import end
from events.errors import UnavailableError
from events.feed import StreamMissingError, feed, made_at, newest_sequence
from events.records import BgpEvent, BgpPlanRecord, BgpRequest, ReachEvent, ReachRequest, SyncReply
from events.state import decode_record, signature_of
from events.subjects import (
    BGP_PREFIX,
    BGP_STREAM,
    PATHS_PREFIX,
    PATHS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
    ScopeKind,
    reach,
    scope,
    scope_of,
)
from services.gateway.bgp import subject_of
from services.gateway.findings import Findings
from services.gateway.mirror import Mirror
from services.gateway.scopes import Scope

_ACK_SECONDS = 2.0
_CATCH_UP = 5.0
_RETRY_SECONDS = 0.5
_LOOK_SECONDS = 2.0
"""So often it is looked whether a stream is still the same."""

_Event = TypeVar("_Event", ReachEvent, BgpEvent)


class Tracks(Findings):
    """What machines report, and the ways that follow. `run` does the work; the rest may be called beside it."""

    def __init__(self, client: Client) -> None:
        super().__init__()
        self._client = client
        self._scopes: dict[str, Scope] = {}
        self._listeners: list[Callable[[str], None]] = []
        self._reports = _Stream(client, REACH_STREAM, REACH_PREFIX, self._take_report, self.forget_reach)
        self._bgp_reports = _Stream(client, BGP_STREAM, BGP_PREFIX, self._take_bgp, self.forget_bgp, newest=True)
        self._paths = _Stream(client, PATHS_STREAM, PATHS_PREFIX, self._take_path, self._forget_paths)
        self._turns: defaultdict[UUID, asyncio.Lock] = defaultdict(asyncio.Lock)

    def call_with_topics(self, listener: Callable[[str], None]) -> None:
        """Have `listener` called whenever something was taken in: with `paths:<uuid>` or `bgp:<uuid>` of a network. It
        must be quick and not raise."""
        self._listeners.append(listener)

    def _tell(self, what: str, network_id: UUID | str) -> None:
        for listener in self._listeners:
            listener(f"{what}:{network_id}")

    async def run(self) -> None:
        """Follow until cancelled, from when the streams are there. Raises `UnavailableError` when the connection is
        closed for good."""
        # Not a TaskGroup, which cancels once: a request that is answered at that moment swallows it.
        tasks = [asyncio.create_task(stream.run()) for stream in (self._reports, self._bgp_reports, self._paths)]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            await end(tasks)

    async def report(self, machine_id: UUID, request: ReachRequest, mirror: Mirror, now: datetime) -> int:
        """Write what is new in a machine's report to REACH; the position of the last, 0 where nothing is. It is on the
        disk then. A machine's reports are written one after the other.

        Raises what `Reach.accept` does, and then nothing was written; and `UnavailableError`: then some of it may be
        written, and the machine reports it again, as a newer report.
        """
        self._reports.require_loaded()
        async with self._turns[machine_id]:
            # Another gateway may have written the machine's last report: what is no news to that is none.
            await self._reports.catch_up(_ACK_SECONDS)
            accepted = self.reach.accept(machine_id, request, mirror, now)
            subjects = [reach(event.network_id, machine_id, event.link.peer_id) for event in accepted]
            return await self._append(accepted, subjects, self.reach.written, self.reach.doubt)

    async def report_bgp(self, machine_id: UUID, request: BgpRequest, mirror: Mirror, now: datetime) -> int:
        """As `report`, of a machine's report of its BGP speaker, to BGP."""
        self._bgp_reports.require_loaded()
        async with self._turns[machine_id]:
            await self._bgp_reports.catch_up(_ACK_SECONDS)
            accepted = self.bgp.accept(machine_id, request, mirror, now)
            subjects = list(map(subject_of, accepted))
            return await self._append(accepted, subjects, self.bgp.written, self.bgp.doubt)

    async def _append(
        self,
        events: Sequence[_Event],
        subjects: Sequence[str],
        note: Callable[[int, _Event], None],
        doubt: Callable[[_Event], None],
    ) -> int:
        written = await asyncio.gather(*map(self._write, subjects, events), return_exceptions=True)
        failures = []
        for event, sequence in zip(events, written, strict=True):
            if isinstance(sequence, int):
                note(sequence, event)
            else:
                doubt(event)
                failures.append(sequence)
        if failures:
            raise failures[0]
        return max((sequence for sequence in written if isinstance(sequence, int)), default=0)

    async def _write(self, subject: str, event: ReachEvent | BgpEvent) -> int:
        try:
            answer = await self._client.request(subject, event.model_dump_json().encode(), timeout=_ACK_SECONDS)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError("Reports cannot be written now.", hint="Report again.") from error
        acknowledged = orjson.loads(answer.data)
        if "error" in acknowledged:
            raise UnavailableError("The bus does not take reports now.", hint="Report again.")
        return int(acknowledged["seq"])

    async def sync(self, kind: ScopeKind, scope_id: UUID, since: int) -> SyncReply:
        """What a machine needs that holds revision `since` of its paths, or of its network's BGP plan. Raises
        `UnavailableError`."""
        self._paths.require_loaded()
        name = scope(kind, scope_id)
        reply = self._scopes.get(name, Scope()).reply(name, since)
        if reply.reset:
            # The machine may have heard live what has not come here yet: be sure before it drops anything.
            await self._paths.catch_up(_CATCH_UP)
            reply = self._scopes.get(name, Scope()).reply(name, since)
        return reply

    def _take_report(self, sequence: int, message: Msg) -> None:
        with _readable(sequence):
            if network_id := self.take_reach(message.subject, sequence, message.data):
                self._tell("paths", network_id)

    def _take_bgp(self, sequence: int, message: Msg) -> None:
        with _readable(sequence):
            if network_id := self.take_bgp(message.subject, sequence, message.data):
                self._tell("bgp", network_id)

    def _forget_paths(self) -> None:
        self.forget_paths()
        self._scopes.clear()

    def _take_path(self, sequence: int, message: Msg) -> None:
        record = decode_record(message.data)
        held = self._scopes.setdefault(scope_of(message.subject), Scope())
        if held.put(message.subject, record, message.data, signature_of(message)):
            self.take_path(message.subject, record)
            if isinstance(record.body, BgpPlanRecord):
                self._tell("bgp", record.body.network_id)
            else:
                self._tell("paths", message.subject.split(".")[4])


@contextmanager
def _readable(sequence: int) -> Iterator[None]:
    """Leave out a report that cannot be read."""
    try:
        yield
    except ValidationError as error:
        structlog.get_logger("gateway").warning("a report cannot be read", sequence=sequence, why=str(error))


class _Stream:
    """A stream that is followed from its beginning, once it is there; if it is deleted, the one that comes after it."""

    def __init__(
        self,
        client: Client,
        name: str,
        prefix: str,
        take: Callable[[int, Msg], None],
        forget: Callable[[], None],
        *,
        newest: bool = False,
    ) -> None:
        """With `newest`, of what is there at the start only the newest of each subject counts."""
        self._newest_of = f"{prefix}.>" if newest else ""
        self._client = client
        self._name = name
        self._prefix = prefix
        self._take = take
        self._forget = forget
        self._sequence = 0
        self._is_loaded = False
        self._arrived = asyncio.Event()

    async def run(self) -> None:
        """Follow until cancelled."""
        while True:
            made = await self._wait_for_stream()
            following, *others = tasks = [
                asyncio.create_task(work) for work in (self._follow(), self._load(), self._is_another(made))
            ]
            try:
                await asyncio.wait({following, others[-1]}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    following.result()
            finally:
                await end(tasks)
            structlog.get_logger("gateway").warning("a stream was deleted and is read anew", stream=self._name)
            self._sequence, self._is_loaded = 0, False
            self._forget()

    def require_loaded(self) -> None:
        """Raises `UnavailableError` while not everything is known that the stream held when we began."""
        if not self._is_loaded:
            raise UnavailableError(f"The gateway has not read {self._name} yet.", hint="Ask again in a moment.")

    async def catch_up(self, timeout: float) -> None:
        """Wait until everything was taken that the stream holds now. Raises `UnavailableError` if that takes longer."""
        try:
            async with asyncio.timeout(timeout):
                newest = await self._newest()
                while self._sequence < newest:
                    self._arrived.clear()
                    await self._arrived.wait()
        except TimeoutError as error:
            raise UnavailableError("The gateway is behind.", hint="Ask again.") from error

    async def _follow(self) -> None:
        async with aclosing(feed(self._client, self._name, 0, newest_of=self._newest_of)) as batches:
            async for batch in batches:
                for sequence, message in batch:
                    self._take(sequence, message)
                    self._sequence = sequence
                self._arrived.set()

    async def _load(self) -> None:
        while not self._is_loaded:
            try:
                await self.catch_up(_CATCH_UP)
                self._is_loaded = True
            except UnavailableError:
                await asyncio.sleep(_RETRY_SECONDS)

    async def _is_another(self, made: str) -> None:
        """Wait until the stream is not the one any more that was made then."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if await made_at(self._client, self._name) != made:
                    return
            except StreamMissingError:
                return
            except UnavailableError:
                continue

    async def _wait_for_stream(self) -> str:
        """When it was made."""
        told = False
        while True:
            try:
                return await made_at(self._client, self._name)
            except UnavailableError as error:
                if self._client.is_closed:
                    raise
                if not told:
                    structlog.get_logger("gateway").info("waiting for a stream", stream=self._name, why=error.detail)
                told = True
                await asyncio.sleep(_RETRY_SECONDS)

    async def _newest(self) -> int:
        """The sequence of the newest message that the stream's leader has. Raises `UnavailableError`."""
        # Not ">": for that the server looks at its last sequence only, whose message may have been purged.
        return await newest_sequence(self._client, self._name, f"{self._prefix}.>")
