"""Aggregates as people know them, also those that are gone. A shell."""

from __future__ import annotations

from uuid import UUID

from nats.aio.client import Client

from events import log
from events.direct import next_at
from events.domain import ACCESS_ID, REGISTRY_ID, ROUTING_ID, MachineRegistered
from events.errors import WireloomError
from events.subjects import LOG_STREAM, log_subject
from services.gateway.naming import NameOf

_LISTS = {REGISTRY_ID: "the registry of networks", ACCESS_ID: "the access list", ROUTING_ID: "the routing list"}


class AggregateNames:
    """Finds them, each once."""

    def __init__(self, client: Client, name_of: NameOf) -> None:
        self._client = client
        self._name_of = name_of
        self._known: dict[UUID, str] = {}

    async def of(self, aggregate: UUID | None) -> str:
        """What an aggregate is: `machine db-1`, `network office`, `the registry of networks`; empty for None."""
        if aggregate is None:
            return ""
        if aggregate not in self._known:
            self._known[aggregate] = _LISTS.get(aggregate) or await self._looked_up(aggregate)
        return self._known[aggregate]

    async def _looked_up(self, aggregate: UUID) -> str:
        """By its first event, for the kind tells what it is; damaged events tell nothing."""
        kind, name = "", self._name_of(aggregate)
        try:
            entry = await next_at(self._client, LOG_STREAM, log_subject(aggregate), 1)
            event = log.read_entry(entry).event if entry else None
        except WireloomError:
            event = None
        if event is not None:
            kind = event.kind.partition(".")[0]
            if isinstance(event, MachineRegistered):
                name = name or event.hostname
        return f"{kind} {name or aggregate}".strip()
