"""What the control plane says of this machine itself, and which networks it is in: heard and kept. A shell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from agent.believing import Belief
from agent.follow import Update
from agent.listening import Listener, Spawn
from agent.store import Store
from agent.trust import Entry, why_unusable
from events.records import MachineRecord, MembershipRecord, Record, RoutingRecord
from events.subjects import look, machine_membership, machine_routing, scope


@dataclass(frozen=True, slots=True)
class Wishes:
    """Whom to tell of what is heard."""

    wrote: Callable[[], None]
    """The store wants a flush."""
    changed: Callable[[], None]
    """The machine is in other networks, or its own record is another."""
    routed: Callable[[], None]
    """The machine is to do something else about routes and virtual IPs."""
    joined: Callable[[UUID], None]
    """The machine is in this network, which may be news."""
    doubted: Callable[[], None]
    """The control plane may not know the machine."""
    looked: Callable[[], None]
    """Somebody looks at the machine's tunnels."""


class Memberships:
    """Hears the machine's own scope."""

    def __init__(self, machine_id: UUID, *, belief: Belief, store: Store, spawn: Spawn, wishes: Wishes) -> None:
        self.records: dict[UUID, MembershipRecord] = {}
        """By network."""
        self.machine: MachineRecord | None = None
        """The machine's own record."""
        self.routing: RoutingRecord | None = None
        """What the machine is to do about routes and virtual IPs; None for nothing."""
        self._machine_id = machine_id
        self._scope = scope("machine", machine_id)
        self._routing_subject = machine_routing(machine_id)
        self._belief = belief
        self._store = store
        self._wishes = wishes
        self._listener = Listener(
            "machine",
            machine_id,
            machine_id,
            hearer=self,
            belief=belief,
            store=store,
            spawn=spawn,
            asides={look(machine_id): wishes.looked},
        )
        self._log = structlog.get_logger("agent").bind(machine=str(machine_id))

    def restore(self) -> None:
        """Take up what the store holds."""
        for stored in self._store.records(self._scope):
            try:
                self._take_in(stored.subject, Record.model_validate_json(stored.body))
            except ValidationError:
                self._log.warning("cannot read a stored record; it is fetched again", subject=stored.subject)
                self._listener.follower.restart()

    async def attach(self, client: Client) -> None:
        """Hear what is said on this connection."""
        await self._listener.attach(client)

    def resync(self) -> None:
        """Ask for what may have been missed."""
        self._listener.resync()

    def restart(self) -> None:
        """Ask for everything: something shows that what is held may be wrong."""
        self._listener.restart()

    def end(self, what: str) -> None:
        """The machine was deleted or revoked."""
        self._log.warning(
            f"this machine was {what}; leaving all its networks",
            hint="To join again as a new machine, run `wireloom-agent leave` and join.",
        )
        for network_id in list(self.records):
            self.end_network(network_id)

    def end_network(self, network_id: UUID) -> None:
        """A network was deleted, or the machine is in it no more."""
        self.records.pop(network_id, None)
        subject = machine_membership(self._machine_id, network_id)
        self._store.put(self._scope, subject, self._store.revision(self._scope), None)
        self._wishes.wrote()
        self._wishes.changed()

    # -- what the scope says

    def heard(self, entry: Entry) -> None:
        """See `Hearer.heard`."""
        self._take_in(entry.subject, entry.record)
        body = None if entry.record.body is None else entry.payload
        self._store.put(self._scope, entry.subject, entry.record.revision, body)
        self._wishes.wrote()

    def updated(self, update: Update) -> None:
        """See `Hearer.updated`."""
        for entry in update.records:
            self._take_in(entry.subject, entry.record)
            body = None if entry.record.body is None else entry.payload
            self._store.put(self._scope, entry.subject, entry.record.revision, body)
        if update.keep is not None:
            kept = {_network_of(subject) for subject in update.keep}
            self.records = {n: record for n, record in self.records.items() if n in kept}
            if self._routing_subject not in update.keep:
                self._route(None)
            self._store.retain(self._scope, update.keep)
            self._wishes.changed()
        self._store.set_revision(self._scope, update.revision)
        self._wishes.wrote()

    def gone(self) -> None:
        """See `Hearer.gone`. Nothing is torn down for it: the machine is made known again, and if it was deleted,
        that is refused."""
        self._wishes.doubted()

    def _take_in(self, subject: str, record: Record) -> None:
        match record.body:
            case MachineRecord() as machine:
                self.machine = machine
            case MembershipRecord() as membership:
                self._take_membership(membership)
            case RoutingRecord() as routing:
                self._route(routing)
            case None if subject == self._routing_subject:
                self._route(None)
            case None:
                network_id = _network_of(subject)
                if network_id is None:
                    self.end("deleted")
                else:
                    self.records.pop(network_id, None)
        self._wishes.changed()

    def _route(self, routing: RoutingRecord | None) -> None:
        self.routing = routing
        self._wishes.routed()

    def _take_membership(self, membership: MembershipRecord) -> None:
        if why := why_unusable(membership):
            self._belief.refuse("unusable", why, network=str(membership.network_id))
            self.records.pop(membership.network_id, None)
        else:
            self.records[membership.network_id] = membership
            self._wishes.joined(membership.network_id)


def _network_of(subject: str) -> UUID | None:
    """The network of a membership's subject; None for the machine's own record."""
    kind, _, network_id = subject.split(".", 3)[3].partition(".")
    return UUID(network_id) if kind == "network" else None
