"""Keeps PATHS up to date: follows what machines report and who is a member, derives, and writes. A shell.

What PATHS must hold follows from REACH and STATE as they stand, so whoever was killed reads both and writes what
differs. Of several that run at once one writes; another that is refused reads what was written, and goes on once it has
seen all that the writer may have seen, so that no older view takes the place of a newer one.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from events import log, state
from events.ending import end
from events.feed import feed, newest_sequence, standing
from events.records import PeerRecord, ReachEvent, SubjectRecord
from events.state import StateDump
from events.subjects import PATHS_STREAM, REACH_PREFIX, REACH_STREAM, STATE_PREFIX, STATE_STREAM, reach
from events.trust.signing import Signer
from services.topology.fenced import OvertakenError
from services.topology.paths_core import Paths
from services.topology.paths_writer import PathsWriter, of_machine, of_network
from services.topology.same import watch, when_made

_PAIRS_AT_ONCE = 500
"""So many pairs are chosen for before what was found is written, and others may run."""
_LOOK_SECONDS = 0.25
"""So often it is looked whether the streams are still the same."""
_STREAMS = (REACH_STREAM, STATE_STREAM, PATHS_STREAM)
_SUBJECTS = {REACH_STREAM: f"{REACH_PREFIX}.>", STATE_STREAM: f"{STATE_PREFIX}.>"}
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class _Arrived:
    """What came of a stream, up to a sequence."""

    stream: str
    sequence: int
    records: Iterable[SubjectRecord] = ()
    reports: Iterable[tuple[int, ReachEvent]] = ()


@dataclass(slots=True)
class _View:
    """What was seen of REACH and STATE, and what follows."""

    paths: Paths = field(default_factory=Paths)
    deleted: set[UUID] = field(default_factory=set)
    """Machines and networks."""
    reached: dict[str, int] = field(default_factory=lambda: {REACH_STREAM: 0, STATE_STREAM: 0})
    """The sequences up to which it was seen."""
    newest: datetime = _LONG_AGO
    """When the newest of it happened."""
    purges: dict[str, None] = field(default_factory=dict)
    """Filters of what means nothing any more."""

    def take(self, arrived: _Arrived) -> None:
        """See more of it."""
        for entry in arrived.records:
            self._take_record(entry)
        for sequence, event in arrived.reports:
            self.newest = max(self.newest, event.time)
            self.paths.link(sequence, event)
        self.reached[arrived.stream] = max(self.reached[arrived.stream], arrived.sequence)

    def _take_record(self, entry: SubjectRecord) -> None:
        body = entry.record.body
        match entry.subject.split("."):
            case _, "network", network_id, "info":
                self._take_network(UUID(network_id), is_there=body is not None)
            case _, "network", network_id, "peer", machine_id:
                if isinstance(body, PeerRecord):
                    self.paths.member(body.network_id, body.machine_id, body.transit)
                elif body is None:
                    self.paths.gone(UUID(network_id), UUID(machine_id))
            case _, "machine", machine_id, "info":
                if body is None:
                    self._delete_machine(UUID(machine_id))
            case _:
                return
        self.newest = max(self.newest, entry.record.time)

    def _take_network(self, network_id: UUID, *, is_there: bool) -> None:
        if is_there:
            self.deleted.discard(network_id)
            return
        self.deleted.add(network_id)
        self.paths.network_gone(network_id)
        self.purges[of_network(network_id)] = None

    def _delete_machine(self, machine_id: UUID) -> None:
        self.deleted.add(machine_id)
        self.paths.forget(machine_id)
        self.purges |= dict.fromkeys(of_machine(machine_id))

    def is_meaningless(self, subject: str) -> bool:
        """Whether a subject of PATHS speaks of a machine or network that was deleted; then it is to be purged."""
        _, _, machine, _, network, peer = subject.split(".")
        gone = self.deleted.intersection((UUID(machine), UUID(peer)))
        due = [subject_filter for machine_id in gone for subject_filter in of_machine(machine_id)]
        if UUID(network) in self.deleted:
            due.append(of_network(UUID(network)))
        self.purges |= dict.fromkeys(due)
        return bool(due)


async def derive_paths(client: Client, signer: Signer | None, writing: asyncio.Lock) -> None:
    """Bring PATHS up to date and keep it so, until cancelled. Holds `writing` whenever it writes.

    Raises `PathsDivergedError` and `UnavailableError`: then it can be called again.
    """
    made = await when_made(client, _STREAMS)
    view = _View()
    writer = PathsWriter(client, view.paths, signer, datetime.now(UTC))
    await _load(client, view, writer)
    waiting: asyncio.Queue[_Arrived | Exception] = asyncio.Queue(maxsize=16)
    followers = [
        asyncio.create_task(_hand_on(arrivals, waiting))
        for arrivals in (
            _follow_state(client, view.reached[STATE_STREAM]),
            _follow_reach(client, view.reached[REACH_STREAM]),
        )
    ]
    followers.append(asyncio.create_task(watch(client, made, waiting)))
    derivation = _Derivation(client, view, writer, waiting)
    try:
        while True:
            async with writing:
                is_written = await derivation.write()
            if is_written:
                await derivation.wait()
            derivation.see()
    finally:
        await end(followers)


async def _load(client: Client, view: _View, writer: PathsWriter) -> None:
    async with aclosing(standing(client, REACH_STREAM, _SUBJECTS[REACH_STREAM])) as batches:
        async for batch in batches:
            view.take(_reports(batch))
            await asyncio.sleep(0)
    dump = await derived_state(client)
    # The end of a network after its peers, some of which may stand there still.
    entries = sorted(dump.entries, key=lambda entry: entry[0].endswith(".info"))
    records = [
        SubjectRecord(subject=subject, record=state.decode_record(payload))
        for subject, payload in entries
        if not subject.startswith(f"{STATE_PREFIX}.access.")
    ]
    view.take(_Arrived(STATE_STREAM, dump.last_sequence, records))
    view.purges.clear()
    await writer.read()
    await _settle(view, writer)
    count = writer.judge(view.is_meaningless)
    structlog.get_logger("services.topology").info("paths ready", reports=view.reached[REACH_STREAM], records=count)


async def derived_state(client: Client) -> StateDump:
    """STATE, once it has come as far as the log: while it is made anew, nothing follows from it. Raises
    `UnavailableError`."""
    end = await log.last_sequence(client)
    while end and ((last := await state.last_message(client)) is None or last.position < end):  # noqa: ASYNC110
        await asyncio.sleep(_LOOK_SECONDS)
    return await state.load(client)


async def _settle(view: _View, writer: PathsWriter) -> None:
    """Choose for all pairs that wait."""
    while not view.paths.is_settled:
        _choose(view, writer)
        await asyncio.sleep(0)


def _choose(view: _View, writer: PathsWriter) -> None:
    for change in view.paths.drain(_PAIRS_AT_ONCE):
        writer.differs(change.subject, change.before)


class _Derivation:
    """Writes what follows from what was seen, and sees more."""

    def __init__(
        self, client: Client, view: _View, writer: PathsWriter, waiting: asyncio.Queue[_Arrived | Exception]
    ) -> None:
        self._client = client
        self._view = view
        self._writer = writer
        self._waiting = waiting

    async def write(self) -> bool:
        """Write some of what is to be written; whether that was all."""
        _choose(self._view, self._writer)
        try:
            await self._writer.flush(self._view.reached[REACH_STREAM], self._view.newest)
            await self._writer.sign_again()
        except OvertakenError:
            await self._see_what_others_saw()
            return False
        if not self._view.paths.is_settled:
            await asyncio.sleep(0)
            return False
        for subject_filter in list(self._view.purges):
            await self._writer.purge(subject_filter)
            del self._view.purges[subject_filter]
        return True

    async def wait(self) -> None:
        """Wait for more, and take it in."""
        self._take(await self._waiting.get())

    def see(self) -> None:
        """Take in all that has come."""
        while not self._waiting.empty():
            self._take(self._waiting.get_nowait())

    async def _see_what_others_saw(self) -> None:
        await self._writer.read()
        for stream, subjects in _SUBJECTS.items():
            # What is waited for may be purged meanwhile, and then never comes.
            while self._view.reached[stream] < await newest_sequence(self._client, stream, subjects):
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_SECONDS):
                        self._take(await self._waiting.get())
        await _settle(self._view, self._writer)
        self._writer.judge()

    def _take(self, arrived: _Arrived | Exception) -> None:
        if isinstance(arrived, Exception):
            raise arrived
        self._view.take(arrived)


async def _hand_on(arrivals: AsyncGenerator[_Arrived], waiting: asyncio.Queue[_Arrived | Exception]) -> None:
    try:
        async with aclosing(arrivals):
            async for arrived in arrivals:
                await waiting.put(arrived)
    except Exception as error:  # raised where it is read
        await waiting.put(error)


async def _follow_state(client: Client, after: int) -> AsyncGenerator[_Arrived]:
    async with aclosing(feed(client, STATE_STREAM, after)) as batches:
        async for batch in batches:
            records = [
                SubjectRecord(subject=message.subject, record=state.decode_record(message.data)) for _, message in batch
            ]
            yield _Arrived(STATE_STREAM, batch[-1][0], records)


async def _follow_reach(client: Client, after: int) -> AsyncGenerator[_Arrived]:
    async with aclosing(feed(client, REACH_STREAM, after)) as batches:
        async for batch in batches:
            yield _reports(batch)


def _reports(batch: list[tuple[int, Msg]]) -> _Arrived:
    found = []
    for sequence, message in batch:
        try:
            event = ReachEvent.model_validate_json(message.data)
        except ValidationError as error:
            structlog.get_logger("services.topology").warning("no report", sequence=sequence, error=str(error))
            continue
        if message.subject == reach(event.network_id, event.machine_id, event.link.peer_id):
            found.append((sequence, event))
    return _Arrived(REACH_STREAM, batch[-1][0], reports=found)
