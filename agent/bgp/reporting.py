"""Reports what is seen of the BGP speaker in one network, as it changes: a shell.

A report that is lost or refused is said again, with what came since. On a new connection all is said, and again within
a week, as with links (`agent.reporting`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Hashable, Iterable
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent.backoff import Backoff
from agent.believing import ASK_TIMEOUT
from agent.bgp.telling import State, gone, key_of, packed
from agent.listening import Spawn
from agent.reporting import SAY_AGAIN_AFTER, Reports
from events.bus import ask
from events.errors import UnavailableError, WireloomError
from events.records import BgpRequest
from events.subjects import ask as ask_subject

_GATHER = 0.2
"""Seconds for which changes are gathered: what changes together is reported together."""


class BgpReporter:
    """Reports one network."""

    def __init__(self, machine_id: UUID, network_id: UUID, reports: Reports, spawn: Spawn) -> None:
        self._network_id = network_id
        self._subject = ask_subject(machine_id, "bgp")
        self._reports = reports
        self._spawn = spawn
        self._states: dict[Hashable, State] = {}
        self._due: dict[Hashable, State] = {}
        self._is_whole_due = False
        self._client: Client | None = None
        self._sending: asyncio.Task[None] | None = None
        self._again: asyncio.TimerHandle | None = None
        self._log = structlog.get_logger("agent").bind(network=str(network_id))

    def attach(self, client: Client) -> None:
        """Report on this connection from now on, beginning with everything."""
        self._client = client
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        self._say_all()

    def say(self, states: Iterable[State]) -> None:
        """These are all the states there are, now."""
        before, self._states = self._states, {key_of(state): state for state in states}
        self._due |= {key: state for key, state in self._states.items() if before.get(key) != state}
        for key, state in before.items():
            if key not in self._states:
                self._due.pop(key, None)
                if (end := gone(state)) is not None:
                    self._due[key] = end
        if self._due:
            self._soon()

    def close(self) -> None:
        """Report nothing more."""
        self._client = None
        if self._sending is not None:
            self._sending.cancel()
        if self._again is not None:
            self._again.cancel()

    def _say_all(self) -> None:
        if self._again is not None:
            self._again.cancel()
        self._again = asyncio.get_running_loop().call_later(SAY_AGAIN_AFTER, self._say_all)
        self._is_whole_due = True
        self._due |= self._states
        self._soon()

    def _soon(self) -> None:
        if self._client is not None and (self._sending is None or self._sending.done()):
            self._sending = self._spawn(self._send(self._client))

    async def _send(self, client: Client) -> None:
        unavailable, refused = Backoff(0.1, 10.0), Backoff(1.0, 60.0)
        while self._due and client is self._client:
            await asyncio.sleep(_GATHER)
            try:
                async with self._reports.turn:
                    await self._report(client)
            except UnavailableError as error:
                self._log.info("cannot report BGP yet", error=str(error))
                await unavailable.wait()
            except WireloomError as error:
                self._log.warning("a report of BGP is refused", error=error.detail, hint=error.hint)
                await refused.wait()
            else:
                unavailable.reset()
                refused.reset()

    async def _report(self, client: Client) -> None:
        """Raises `WireloomError`: then what was not reported is still due."""
        due = dict(self._due)
        chosen, is_whole = packed(due, is_whole=self._is_whole_due)
        await self._reports.pace()
        request = BgpRequest(
            network_id=self._network_id,
            boot_id=self._reports.boot_id,
            counter=self._reports.counter,
            whole=is_whole,
            states=tuple(chosen.values()),
        )
        await ask(client, self._subject, request.model_dump_json().encode(), ASK_TIMEOUT)
        for key, state in chosen.items():
            if self._due.get(key) is state:
                del self._due[key]
        self._is_whole_due = False
