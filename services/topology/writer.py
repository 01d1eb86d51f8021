"""Writing STATE: each event's records once, in order, whatever is lost on the way and whoever else writes. A shell.

Every write names the STATE sequence that it expects to be the last (*fencing*), so that of two writers one is refused.
What follows an event is the same for everybody, and the last message of STATE tells the position reached. So after a
refusal or a lost acknowledgement it is enough to read that message: the events up to its cause are written, by us or by
another, and the rest is still to be written. A record that is written again, for a new signature, tells the position
in a header (`events.state.POSITION_HEADER`), and so does one after which more of the same event is to come; so this
holds at every moment.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import structlog
from nats.aio.client import Client

from events import state
from events.errors import InternalError, UnavailableError
from events.feed import StreamMissingError
from events.state import POSITION_HEADER, Last
from events.trust.signing import SIGNATURE_HEADER, Signer
from services.topology.derived import Derived, filters_of, is_covered
from services.topology.fenced import FAILURES, MAX_BATCH, OvertakenError, publish

_RETRY_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_PURGES_AT_ONCE = 64

_NOTHING: Mapping[str, str] = MappingProxyType({})

T = TypeVar("T")


class StateDivergedError(InternalError):
    """Raised when STATE holds what does not follow from the log as this program reads it; load it anew."""

    code = "state-diverged"
    title = "The derived state is not as expected"


@dataclass(frozen=True, slots=True)
class _Entry:
    """What one event of the log comes to in STATE."""

    sequence: int
    messages: list[tuple[str, bytes]]
    purges: list[str]


class StateWriter:
    """Brings STATE from the position `position` of the log, reached at its own sequence `last_sequence`, onwards."""

    def __init__(self, client: Client, position: int, last_sequence: int, signer: Signer | None = None) -> None:
        """With a `signer`, a signature is written beside every record."""
        self.position = position
        """The log position that STATE has reached."""
        self._client = client
        self._last_sequence = last_sequence
        self._signer = signer
        self._seen = last_sequence
        """The sequence of STATE that we knew to be the last before another wrote."""
        self._last: Last | None = None
        """The message that told us `position`, where another may have written it."""
        self._pending: deque[_Entry] = deque()

    def add(self, sequence: int, derived: Derived) -> None:
        """Have what follows from the event at `sequence` written at the next `flush`. In the order of the log."""
        messages = [(entry.subject, state.encode_record(entry.record)) for entry in derived.records]
        self._pending.append(_Entry(sequence, messages, derived.purges))

    async def flush(self) -> None:
        """Write everything that was added, waiting for the bus as long as it takes.

        Raises `StateDivergedError`, and `UnavailableError` when the connection is closed for good.
        """
        failures = 0
        while self._pending:
            try:
                await self._skip_written()
                await self._write(self._next_chunk())
                failures = 0
            except OvertakenError:
                await self._find_position()
            except FAILURES as error:
                await _pause(self._client, failures, "cannot write STATE yet", error)
                failures += 1
                await self._find_position()

    async def write_again(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Write records that stand in STATE already once more, with our signature. Before anything is added.

        Raises `StateDivergedError` and `UnavailableError` where that cannot be done, or is not known to be done: then
        some are written and some are not, and STATE must be loaded anew.
        """
        beside = self._position_header()
        for start in range(0, len(messages), MAX_BATCH):
            try:
                self._last_sequence = await self._publish(messages[start : start + MAX_BATCH], beside)
            except OvertakenError as error:
                raise StateDivergedError("STATE was written while its records were signed anew.") from error
            except FAILURES as error:
                raise UnavailableError("The records of STATE cannot be signed anew yet.") from error

    async def _skip_written(self) -> None:
        """Let go of the events that are in STATE already, looking that the last of them came to the same as here."""
        written = [entry for entry in self._pending if entry.sequence <= self.position]
        told = (self._last.subject, self._last.payload) if self._last and self._last.ends_event else None
        if written and told and written[-1].sequence == self.position and written[-1].messages[-1] != told:
            raise StateDivergedError(
                f"Another topology service derived something else from event {self.position} of the log.",
                hint="Run the same version of every topology service.",
            )
        is_behind = bool(written) and self.position > written[-1].sequence and len(written) == len(self._pending)
        await self._settle(len(written), (self._seen if is_behind else self._last_sequence) + 1)

    def _next_chunk(self) -> list[_Entry]:
        """The events whose records fit in one batch, and that nothing must be purged before; at least one."""
        chunk: list[_Entry] = []
        purges: set[str] = set()
        room = MAX_BATCH
        for entry in self._pending:
            room -= len(entry.messages)
            if chunk and (room < 0 or _is_touched(entry, purges)):
                break
            chunk.append(entry)
            purges.update(entry.purges)
        return chunk

    async def _write(self, chunk: list[_Entry]) -> None:
        """Write these, the first of the pending events."""
        if not chunk:
            return
        messages = [message for entry in chunk for message in entry.messages]
        # More than one batch only for one event that fills several: the renaming of a machine in 1,000 networks.
        while len(messages) > MAX_BATCH:
            self._last_sequence = await self._publish(messages[:MAX_BATCH], self._position_header())
            messages = messages[MAX_BATCH:]
        self._last_sequence = await self._publish(messages)
        self.position, self._last = chunk[-1].sequence, None
        await self._settle(len(chunk), self._last_sequence + 1)

    async def _settle(self, count: int, before: int) -> None:
        """Let go of the first `count` pending events, which are written, and purge what they made meaningless: what
        stands before a sequence of STATE, for another may have gone on. Where the same was written again after it, that
        one purged it first."""
        settled = [self._pending.popleft() for _ in range(count)]
        due: dict[str, None] = {}
        for entry in settled:
            for subject, _ in entry.messages if due else ():
                for filter_of_it in filters_of(subject):
                    due.pop(filter_of_it, None)
            due |= dict.fromkeys(entry.purges)
        await purge_all(self._client, list(due), before)

    async def _publish(self, messages: Sequence[tuple[str, bytes]], beside: Mapping[str, str] = _NOTHING) -> int:
        """Write one message, or several as one atomic batch, with the headers `beside`. Returns the sequence of the
        last."""
        signed = [(subject, payload, self._signed(subject, payload, beside)) for subject, payload in messages]
        return await publish(self._client, signed, self._last_sequence)

    def _position_header(self) -> dict[str, str]:
        return {POSITION_HEADER: str(self.position)}

    def _signed(self, subject: str, payload: bytes, beside: Mapping[str, str]) -> dict[str, str]:
        if self._signer is None:
            return dict(beside)
        return {**beside, SIGNATURE_HEADER: self._signer.sign(subject, payload)}

    async def _find_position(self) -> None:
        """Read how far STATE has come: after a write that was refused, or whose outcome is not known."""
        last = await _insist(self._client, lambda: state.last_message(self._client), "cannot read STATE yet")
        sequence = last.sequence if last else 0
        if last is None or sequence == self._last_sequence:
            return
        if sequence < self._last_sequence or last.position < self.position:
            raise StateDivergedError(f"STATE went back from event {self.position} of the log to {last.position}.")
        self._seen = self._last_sequence
        self.position, self._last_sequence, self._last = last.position, sequence, last


def _is_touched(entry: _Entry, filters: set[str]) -> bool:
    """Whether an event has a record that one of the filters is for."""
    return bool(filters) and any(is_covered(subject, filters) for subject, _ in entry.messages)


async def purge_all(client: Client, filters: Sequence[str], before: int | None = None) -> None:
    """Remove from STATE what means nothing any more, all or what stands before a sequence, waiting for the bus as long
    as it takes.

    Raises as `StateWriter.flush` does.
    """

    async def purge(subject_filter: str) -> None:
        await _insist(client, lambda: state.purge(client, subject_filter, before), "cannot purge STATE yet")

    for start in range(0, len(filters), _PURGES_AT_ONCE):
        await asyncio.gather(*(purge(one) for one in filters[start : start + _PURGES_AT_ONCE]))


async def _insist(client: Client, attempt: Callable[[], Awaitable[T]], trouble: str) -> T:
    failures = 0
    while True:
        try:
            return await attempt()
        except StreamMissingError as error:
            raise StateDivergedError("STATE was deleted while it was written.") from error
        except UnavailableError as error:
            await _pause(client, failures, trouble, error)
            failures += 1


async def _pause(client: Client, failures: int, trouble: str, error: Exception) -> None:
    if client.is_closed:
        raise UnavailableError("The connection to the bus is closed.", hint="Start again.") from error
    structlog.get_logger("services.topology").warning(trouble, error=str(error) or repr(error))
    await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])
