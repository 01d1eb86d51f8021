"""Answers what was, or would be (`events.past`). A shell.

One answer after the other: who asks much about the past waits, and what happens now does not.
"""

from __future__ import annotations

import asyncio

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from events.bus import refuse
from events.ending import finish
from events.errors import InternalError, InvalidInputError, UnavailableError, WireloomError
from events.past import PAST_NETWORK, PAST_QUEUE, PAST_STATE, PastEntry, PastNetworkRequest, PastRequest, answer
from services.topology.past.historian import Historian

_WAITING = 100
"""So many requests may wait."""


async def serve_past(client: Client) -> None:
    """Answer until cancelled."""
    historian = Historian(client)
    waiting: asyncio.Queue[Msg] = asyncio.Queue(_WAITING)

    async def take(message: Msg) -> None:
        try:
            waiting.put_nowait(message)
        except asyncio.QueueFull:
            await refuse(message, UnavailableError("Too many ask about the past.", hint="Ask again later."))

    subscription = await client.subscribe("past.*", queue=PAST_QUEUE, cb=take)
    try:
        while True:
            await _answer(client, historian, await waiting.get())
    finally:
        await finish(subscription.unsubscribe())


async def _answer(client: Client, historian: Historian, message: Msg) -> None:
    try:
        await answer(client, message, await _entries(historian, message))
    except WireloomError as error:
        await refuse(message, error)
    except ValidationError:
        await refuse(message, InvalidInputError("This is no question about the past.", hint="See events.past."))
    except Exception:
        structlog.get_logger("services.topology").exception("a question about the past failed")
        await refuse(message, InternalError("This could not be looked up.", hint="See the log."))


async def _entries(historian: Historian, message: Msg) -> list[PastEntry]:
    match message.subject:
        case subject if subject == PAST_STATE:
            return await historian.state(PastRequest.model_validate_json(message.data))
        case subject if subject == PAST_NETWORK:
            return await historian.network(PastNetworkRequest.model_validate_json(message.data))
        case _:
            raise InvalidInputError(f"Nobody answers {message.subject}.", hint="See events.past.")
