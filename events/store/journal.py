"""One stream of aggregates' events: appending with optimistic concurrency, and reading back. An asynchronous shell.

Every event stands on its aggregate's subject, and the server takes one only if the aggregate's last message is the
one expected. Where each known aggregate ends is remembered, so that a further event costs one message and no read.
After a lost acknowledgement the same is written again; if the server then says that something stands there already,
and it is what was to be written, all is well.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise, repeat
from uuid import UUID

import structlog
from eventsourcing.persistence import IntegrityError, InterfaceError, OperationalError, StoredEvent

from events.client import BusClient, Entry
from events.errors import UnavailableError
from events.feed import jetstream
from events.store import fetch
from events.store.commit import MAX_BATCH, ExpectationError, RefusedError, UncertainError, commit
from events.store.wire import (
    EXPECTED_SEQUENCE,
    EXPECTED_SUBJECT_SEQUENCE,
    Draft,
    StoredPart,
    draft_event,
    join_parts,
    read_part,
    token_of,
)

TIPS_KEPT = 200_000
"""The ends of so many aggregates are remembered."""

ATTEMPT_SECONDS = 2.0
PATIENCE_SECONDS = 30.0
"""So long a write is tried again before its caller is told that its fate is not known: while a cluster elects a new
leader nothing is written, and an election of up to 9 s may have to be repeated, more than once on a busy machine."""

_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4)
_PART_SIZE = 512 * 1024
_SEARCH_FROM = 256


@dataclass(frozen=True, slots=True)
class Tip:
    """Where an aggregate ends: the version of its newest event, None if it has none, and its first and last message."""

    version: int | None
    sequence: int
    first_sequence: int


_NOTHING = Tip(None, 0, 0)


class Journal:
    """The events of one application, or its snapshots (`is_sparse`: versions rise, with gaps; only two are kept)."""

    def __init__(self, client: BusClient, stream: str, prefix: str, *, is_sparse: bool = False) -> None:
        self.client = client
        self.stream = stream
        self.prefix = prefix
        self._is_sparse = is_sparse
        self._part_size = min(_PART_SIZE, client.max_payload // 2) if is_sparse else None
        self._tips: OrderedDict[str, Tip] = OrderedDict()
        self._doubted: set[str] = set()

    async def append(
        self, events: Sequence[StoredEvent], expected_position: int | None = None, further: Sequence[Draft] = ()
    ) -> list[int]:
        """Write all events, and the `further` messages after them, or nothing; return the events' sequences.

        With `expected_position` only if the stream's last message stands there. Raises `IntegrityError` where an event
        does not follow on what is there, `InterfaceError` for what can never be written, and `OperationalError` if the
        fate of the write is not known.
        """
        drafts, ends = await self._draft(events, expected_position, further)
        is_uncertain, is_relearned = False, False
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        for pause in chain(_PAUSES, repeat(_PAUSES[-1])):
            try:
                last = await commit(self.client, drafts, ATTEMPT_SECONDS)
                return await self._written(events, drafts, ends, last)
            except RefusedError as error:
                raise InterfaceError(str(error)) from error
            except ExpectationError as error:
                self._forget(events)
                if is_uncertain and (sequences := await self._found(events, len(drafts) - len(further))):
                    return sequences
                was_expected = _expectations(drafts)
                drafts, ends = await self._draft(events, expected_position, further)
                if is_relearned or _expectations(drafts) == was_expected:
                    raise IntegrityError(f"something else was written first: {error}") from error
                is_relearned = True
            except UncertainError as error:
                is_uncertain = True
                if self.client.is_closed or asyncio.get_running_loop().time() > deadline:
                    self._forget(events)
                    raise OperationalError(f"the bus does not say whether it wrote: {error}") from error
                await asyncio.sleep(pause)
        raise AssertionError

    async def select(
        self, originator_id: UUID | str, gt: int | None, lte: int | None, *, desc: bool, limit: int | None
    ) -> list[StoredPart]:
        """An aggregate's events whose version is greater than `gt` and at most `lte`, by version."""
        token = token_of(originator_id)
        subject = f"{self.prefix}.{token}"
        entry = await self._newest(subject)
        if entry is None or limit == 0:
            return []
        newest = read_part(entry)
        if gt is not None and newest.version <= gt:
            return []
        if desc and limit == 1 and (lte is None or newest.version <= lte):
            return await self._whole(newest)
        first = await self._first_after(subject, gt, newest)
        # Without gaps in the versions, as many messages hold as many events.
        enough = limit if not desc and not self._is_sparse and gt is None else None
        parts = await fetch.span(self.client, self.stream, subject, first=first, last=newest.sequence, limit=enough)
        found = [
            event
            for event in join_parts([read_part(entry) for entry in parts])
            if (gt is None or event.version > gt) and (lte is None or event.version <= lte)
        ]
        if not self._is_sparse and any(one.version + 1 != other.version for one, other in pairwise(found)):
            raise _damaged(f"the events of {subject} have a gap")
        if desc:
            found.reverse()
        return found[:limit]

    async def _newest(self, subject: str) -> Entry | None:
        """The newest message on an aggregate's subject. Raises `OperationalError` where there is one that the server
        does not give, because its bytes on the disk were damaged: the aggregate must not pass for one without."""
        entry = await fetch.newest(self.client, self.stream, subject)
        if entry is None and not self._is_sparse:
            info = await jetstream(self.client, f"STREAM.INFO.{self.stream}", {"subjects_filter": subject})
            if info["state"].get("subjects"):
                entry = await fetch.newest(self.client, self.stream, subject)  # another may have just written it
            if entry is None and info["state"].get("subjects"):
                raise _damaged(f"the newest event of {subject} cannot be read")
        return entry

    async def newest_sequence(self) -> int:
        """The sequence of the newest event, 0 if there is none."""
        entry = await fetch.newest(self.client, self.stream, self._events)
        return entry.sequence if entry else 0

    async def select_span(self, first: int, last: int | None, limit: int) -> list[StoredPart]:
        """At most `limit` events whose sequence is at least `first` and at most `last`, in order."""
        end = await self.newest_sequence()
        end = end if last is None else min(end, last)
        entries = await fetch.span(self.client, self.stream, self._events, first=max(first, 1), last=end, limit=limit)
        return [read_part(entry) for entry in entries]

    @property
    def _events(self) -> str:
        return f"{self.prefix}.*"

    async def _draft(
        self, events: Sequence[StoredEvent], expected_position: int | None, further: Sequence[Draft]
    ) -> tuple[list[Draft], dict[str, int]]:
        """The messages that say what is expected, and the version at which each aggregate will end."""
        drafts: list[Draft] = []
        ends: dict[str, int] = {}
        for event in events:
            token, version = token_of(event.originator_id), event.originator_version
            messages = draft_event(self.prefix, event, self._part_size)
            if token in ends:
                previous: int | None = ends[token]
            else:
                tip = await self._tip(token, version)
                previous = tip.version
                messages[0].headers[EXPECTED_SUBJECT_SEQUENCE] = str(tip.sequence)
            if previous is not None and not (version > previous if self._is_sparse else version == previous + 1):
                raise IntegrityError(f"version {version} of {token} does not follow on {previous}")
            ends[token] = version
            drafts += messages
        drafts += further
        if len(drafts) > MAX_BATCH:
            raise InterfaceError(f"{len(drafts)} messages are too many to be written at once: at most {MAX_BATCH}")
        if expected_position is not None:
            drafts[0].headers[EXPECTED_SEQUENCE] = str(expected_position)
        return drafts, ends

    async def _tip(self, token: str, next_version: int) -> Tip:
        """Where an aggregate ends; from memory, if that fits the version that is to be written."""
        tip = self._tips.get(token)
        if tip is not None and tip.version is not None and (self._is_sparse or tip.version == next_version - 1):
            self._tips.move_to_end(token)
            return tip
        if tip is None and next_version <= 1 and token not in self._doubted:
            return _NOTHING
        entry = await self._newest(f"{self.prefix}.{token}")
        self._doubted.discard(token)
        if entry is None:
            return _NOTHING
        newest = read_part(entry)
        tip = Tip(newest.version, newest.sequence, newest.first_sequence)
        self._remember(token, tip)
        return tip

    def _remember(self, token: str, tip: Tip) -> None:
        self._tips[token] = tip
        self._tips.move_to_end(token)
        if len(self._tips) > TIPS_KEPT:
            self._tips.popitem(last=False)

    def _forget(self, events: Sequence[StoredEvent]) -> None:
        """Have the tips of these events' aggregates read anew when they are needed next."""
        for event in events:
            token = token_of(event.originator_id)
            self._tips.pop(token, None)
            self._doubted.add(token)

    async def _written(
        self, events: Sequence[StoredEvent], drafts: Sequence[Draft], ends: dict[str, int], last: int
    ) -> list[int]:
        """Remember where the aggregates end now that the last draft stands at `last`; the events' sequences."""
        sequences: list[int] = []
        previous = {token: self._tips.get(token) for token in ends} if self._is_sparse else {}
        index, first = 0, last - len(drafts) + 1
        for event in events:
            token = token_of(event.originator_id)
            begin = index
            index += -(-len(event.state) // self._part_size) or 1 if self._part_size else 1
            sequences.append(first + index - 1)
            self._doubted.discard(token)
            self._remember(token, Tip(event.originator_version, first + index - 1, first + begin))
        for token, tip in previous.items():
            if tip is not None:
                await self._purge_before(token, tip.first_sequence)
        return sequences

    async def _found(self, events: Sequence[StoredEvent], message_count: int) -> list[int] | None:
        """The sequences at which exactly these events stand, one after the other; None where they do not."""
        sequences: list[int] = []
        first = None
        for event in events:
            version = event.originator_version
            standing = await self.select(event.originator_id, version - 1, version, desc=False, limit=1)
            if not standing or (standing[0].topic, standing[0].state) != (event.topic, event.state):
                return None
            first = first or standing[0].first_sequence
            sequences.append(standing[0].sequence)
        is_one_piece = first is not None and sequences[-1] - first + 1 == message_count
        return sequences if is_one_piece else None

    async def _whole(self, part: StoredPart) -> list[StoredPart]:
        if part.parts == 1:
            return [part]
        subject = f"{self.prefix}.{part.token}"
        entries = await fetch.span(self.client, self.stream, subject, first=part.first_sequence, last=part.sequence)
        return join_parts([read_part(entry) for entry in entries])

    async def _first_after(self, subject: str, version: int | None, newest: StoredPart) -> int:
        """A sequence at or a little before the first event whose version is greater than `version`."""
        low, high = 1, newest.sequence
        if version is None or version < _SEARCH_FROM or self._is_sparse:
            return low
        while low < high:
            middle = (low + high) // 2
            entry = await fetch.next_from(self.client, self.stream, subject, middle)
            found = read_part(entry) if entry else newest
            if version - _SEARCH_FROM <= found.version <= version:
                return found.sequence
            if found.version > version:
                high = middle
            else:
                low = found.sequence + 1
        return low

    async def _purge_before(self, token: str, sequence: int) -> None:
        request = {"filter": f"{self.prefix}.{token}", "seq": sequence}
        try:
            await jetstream(self.client, f"STREAM.PURGE.{self.stream}", request)
        except UnavailableError as error:
            structlog.get_logger("events.store").warning("old snapshots are kept", aggregate=token, error=str(error))


def _damaged(how: str) -> OperationalError:
    return OperationalError(f"the log is damaged: {how}; restore it (`wireloom log verify` says what is wrong)")


def _expectations(drafts: Sequence[Draft]) -> list[str | None]:
    return [draft.headers.get(EXPECTED_SUBJECT_SEQUENCE) for draft in drafts]
