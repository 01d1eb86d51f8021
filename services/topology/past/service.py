"""Answers what was, or would be (`events.past`). A shell.

One answer after the other: who asks much about the past waits, and what happens now does not.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from events.bus import refuse, wants_answer
from events.ending import end, finish
from events.errors import InternalError, InvalidInputError, UnavailableError, WireloomError
from events.past import (
    PAST_NETWORK,
    PAST_QUEUE,
    PAST_STATE,
    PastEntry,
    PastNetworkRequest,
    PastRequest,
    answer,
    say_more_comes,
)
from services.topology.past.historian import Historian

_WAITING = 100
"""So many requests may wait."""


async def serve_past(client: Client) -> None:
    """Answer until cancelled. Whatever fails is told to who asked, or written to the program's log, and the next is
    answered."""
    historian = Historian(client)
    waiting: asyncio.Queue[Msg] = asyncio.Queue(_WAITING)

    async def take(message: Msg) -> None:
        if not wants_answer(message):
            return
        try:
            waiting.put_nowait(message)
        except asyncio.QueueFull:
            await _refuse(message, UnavailableError("Too many ask about the past.", hint="Ask again later."))

    subscription = await client.subscribe("past.*", queue=PAST_QUEUE, cb=take)
    try:
        while True:
            await _answer(client, historian, await waiting.get())
    finally:
        with suppress(nats.errors.Error):
            await finish(subscription.unsubscribe())


async def _answer(client: Client, historian: Historian, message: Msg) -> None:
    waiting = asyncio.create_task(say_more_comes(client, message))
    try:
        entries = await _entries(historian, message)
        await end([waiting])
        await answer(client, message, entries)
    except WireloomError as error:
        await _refuse(message, error)
    except ValidationError:
        await _refuse(message, InvalidInputError("This is no question about the past.", hint="See events.past."))
    except Exception:
        structlog.get_logger("services.topology").exception("a question about the past failed")
        await _refuse(message, InternalError("This could not be looked up.", hint="See the log."))
    finally:
        await end([waiting])


async def _refuse(message: Msg, error: WireloomError) -> None:
    with suppress(nats.errors.Error):  # who asked finds that nobody answers
        await refuse(message, error)


async def _entries(historian: Historian, message: Msg) -> list[PastEntry]:
    match message.subject:
        case subject if subject == PAST_STATE:
            return await historian.state(PastRequest.model_validate_json(message.data))
        case subject if subject == PAST_NETWORK:
            return await historian.network(PastNetworkRequest.model_validate_json(message.data))
        case _:
            raise InvalidInputError(f"Nobody answers {message.subject}.", hint="See events.past.")
