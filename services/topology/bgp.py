"""Keeps networks' BGP plans up to date: follows who is a member, who reaches whom, and what machines report of their
speakers, and writes the next step. A shell.

A plan is one step from the plan before, so whoever was killed goes on from the one that stands in PATHS. Of several
that run at once one writes; another that is refused reads what was written, and goes on once it has seen all that the
writer may have seen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.ending import end
from events.errors import UnavailableError
from events.feed import feed, newest_sequence, standing
from events.peering import BgpPlan
from events.subjects import BGP_PREFIX, BGP_STREAM, PATHS_STREAM, REACH_PREFIX, REACH_STREAM, STATE_PREFIX, STATE_STREAM
from events.trust.signing import Signer
from services.topology.bgp_core import next_step
from services.topology.bgp_view import Arrived, View
from services.topology.bgp_writer import BgpWriter
from services.topology.paths import derived_state
from services.topology.same import watch, when_made

_SUBJECTS = {REACH_STREAM: f"{REACH_PREFIX}.>", BGP_STREAM: f"{BGP_PREFIX}.>", STATE_STREAM: f"{STATE_PREFIX}.>"}
_GATHER_SECONDS = 0.2
"""What comes in so short a time is looked at together."""
_IDLE_SECONDS = 5.0
_LOOK_SECONDS = 0.25


async def derive_bgp(client: Client, signer: Signer | None, writing: asyncio.Lock) -> None:
    """Bring the plans up to date and keep them so, until cancelled. Holds `writing` whenever it writes.

    Raises `PathsDivergedError` and `UnavailableError`: then it can be called again.
    """
    made = await when_made(client, (*_SUBJECTS, PATHS_STREAM))
    view, writer = View(), BgpWriter(client, signer, datetime.now(UTC))
    await _load(client, view)
    count = await writer.load()
    structlog.get_logger("services.topology").info("BGP plans ready", reports=view.reached[BGP_STREAM], records=count)
    waiting: asyncio.Queue[Arrived | Exception] = asyncio.Queue(maxsize=16)
    followers = [asyncio.create_task(_follow(client, stream, after, waiting)) for stream, after in view.reached.items()]
    followers.append(asyncio.create_task(watch(client, made, waiting)))
    planning = _Planning(client, view, writer, waiting)
    try:
        while True:
            async with writing:
                await planning.write()
            await planning.see()
    finally:
        await end(followers)


async def _load(client: Client, view: View) -> None:
    for stream in (REACH_STREAM, BGP_STREAM):
        async with aclosing(standing(client, stream, _SUBJECTS[stream])) as batches:
            async for batch in batches:
                view.take(_arrived(stream, batch))
                await asyncio.sleep(0)
    dump = await derived_state(client)
    # The end of a network after its peers, some of which may stand there still.
    entries = sorted(dump.entries, key=lambda entry: entry[0].endswith(".info"))
    view.take(Arrived(STATE_STREAM, dump.last_sequence, entries))


class _Planning:
    """Writes the next step of each network's plan, and sees more."""

    def __init__(
        self, client: Client, view: View, writer: BgpWriter, waiting: asyncio.Queue[Arrived | Exception]
    ) -> None:
        self._client = client
        self._view = view
        self._writer = writer
        self._waiting = waiting
        self._look_at: dict[UUID, datetime] = {}
        view.changed |= writer.networks()

    async def write(self) -> None:
        """Write what is to be written now."""
        now = datetime.now(UTC)
        due = self._view.changed | {network_id for network_id, moment in self._look_at.items() if moment <= now}
        self._view.changed.clear()
        for network_id in sorted(due):
            self._look_at.pop(network_id, None)
            await self._write_one(network_id, now)
            await asyncio.sleep(0)
        for network_id in sorted(self._view.deleted):
            await self._writer.purge(network_id)
            self._view.deleted.discard(network_id)

    async def _write_one(self, network_id: UUID, now: datetime) -> None:
        seen, there = self._view.networks.get(network_id), self._writer.of(network_id)
        if seen is None or not seen.is_there:
            return
        if not seen.settings.with_reflectors and there.plan == BgpPlan() and not there.is_stale:
            return
        step = next_step(there.plan, there.made_at, seen.settings, seen.sight, now)
        if step.look_at is not None:
            self._look_at[network_id] = step.look_at
        if step.plan == there.plan:
            is_done = await self._writer.sign_again(network_id)
        else:
            is_done = await self._writer.write(network_id, step.plan, self._view.reached[BGP_STREAM], now)
            structlog.get_logger("services.topology").info(
                "BGP plan", network=str(network_id), stage=step.plan.stage, reflectors=len(step.plan.reflectors)
            )
        if not is_done:
            await self._see_what_others_saw()
            self._view.changed.add(network_id)

    async def see(self) -> None:
        """Wait for more, or until it is time to look again, and take in all that has come; if nothing comes for a
        while, look that PATHS is still there. Raises `PathsDivergedError`."""
        now = datetime.now(UTC)
        rest = min(((moment - now).total_seconds() for moment in self._look_at.values()), default=_IDLE_SECONDS)
        if self._view.changed:
            rest = 0
        try:
            async with asyncio.timeout(max(0.0, min(rest, _IDLE_SECONDS))):
                self._take(await self._waiting.get())
        except TimeoutError:
            if rest >= _IDLE_SECONDS:
                with suppress(UnavailableError):
                    await self._writer.require_same_stream()
        await asyncio.sleep(_GATHER_SECONDS)
        while not self._waiting.empty():
            self._take(self._waiting.get_nowait())

    async def _see_what_others_saw(self) -> None:
        for stream, subjects in _SUBJECTS.items():
            # What is waited for may be purged meanwhile, and then never comes.
            while self._view.reached[stream] < await newest_sequence(self._client, stream, subjects):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        self._take(await self._waiting.get())

    def _take(self, arrived: Arrived | Exception) -> None:
        if isinstance(arrived, Exception):
            raise arrived
        self._view.take(arrived)


async def _follow(client: Client, stream: str, after: int, waiting: asyncio.Queue[Arrived | Exception]) -> None:
    try:
        async with aclosing(_arrivals(client, stream, after)) as arrivals:
            async for arrived in arrivals:
                await waiting.put(arrived)
    except Exception as error:  # raised where it is read
        await waiting.put(error)


async def _arrivals(client: Client, stream: str, after: int) -> AsyncGenerator[Arrived]:
    async with aclosing(feed(client, stream, after)) as batches:
        async for batch in batches:
            yield _arrived(stream, batch)


def _arrived(stream: str, batch: list[tuple[int, Msg]]) -> Arrived:
    return Arrived(stream, batch[-1][0], [(message.subject, message.data) for _, message in batch])
