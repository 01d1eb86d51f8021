"""What a command did: its events, found in the log by its id. Shell.

A command's events stand one after the other. Who knows the position of one has them at once; else the log is looked
through, newest first, and only what has the id in its bytes is read. That costs some 30 microseconds an event: the
newest thousand are there at once, a million take half a minute, in which other work goes on.
"""

from __future__ import annotations

from uuid import UUID

from nats.aio.client import Client

from events import log
from events.client import Entry
from events.errors import NotFoundError
from events.log import LoggedEvent

MOST_EVENTS = 1000
"""So many events at most stand in one change."""

CHUNK = 1000
"""So many events are looked through first, and then twice as many each time."""


async def events_of(client: Client, command_id: UUID, position: int | None = None) -> list[LoggedEvent]:
    """All events of a command, in order; with the `position` of one of them only around there.

    Raises `NotFoundError` where there are none, `UnavailableError`, `UnreadableEventError`.
    """
    found = await (_newest(client, command_id) if position is None else _around(client, command_id, position))
    if not found:
        where = "" if position is None else f" around its position {position}"
        raise NotFoundError(
            f"The log has no event of the command {command_id}{where}.",
            hint="Look with `wireloom log --commands`. A command that was refused, or changed nothing, has none.",
            field="command_id",
        )
    return found


async def _newest(client: Client, command_id: UUID) -> list[LoggedEvent]:
    top, size = await log.last_sequence(client), CHUNK
    while top > 0:
        bottom = max(0, top - size)
        if found := await _read(client, command_id, bottom, top):
            return await _around(client, command_id, found[0].sequence)
        top, size = bottom, 2 * size
    return []


async def _around(client: Client, command_id: UUID, position: int) -> list[LoggedEvent]:
    return await _read(client, command_id, max(0, position - MOST_EVENTS), position + MOST_EVENTS - 1)


async def _read(client: Client, command_id: UUID, after: int, stop: int) -> list[LoggedEvent]:
    said = str(command_id).encode()

    def may_be_own(entry: Entry) -> bool:
        return said in entry.data

    read = await log.read(client, after, stop - after, stop, may_be_own)
    return [logged for logged in read if logged.event.command_id == command_id]
