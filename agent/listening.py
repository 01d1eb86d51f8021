"""Listening to one scope on the bus: the shell around `agent.follow`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, Protocol
from uuid import UUID

import structlog
from nats.aio.client import Client
from nats.aio.subscription import Subscription
from nats.errors import Error as NatsError
from pydantic import ValidationError

from agent.backoff import Backoff
from agent.believing import ASK_TIMEOUT, Belief
from agent.follow import Follower, Update
from agent.store import Store
from agent.trust import Entry, Refusal
from events.bus import ask
from events.client import BusClient, header
from events.errors import UnavailableError, WireloomError
from events.records import SignedRecord, SyncReply
from events.subjects import ScopeKind, live_scope, scope, state_of
from events.subjects import ask as ask_subject
from events.trust.signing import SIGNATURE_HEADER

Spawn = Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]
"""Starts a task whose failure ends the agent."""

_REFUSED_PAUSE = 30.0
_MAX_PARKED = 64
_SIGNATURE = SIGNATURE_HEADER.encode()


class Hearer(Protocol):
    """Who wants to know what is heard in a scope."""

    def heard(self, entry: Entry) -> None:
        """A live record, in its turn."""

    def updated(self, update: Update) -> None:
        """An answer to a sync request."""

    def gone(self) -> None:
        """An answer says that the scope is not there, or not for this machine. It may be behind the times."""


class Listener:
    """Subscribes to a scope and keeps asking for what is missing."""

    def __init__(
        self,
        kind: ScopeKind,
        scope_id: UUID,
        machine_id: UUID,
        *,
        hearer: Hearer,
        belief: Belief,
        store: Store,
        spawn: Spawn,
        asides: Mapping[str, Callable[[], None]] | None = None,
    ) -> None:
        """`asides` are live subjects of the scope that bear no records: whom to call for what is said there, without
        reading it."""
        name = scope(kind, scope_id)
        self.follower = Follower(name, store.revision(name), never_back=belief.judge.is_strict)
        self._live = live_scope(kind, scope_id)
        self._ask = ask_subject(machine_id, "sync")
        self._hearer = hearer
        self._belief = belief
        self._store = store
        self._ring_row = f"ring:{name}"
        self._settled_under = store.revision(self._ring_row)
        self._spawn = spawn
        self._asides = {subject.encode(): call for subject, call in (asides or {}).items()}
        self._client: Client | None = None
        self._subscription: Subscription | None = None
        self._syncing: asyncio.Task[None] | None = None
        self._doubts = 0
        self._parked: list[SignedRecord] = []
        self._overflowed = 0
        self._unparking: asyncio.Task[None] | None = None
        self._attaching = asyncio.Lock()
        self._log = structlog.get_logger("agent").bind(scope=self.follower.scope)

    async def attach(self, client: Client) -> None:
        """Hear what is said live on this connection from now on; until it is sure to be said there, on the one before.

        A connection that is lost meanwhile hears nothing; whoever supervises it brings another.
        """
        async with self._attaching:
            if client is self._client:
                return
            shown = self.follower.shown

            def sink(subject: bytes, _reply: bytes, body: bytes, headers: bytes) -> None:
                if client is self._client:
                    self._on_message(subject, body, headers)

            try:
                subscription = await BusClient.of(client).subscribe_raw(self._live, sink)
            except NatsError as error:
                self._log.info("cannot subscribe", error=repr(error))
                return
            with suppress(NatsError, TimeoutError):
                await client.flush(timeout=5)
            await self._let_go()
            self._client, self._subscription = client, subscription
            self.follower.subscribed(shown)

    async def detach(self) -> None:
        """Hear nothing more."""
        async with self._attaching:
            await self._let_go()

    async def _let_go(self) -> None:
        client, subscription = self._client, self._subscription
        self._client = self._subscription = None
        for task in (self._syncing, self._unparking):
            if task is not None:
                task.cancel()
        self._syncing = self._unparking = None
        self._parked.clear()
        self._overflowed = 0
        if client is None or subscription is None or client.is_closed:
            return
        try:
            await subscription.unsubscribe()
        except NatsError as error:
            self._log.info("could not unsubscribe", error=repr(error))

    def resync(self) -> None:
        """Something may have been missed: ask. An answer under way may know nothing of it yet."""
        self._doubts += 1
        self.follower.resync()
        self._catch_up()

    def restart(self) -> None:
        """What is held may be wrong: ask for everything."""
        self._doubts += 1
        self.follower.restart()
        self._catch_up()

    # -- live

    def _on_message(self, live_subject: bytes, body: bytes, headers: bytes) -> None:
        try:
            if (aside := self._asides.get(live_subject)) is not None:
                aside()
                return
            subject = state_of(live_subject.decode())
            signature = (header(headers, _SIGNATURE) or b"").decode("ascii", "replace")
            verdict = self._belief.judge.judge(self.follower.scope, subject, body, signature)
            if isinstance(verdict, Entry):
                self._hear(verdict)
            elif verdict.unknown_key:
                self._park(SignedRecord(subject=subject, payload=body.decode(errors="replace"), signature=signature))
            else:
                self._refuse(verdict, subject)
        except Exception as error:
            self._spawn(_fail(error))

    def _hear(self, entry: Entry) -> None:
        if self.follower.is_replay(entry):
            self._belief.refuse("replayed", "it was heard before", subject=entry.subject)
        elif self.follower.hear(entry):
            self._hearer.heard(entry)
        elif self.follower.behind:
            self._catch_up()

    def _refuse(self, refusal: Refusal, subject: str) -> None:
        self._belief.refuse(refusal.reason, refusal.why, subject=subject)
        if refusal.reason == "unusable":
            self.resync()

    def _park(self, said: SignedRecord) -> None:
        """Keep what is signed with an unknown key until the ring was asked for; of many, the first ones: they speak for
        the rest."""
        if len(self._parked) < _MAX_PARKED:
            self._parked.append(said)
        else:
            self._overflowed += 1
        if self._client is not None and (self._unparking is None or self._unparking.done()):
            self._unparking = self._spawn(self._unpark(self._client))

    async def _unpark(self, client: Client) -> None:
        backoff = Backoff(0.2, 10.0)
        while self._parked:
            try:
                await self._belief.ask_ring(client)
            except WireloomError as error:
                self._log.info("cannot ask for the control plane's keys yet", error=str(error))
                await backoff.wait()
                continue
            parked, self._parked = self._parked, []
            overflowed, self._overflowed = self._overflowed, 0
            refused = [(said, verdict) for said in parked if isinstance(verdict := self._judge(said), Refusal)]
            for said, verdict in refused:
                self._refuse(verdict, said.subject)
            if len(refused) < len(parked):
                self.resync()
                continue
            for _ in range(overflowed):
                self._belief.refuse("forged", "it came with others that are forged", subject=self.follower.scope)

    # -- answers

    def _judge(self, said: SignedRecord) -> Entry | Refusal:
        return self._belief.judge.judge(self.follower.scope, said.subject, said.payload.encode(), said.signature)

    def _catch_up(self) -> None:
        if self._client is not None and (self._syncing is None or self._syncing.done()):
            self._syncing = self._spawn(self._sync(self._client))

    async def _sync(self, client: Client) -> None:
        backoff = Backoff(0.05, 10.0)
        while self.follower.behind:
            request, doubts = self.follower.request(), self._doubts
            try:
                answer = await ask(client, self._ask, request.model_dump_json().encode(), ASK_TIMEOUT)
                reply = SyncReply.model_validate_json(answer)
                entries = await self._believed(client, reply)
            except UnavailableError as error:
                self._log.info("cannot sync yet", error=str(error))
            except WireloomError as error:
                self._log.warning("sync is refused", error=error.detail, hint=error.hint)
                await asyncio.sleep(_REFUSED_PAUSE)
            except ValidationError as error:
                self._log.error("cannot read what sync answers", error=str(error))
            else:
                if doubts != self._doubts:
                    continue
                if entries is not None and self._take(reply, entries):
                    backoff.reset()
                    continue
            if self.follower.behind:
                await backoff.wait()

    async def _believed(self, client: Client, reply: SyncReply) -> list[Entry] | None:
        """The records of an answer, or None: one that is refused spoils it all."""
        if reply.scope != self.follower.scope:
            self._belief.refuse("misdirected", f"the answer is about {reply.scope}", subject=self.follower.scope)
            return None
        verdicts = [self._judge(said) for said in reply.records]
        if any(isinstance(verdict, Refusal) and verdict.unknown_key for verdict in verdicts):
            await self._belief.ask_ring(client)
            verdicts = [self._judge(said) for said in reply.records]
        entries = [verdict for verdict in verdicts if isinstance(verdict, Entry)]
        for said, verdict in zip(reply.records, verdicts, strict=True):
            if isinstance(verdict, Refusal):
                self._belief.refuse(verdict.reason, verdict.why, subject=said.subject)
        return entries if len(entries) == len(verdicts) else None

    def _take(self, reply: SyncReply, entries: list[Entry]) -> bool:
        """Take in an answer whose records are believed. Returns whether to ask on at once."""
        ring = self._belief.judge.ring_version
        self.follower.may_go_back = ring > self._settled_under
        update = self.follower.answer(reply, entries)
        if update.gone:
            self._hearer.gone()
        elif update.older:
            self._belief.refuse("older", "the answer would take the scope back", subject=self.follower.scope)
        else:
            self._hearer.updated(update)
            if not self.follower.may_go_back and ring > self._settled_under:
                self._settled_under = ring
                self._store.set_revision(self._ring_row, ring)
        return update.progress


async def _fail(error: Exception) -> None:
    raise error
