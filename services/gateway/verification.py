"""Whether the log is what was written, and what is derived what follows from it: one check of it all. A shell.

The log is read here, message by message, and held against itself and the checkpoints (`events.audit`); STATE, PATHS and
the snapshots are held against a rebuild by the topology service. A million events take about two minutes; others run in
between.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from nats.aio.client import Client

from events import feed
from events.audit import asking, stored
from events.audit.checkpoints import Checkpoint, KeptCheckpoint, Trusted, checkpoint_subject, sift
from events.audit.findings import Finding
from events.audit.verifier import LogVerifier
from events.client import Entry
from events.errors import UnavailableError, WireloomError
from events.feed import StreamMissingError
from events.identity import Identity
from events.subjects import LOG_PREFIX, LOG_STREAM
from events.trust.signing import Verifier

_AT_ONCE = 200
"""So many messages are checked before others may run."""

_SILENCE_SECONDS = 15.0
"""After so long without a message of those that there are, the bus is taken not to answer."""


@dataclass(frozen=True, slots=True)
class Reached:
    """How far the check has come."""

    step: str
    """`log` or `state`."""
    position: int
    end: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check came to."""

    serious: int
    """How many findings there are that are no notices."""
    notices: int
    position: int
    count: int
    digest: str
    """The running digest of the log up to `position`."""
    checkpoints: int
    """How many checkpoints counted."""
    unsigned: int
    """How many of those nobody signed."""
    covered: int
    """Up to here the log is what the checkpoints say."""
    state_position: int | None
    """The log position up to which STATE was compared; None where it was not."""
    records: int
    """How many records of STATE were compared."""
    paths: int
    """How many records of PATHS were compared."""
    snapshots: int
    """How many snapshots were compared."""
    redacted: int
    """From how many events personal data was removed."""
    kept: tuple[bool, ...]
    """Of each checkpoint that was given, whether the log holds what it held then."""
    seconds: float


Line = Reached | Finding | Verdict


class Verification:
    """One check."""

    def __init__(self, client: Client, identity: Identity | None, kept: Sequence[KeptCheckpoint] = ()) -> None:
        """`kept` are checkpoints that somebody kept elsewhere."""
        self._client = client
        self._identity = identity
        self._kept = kept
        self._serious = 0
        self._notices = 0
        self._state: asking.Outcome | None = None
        self._root = identity.public.root if identity else ""

    async def run(self) -> AsyncGenerator[Line]:
        """Check; a `Verdict` comes last. Raises `UnavailableError`, `IdentityError`."""
        started = time.monotonic()
        trusted = await self._checkpoints()
        marks = {checkpoint.position: checkpoint for checkpoint in trusted.checkpoints}
        for finding in (*trusted.findings, *self._take_kept(marks)):
            yield self._counted(finding)
        verifier = LogVerifier(marks.values(), self._root)
        async with aclosing(self._check_log(verifier)) as lines:
            async for line in lines:
                yield self._counted(line)
        async with aclosing(self._check_state()) as lines:
            async for line in lines:
                yield self._counted(line)
        yield Verdict(
            serious=self._serious,
            notices=self._notices,
            position=verifier.position,
            count=verifier.count,
            digest=verifier.digest.hex(),
            checkpoints=len(marks),
            unsigned=trusted.unsigned,
            covered=verifier.covered,
            state_position=self._state.position if self._state else None,
            records=self._state.records if self._state else 0,
            paths=self._state.paths if self._state else 0,
            snapshots=self._state.snapshots if self._state else 0,
            redacted=verifier.redacted,
            kept=tuple(not one.fault(self._root) and one.position_or_zero() in verifier.matched for one in self._kept),
            seconds=round(time.monotonic() - started, 3),
        )

    def _counted(self, line: Line) -> Line:
        if isinstance(line, Finding):
            self._notices += line.is_notice
            self._serious += not line.is_notice
        return line

    async def _checkpoints(self) -> Trusted:
        """The control plane's own, before the log's end is asked for: so none is beyond that."""
        verifier = None
        if self._identity is not None:
            verifier = Verifier(self._identity.public.root, self._identity.ring())
        try:
            last = await stored.newest(self._client)
            return sift(await stored.load(self._client, 0, last[0]) if last else [], verifier)
        except StreamMissingError:
            return Trusted([], [], 0)

    def _take_kept(self, marks: dict[int, Checkpoint]) -> Iterable[Finding]:
        """Add the kept ones to those that count; what is wrong with them."""
        for number, one in enumerate(self._kept, 1):
            if fault := one.fault(self._root):
                position = one.position_or_zero()
                yield Finding(
                    code="checkpoint",
                    position=position,
                    problem=f"the checkpoint that you gave ({number}) does not count: {fault}",
                    subject=checkpoint_subject(position),
                )
                continue
            said = one.read()
            known = marks.get(said.position)
            if known is not None and known.digest != said.digest:
                yield Finding(
                    code="checkpoint",
                    position=said.position,
                    problem=f"the checkpoint of position {said.position} that stands on the bus says something else "
                    "than the one that you gave",
                    expected=said.digest,
                    subject=checkpoint_subject(said.position),
                )
            marks[said.position] = said

    async def _check_log(self, verifier: LogVerifier) -> AsyncGenerator[Line]:
        end = await feed.last_sequence(self._client, LOG_STREAM)
        newest = await feed.newest_sequence(self._client, LOG_STREAM, f"{LOG_PREFIX}.>")
        newest = min(newest, end)
        if newest:
            async with aclosing(feed.entries(self._client, LOG_STREAM, 0)) as batches:
                while verifier.position < newest:
                    batch = await _next(batches)
                    for number, entry in enumerate(batch, 1):
                        for finding in verifier.take(entry) if entry.sequence <= newest else ():
                            yield finding
                        if number % _AT_ONCE == 0:
                            await asyncio.sleep(0)
                    yield Reached("log", verifier.position, end)
        for finding in verifier.finish(end):
            yield finding

    async def _check_state(self) -> AsyncGenerator[Line]:
        try:
            async with aclosing(asking.ask_state(self._client)) as told:
                async for one in told:
                    match one:
                        case asking.Progress():
                            yield Reached("state", one.position, one.end)
                        case Finding():
                            yield one
                        case asking.Outcome():
                            self._state = one
        except WireloomError as error:
            problem = f"What is derived was not compared with what follows from the log: {error.detail}"
            yield Finding(code="unchecked", position=0, problem=problem, subject="state")


async def _next(batches: AsyncGenerator[list[Entry]]) -> list[Entry]:
    try:
        async with asyncio.timeout(_SILENCE_SECONDS):
            return await anext(batches)
    except TimeoutError:
        raise UnavailableError("The bus does not give the log.", hint="Look at its own log, then try again.") from None
