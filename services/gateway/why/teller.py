"""The steps that all chains have: records, events with the command and who gave it, machines' places. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from events.domain import (
    REGISTRY_ID,
    DomainEvent,
    MachineDeleted,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
)
from events.errors import NotFoundError
from events.log import LoggedEvent
from events.records import MembershipRecord, NetworkRecord, Record
from events.subjects import (
    LOG_STREAM,
    REACH_STREAM,
    STATE_STREAM,
    machine_info,
    machine_membership,
    network_info,
)
from services.gateway.history import names_in
from services.gateway.path_words import reported
from services.gateway.reach import Link, Reported
from services.gateway.seen import Seen
from services.gateway.why.known import Known, LastOf
from services.gateway.why.steps import Step, thing
from services.gateway.words import in_words, machines_of, networks_of

_TRIED = 4


class Teller:
    """Tells of what is seen, with the events that are known."""

    def __init__(self, seen: Seen, known: Known) -> None:
        self.seen = seen
        self.mirror = seen.mirror
        self.known = known
        self.until = seen.mirror.position
        """The log's position at that moment."""
        self._told: list[LoggedEvent] = []

    # Names

    def machine(self, machine_id: UUID) -> str:
        """A machine's name."""
        return self._name_of(machine_id) or f"machine {machine_id}"

    def network(self, network_id: UUID) -> str:
        """A network's name."""
        return self._name_of(network_id) or f"network {network_id}"

    def _name_of(self, item: UUID) -> str | None:
        return names_in(self._told, self.mirror.name_of)(item)

    # Events, commands, actors

    def event(self, logged: LoggedEvent, *before: Step) -> Step:
        """An event, from the command that caused it."""
        self._told.append(logged)
        event = logged.event
        return Step(
            "event",
            in_words(event, self._name_of),
            (self._command(event), *before),
            time=event.time,
            stream=LOG_STREAM,
            position=logged.sequence,
            uuids=(*networks_of(event), *_few(machines_of(event))),
        )

    def _command(self, event: DomainEvent) -> Step:
        return Step("command", f"command {event.command_id}", (self.actor(event.actor),), uuids=(event.command_id,))

    def actor(self, actor: str) -> Step:
        """Who gave a command, as the log names him."""
        kind, _, rest = actor.partition(":")
        if kind == "account":
            account, _, token = rest.partition("/")
            uuids = self._access(account, token)
            return Step("actor", f"account {account}, with the token {token}", uuids=uuids)
        if kind == "machine":
            try:
                machine_id = UUID(rest)
            except ValueError:
                return Step("actor", actor)
            return Step("actor", f"the agent of {self.machine(machine_id)}", uuids=(machine_id,))
        if kind == "console":
            return Step("actor", f"{rest}, on the control plane's own machine")
        return Step("actor", actor)

    def _access(self, account: str, token: str) -> tuple[UUID, ...]:
        """The ids of an account and of its token, as far as they are there still."""
        access = self.mirror.access
        accounts = [each.account_id for each in access.accounts() if each.name == account]
        tokens = [
            each.token_id
            for each in access.api_tokens(self.seen.now())
            if each.name == token and each.account_id in accounts
        ]
        return (*accounts, *(tokens if len(tokens) == 1 else ()))

    def at(self, position: int) -> tuple[Step, ...]:
        """The event at a position of the log."""
        logged = self.known.at(position)
        return (self.event(logged),) if logged is not None else ()

    def last(self, need: LastOf) -> tuple[Step, ...]:
        """The last event of its kind; where it lies too far back, that."""
        found = self.known.last(need)
        if found.event is not None:
            return (self.event(found.event),)
        return () if found.is_whole else (self.too_far(),)

    def too_far(self) -> Step:
        """That no more of the log was looked through."""
        return thing("an event too far back in the log: see `wireloom log --machine` or --network")

    # Records

    def record(self, subject: str, text: str, record: Record, *follows_from: Step) -> Step:
        """A record as it stands in STATE."""
        return Step(
            "record",
            text,
            follows_from,
            time=record.time,
            subject=subject,
            revision=record.revision,
            stream=STATE_STREAM,
            position=record.cause,
        )

    def derived(self, subject: str, text: str) -> tuple[Step, ...]:
        """The record under a subject, from the event that is its cause."""
        record = self.mirror.record(subject)
        return (self.record(subject, text, record, *self.at(record.cause)),) if record is not None else ()

    # Machines in networks

    def membership(self, network_id: UUID, machine_id: UUID) -> Step:
        """That a machine is in a network, from its assignment; or why it is not."""
        subject = machine_membership(machine_id, network_id)
        record = self.mirror.record(subject)
        body = record.body if record is not None else None
        if record is None or not isinstance(body, MembershipRecord):
            return self.absence(network_id, machine_id)
        text = f"{self.machine(machine_id)} is in {self.network(network_id)} as {body.address}"
        return self.record(subject, text, record, *self.assignment(network_id, machine_id))

    def assigned(self, network_id: UUID, machine_id: UUID) -> LoggedEvent | None:
        """The event that assigned a machine that is in a network."""
        record = self.mirror.record(machine_membership(machine_id, network_id))
        if record is None or not isinstance(record.body, MembershipRecord):
            return None
        cause = self.known.at(record.cause)
        if cause is None or isinstance(cause.event, MachinesAssigned):
            return cause
        kinds = (MachinesAssigned.kind,)
        return self.known.timed(network_id, record.body.assigned_at, kinds, machine_id).event

    def assignment(self, network_id: UUID, machine_id: UUID) -> tuple[Step, ...]:
        """That event as a step."""
        logged = self.assigned(network_id, machine_id)
        return (self.event(logged),) if logged is not None else ()

    def absence(self, network_id: UUID, machine_id: UUID) -> Step:
        """Why a machine is not in a network: it or the network was deleted, it was taken out, or never was in it."""
        if gone := self.gone(network_id):
            return gone
        if gone := self.machine_gone(machine_id):
            return gone
        subject = machine_membership(machine_id, network_id)
        record = self.mirror.record(subject)
        name, place = self.machine(machine_id), self.network(network_id)
        if record is None:
            return thing(f"{name} has never been in {place}", uuids=(machine_id, network_id))
        return self.record(subject, f"{name} is in {place} no more", record, *self.at(record.cause))

    def gone(self, network_id: UUID) -> Step | None:
        """Why there is no such network; None where there is. Raises `NotFoundError` where there never was."""
        known = self.mirror.networks.get(network_id)
        if known is not None and known.record is not None:
            return None
        subject = network_info(network_id)
        record = self.mirror.record(subject)
        if record is None:
            raise NotFoundError(f"There is no mesh network {network_id}.", hint="List the mesh networks there are.")
        logged = self.known.at(record.cause)
        is_deletion = logged is not None and isinstance(logged.event, NetworkDeleted)
        if logged is not None and is_deletion:
            self._told.append(logged)
        return self.record(subject, f"{self.network(network_id)} was deleted", record, *self.at(record.cause))

    def machine_gone(self, machine_id: UUID) -> Step | None:
        """Why there is no such machine; as `gone`."""
        if self.mirror.has_machine(machine_id):
            return None
        subject = machine_info(machine_id)
        record = self.mirror.record(subject)
        if record is None:
            raise NotFoundError(f"There is no machine {machine_id}.", hint="List the machines there are.")
        logged = self.known.at(record.cause)
        if logged is not None and isinstance(logged.event, MachineDeleted):
            self._told.append(logged)
        return self.record(subject, f"{self.machine(machine_id)} was deleted", record, *self.at(record.cause))

    def announcement(self, network_id: UUID, machine_id: UUID, until: int) -> tuple[Step, ...]:
        """The event with which a machine announced its key and endpoints, the last up to a position."""
        cause = self.known.at(until)
        if cause is None or isinstance(cause.event, MembershipRegistered):
            return (self.event(cause),) if cause is not None else ()
        assigned = self.assigned(network_id, machine_id)
        first = assigned.sequence if assigned is not None else 1
        found = self.known.last(LastOf(network_id, until, (MembershipRegistered.kind,), str(machine_id), first))
        if found.event is not None and (found.is_whole or self._is_announced(found.event.event)):
            return (self.event(found.event),)
        return () if found.is_whole else (self.too_far(),)

    def _is_announced(self, event: DomainEvent) -> bool:
        """Whether a machine's record says what it announced with this event."""
        if not isinstance(event, MembershipRegistered):
            return False
        peer = self.mirror.networks[event.network_id].peers.get(event.machine_id)
        said = (event.public_key, event.listen_port, event.endpoints)
        return peer is not None and said == (peer.public_key, peer.listen_port, peer.endpoints)

    def creation(self, network_id: UUID, record: NetworkRecord) -> tuple[Step, ...]:
        """The event that created a network."""
        found = self.known.timed(REGISTRY_ID, record.created_at, (NetworkCreated.kind,), network_id)
        return (self.event(found.event),) if found.event is not None else ()

    def left(self, network_id: UUID, until: int, mention: str) -> LoggedEvent | None:
        """The last event up to a position that took somebody or an address out of a network."""
        return self.known.last(LastOf(network_id, until, (MachinesUnassigned.kind,), mention)).event

    # Reports

    def link(self, link: Link, *follows_from: Step) -> Step:
        """What a machine reported of its link, and what it had said before."""
        before = (self.report(link.before),) if link.before is not None else ()
        return self.report(link.newest, *before, *follows_from, since=link)

    def report(self, said: Reported, *follows_from: Step, since: Link | None = None) -> Step:
        """A report of a link."""
        link = said.event.link
        text = reported(said, self.machine)
        if link.tried:
            tried = [f"{endpoint} ({result})" for endpoint, result in link.tried[:_TRIED]]
            more = f" and {len(link.tried) - _TRIED} more" if len(link.tried) > _TRIED else ""
            text = f"{text.rpartition(':')[0]}: it tried {', '.join(tried)}{more}"
        if since is not None and since.since < said.event.time:
            text += f", as since {since.since:%Y-%m-%d %H:%M:%S} UTC"
        return Step(
            "report",
            text,
            follows_from,
            time=said.event.time,
            stream=REACH_STREAM,
            position=said.sequence,
            uuids=(said.event.machine_id, link.peer_id),
        )


def _few(uuids: Iterable[UUID]) -> tuple[UUID, ...]:
    """Not all that ten thousand machines were assigned with."""
    return tuple(uuids)[:_TRIED]
