"""Announces this machine's key, port and endpoints in one network, when the records show others: a shell."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent.backoff import Backoff
from agent.believing import ASK_TIMEOUT
from agent.listening import Spawn
from agent.probing.budget import Bucket
from events.bus import ask
from events.errors import UnavailableError, WireloomError
from events.records import MembershipRequest
from events.subjects import ask as ask_subject

_GATHER = 0.2
"""Seconds, at least, between two announcements that only differ in endpoints: together is said what changes so."""

_AT_ONCE, _RATE = 3, 1 / 5
"""So many of those at once, and so many more a second: after joining, a machine soon learns where others see it, and
until it says so none of them finds a way through its NAT."""


class Announcer:
    """Says what is to be said, once, and again where it was not heard."""

    def __init__(self, machine_id: UUID, wish: Callable[[], MembershipRequest | None], spawn: Spawn) -> None:
        """`wish` gives what should be known of this machine; None where it is known."""
        self._subject = ask_subject(machine_id, "membership")
        self._wish = wish
        self._spawn = spawn
        self._client: Client | None = None
        self._announced: MembershipRequest | None = None
        self._announced_at = -math.inf
        self._minor = Bucket(_AT_ONCE, _RATE)
        self._announcing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("agent")

    def attach(self, client: Client) -> None:
        """Speak on this connection from now on."""
        if client is not self._client:
            self.close()
            self._client = client

    def close(self) -> None:
        """Say nothing more."""
        self._client = None
        if self._announcing is not None:
            self._announcing.cancel()
            self._announcing = None

    def repeat(self) -> None:
        """What was announced may not have been heard."""
        self._announced = None

    def announce(self) -> None:
        """Say what should be known, if it is not."""
        idle = self._announcing is None or self._announcing.done()
        if idle and self._client is not None and self._request() is not None:
            self._announcing = self._spawn(self._announce(self._client))

    def _request(self) -> MembershipRequest | None:
        request = self._wish()
        return None if request == self._announced else request

    async def _announce(self, client: Client) -> None:
        clock = asyncio.get_running_loop().time
        unavailable, refused = Backoff(0.1, 10.0), Backoff(2.0, 60.0)
        while (request := self._request()) is not None and client is self._client:
            is_minor = self._is_minor(request)
            if is_minor and (left := max(self._announced_at + _GATHER, self._minor.next_at(clock())) - clock()) > 0:
                await asyncio.sleep(min(left, 0.25))
                continue
            try:
                await ask(client, self._subject, request.model_dump_json().encode(), ASK_TIMEOUT)
            except UnavailableError as error:
                self._log.info("cannot announce this machine yet", error=str(error))
                await unavailable.wait()
            except WireloomError as error:
                self._log.warning("announcing this machine is refused", error=error.detail, hint=error.hint)
                await refused.wait()
            else:
                self._announced, self._announced_at = request, clock()
                if is_minor:
                    self._minor.take()

    def _is_minor(self, request: MembershipRequest) -> bool:
        said = self._announced
        return said is not None and said.model_copy(update={"endpoints": request.endpoints}) == request
