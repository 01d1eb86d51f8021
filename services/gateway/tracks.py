"""Follows REACH and PATHS into memory, and writes what machines report. Shell."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from datetime import datetime
from uuid import UUID

import nats.errors
import orjson
from nats.aio.client import Client
from pydantic import ValidationError

from events.errors import UnavailableError
from events.feed import feed
from events.records import ReachEvent, ReachRequest, SyncReply
from events.state import decode_record, signature_of
from events.subjects import PATHS_STREAM, REACH_STREAM, reach, scope_of
from services.gateway.mirror import Mirror
from services.gateway.reach import Reach
from services.gateway.scopes import Scope
from services.gateway.ways import Ways

_ACK_SECONDS = 2.0


class Tracks:
    """What machines report, and the ways that follow. `run` does the work; the rest may be called beside it."""

    def __init__(self, client: Client) -> None:
        self.reach = Reach()
        self.ways = Ways()
        self._client = client
        self._scopes: dict[str, Scope] = {}

    async def run(self) -> None:
        """Follow until cancelled. Raises `UnavailableError` when the connection is closed for good."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_reach())
            group.create_task(self._follow_paths())

    async def report(self, machine_id: UUID, request: ReachRequest, mirror: Mirror, now: datetime) -> int:
        """Write what is new in a machine's report to REACH; the position of the last. It is on the disk then.

        Raises what `Reach.accept` does, and then nothing was written; and `UnavailableError`: then some of it may be
        written, and the machine reports it again.
        """
        sequence = 0
        for event in self.reach.accept(machine_id, request, mirror, now):
            sequence = await self._append(event)
            self.reach.take(sequence, event)
        return sequence

    async def _append(self, event: ReachEvent) -> int:
        subject = reach(event.network_id, event.machine_id, event.link.peer_id)
        try:
            answer = await self._client.request(subject, event.model_dump_json().encode(), timeout=_ACK_SECONDS)
        except (nats.errors.Error, TimeoutError) as error:
            raise UnavailableError("Reports cannot be written now.", hint="Report again.") from error
        acknowledged = orjson.loads(answer.data)
        if "error" in acknowledged:
            raise UnavailableError("The bus does not take reports now.", hint="Report again.")
        return int(acknowledged["seq"])

    def sync(self, machine_id: UUID, since: int) -> SyncReply:
        """What a machine that holds revision `since` of its paths needs."""
        name = f"paths:{machine_id}"
        return self._scopes.get(name, Scope()).reply(name, since)

    async def _follow_reach(self) -> None:
        async with aclosing(feed(self._client, REACH_STREAM, 0)) as batches:
            async for batch in batches:
                for sequence, message in batch:
                    try:
                        self.reach.take(sequence, ReachEvent.model_validate_json(message.data))
                    except ValidationError:
                        continue

    async def _follow_paths(self) -> None:
        async with aclosing(feed(self._client, PATHS_STREAM, 0)) as batches:
            async for batch in batches:
                for _, message in batch:
                    record = decode_record(message.data)
                    scope = self._scopes.setdefault(scope_of(message.subject), Scope())
                    if scope.put(message.subject, record, message.data, signature_of(message)):
                        self.ways.take(message.subject, record)
