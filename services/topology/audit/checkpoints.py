"""Writes checkpoints: follows the log with its running digest, and says now and then, signed, what it came to. A shell.

One is written every 1,000 events, and when nothing was written for a minute, or for an hour's worth of events at most:
so a log that was cut shows soon. Several topology services may do this at once: each write names the CHECKPOINTS
sequence that it expects to be the last, and who was overtaken goes on from what the other wrote.

A checkpoint that we did not sign (before a new key, or forged) is not built on: the digest is computed anew from the
newest one that we did sign, or from the log's beginning, and compared where it comes by. Where the newest one fits, it
is written again, signed by us: so it still counts when the key that signed it does not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from nats.aio.client import Client

from events import feed
from events.audit import running, stored
from events.audit.checkpoints import GENESIS, Checkpoint, SignedCheckpoint, checkpoint_subject, make
from events.client import Entry, header
from events.ending import end
from events.subjects import EVENT_HEADER, LOG_STREAM
from events.trust.signing import SIGNATURE_HEADER, Signer
from services.topology.fenced import FAILURES, OvertakenError, publish

EVERY = 1000
"""A checkpoint is written after so many events."""

QUIET_SECONDS = 60.0
"""After so long without an event, a checkpoint of what is new is written."""

LONGEST_SECONDS = 3600.0
"""No event waits longer for a checkpoint."""

_AT_ONCE = 500
_RETRY_SECONDS = 1.0
_EVENT = EVENT_HEADER.encode()


@dataclass(slots=True)
class _Place:
    """How far the log was followed, and what it came to there."""

    position: int
    digest: bytes


class CheckpointKeeper:
    """Keeps CHECKPOINTS up to date."""

    def __init__(self, client: Client, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._client = client
        self._clock = clock
        self._log = structlog.get_logger("services.topology")
        self._wanted = 0
        self._asked = asyncio.Event()
        self._written = asyncio.Condition()
        self._newest: SignedCheckpoint | None = None

    async def at_least(self, position: int) -> SignedCheckpoint:
        """A checkpoint of this position or a later one; made soon where there is none yet."""
        self._wanted = max(self._wanted, position)
        self._asked.set()
        async with self._written:
            await self._written.wait_for(lambda: self._reaches(position))
            assert self._newest is not None
            return self._newest

    async def run(self, client: Client, signer: Signer | None, writing: asyncio.Lock) -> None:
        """Follow the log and write checkpoints with this key until cancelled. Holds `writing` while it writes."""
        while not client.is_closed:
            try:
                await _Following(self, client, signer, writing).follow()
            except (OvertakenError, *FAILURES) as error:
                self._log.info("reading the checkpoints anew", reason=str(error) or repr(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def tell(self, one: SignedCheckpoint) -> None:
        """Tell those who wait that this one stands."""
        async with self._written:
            self._newest = one
            self._written.notify_all()

    def forget(self) -> None:
        """The newest checkpoint is not ours."""
        self._newest = None

    def now(self) -> datetime:
        """The time."""
        return self._clock()

    def is_wanted(self, position: int) -> bool:
        """Whether somebody waits for a checkpoint of this position."""
        return 0 < self._wanted <= position and not self._reaches(self._wanted)

    async def asked(self) -> None:
        """Wait until somebody asks."""
        await self._asked.wait()
        self._asked.clear()

    def _reaches(self, position: int) -> bool:
        return self._newest is not None and self._newest.position_or_zero() >= position


class _Following:
    """One run through the log from the newest checkpoint on, with one key."""

    def __init__(self, keeper: CheckpointKeeper, client: Client, signer: Signer | None, writing: asyncio.Lock) -> None:
        self._keeper = keeper
        self._client = client
        self._signer = signer
        self._writing = writing
        self._log = structlog.get_logger("services.topology")
        self._place = _Place(0, running.START)
        self._previous = GENESIS
        self._strange: list[SignedCheckpoint] = []
        self._is_renewing = False
        self._standing = 0
        self._covered = 0
        self._uncovered_since: float | None = None

    async def follow(self) -> None:
        await self._load()
        arrivals = feed.entries(self._client, LOG_STREAM, self._place.position)
        async with aclosing(arrivals):
            coming = asyncio.ensure_future(anext(arrivals))
            asked = asyncio.ensure_future(self._keeper.asked())
            try:
                while True:
                    done, _ = await asyncio.wait(
                        {coming, asked}, timeout=self._patience(), return_when=asyncio.FIRST_COMPLETED
                    )
                    if coming in done:
                        batch, coming = coming.result(), asyncio.ensure_future(anext(arrivals))
                        await self._take(batch)
                    if asked in done:
                        asked = asyncio.ensure_future(self._keeper.asked())
                    if not done or self._keeper.is_wanted(self._place.position) or self._is_overdue():
                        await self._write()
            finally:
                await end([coming, asked])

    async def _load(self) -> None:
        """Find where to go on."""
        last = await stored.newest(self._client)
        if last is None:
            return
        self._standing, signed = last
        if self._is_ours(signed):
            self._build_on(signed)
            await self._keeper.tell(signed)
        else:
            known = [one for _, one in await stored.load(self._client, 0, self._standing)]
            ours = [index for index, one in enumerate(known) if self._is_ours(one)]
            if ours:
                self._build_on(known[ours[-1]])
            self._strange = known[ours[-1] + 1 :] if ours else known
            self._is_renewing = bool(self._strange)
            self._keeper.forget()
        await self._require_log(signed)

    def _is_ours(self, one: SignedCheckpoint) -> bool:
        position = one.position_or_zero()
        if not position:
            return False
        subject = checkpoint_subject(position)
        return one.signature == (self._signer.sign(subject, one.checkpoint.encode()) if self._signer else "")

    def _build_on(self, one: SignedCheckpoint) -> None:
        said = one.read()
        self._place = _Place(said.position, bytes.fromhex(said.digest))
        self._previous, self._covered = one.name, said.position

    async def _require_log(self, signed: SignedCheckpoint) -> None:
        """Say loudly where the log is shorter than it was. It is followed all the same, and checkpoints that we did not
        sign and that lie beyond its end are not waited for."""
        last = await feed.last_sequence(self._client, LOG_STREAM)
        if signed.position_or_zero() > last:
            self._log.error(
                "the log is shorter than its newest checkpoint says", ends_at=last, checkpoint=signed.position_or_zero()
            )
        self._strange = [one for one in self._strange if 0 < one.position_or_zero() <= last]

    async def _take(self, batch: list[Entry]) -> None:
        for number, entry in enumerate(batch, 1):
            if entry.sequence != self._place.position + 1:
                self._log.error("messages of the log are missing", after=self._place.position, before=entry.sequence)
            described = header(entry.headers, _EVENT) or b""
            digest = running.digest_in(entry.subject, described, entry.data)
            reached = running.advance(self._place.digest, entry.sequence, entry.subject, described, digest)
            self._place = _Place(entry.sequence, reached)
            await self._meet_strange()
            if self._uncovered_since is None:
                self._uncovered_since = asyncio.get_running_loop().time()
            if entry.sequence - self._covered >= EVERY:
                await self._write()
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)
        if self._is_renewing and not self._strange:
            self._is_renewing = False
            await self._write()

    async def _meet_strange(self) -> None:
        """Compare with the checkpoints that we did not sign, where the log comes by them."""
        while self._strange and self._strange[0].position_or_zero() <= self._place.position:
            one = self._strange.pop(0)
            said = one.read()
            if (said.position, said.digest) == (self._place.position, self._place.digest.hex()):
                self._previous, self._covered = one.name, said.position - 1
            else:
                self._log.error("the log is not what a checkpoint says", checkpoint=said.position)

    async def _write(self) -> None:
        """Write a checkpoint of where we are, unless one stands there."""
        place = self._place
        self._uncovered_since = None
        if place.position <= self._covered or self._strange:
            return
        checkpoint = Checkpoint(
            position=place.position,
            count=place.position,
            digest=place.digest.hex(),
            time=self._keeper.now(),
            previous=self._previous,
        )
        signed = make(checkpoint, self._signer)
        beside = {SIGNATURE_HEADER: signed.signature} if signed.signature else {}
        message = (checkpoint_subject(place.position), signed.checkpoint.encode(), beside)
        async with self._writing:
            self._standing = await publish(self._client, [message], self._standing)
        self._previous, self._covered = signed.name, place.position
        await self._keeper.tell(signed)

    def _is_overdue(self) -> bool:
        since = self._uncovered_since
        return since is not None and asyncio.get_running_loop().time() - since >= LONGEST_SECONDS

    def _patience(self) -> float | None:
        """How long to wait for a next event before what is new gets a checkpoint."""
        return QUIET_SECONDS if self._place.position > self._covered else None
