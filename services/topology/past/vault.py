"""The snapshots that stand in HISTORY: which there are, reading and writing them. A shell.

None of them is ever needed. What is missing, damaged, half written or of another log is passed over, and removed, so
that it is made anew; and so is the whole stream where it was deleted.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from typing import NamedTuple

import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from events import log
from events.direct import direct_get
from events.errors import UnavailableError
from events.feed import StreamMissingError, jetstream, made_at, standing
from events.subjects import HISTORY_PREFIX, HISTORY_STREAM, LOG_STREAM
from services.topology.fenced import FAILURES, write_one
from services.topology.past.snapshots import DERIVATION, Head, checksum, head_subject, pack, part_subject, unpack

_HEADS = f"{HISTORY_PREFIX}.*.0"
_AT_ONCE = 8
"""So many parts are asked for at once."""
_TRIES = 3


class Snapshot(NamedTuple):
    """What STATE held at a position."""

    position: int
    contents: Mapping[str, bytes]
    last: int
    """The sequence of the newest event then, 0 for none."""
    digest: str
    """That event's digest."""


class Vault:
    """All snapshots."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._heads: dict[int, Head] = {}
        self._seen: tuple[object, ...] = ()
        """What HISTORY was like when its heads were read."""
        self._believed: set[Head] = set()
        """Heads that were seen to be of this log."""
        self._log_made = ""
        self._reading = asyncio.Lock()

    async def is_other_log(self) -> bool:
        """Whether the log is another than when this was asked before: it was deleted, and made or imported anew. Then
        no snapshot is believed any more before it was looked at again. Raises `UnavailableError`."""
        made, self._log_made = self._log_made, await made_at(self._client, LOG_STREAM)
        is_other = self._log_made != made
        if is_other:
            self._believed.clear()
        return is_other

    async def heads(self) -> dict[int, Head]:
        """The head of each snapshot by its position, from the lowest. Raises `UnavailableError`."""
        async with self._reading:
            try:
                info = await jetstream(self._client, f"STREAM.INFO.{HISTORY_STREAM}", {})
            except StreamMissingError:
                self._heads, self._seen = {}, ()
                return self._heads
            seen = (info["created"], info["state"]["last_seq"], info["state"]["messages"])
            if seen != self._seen:
                self._heads, self._seen = await self._read_heads(), seen
            return self._heads

    async def newest(self, until: int, after: int = 0) -> Snapshot | None:
        """The newest snapshot that can be read of a position that is at most `until`, and more than `after`; None where
        there is none. Raises `UnavailableError`."""
        for head in reversed(list((await self.heads()).values())):
            if after < head.position <= until and (snapshot := await self.read(head)) is not None:
                return snapshot
        return None

    async def read(self, head: Head) -> Snapshot | None:
        """A snapshot; None where it cannot be read or is of another log, and then it is removed. Raises
        `UnavailableError`."""
        if await self.is_ours(head):
            contents = await asyncio.to_thread(unpack, head, await self._parts(head))
            if contents is not None:
                return Snapshot(head.position, contents, head.last, head.digest)
        structlog.get_logger("services.topology").warning("a snapshot does not count", position=head.position)
        await self.remove(head.position)
        return None

    async def is_ours(self, head: Head) -> bool:
        """Whether a snapshot is of this log. Raises `UnavailableError`."""
        if head in self._believed:
            return True
        newest = await log.first_from(self._client, head.last)
        is_same = newest is not None and (newest.sequence, newest.digest) == (head.last, head.digest)
        if is_same:
            self._believed.add(head)
        return is_same

    async def write(self, snapshot: Snapshot, following: int) -> None:
        """Write a snapshot, after which one at `following` is to come. Raises `UnavailableError`."""
        parts = await asyncio.to_thread(pack, snapshot.contents)
        head = Head(
            position=snapshot.position,
            last=snapshot.last,
            digest=snapshot.digest,
            following=following,
            parts=len(parts),
            checksum=checksum(parts),
            derivation=DERIVATION,
        )
        for number, part in enumerate(parts, 1):
            await self._put(part_subject(head.position, number), part)
        await self._put(head_subject(head.position), head.model_dump_json().encode())

    async def remove(self, position: int) -> None:
        """Remove a snapshot. Raises `UnavailableError`."""
        await jetstream(self._client, f"STREAM.PURGE.{HISTORY_STREAM}", {"filter": f"{HISTORY_PREFIX}.{position}.*"})

    async def _put(self, subject: str, payload: bytes) -> None:
        try:
            await write_one(self._client, (subject, payload, {}))
        except FAILURES as error:
            raise UnavailableError("A snapshot cannot be written yet.", hint="It is tried again.") from error

    async def _read_heads(self) -> dict[int, Head]:
        found: dict[int, Head] = {}
        async with aclosing(standing(self._client, HISTORY_STREAM, _HEADS)) as batches:
            async for batch in batches:
                for _, message in batch:
                    head = _head(message.data)
                    if head is not None and message.subject == head_subject(head.position):
                        found[head.position] = head
        return dict(sorted(found.items()))

    async def _parts(self, head: Head) -> Sequence[bytes]:
        """The parts that are there, in order."""
        found: dict[str, bytes] = {}
        subjects = [part_subject(head.position, number) for number in range(1, head.parts + 1)]
        for start in range(0, len(subjects), _AT_ONCE):
            wanted = subjects[start : start + _AT_ONCE]
            for _ in range(_TRIES):
                page = await direct_get(self._client, HISTORY_STREAM, {"multi_last": wanted})
                found |= {entry.subject: entry.data for entry in page.entries}
                if page.status:
                    break
        return [found[subject] for subject in subjects if subject in found]


def _head(payload: bytes) -> Head | None:
    try:
        head = Head.model_validate_json(payload)
    except ValidationError:
        return None
    return head if head.derivation == DERIVATION else None
