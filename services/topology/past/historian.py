"""The derived state at a position of the log, and in networks what was reported by a time. A shell.

Everything follows from the log and the reports; what stands in STATE and PATHS now is never looked at.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from uuid import UUID

from nats.aio.client import Client

from events import log
from events.client import Entry
from events.errors import NotFoundError
from events.past import REPORTS_SINCE, PastEntry, PastNetworkRequest, PastRequest
from events.records import Record
from events.state import encode_record
from events.subjects import (
    BGP_PREFIX,
    BGP_STREAM,
    PATHS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
    STATE_STREAM,
    bgp_plan,
)
from services.topology.past.moment import Moment, advance, moment_of
from services.topology.past.plans import Looking, plan_at, plan_supposed
from services.topology.past.reports import complete_since, reports_by
from services.topology.past.vault import Vault
from services.topology.past.ways import ways_of

_KEPT = 4
"""At most so many moments are kept, for who goes back and forth,"""
_KEPT_RECORDS = 200_000
"""and not more than the newest where they hold so many records: a record takes about a kilobyte of memory."""


class Historian:
    """Looks back: from the newest snapshot, or a moment that is kept, before the position."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._vault = Vault(client)
        self._kept: OrderedDict[int, Moment] = OrderedDict()
        """By position. None is ever changed; what goes on from one begins with a copy."""

    async def state(self, request: PastRequest) -> list[PastEntry]:
        """What STATE held. Raises `NotFoundError` for a position that the log has not come to, `UnavailableError`, and
        `InternalError` where the log cannot be read."""
        past = await self._past(request)
        return [PastEntry(STATE_STREAM, 0, subject, payload) for subject, payload in past.shelf.contents().items()]

    async def network(self, request: PastNetworkRequest) -> list[PastEntry]:
        """What was reported in a network, and which ways through transit machines and which BGP plan followed. Raises
        as `state` does, and `NotFoundError` where there was no such network."""
        past = await self._past(request)
        network = past.topology.networks.get(request.network_id)
        if network is None:
            raise NotFoundError(f"There was no mesh network {request.network_id} then.", hint="Choose another moment.")
        time = request.time or datetime.now(UTC)
        if request.is_brief and not request.then:
            return self._planned(request, await self._plan(request, past, Looking((), (), time)))
        members = network.members
        links = await self._reports(REACH_STREAM, REACH_PREFIX, request, members)
        sessions = await self._reports(BGP_STREAM, BGP_PREFIX, request, members)
        since = await complete_since(self._client)
        ways = ways_of(past.topology, request.network_id, links)
        plan = await self._plan(request, past, Looking(links, sessions, time))
        return [
            *(PastEntry(REACH_STREAM, entry.sequence, entry.subject, entry.data) for entry in links),
            *(PastEntry(BGP_STREAM, entry.sequence, entry.subject, entry.data) for entry in sessions),
            *(PastEntry(PATHS_STREAM, 0, subject, payload) for subject, payload in ways),
            *self._planned(request, plan),
            PastEntry("", 0, REPORTS_SINCE, since.isoformat().encode()),
        ]

    def _planned(self, request: PastNetworkRequest, plan: Sequence[Record]) -> list[PastEntry]:
        return [PastEntry(PATHS_STREAM, 0, bgp_plan(request.network_id), encode_record(record)) for record in plan]

    async def _plan(self, request: PastNetworkRequest, past: Moment, looking: Looking) -> list[Record]:
        """The plan that the network had, or would have; nothing for full mesh."""
        network_id = request.network_id
        made = past.topology.networks[network_id].record.created_at
        plan = await plan_at(self._client, network_id, made, looking.time)
        if request.then:
            now = await self._past(PastRequest(position=request.position))
            plan = plan_supposed(network_id, now, past, looking, plan)
        return [] if plan is None else [plan]

    async def _past(self, request: PastRequest) -> Moment:
        """The moment, which must not be changed."""
        end = await log.last_sequence(self._client)
        if request.position > end:
            raise NotFoundError(
                f"The log ends at {end}: there is no position {request.position} yet.", hint="Give one that there is."
            )
        if await self._vault.is_other_log():
            self._kept.clear()
        kept = self._kept.get(request.position)
        if kept is None:
            kept = await self._before(request.position)
            await advance(self._client, kept, request.position)
            self._keep(kept)
        self._kept.move_to_end(request.position)
        if not request.then:
            return kept
        supposed = await asyncio.to_thread(moment_of, kept.position, kept.shelf.contents())
        supposed.suppose([each.event() for each in request.then])
        return supposed

    async def _before(self, position: int) -> Moment:
        """A moment of one's own, at a position or before."""
        base = max((each for each in self._kept if each <= position), default=0)
        snapshot = await self._vault.newest(position, base)
        if snapshot is not None:
            return await asyncio.to_thread(moment_of, snapshot.position, snapshot.contents)
        if base:
            return await asyncio.to_thread(moment_of, base, self._kept[base].shelf.contents())
        return Moment()

    def _keep(self, moment: Moment) -> None:
        self._kept[moment.position] = moment
        while len(self._kept) > _KEPT or (
            len(self._kept) > 1 and sum(len(each.shelf) for each in self._kept.values()) > _KEPT_RECORDS
        ):
            self._kept.popitem(last=False)

    async def _reports(
        self, stream: str, prefix: str, request: PastNetworkRequest, members: Iterable[UUID]
    ) -> list[Entry]:
        return await reports_by(self._client, stream, f"{prefix}.{request.network_id}", members, request.time)
