"""Answers whether what is derived is in order, and makes checkpoints when asked (`events.audit.asking`). A shell.

One comparison at a time, for each replays the whole log; who asks meanwhile waits.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from events import log
from events.audit.asking import AUDIT_CHECKPOINT, AUDIT_HEADER, AUDIT_QUEUE, AUDIT_STATE, kind_of
from events.bus import refuse, wants_answer
from events.ending import end, finish
from events.errors import InternalError, NotFoundError, UnavailableError, WireloomError
from events.identity import Identity
from services.topology.audit.checkpoints import CheckpointKeeper
from services.topology.audit.compare import compare

_WAITING = 20
_CHECKPOINT_SECONDS = 20.0


async def serve_audit(client: Client, keeper: CheckpointKeeper, identity: Identity | None) -> None:
    """Answer until cancelled."""
    waiting: asyncio.Queue[Msg] = asyncio.Queue(_WAITING)
    under_way: set[asyncio.Task[None]] = set()

    async def take(message: Msg) -> None:
        if not wants_answer(message):
            return
        if message.subject == AUDIT_CHECKPOINT:
            task = asyncio.create_task(_answer_checkpoint(client, keeper, message))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            return
        try:
            waiting.put_nowait(message)
        except asyncio.QueueFull:
            await refuse(message, UnavailableError("Too many verify at once.", hint="Verify again later."))

    subscriptions = [
        await client.subscribe(subject, queue=AUDIT_QUEUE, cb=take) for subject in (AUDIT_STATE, AUDIT_CHECKPOINT)
    ]
    try:
        while True:
            await _answer_state(client, identity, await waiting.get())
    finally:
        for subscription in subscriptions:
            await finish(subscription.unsubscribe())
        await end(under_way)


async def _answer_state(client: Client, identity: Identity | None, message: Msg) -> None:
    try:
        async with aclosing(compare(client, identity.signer() if identity else None)) as told:
            async for one in told:
                body = one.model_dump_json().encode()
                await client.publish(message.reply, body, headers={AUDIT_HEADER: kind_of(one)})
    except WireloomError as error:
        await refuse(message, error)
    except Exception:
        structlog.get_logger("services.topology").exception("the comparison failed")
        await refuse(
            message, InternalError("What is derived could not be compared.", hint="See the topology service's log.")
        )


async def _answer_checkpoint(client: Client, keeper: CheckpointKeeper, message: Msg) -> None:
    try:
        position = await log.last_sequence(client)
        if not position:
            raise NotFoundError("The log is empty: there is nothing to make a checkpoint of.")
        async with asyncio.timeout(_CHECKPOINT_SECONDS):
            made = await keeper.at_least(position)
        await client.publish(message.reply, made.model_dump_json().encode())
    except TimeoutError:
        await refuse(message, UnavailableError("The checkpoint is not made yet.", hint="Ask again."))
    except WireloomError as error:
        await refuse(message, error)
