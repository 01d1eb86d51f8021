"""PATHS held against what follows from who is a member and what machines report, while all of it goes on. A shell.

What differs is no finding at once, for PATHS follows what happens a little later: only what stays the same, and
different, for a while is one. Costs the reading of the newest report of every link.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from nats.aio.client import Client
from pydantic import ValidationError

from events import log
from events.client import Entry
from events.feed import standing
from events.fields import TransitMode
from events.records import BgpPlanRecord, PathRecord, RelayRecord
from events.state import decode_record, signature_of
from events.subjects import (
    PATHS_PREFIX,
    PATHS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
    REPORTS_KEPT_SECONDS,
    bgp_plan,
)
from services.topology.past.moment import Moment, advance
from services.topology.past.plans import plan_at
from services.topology.past.reports import REPORTED_AGAIN
from services.topology.past.ways import read_reports
from services.topology.paths_core import Paths, Wanted

_PAIRS_AT_ONCE = 500
_LONGEST_SECONDS = 60.0
"""What has not come to rest by then is not judged."""
_LOOK_SECONDS = 0.5
_FORGOTTEN = timedelta(seconds=REPORTS_KEPT_SECONDS) - REPORTED_AGAIN
"""Of a machine that has been silent for longer, reports may have been removed on which ways still rest."""

Body = PathRecord | RelayRecord | BgpPlanRecord | None


class Held(NamedTuple):
    """What stands in PATHS."""

    body: Any
    """What the record says; where it is none, its payload."""
    payload: bytes
    signature: str


class Apart(NamedTuple):
    """A subject at which PATHS differs, for good."""

    subject: str
    expected: Body
    found: Held | None


@dataclass(slots=True)
class Compared:
    """What came of a comparison."""

    apart: list[Apart] = field(default_factory=list)
    right: dict[str, Held] = field(default_factory=dict)
    """What stands there and is as it should be, by subject."""


async def compare_ways(client: Client, moment: Moment, seconds: float) -> AsyncGenerator[int | Compared]:
    """The log positions reached while comparing, and last of all what came of it. `moment` is moved on to the log's
    end. What differs the same for so many seconds differs for good.

    Raises `UnavailableError`, and `InternalError` where the log cannot be read.
    """
    follows = _Follows(client, moment)
    now = asyncio.get_running_loop().time
    since: dict[Apart, float] = {}
    begun = now()
    while True:
        expected, found = await follows.look(), await _found(client)
        apart = [
            Apart(subject, expected.get(subject), found.get(subject))
            for subject in sorted(expected.keys() | found.keys())
            if not _agree(expected.get(subject), found.get(subject))
            and not follows.is_unsure(expected.get(subject), found.get(subject))
        ]
        since = {each: since.get(each, now()) for each in apart}
        lasting = [each for each in apart if now() - since[each] >= seconds]
        if len(lasting) == len(apart) or now() - begun > max(_LONGEST_SECONDS, 2 * seconds):
            break
        yield moment.position
        await asyncio.sleep(_LOOK_SECONDS)
    right = {subject: held for subject, held in found.items() if _agree(expected.get(subject), held)}
    yield Compared(lasting, right)


def _agree(expected: Body, found: Held | None) -> bool:
    """Whether a record says what it should; one that says nothing is like none."""
    return expected == (found.body if found is not None else None)


async def _found(client: Client) -> dict[str, Held]:
    found: dict[str, Held] = {}
    async with aclosing(standing(client, PATHS_STREAM, f"{PATHS_PREFIX}.>")) as batches:
        async for batch in batches:
            for _, message in batch:
                try:
                    body: Any = decode_record(message.data).body
                except ValidationError:
                    body = message.data
                found[message.subject] = Held(body, message.data, signature_of(message))
            await asyncio.sleep(0)
    return found


class _Follows:
    """What follows from the log and the reports, and goes on to."""

    def __init__(self, client: Client, moment: Moment) -> None:
        self._client = client
        self._moment = moment
        self._paths = Paths()
        self._entered: dict[tuple[UUID, UUID], TransitMode] = {}
        self._heard: dict[tuple[UUID, UUID], datetime] = {}
        """When each machine, by network and id, was last heard of."""
        self._reached = 0
        self._wanted: dict[str, Wanted] = {}

    async def look(self) -> Mapping[str, Body]:
        """What PATHS should hold by now. Raises `UnavailableError`."""
        await advance(self._client, self._moment, await log.last_sequence(self._client))
        self._enter(self._members())
        async with aclosing(standing(self._client, REACH_STREAM, f"{REACH_PREFIX}.>", self._reached)) as batches:
            async for batch in batches:
                entries = [Entry(sequence, message.subject, b"", message.data) for sequence, message in batch]
                for sequence, event in read_reports(entries):
                    self._paths.link(sequence, event)
                    whose = event.network_id, event.machine_id
                    self._heard[whose] = max(self._heard.get(whose, event.time), event.time)
                self._reached = max(self._reached, entries[-1].sequence)
                await asyncio.sleep(0)
        while not self._paths.is_settled:
            for change in self._paths.drain(_PAIRS_AT_ONCE):
                self._wanted[change.subject] = change.body
            await asyncio.sleep(0)
        return {subject: body for subject, body in self._wanted.items() if body is not None} | await self._plans()

    def is_unsure(self, expected: Body, found: Held | None) -> bool:
        """Whether a record may rest on a report that is not kept any more, or is about to be removed with the network
        or machine that it is about."""
        body = expected or (found.body if found is not None else None)
        if isinstance(body, BgpPlanRecord):
            return body.network_id not in self._moment.topology.networks
        if not isinstance(body, PathRecord | RelayRecord):
            return False
        network = self._moment.topology.networks.get(body.network_id)
        ends = {body.machine_id, body.peer_id}
        if network is None or not ends <= self._moment.topology.machines.keys():
            return True
        long_ago = datetime.now(UTC) - _FORGOTTEN
        if network.record.created_at > long_ago:
            return False
        named = _named(expected) | _named(found.body if found is not None else None)
        return any(self._heard.get((body.network_id, each), network.record.created_at) < long_ago for each in named)

    def _members(self) -> dict[tuple[UUID, UUID], TransitMode]:
        topology = self._moment.topology
        return {
            (network_id, machine_id): topology.machines[machine_id].record.transit
            for network_id, network in topology.networks.items()
            for machine_id, member in network.members.items()
            if member.public_key is not None
        }

    def _enter(self, members: dict[tuple[UUID, UUID], TransitMode]) -> None:
        for whose in self._entered.keys() - members.keys():
            self._paths.gone(*whose)
        for whose, transit in members.items():
            if self._entered.get(whose) != transit:
                self._paths.member(*whose, transit)
        self._entered = members

    async def _plans(self) -> dict[str, Body]:
        """The BGP plans that were made last. (Whether a plan is the right one cannot be told: each is a step from
        another.)"""
        found: dict[str, Body] = {}
        for network_id, network in self._moment.topology.networks.items():
            plan = await plan_at(self._client, network_id, network.record.created_at, datetime.now(UTC))
            if plan is not None and isinstance(plan.body, BgpPlanRecord):
                found[bgp_plan(network_id)] = plan.body
        return found


def _named(body: Any) -> set[UUID]:
    """The machines that a record speaks of."""
    match body:
        case PathRecord():
            return {body.machine_id, body.peer_id, *(transit for way in body.ways for transit in way)}
        case RelayRecord():
            return {body.machine_id, body.peer_id, *(machine for pair in body.behind for machine in pair)}
        case _:
            return set()
