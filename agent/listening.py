"""Listening to one scope on the bus: the shell around `agent.follow`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from pydantic import ValidationError

from agent.backoff import Backoff
from agent.follow import Follower, Update
from events.bus import ask
from events.client import BusClient
from events.errors import UnavailableError, WireloomError
from events.records import Record, SyncReply
from events.subjects import ScopeKind, live_scope, scope, state_of
from events.subjects import ask as ask_subject

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task whose failure ends the agent."""

ASK_TIMEOUT = 5.0
_REFUSED_PAUSE = 30.0


class Hearer(Protocol):
    """Who wants to know what is heard in a scope."""

    def heard(self, subject: str, record: Record, body: bytes) -> None:
        """A live record, in its turn; `body` is its JSON."""

    def updated(self, update: Update) -> None:
        """An answer to a sync request."""

    def gone(self) -> None:
        """An answer says that the scope is not there, or not for this machine. It may be behind the times."""


class Listener:
    """Subscribes to a scope and keeps asking for what is missing."""

    def __init__(
        self, kind: ScopeKind, scope_id: UUID, machine_id: UUID, revision: int, *, hearer: Hearer, spawn: Spawn
    ) -> None:
        self.follower = Follower(scope(kind, scope_id), revision)
        self._live = live_scope(kind, scope_id)
        self._ask = ask_subject(machine_id, "sync")
        self._hearer = hearer
        self._spawn = spawn
        self._client: Client | None = None
        self._subscription: Subscription | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._log = structlog.get_logger("agent").bind(scope=self.follower.scope)

    async def attach(self, client: Client) -> None:
        """Hear what is said live from now on."""
        await self.detach()
        self._client = client
        self._subscription = await BusClient.of(client).subscribe_raw(self._live, self._on_message)

    async def detach(self) -> None:
        """Hear nothing more."""
        if self._syncing is not None:
            self._syncing.cancel()
            self._syncing = None
        if self._subscription is not None and self._client is not None and not self._client.is_closed:
            try:
                await self._subscription.unsubscribe()
            except NatsError as error:
                self._log.info("could not unsubscribe", error=repr(error))
        self._subscription = None
        self._client = None

    def resync(self) -> None:
        """Something may have been missed: ask."""
        self.follower.resync()
        self._catch_up()

    def restart(self) -> None:
        """What is held may be wrong: ask for everything."""
        self.follower.restart()
        self._catch_up()

    def _on_message(self, live_subject: bytes, _reply: bytes, body: bytes, _headers: bytes) -> None:
        subject = state_of(live_subject.decode())
        try:
            record = Record.model_validate_json(body)
        except ValidationError as error:
            self._log.error("cannot read a record", subject=subject, error=str(error))
            self.resync()
            return
        try:
            if self.follower.hear(subject, record):
                self._hearer.heard(subject, record, body)
            elif self.follower.behind:
                self._catch_up()
        except Exception as error:
            self._spawn(_fail(error))

    def _catch_up(self) -> None:
        if self._client is not None and (self._syncing is None or self._syncing.done()):
            self._syncing = self._spawn(self._sync(self._client))

    async def _sync(self, client: Client) -> None:
        backoff = Backoff(0.05, 10.0)
        while self.follower.behind:
            try:
                request = self.follower.request().model_dump_json().encode()
                reply = SyncReply.model_validate_json(await ask(client, self._ask, request, ASK_TIMEOUT))
            except UnavailableError as error:
                self._log.info("cannot sync yet", error=str(error))
            except WireloomError as error:
                self._log.warning("sync is refused", error=error.detail, hint=error.hint)
                await asyncio.sleep(_REFUSED_PAUSE)
            except ValidationError as error:
                self._log.error("cannot read what sync answers", error=str(error))
            else:
                update = self.follower.answer(reply)
                if update.gone:
                    self._hearer.gone()
                else:
                    self._hearer.updated(update)
                if update.progress:
                    backoff.reset()
                    continue
            if self.follower.behind:
                await backoff.wait()


async def _fail(error: Exception) -> None:
    raise error
