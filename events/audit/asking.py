"""Asking the topology service whether what is derived is what follows from the log, and for a checkpoint. A shell.

| subject | what is answered |
|---|---|
| `audit.state` | messages with the header `Wl-Audit`: `progress`, `finding`, and at the end `outcome` |
| `audit.checkpoint` | one `SignedCheckpoint`: of the log's end, made now if there was none yet |
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator

import nats.errors
import orjson
from nats.aio.client import Client

from events.audit.checkpoints import SignedCheckpoint
from events.audit.findings import Finding
from events.bus import ERROR_CODE_HEADER, ask
from events.client import BusClient, headers_of
from events.errors import UnavailableError, WireloomError
from events.fields import Tolerant

AUDIT_STATE = "audit.state"
AUDIT_CHECKPOINT = "audit.checkpoint"
AUDIT_QUEUE = "topology"
AUDIT_HEADER = "Wl-Audit"

SILENCE_SECONDS = 30.0
"""So long a next message is waited for; who answers says more often how far it is."""

_CHECKPOINT_SECONDS = 30.0


class Progress(Tolerant):
    """How far a comparison has come."""

    position: int
    end: int


class Outcome(Tolerant):
    """What was compared."""

    position: int
    """The log position that STATE had reached."""
    records: int
    """How many records follow from the log up to there."""
    paths: int = 0
    """How many records of PATHS were compared with what follows from the log and the reports."""
    snapshots: int = 0
    """How many snapshots were compared."""


Told = Progress | Finding | Outcome

_KINDS: dict[str, type[Told]] = {"progress": Progress, "finding": Finding, "outcome": Outcome}


def kind_of(told: Told) -> str:
    """What the header says of a message."""
    return next(kind for kind, model in _KINDS.items() if isinstance(told, model))


async def ask_state(client: Client) -> AsyncGenerator[Told]:
    """What the topology service tells of what is derived; last of all an `Outcome`.

    Raises what it refused with, and `UnavailableError` where it does not answer, or not to the end.
    """
    inbox = client.new_inbox()
    arrived: asyncio.Queue[tuple[bytes, dict[str, str]]] = asyncio.Queue()
    subscription = await BusClient.of(client).subscribe_raw(
        inbox, lambda _subject, _reply, data, headers: arrived.put_nowait((data, headers_of(headers)))
    )
    try:
        await client.publish(AUDIT_STATE, b"", reply=inbox)
        while True:
            async with asyncio.timeout(SILENCE_SECONDS):
                data, headers = await arrived.get()
            if ERROR_CODE_HEADER in headers:
                raise WireloomError.from_problem(orjson.loads(data))
            if not data:
                raise UnavailableError("No topology service answers.", hint="Check that one runs, then ask again.")
            told = _KINDS[headers[AUDIT_HEADER]].model_validate_json(data)
            yield told
            if isinstance(told, Outcome):
                return
    except (nats.errors.Error, TimeoutError) as error:
        raise UnavailableError("The topology service does not answer to the end.", hint="Ask again.") from error
    finally:
        with contextlib.suppress(nats.errors.Error):
            await subscription.unsubscribe()


async def ask_checkpoint(client: Client) -> SignedCheckpoint:
    """A checkpoint of the log as it is now. Raises `NotFoundError` for an empty log, and `UnavailableError`."""
    return SignedCheckpoint.model_validate_json(await ask(client, AUDIT_CHECKPOINT, b"", _CHECKPOINT_SECONDS))
