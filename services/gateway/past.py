"""Moments that are past, as the gateway sees them: asked of the topology service, and kept for a while. Shell."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID

from nats.aio.client import Client
from pydantic import ValidationError

from events import log
from events.domain import DomainEvent
from events.errors import NotFoundError
from events.instants import Instant
from events.past import (
    PAST_NETWORK,
    PAST_STATE,
    REPORTS_SINCE,
    PastEntry,
    PastNetworkRequest,
    PastRequest,
    Supposed,
    ask_past,
    past_entries,
)
from events.state import decode_record
from events.subjects import BGP_STREAM, REACH_STREAM
from services.gateway.findings import Findings
from services.gateway.history import first_at
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence, Unrecorded

_KEPT = 8
"""So many moments are kept, for who goes back and forth,"""
_KEPT_RECORDS = 200_000
"""and not more than the newest where they hold so many records."""

_AT_ONCE = 200
"""So many records are read before others may run."""

_MOMENT = timedelta(microseconds=1)
_BEGINNING = datetime.min.replace(tzinfo=UTC)


class Past:
    """The mesh as it was at one moment, or would be. See `services.gateway.seen.Seen`."""

    is_past = True

    def __init__(self, client: Client, mirror: Mirror, position: int, time: datetime, then: Sequence[Supposed]) -> None:
        self.mirror = mirror
        self.presence: Presence = Unrecorded()
        self.tracks = Findings(dated=False)
        self.position = position
        """The log's position then."""
        self.time = time
        self.reports_since: datetime | None = None
        """Since when all that machines reported is known: of a moment before that, what was reported may be missing.
        None before `look_into`."""
        self._client = client
        self._then = tuple(then)
        self._known: set[UUID] = set()
        self._planned: set[UUID] = set()
        self._turn = asyncio.Lock()

    @property
    def is_complete(self) -> bool:
        """Whether all that machines had reported is known."""
        return self.reports_since is None or self.reports_since <= self.time

    def now(self) -> datetime:
        """The moment."""
        return self.time

    async def look_into(self, network_ids: Iterable[UUID]) -> None:
        """See `Seen`. What is no network then is left out."""
        await self._look(network_ids, is_brief=False)

    async def look_at_plans(self, network_ids: Iterable[UUID]) -> None:
        """See `Seen`."""
        await self._look(network_ids, is_brief=not self._then)

    async def _look(self, network_ids: Iterable[UUID], *, is_brief: bool) -> None:
        known = self._planned if is_brief else self._known
        async with self._turn:
            for network_id in network_ids:
                network = self.mirror.networks.get(network_id)
                if network_id in known or network_id in self._known or network is None or network.record is None:
                    continue
                request = PastNetworkRequest(
                    position=self.position, then=self._then, network_id=network_id, time=self.time, is_brief=is_brief
                )
                for number, entry in enumerate(await ask_past(self._client, PAST_NETWORK, request)):
                    with suppress(ValidationError):  # what cannot be read is no report
                        self._take(entry)
                    if number % _AT_ONCE == 0:
                        await asyncio.sleep(0)
                known.add(network_id)

    def _take(self, entry: PastEntry) -> None:
        if entry.stream == REACH_STREAM:
            self.tracks.take_reach(entry.subject, entry.sequence, entry.payload)
        elif entry.stream == BGP_STREAM:
            self.tracks.take_bgp(entry.subject, entry.sequence, entry.payload)
        elif entry.subject == REPORTS_SINCE:
            self.reports_since = datetime.fromisoformat(entry.payload.decode())
            if not self.is_complete:
                self.tracks.ways.doubt()
        else:
            self.tracks.take_path(entry.subject, decode_record(entry.payload))


class Pasts:
    """The moments that somebody looks at."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._kept: OrderedDict[tuple[int, datetime], Past] = OrderedDict()
        self._asking = asyncio.Lock()
        """Held while a moment is asked for: the topology service answers one question after the other, and of a moment
        that many want at once there is to be one."""

    async def at(self, instant: Instant) -> Past:
        """The mesh right after the event at a position, or at a time.

        Raises `NotFoundError` for a position that the log has not come to, and `UnavailableError`.
        """
        position, time = await self.place(instant)
        kept = self._kept.get((position, time))
        if kept is None:
            async with self._asking:
                kept = self._kept.get((position, time))
                if kept is None:
                    kept = await self._asked(position, time, ())
                    self._keep(kept)
        if (position, time) in self._kept:
            self._kept.move_to_end((position, time))
        return kept

    def _keep(self, past: Past) -> None:
        self._kept[past.position, past.time] = past
        while len(self._kept) > _KEPT or (
            len(self._kept) > 1 and sum(_size(each.mirror) for each in self._kept.values()) > _KEPT_RECORDS
        ):
            self._kept.popitem(last=False)

    async def supposing(self, events: Sequence[DomainEvent], position: int | None = None) -> tuple[Past, Past]:
        """The mesh as it is now, and as it would be if these events happened, right after a position of the log (None
        for its end). Raises `UnavailableError`."""
        end, now = await log.last_sequence(self._client) if position is None else position, datetime.now(UTC)
        return await self._asked(end, now, ()), await self._asked(end, now, [Supposed.of(event) for event in events])

    async def place(self, instant: Instant) -> tuple[int, datetime]:
        """The log's position at a moment, and the time. Raises like `at`, and asks the log alone."""
        end = await log.last_sequence(self._client)
        if instant.time is not None:
            return await first_at(self._client, instant.time + _MOMENT, end) - 1, instant.time
        assert instant.position is not None
        if instant.position > end:
            raise NotFoundError(
                f"The log ends at {end}: there is no position {instant.position} yet.", hint="Give one that there is."
            )
        if instant.position == 0:
            return 0, _BEGINNING
        found = await log.first_from(self._client, instant.position)
        return instant.position, found.event.time if found is not None else _BEGINNING

    async def _asked(self, position: int, time: datetime, then: Sequence[Supposed]) -> Past:
        mirror = Mirror()
        request = PastRequest(position=position, then=tuple(then))
        async with aclosing(past_entries(self._client, PAST_STATE, request)) as chunks:
            async for chunk in chunks:
                for start in range(0, len(chunk), _AT_ONCE):
                    for entry in chunk[start : start + _AT_ONCE]:
                        mirror.apply(entry.subject, entry.payload)
                    await asyncio.sleep(0)
        return Past(self._client, mirror, position, time, then)


def _size(mirror: Mirror) -> int:
    """How many records it holds, about."""
    in_networks = sum(len(each.members) + len(each.peers) for each in mirror.networks.values())
    return len(mirror.machines) + in_networks
