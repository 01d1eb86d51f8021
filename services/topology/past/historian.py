"""The derived state at a position of the log, and in networks what was reported by a time. A shell.

Everything follows from the log and the reports; what stands in STATE and PATHS now is never looked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson
from nats.aio.client import Client

from events import log
from events.client import Entry
from events.direct import newest_until, next_at
from events.errors import NotFoundError
from events.feed import last_sequence
from events.past import PastEntry, PastNetworkRequest, PastRequest
from events.state import cause_of
from events.subjects import (
    BGP_PREFIX,
    BGP_STREAM,
    PATHS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
    STATE_STREAM,
)
from services.topology.core import Topology
from services.topology.past.ways import ways_of
from services.topology.rebuild import replay
from services.topology.shelf import Shelf


@dataclass(frozen=True, slots=True)
class Past:
    """The derivation at one position of the log."""

    topology: Topology
    shelf: Shelf


class Historian:
    """Looks back."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def state(self, request: PastRequest) -> list[PastEntry]:
        """What STATE held. Raises `NotFoundError` for a position that the log has not come to, `UnavailableError`, and
        `InternalError` where the log cannot be read."""
        past = await self._past(request)
        held = sorted(past.shelf.contents().items(), key=lambda entry: cause_of(entry[1]))
        return [PastEntry(STATE_STREAM, 0, subject, payload) for subject, payload in held]

    async def network(self, request: PastNetworkRequest) -> list[PastEntry]:
        """What was reported in a network, and which ways through transit machines followed. Raises as `state` does,
        and `NotFoundError` where there was no such network."""
        past = await self._past(request)
        network = past.topology.networks.get(request.network_id)
        if network is None:
            raise NotFoundError(f"There was no mesh network {request.network_id} then.", hint="Choose another moment.")
        members = network.members
        links = await self._reports(REACH_STREAM, REACH_PREFIX, request.network_id, members, request.time)
        sessions = await self._reports(BGP_STREAM, BGP_PREFIX, request.network_id, members, request.time)
        ways = ways_of(past.topology, request.network_id, links)
        return [
            *(PastEntry(REACH_STREAM, entry.sequence, entry.subject, entry.data) for entry in links),
            *(PastEntry(BGP_STREAM, entry.sequence, entry.subject, entry.data) for entry in sessions),
            *(PastEntry(PATHS_STREAM, 0, subject, payload) for subject, payload in ways),
        ]

    async def _past(self, request: PastRequest) -> Past:
        end = await log.last_sequence(self._client)
        if request.position > end:
            raise NotFoundError(
                f"The log ends at {end}: there is no position {request.position} yet.", hint="Give one that there is."
            )
        shelf = Shelf()
        topology = await replay(self._client, request.position, shelf)
        for number, supposed in enumerate(request.then, 1):
            shelf.take(topology.apply(request.position + number, supposed.event()))
        return Past(topology, shelf)

    async def _reports(
        self, stream: str, prefix: str, network_id: UUID, members: Iterable[UUID], time: datetime | None
    ) -> list[Entry]:
        """Of each subject of a network the newest report that was made by `time`."""
        last = await last_sequence(self._client, stream)
        if time is not None:
            last = await _first_where(self._client, stream, f"{prefix}.>", last, lambda entry: _time(entry) > time) - 1
        together = await newest_until(self._client, stream, f"{prefix}.{network_id}.>", last)
        if together is not None:
            return together
        found: list[Entry] = []
        for machine_id in members:
            found += await newest_until(self._client, stream, f"{prefix}.{network_id}.{machine_id}.>", last) or []
            await asyncio.sleep(0)
        return sorted(found)


async def _first_where(client: Client, stream: str, subjects: str, end: int, is_after: Callable[[Entry], bool]) -> int:
    """The sequence of the first message that is after the moment looked for; after `end` where there is none."""
    low, high = 1, end + 1
    while low < high:
        middle = (low + high) // 2
        entry = await next_at(client, stream, subjects, middle)
        if entry is None or entry.sequence > end or is_after(entry):
            high = middle
        else:
            low = entry.sequence + 1
    return low


def _time(entry: Entry) -> datetime:
    said: Sequence[str] | dict[str, str] = orjson.loads(entry.data)
    assert isinstance(said, dict)
    return datetime.fromisoformat(said["time"])
