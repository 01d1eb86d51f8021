"""Hears and keeps a network's BGP plan: a shell."""

from __future__ import annotations

from uuid import UUID

import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from agent.bgp.words import Words
from agent.context import Context
from agent.follow import Update
from agent.listening import Listener
from agent.trust import Entry
from events.records import BgpPlanRecord, Record
from events.subjects import scope


class PlanHearer:
    """Hears one network's scope `bgp`."""

    def __init__(self, network_id: UUID, words: Words, context: Context) -> None:
        """Takes up what the store holds; what is heard is put into `words`."""
        self._words = words
        self._context = context
        self._scope = scope("bgp", network_id)
        self._listener = Listener(
            "bgp",
            network_id,
            context.machine_id,
            hearer=self,
            belief=context.belief,
            store=context.store,
            spawn=context.spawn,
        )
        for stored in context.store.records(self._scope):
            try:
                entry = Entry(stored.subject, Record.model_validate_json(stored.body), stored.body)
            except ValidationError:
                structlog.get_logger("agent").warning("cannot read a stored record", subject=stored.subject)
                self._listener.follower.restart()
            else:
                self._listener.follower.hold(entry)
                self._take_in(entry)

    async def attach(self, client: Client) -> None:
        """Hear what is said on this connection."""
        await self._listener.attach(client)

    async def detach(self) -> None:
        """Hear nothing more."""
        await self._listener.detach()

    def resync(self) -> None:
        """Ask for what may have been missed."""
        self._listener.resync()

    def heard(self, entry: Entry) -> None:
        """See `Hearer.heard`."""
        self._keep(entry)
        self._context.wrote()

    def updated(self, update: Update) -> None:
        """See `Hearer.updated`."""
        for entry in update.records:
            self._keep(entry)
        if update.keep is not None:
            if not update.keep:
                self._plan(None)
            self._context.store.retain(self._scope, update.keep)
        self._context.store.set_revision(self._scope, update.revision)
        self._context.wrote()

    def gone(self) -> None:
        """See `Hearer.gone`. What was heard counts until something else is said."""

    def _keep(self, entry: Entry) -> None:
        self._take_in(entry)
        body = None if entry.record.body is None else entry.payload
        self._context.store.put(self._scope, entry.subject, entry.record.revision, body)

    def _take_in(self, entry: Entry) -> None:
        plan = entry.record.body
        self._plan(plan if isinstance(plan, BgpPlanRecord) else None)

    def _plan(self, plan: BgpPlanRecord | None) -> None:
        self._words.plan = plan
        self._context.routed()
