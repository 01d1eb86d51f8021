"""Reading the STATE stream: all of it at once, and what comes after. A shell.

`load` then `follow` from the dump's `last_sequence` misses nothing and repeats nothing. STATE holds the newest record
of each subject only, so a follower that was away hears the newest and not what was between. Nothing tells a
follower of records that are purged: they are those that the tombstone of a network or machine makes meaningless, and
whoever applies records in order must let go of them itself. A dump may hold some that are not purged yet.

A record may be written again, unchanged but for its signature, when the key that signs them changes. A follower then
hears it a second time, among newer ones: what is not newer than what it has of a subject says nothing new.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from events.client import header
from events.feed import feed, jetstream, last_sequence
from events.records import Record, SubjectRecord
from events.subjects import STATE_PREFIX, STATE_STREAM
from events.trust.signing import SIGNATURE_HEADER

POSITION_HEADER = "Wl-Position"
"""Header of a record whose cause does not tell how far STATE has come in the log, with the position that it has: of one
that was written again, and of one after which more of the same event is to come."""

_NO_MESSAGE_FOUND = 10037


@dataclass(frozen=True, slots=True)
class Last:
    """The newest message of STATE."""

    sequence: int
    subject: str
    payload: bytes
    position: int
    """The log position up to which everything is written."""
    ends_event: bool = True
    """Whether it is the last of the records that follow from the event at `position`."""


@dataclass(frozen=True, slots=True)
class StateDump:
    """All of STATE as it was when its last message was the one at `last_sequence`."""

    entries: list[tuple[str, bytes]]
    """Each subject with its record's bytes, in the order of their causes."""
    signatures: dict[str, str]
    """The signature that stands beside each of the records, where there is one."""
    last_sequence: int
    """STATE's own sequence, not a position of the log; 0 if nothing was ever written."""
    position: int = 0
    """The log position up to which everything is written. Records of the event after it may stand in STATE too, where
    there are so many that they are written in several batches."""

    @property
    def is_amid_event(self) -> bool:
        """Whether some of the records of the event after `position` stand in STATE, and some do not."""
        return bool(self.entries) and cause_of(self.entries[-1][1]) > self.position

    def records(self) -> list[SubjectRecord]:
        """The entries decoded."""
        return [SubjectRecord(subject=subject, record=decode_record(payload)) for subject, payload in self.entries]


def cause_of(payload: bytes) -> int:
    """The cause of a record that is not decoded."""
    record: dict[str, Any] = orjson.loads(payload)
    cause: int = record["cause"]
    return cause


def encode_record(record: Record) -> bytes:
    """A record as it stands in STATE: the same record always gives the same bytes."""
    return record.model_dump_json().encode()


def decode_record(payload: bytes) -> Record:
    """The record that stands in STATE, or is heard live, as `payload`."""
    return Record.model_validate_json(payload)


def signature_of(message: Msg) -> str:
    """The signature that stands beside a record; empty where there is none."""
    return (message.headers or {}).get(SIGNATURE_HEADER, "")


async def load(client: Client) -> StateDump:
    """All records that STATE holds. Raises `UnavailableError`."""
    end, newest = await _end(client)
    if newest is None:
        return StateDump([], {}, end)
    held: dict[str, tuple[int, bytes, str]] = {}
    last: Msg | None = None
    async with aclosing(feed(client, STATE_STREAM, 0)) as batches:
        async for batch in batches:
            for sequence, message in batch:
                held[message.subject] = sequence, message.data, signature_of(message)
            _, last = batch[-1]
            if batch[-1][0] < newest.sequence:
                continue
            # What was replaced meanwhile stands further on: the dump is whole only when nothing is.
            end, newest = await _end(client)
            if newest is None or batch[-1][0] >= newest.sequence:
                break
    assert last is not None
    told = (last.headers or {}).get(POSITION_HEADER)
    ordered = sorted(held, key=lambda subject: (cause_of(held[subject][1]), held[subject][0]))
    return StateDump(
        entries=[(subject, held[subject][1]) for subject in ordered],
        signatures={subject: signature for subject, (_, _, signature) in held.items() if signature},
        last_sequence=max(end, held[last.subject][0]),
        position=cause_of(last.data) if told is None else int(told),
    )


async def follow(client: Client, after_sequence: int) -> AsyncGenerator[list[SubjectRecord]]:
    """The records that are written to STATE after its sequence `after_sequence`, without end, as many at once as have
    arrived. Survives lost connections and server restarts.

    Raises `UnavailableError` when the connection is closed for good.
    """
    async with aclosing(feed(client, STATE_STREAM, after_sequence)) as batches:
        async for batch in batches:
            yield [SubjectRecord(subject=message.subject, record=decode_record(message.data)) for _, message in batch]


async def last_message(client: Client) -> Last | None:
    """The newest message of STATE as its leader has it; None if there is none. Raises `UnavailableError`."""
    # Not ">": for that the server looks at its last sequence only, whose message may have been purged.
    request = {"last_by_subj": f"{STATE_PREFIX}.>"}
    answer = await jetstream(client, f"STREAM.MSG.GET.{STATE_STREAM}", request, _NO_MESSAGE_FOUND)
    if "error" in answer:
        return None
    message = answer["message"]
    payload = base64.b64decode(message.get("data", ""))
    told = header(base64.b64decode(message.get("hdrs", "")), POSITION_HEADER.encode())
    position = cause_of(payload) if told is None else int(told)
    return Last(message["seq"], message["subject"], payload, position, ends_event=told is None)


async def purge(client: Client, subject_filter: str, before: int | None = None) -> None:
    """Remove the records under `subject_filter` from STATE, all or those before a sequence, unheard by its followers.
    Raises `UnavailableError`."""
    request: dict[str, Any] = {"filter": subject_filter}
    await jetstream(client, f"STREAM.PURGE.{STATE_STREAM}", request if before is None else request | {"seq": before})


async def _end(client: Client) -> tuple[int, Last | None]:
    """STATE's last sequence, which outlives its message, and its newest message."""
    return await last_sequence(client, STATE_STREAM), await last_message(client)
