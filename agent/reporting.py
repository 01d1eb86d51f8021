"""Reports what probes find of the links to peers, as it changes: a shell.

A report that is lost or refused is said again, with what came since. On a new connection all is said: the control plane
then knows which of its older reports count no more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass, field
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent.backoff import Backoff
from agent.believing import ASK_TIMEOUT
from agent.listening import Spawn
from events.bus import ask
from events.errors import UnavailableError, WireloomError
from events.records import LinkState, ReachRequest
from events.subjects import ask as ask_subject

MAX_LINKS = 500
"""So many links go into one report."""

SAY_AGAIN_AFTER = 5 * 86400.0
"""Seconds after which all links are reported again, though nothing changed: the control plane forgets after weeks."""

_GATHER = 0.05
"""Seconds for which changes are gathered: what changes together is reported together."""

_SETTLED_WITHIN = 5.0
"""Seconds that probes have at first to find out about all peers, before what they have not found is said to be none."""

_MOST, _PERIOD = 15, 10.0
"""So many reports, at most, in so many seconds."""


@dataclass(slots=True)
class Reports:
    """What the reporters of one agent share: their reports are counted and go out one after the other."""

    boot_id: UUID
    counter: int = 0
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _sent: deque[float] = field(default_factory=deque)

    async def pace(self) -> None:
        """Wait until another report may go out, and count it."""
        clock = asyncio.get_running_loop().time
        if len(self._sent) >= _MOST:
            await asyncio.sleep(max(0.0, self._sent.popleft() + _PERIOD - clock()))
        self._sent.append(clock())
        self.counter += 1


class Reporter:
    """Reports the links of one network."""

    def __init__(self, machine_id: UUID, network_id: UUID, reports: Reports, spawn: Spawn) -> None:
        self._network_id = network_id
        self._subject = ask_subject(machine_id, "reach")
        self._reports = reports
        self._spawn = spawn
        self._links: dict[UUID, LinkState] = {}
        self._due: dict[UUID, None] = {}
        self._is_whole_due = False
        self._searched: set[UUID] = set()
        self._begun = 0.0
        self._client: Client | None = None
        self._sending: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger("agent").bind(network=str(network_id))

    def attach(self, client: Client) -> None:
        """Report on this connection from now on, beginning with everything."""
        self._client = client
        self._begun = asyncio.get_running_loop().time()
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._say_all()

    def search(self, peer_id: UUID) -> None:
        """Something will be said of this peer soon."""
        if peer_id not in self._links:
            self._searched.add(peer_id)

    def say(self, link: LinkState) -> None:
        """A link is so now."""
        self._searched.discard(link.peer_id)
        if self._links.get(link.peer_id) != link:
            self._links[link.peer_id] = link
            self._due[link.peer_id] = None
            self._soon()

    def forget(self, peer_id: UUID) -> None:
        """The peer is gone."""
        self._searched.discard(peer_id)
        self._links.pop(peer_id, None)
        self._due.pop(peer_id, None)

    def close(self) -> None:
        """Report nothing more."""
        self._client = None
        if self._sending is not None:
            self._sending.cancel()
        if self._again is not None:
            self._again.cancel()

    def _say_all(self) -> None:
        loop = asyncio.get_running_loop()
        if self._again is not None:
            self._again.cancel()
        self._again = loop.call_later(SAY_AGAIN_AFTER, self._say_all)
        self._is_whole_due = True
        self._due = dict.fromkeys(self._links)
        self._soon()

    def _soon(self) -> None:
        if self._client is not None and (self._sending is None or self._sending.done()):
            self._sending = self._spawn(self._send(self._client))

    async def _send(self, client: Client) -> None:
        unavailable, refused = Backoff(0.1, 10.0), Backoff(1.0, 60.0)
        while (self._due or self._is_whole_due) and client is self._client:
            await asyncio.sleep(_GATHER)
            try:
                async with self._reports.turn:
                    await self._report(client)
            except UnavailableError as error:
                self._log.info("cannot report links yet", error=str(error))
                await unavailable.wait()
            except WireloomError as error:
                self._log.warning("a report of links is refused", error=error.detail, hint=error.hint)
                await refused.wait()
            else:
                unavailable.reset()
                refused.reset()

    async def _report(self, client: Client) -> None:
        """Raises `WireloomError`: then what was not reported is still due."""
        is_whole = self._is_whole_due and len(self._links) <= MAX_LINKS
        if is_whole and self._searched and asyncio.get_running_loop().time() < self._begun + _SETTLED_WITHIN:
            is_whole = False
            if not self._due:
                await asyncio.sleep(_GATHER)
                return
        chosen = list(self._links) if is_whole else list(self._due)[:MAX_LINKS]
        links = tuple(self._links[peer_id] for peer_id in chosen)
        await self._reports.pace()
        request = ReachRequest(
            network_id=self._network_id,
            boot_id=self._reports.boot_id,
            counter=self._reports.counter,
            whole=is_whole,
            links=links,
        )
        await ask(client, self._subject, request.model_dump_json().encode(), ASK_TIMEOUT)
        for link in links:
            if self._links.get(link.peer_id) == link:
                self._due.pop(link.peer_id, None)
        if is_whole or len(self._links) > MAX_LINKS:
            self._is_whole_due = False
