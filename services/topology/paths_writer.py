"""Writing PATHS: what was derived, once each, whoever else writes. A shell.

Every write names the sequence that it expects to be the last of PATHS. After one that is refused it is not known what
PATHS holds: then `read` reads what another wrote, and `judge` keeps for writing what differs from what is wanted.

A scope's revisions rise, and do so even if its newest record was purged, or the whole stream deleted, and its revision
is forgotten: the first one that is written after a start is at least the time, in milliseconds.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from itertools import islice
from uuid import UUID

import structlog
from nats.aio.client import Client

from events.errors import InternalError, UnavailableError
from events.feed import StreamMissingError, jetstream, last_sequence, standing
from events.records import PathRecord, Record, RelayRecord
from events.state import decode_record, encode_record, signature_of
from events.subjects import PATHS_PREFIX, PATHS_STREAM, scope_of
from events.trust.signing import SIGNATURE_HEADER, Signer, signed_with
from services.topology.fenced import FAILURES, MAX_BATCH, publish
from services.topology.paths_core import Paths, Wanted

ALL = f"{PATHS_PREFIX}.paths.>"
"""PATHS holds networks' BGP plans too (`bgp_writer`)."""

_RETRY_SECONDS = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


class PathsDivergedError(InternalError):
    """Raised when PATHS is not the stream any more that was read; load it anew."""

    code = "paths-diverged"
    title = "The stream of paths is not as expected"


class PathsWriter:
    """Brings PATHS to what the derivation wants of it."""

    def __init__(self, client: Client, paths: Paths, signer: Signer | None, started: datetime) -> None:
        """`started` is now; with a `signer`, a signature is written beside every record."""
        self._client = client
        self._paths = paths
        self._signer = signer
        self._least_revision = int(started.timestamp() * 1000)
        self._revisions: dict[str, int] = {}
        self._last_sequence = 0
        self._pending: dict[str, Wanted] = {}
        """What is to be written, with what stands there."""
        self._stale: dict[str, bytes] = {}
        """Records that stand and are right, but that another key signed."""
        self._read: dict[str, tuple[bytes, str]] = {}

    def differs(self, subject: str, there: Wanted) -> None:
        """Have what is wanted of a subject written, unless it is what stands there by then."""
        self._pending.setdefault(subject, there)

    async def read(self) -> None:
        """Read what stands in PATHS and was not read or written before.

        Raises `PathsDivergedError`, `UnavailableError`.
        """
        await self.require_same_stream()
        self._last_sequence, after = await last_sequence(self._client, PATHS_STREAM), self._last_sequence
        async with aclosing(standing(self._client, PATHS_STREAM, ALL, after)) as batches:
            async for batch in batches:
                self._read |= {message.subject: (message.data, signature_of(message)) for _, message in batch}
                self._last_sequence = max(self._last_sequence, batch[-1][0])

    def judge(self, is_meaningless: Callable[[str], bool] = lambda _: False) -> int:
        """Compare what was read with what is wanted, and keep for writing what differs, but for what is meaningless
        and to be purged. How many records were read."""
        count = len(self._read)
        for subject, (payload, signature) in self._read.items():
            record, in_scope = decode_record(payload), scope_of(subject)
            self._revisions[in_scope] = max(self._revisions.get(in_scope, 0), record.revision)
            self._pending.pop(subject, None)
            self._stale.pop(subject, None)
            if is_meaningless(subject):
                continue
            there = record.body if isinstance(record.body, PathRecord | RelayRecord) else None
            if there != self._paths.wanted(subject):
                self.differs(subject, there)
            elif self._signer is not None and signed_with(signature) != self._signer.fingerprint:
                self._stale[subject] = payload
        self._read.clear()
        return count

    async def flush(self, cause: int, time: datetime) -> None:
        """Write what differs, in consequence of what stands in REACH up to `cause`; the newest was said at `time`.

        Raises `OvertakenError` when another wrote, or an earlier attempt of ours did, `PathsDivergedError`, and
        `UnavailableError` when the connection is closed for good.
        """
        while self._pending:
            entries = list(islice(self._pending.items(), MAX_BATCH))
            reached: dict[str, int] = {}
            messages = [
                (subject, self._record(subject, body, reached, cause, time))
                for subject, there in entries
                if (body := self._paths.wanted(subject)) != there
            ]
            if messages:
                await self._insist(messages)
            self._revisions |= reached
            for subject, _ in messages:
                self._stale.pop(subject, None)
            for subject, _ in entries:
                del self._pending[subject]

    async def sign_again(self) -> None:
        """Write what another key signed once more, unchanged, with our signature. Raises as `flush`."""
        while self._stale:
            messages = list(islice(self._stale.items(), MAX_BATCH))
            await self._insist(messages)
            for subject, _ in messages:
                del self._stale[subject]

    async def purge(self, subject_filter: str) -> None:
        """Remove records that mean nothing any more, unheard; not what is written later. Raises `UnavailableError`."""
        request = {"filter": subject_filter, "seq": self._last_sequence + 1}
        await jetstream(self._client, f"STREAM.PURGE.{PATHS_STREAM}", request)

    def _record(self, subject: str, body: Wanted, reached: dict[str, int], cause: int, time: datetime) -> bytes:
        in_scope = scope_of(subject)
        previous = reached.get(in_scope) or self._revisions.get(in_scope, 0)
        revision = reached[in_scope] = max(previous + 1, self._least_revision)
        return encode_record(Record(revision=revision, previous=previous, cause=cause, time=time, body=body))

    async def _insist(self, messages: Sequence[tuple[str, bytes]]) -> None:
        """Write until it is known to be written."""
        signed = [(subject, payload, self._signed(subject, payload)) for subject, payload in messages]
        failures = 0
        while True:
            try:
                self._last_sequence = await publish(self._client, signed, self._last_sequence)
                return
            except FAILURES as error:
                await self._pause(failures, error)
                failures += 1
            with contextlib.suppress(UnavailableError):
                await self.require_same_stream()

    async def require_same_stream(self) -> None:
        """Raises `PathsDivergedError` where PATHS was deleted, and `UnavailableError`."""
        try:
            end = await last_sequence(self._client, PATHS_STREAM)
        except StreamMissingError as error:
            raise PathsDivergedError("PATHS was deleted while it was written.") from error
        if end < self._last_sequence:
            raise PathsDivergedError(f"PATHS went back from {self._last_sequence} to {end}.")

    def _signed(self, subject: str, payload: bytes) -> Mapping[str, str]:
        return {} if self._signer is None else {SIGNATURE_HEADER: self._signer.sign(subject, payload)}

    async def _pause(self, failures: int, error: Exception) -> None:
        if self._client.is_closed:
            raise UnavailableError("The connection to the bus is closed.", hint="Start again.") from error
        structlog.get_logger("services.topology").warning("cannot write PATHS yet", error=str(error) or repr(error))
        await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS) - 1)])


def of_machine(machine_id: UUID) -> tuple[str, str]:
    """The filters of all records for a machine or about it as a peer."""
    return f"{PATHS_PREFIX}.paths.{machine_id}.>", f"{PATHS_PREFIX}.paths.*.*.*.{machine_id}"


def of_network(network_id: UUID) -> str:
    """The filter of all records of a network."""
    return f"{PATHS_PREFIX}.paths.*.*.{network_id}.*"
