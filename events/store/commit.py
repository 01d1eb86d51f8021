"""Writing messages to a stream: one alone, or several that come to stand there together or not at all. A shell."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

import nats.errors
import orjson
from nats.aio.msg import Msg

from events.client import BusClient
from events.store.wire import Draft

MAX_BATCH = 1000
"""The server takes at most so many messages in one atomic batch (ADR-50 of NATS)."""

_WRONG_LAST_SEQUENCE = {10071, 10164}
_BATCH_INCOMPLETE = {10175, 10176, 10210}


class ExpectationError(Exception):
    """Raised when the stream holds something else than the messages expected: none of them was written."""


class UncertainError(Exception):
    """Raised when the server did not say what became of the messages; they may have been written."""


class RefusedError(Exception):
    """Raised when the server does not take such messages."""


async def commit(client: BusClient, drafts: Sequence[Draft], timeout: float) -> int:
    """Write all drafts and return the sequence of the last one; those of a batch stand one after the other.

    Raises `ExpectationError`, `UncertainError`, `RefusedError`.
    """
    try:
        last = await (
            _commit_batch(client, drafts, timeout) if len(drafts) > 1 else _publish(client, drafts[0], timeout)
        )
    except (nats.errors.MaxPayloadError, nats.errors.BadSubjectError) as error:
        raise RefusedError(f"a message of {max(len(draft.payload) for draft in drafts)} bytes is too big") from error
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise UncertainError(repr(error)) from error
    answer = orjson.loads(last.data)
    _check(answer)
    sequence: int = answer["seq"]
    return sequence


async def _publish(client: BusClient, draft: Draft, timeout: float) -> Msg:
    return await client.request(draft.subject, draft.payload, timeout=timeout, headers=draft.headers)


async def _commit_batch(client: BusClient, drafts: Sequence[Draft], timeout: float) -> Msg:
    batch = uuid4().hex
    for number, draft in enumerate(drafts[:-1], 1):
        headers = {**draft.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(number)}
        if number == 1:
            accepted = await client.request(draft.subject, draft.payload, timeout=timeout, headers=headers)
            if accepted.data:
                _check(orjson.loads(accepted.data))
        else:
            await client.publish(draft.subject, draft.payload, headers=headers)
    last = drafts[-1]
    headers = {**last.headers, "Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(len(drafts))}
    headers["Nats-Batch-Commit"] = "1"
    return await client.request(last.subject, last.payload, timeout=timeout, headers=headers)


def _check(answer: dict[str, dict[str, object]]) -> None:
    error = answer.get("error")
    if error is None:
        return
    code, description = error.get("err_code"), str(error.get("description"))
    if code in _WRONG_LAST_SEQUENCE:
        raise ExpectationError(description)
    if code in _BATCH_INCOMPLETE or int(str(error.get("code", 500))) >= 429:
        raise UncertainError(description)
    raise RefusedError(description)
