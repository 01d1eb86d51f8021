"""Writes the snapshots that are due. A shell.

Only when the log has come to where the next one is to be is anything done: the newest before it is taken up, and the
events between. So it costs nothing to let live what happens, and no memory; and where HISTORY was deleted, or a
snapshot in the middle is missing, it is made like any other. Several that run at once write the same.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import structlog
from nats.aio.client import Client

from events import log
from events.bus import ensure_streams
from events.errors import WireloomError
from events.subjects import HISTORY
from services.topology.past.moment import Moment, advance, moment_of
from services.topology.past.snapshots import LEAST_BETWEEN, Head, following
from services.topology.past.vault import Snapshot, Vault

_LOOK_SECONDS = 5.0
_REST = 3.0
"""So many times as long as it works it rests, for what happens now comes first."""


async def keep_history(client: Client, replicas: int, least: int = LEAST_BETWEEN) -> None:
    """Have a snapshot where one is due, until cancelled. At least so many events lie between two."""
    chronicler = Chronicler(client, least)
    while not client.is_closed:
        try:
            await ensure_streams(client, (HISTORY,), replicas)
            while True:
                await chronicler.write_due()
                await asyncio.sleep(_LOOK_SECONDS)
        except WireloomError as error:
            structlog.get_logger("services.topology").warning("no snapshots for now", reason=str(error))
        except Exception:
            structlog.get_logger("services.topology").exception("no snapshots for now")
        await asyncio.sleep(_LOOK_SECONDS)


class Chronicler:
    """Knows which snapshot is due."""

    def __init__(self, client: Client, least: int = LEAST_BETWEEN, rest: float = _REST) -> None:
        self._client = client
        self._vault = Vault(client)
        self._least = least
        self._rest = rest

    async def write_due(self) -> int:
        """Write all that are due; how many those were.

        Raises `UnavailableError`, and `InternalError` where the log cannot be read.
        """
        await self._vault.is_other_log()
        moment, last, written = Moment(), (0, ""), set[int]()
        while (due := await self._due()) is not None and due.position not in written:
            if moment.position != due.base:
                found = await self._base(due)
                if found is None:
                    continue
                moment, last = found
            event = await advance(self._client, moment, due.position, self._rest)
            if event is not None:
                last = event.sequence, event.digest
            contents = moment.shelf.contents()
            after = following(due.position, len(contents), self._least)
            await self._vault.write(Snapshot(due.position, contents, *last), after)
            written.add(due.position)
            structlog.get_logger("services.topology").info("a snapshot", position=due.position, records=len(contents))
        return len(written)

    async def _due(self) -> _Due | None:
        """The first that is due; None where all are there."""
        end, heads = await log.last_sequence(self._client), await self._vault.heads()
        base, position = None, following(0, 0, self._least)
        while position <= end:
            head = heads.get(position)
            if head is None:
                return _Due(position, base)
            if not await self._vault.is_ours(head):
                await self._vault.remove(position)
                return _Due(position, base)
            base, position = head, head.following
        return None

    async def _base(self, due: _Due) -> tuple[Moment, tuple[int, str]] | None:
        """What the one that is due is made from; None where that could not be read."""
        if due.before is None:
            return Moment(), (0, "")
        snapshot = await self._vault.read(due.before)
        if snapshot is None:
            return None
        moment = await asyncio.to_thread(moment_of, snapshot.position, snapshot.contents)
        return moment, (snapshot.last, snapshot.digest)


@dataclass(frozen=True, slots=True)
class _Due:
    """A snapshot that is to be made."""

    position: int
    before: Head | None
    """The one before it; None where it is the first."""

    @property
    def base(self) -> int:
        """The position of the one before it."""
        return self.before.position if self.before else 0
