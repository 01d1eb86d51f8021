"""What the control plane says of this machine's paths, for all its networks: heard, kept, and handed on. A shell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol
from uuid import UUID

import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from agent.believing import Belief
from agent.follow import Update
from agent.listening import Listener, Spawn
from agent.store import Store
from agent.trust import Entry
from events.records import PathRecord, Record, RelayRecord
from events.subjects import scope

Word = PathRecord | RelayRecord


class Walker(Protocol):
    """A network, as far as it is told of paths."""

    def obey(self, word: Word) -> None:
        """There are these ways to a peer, or this lies behind it."""

    def disregard(self, kind: str, peer_id: UUID) -> None:
        """What a record of this kind said of a peer counts no more."""


class Guidance:
    """Hears the machine's paths scope."""

    def __init__(
        self,
        machine_id: UUID,
        *,
        belief: Belief,
        store: Store,
        spawn: Spawn,
        wrote: Callable[[], None],
        walker: Callable[[UUID], Walker | None],
    ) -> None:
        """`walker` gives a network, if the machine is in it."""
        self._scope = scope("paths", machine_id)
        self._store = store
        self._wrote = wrote
        self._walker = walker
        self._words: dict[UUID, dict[str, Word]] = {}
        self._listener = Listener("paths", machine_id, machine_id, hearer=self, belief=belief, store=store, spawn=spawn)

    def restore(self) -> None:
        """Take up what the store holds."""
        for stored in self._store.records(self._scope):
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

    def resync(self) -> None:
        """Ask for what may have been missed."""
        self._listener.resync()

    def tell(self, network_id: UUID) -> None:
        """Tell a network all that was heard for it."""
        walker = self._walker(network_id)
        if walker is not None:
            for word in self._words.get(network_id, {}).values():
                walker.obey(word)

    def heard(self, entry: Entry) -> None:
        """See `Hearer.heard`."""
        self._keep(entry)
        self._wrote()

    def updated(self, update: Update) -> None:
        """See `Hearer.updated`."""
        for entry in update.records:
            self._keep(entry)
        if update.keep is not None:
            held = [subject for words in self._words.values() for subject in words]
            self._forget(subject for subject in held if subject not in update.keep)
            self._store.retain(self._scope, update.keep)
        self._store.set_revision(self._scope, update.revision)
        self._wrote()

    def gone(self) -> None:
        """See `Hearer.gone`. What was heard counts until something else is said."""

    def _keep(self, entry: Entry) -> None:
        self._take_in(entry)
        body = None if entry.record.body is None else entry.payload
        self._store.put(self._scope, entry.subject, entry.record.revision, body)

    def _take_in(self, entry: Entry) -> None:
        word = entry.record.body
        if not isinstance(word, PathRecord | RelayRecord):
            self._forget((entry.subject,))
            return
        self._words.setdefault(word.network_id, {})[entry.subject] = word
        walker = self._walker(word.network_id)
        if walker is not None:
            walker.obey(word)

    def _forget(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            _, _, _, kind, network, peer = subject.split(".")
            network_id = UUID(network)
            words = self._words.get(network_id, {})
            if words.pop(subject, None) is not None and not words:
                del self._words[network_id]
            walker = self._walker(network_id)
            if walker is not None:
                walker.disregard(kind, UUID(peer))
