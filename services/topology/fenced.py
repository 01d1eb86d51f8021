"""Writing into a stream whose end is known: all messages or none, and only if nobody wrote meanwhile. A shell."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import nats.errors
import orjson
from nats.aio.client import Client

MAX_BATCH = 1000
"""The most messages that the server takes in one atomic batch."""

_ACK_SECONDS = 2.0
_WRONG_LAST_SEQUENCE = (10071, 10164)


class RefusedError(Exception):
    """Raised when the server refuses a write."""


class OvertakenError(Exception):
    """Raised when the server refuses a write because another came first, or an earlier attempt of ours did."""


FAILURES = (nats.errors.Error, TimeoutError, RefusedError)
"""What leaves unknown whether something was written."""

Message = tuple[str, bytes, Mapping[str, str]]
"""A subject, a payload and headers."""


async def publish(client: Client, messages: Sequence[Message], last_sequence: int) -> int:
    """Write one message, or up to `MAX_BATCH` as one atomic batch, behind the sequence that must be the stream's last.
    Returns the sequence of the last message.

    Raises `OvertakenError`, then nothing was written, and one of `FAILURES`.
    """
    headers = {"Nats-Expected-Last-Sequence": str(last_sequence)}
    if len(messages) > 1:
        headers = await _publish_all_but_last(client, messages[:-1], headers)
    subject, payload, beside = messages[-1]
    reply = await client.request(subject, payload, timeout=_ACK_SECONDS, headers={**headers, **beside})
    sequence: int = _checked(reply.data)["seq"]
    return sequence


async def publish_newest(client: Client, message: Message, after: int) -> int:
    """Write one message behind the one at `after`, which must be the newest of its subject (0 for none). Returns its
    sequence. Raises as `publish` does."""
    subject, payload, beside = message
    headers = {"Nats-Expected-Last-Subject-Sequence": str(after), **beside}
    reply = await client.request(subject, payload, timeout=_ACK_SECONDS, headers=headers)
    sequence: int = _checked(reply.data)["seq"]
    return sequence


async def write_one(client: Client, message: Message) -> int:
    """Write one message, whatever stands in the stream. Returns its sequence. Raises one of `FAILURES`."""
    subject, payload, beside = message
    reply = await client.request(subject, payload, timeout=_ACK_SECONDS, headers=dict(beside))
    sequence: int = _checked(reply.data)["seq"]
    return sequence


async def _publish_all_but_last(client: Client, messages: Sequence[Message], fence: dict[str, str]) -> dict[str, str]:
    """Open an atomic batch with `messages`; returns the headers of the message that commits it."""
    batch = {"Nats-Batch-Id": uuid.uuid4().hex}
    for number, (subject, payload, beside) in enumerate(messages, start=1):
        headers = {**batch, "Nats-Batch-Sequence": str(number), **beside}
        if number == 1:
            reply = await client.request(subject, payload, timeout=_ACK_SECONDS, headers=headers | fence)
            _checked(reply.data)
        else:
            await client.publish(subject, payload, headers=headers)
    return batch | {"Nats-Batch-Sequence": str(len(messages) + 1), "Nats-Batch-Commit": "1"}


def _checked(answer: bytes) -> dict[str, Any]:
    """An acknowledgement; the first message of a batch has an empty one."""
    acknowledgement: dict[str, Any] = orjson.loads(answer) if answer else {}
    if "error" in acknowledgement:
        error = acknowledgement["error"]
        kind = OvertakenError if error.get("err_code") in _WRONG_LAST_SEQUENCE else RefusedError
        raise kind(error.get("description"))
    return acknowledgement
