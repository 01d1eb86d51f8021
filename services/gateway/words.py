"""What happened, in words: each event as a sentence without its subject ("cli:alice …"). Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from events.domain import (
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    Assignment,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    DefaultNetworkSet,
    DomainEvent,
    KeyRotationRequested,
    MachineAgentUpdated,
    MachineDeleted,
    MachineEnrolled,
    MachineRegistered,
    MachineRenamed,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    RouteReflectorModeSet,
)
from services.gateway.naming import NameOf, count, listed
from services.gateway.naming import machine_name as _machine
from services.gateway.naming import network_name as _network
from services.gateway.routing_words import WORDS

_LONGEST = 2000
_BESIDE = {"originator_id", "originator_version", "previous_hash", "time", "actor", "command_id", "secret_hash"}
_LINE_ENDS = "\u2028\u2029"


def in_words(event: DomainEvent, name_of: NameOf) -> str:
    """The event for people, in one line, with names where `name_of` knows them. Of tokens and keys it names only the
    ids and owners."""
    text = _WORDS[type(event)](event, name_of)
    clean = "".join("�" if unicodedata.category(c)[0] == "C" or c in _LINE_ENDS else c for c in text)
    return clean if len(clean) <= _LONGEST else clean[:_LONGEST] + "…"


def networks_of(event: DomainEvent) -> tuple[UUID, ...]:
    """Every network that the event is about."""
    one = (getattr(event, "network_id", None), getattr(event, "previous_network_id", None))
    named = (*one, *getattr(event, "network_ids", ()))
    return tuple(dict.fromkeys(item for item in named if item is not None))


def machines_of(event: DomainEvent) -> tuple[UUID, ...]:
    """Every machine that the event is about."""
    if isinstance(event, MachinesAssigned | MachinesUnassigned):
        return tuple(assignment.machine_id for assignment in event.assignments)
    named = (getattr(event, "machine_id", None), *getattr(event, "machine_ids", ()))
    return tuple(item for item in named if item is not None)


def fields_of(event: DomainEvent) -> dict[str, Any]:
    """The fields of this kind of event as JSON, without those that all events have, and without hashes of secrets."""
    return event.model_dump(mode="json", exclude=_BESIDE)


def _created(event: NetworkCreated, name_of: NameOf) -> str:
    traits = ["the default"] if event.is_default else []
    traits += ["in route reflector mode"] if event.route_reflector_mode else []
    return f"created network {event.name} with {event.network_cidr}" + "".join(f", {trait}" for trait in traits)


def _renamed(event: NetworkRenamed, name_of: NameOf) -> str:
    return f"renamed network {event.previous_name} to {event.name}"


def _default_set(event: DefaultNetworkSet, name_of: NameOf) -> str:
    before = f" instead of {_network(event.previous_network_id, name_of)}" if event.previous_network_id else ""
    if event.network_id is None:
        return f"made no network the default{before}"
    return f"made {_network(event.network_id, name_of)} the default network{before}"


def _route_reflector_mode(event: RouteReflectorModeSet, name_of: NameOf) -> str:
    return f"turned route reflector mode {'on' if event.enabled else 'off'} in {_network(event.network_id, name_of)}"


def _deleted(event: NetworkDeleted, name_of: NameOf) -> str:
    with_machines = f" with its {_count(event.machine_count)}" if event.machine_count else ""
    return f"deleted network {event.name}{with_machines}"


def _assigned(event: MachinesAssigned, name_of: NameOf) -> str:
    network = _network(event.network_id, name_of)
    return _each(event.assignments, "assigned", f"to {network}", " as", name_of)


def _unassigned(event: MachinesUnassigned, name_of: NameOf) -> str:
    network = _network(event.network_id, name_of)
    return _each(event.assignments, "unassigned", f"from {network}", ", which frees", name_of)


def _each(assignments: Sequence[Assignment], verb: str, where: str, joint: str, name_of: NameOf) -> str:
    if len(assignments) == 1:
        only = assignments[0]
        return f"{verb} {_machine(only.machine_id, name_of)} {where}{joint} {only.address}"
    shown = [f"{_machine(a.machine_id, name_of)} ({a.address})" for a in assignments]
    return f"{verb} {_count(len(assignments))} {where}: {listed(shown, ', ')}"


def _count(machines: int) -> str:
    return count(machines, "machine")


def _membership(event: MembershipRegistered, name_of: NameOf) -> str:
    machine, network = _machine(event.machine_id, name_of), _network(event.network_id, name_of)
    reached = ", ".join(event.endpoints) if event.endpoints else f"port {event.listen_port}, no endpoints"
    return f"announced the key and endpoints of {machine} in {network} ({reached})"


def _registered(event: MachineRegistered, name_of: NameOf) -> str:
    agent = f" with agent {event.agent_version}" if event.agent_version else ""
    return f"registered machine {event.hostname}{agent}"


def _machine_renamed(event: MachineRenamed, name_of: NameOf) -> str:
    return f"renamed machine {event.previous_hostname} to {event.hostname}"


def _agent_updated(event: MachineAgentUpdated, name_of: NameOf) -> str:
    return f"noted agent {event.agent_version or 'of no version'} on {_machine(event.machine_id, name_of)}"


def _transit_set(event: MachineTransitSet, name_of: NameOf) -> str:
    machine = _machine(event.machine_id, name_of)
    match event.transit:
        case "always":
            return f"made {machine} a preferred transit machine"
        case "never":
            return f"had no traffic of others go through {machine}"
        case _:
            return f"let traffic of others go through {machine} where it is needed"


def _machine_deleted(event: MachineDeleted, name_of: NameOf) -> str:
    return f"deleted machine {event.hostname}"


def _key_rotation(event: KeyRotationRequested, name_of: NameOf) -> str:
    return f"had {_machine(event.machine_id, name_of)} make a new key in {_network(event.network_id, name_of)}"


def _bootstrap_created(event: BootstrapTokenCreated, name_of: NameOf) -> str:
    uses = "any number of machines" if event.uses is None else _count(event.uses)
    where = f" to join {_network(event.network_id, name_of)}" if event.network_id else ""
    return f"created bootstrap token {event.token_id} for {uses}{where}, until {event.expires_at:%Y-%m-%d %H:%M} UTC"


def _bootstrap_revoked(event: BootstrapTokenRevoked, name_of: NameOf) -> str:
    return f"revoked bootstrap token {event.token_id}"


def _enrolled(event: MachineEnrolled, name_of: NameOf) -> str:
    return f"enrolled {_machine(event.machine_id, name_of)} with bootstrap token {event.token_id}"


def _machine_revoked(event: MachineRevoked, name_of: NameOf) -> str:
    return f"revoked {_machine(event.machine_id, name_of)} for good"


def _account_created(event: AccountCreated, name_of: NameOf) -> str:
    return f"created account {event.name} with the role {event.role}"


def _account_role_set(event: AccountRoleSet, name_of: NameOf) -> str:
    return f"gave {_account(event.account_id, name_of)} the role {event.role} instead of {event.previous_role}"


def _account_deleted(event: AccountDeleted, name_of: NameOf) -> str:
    return f"deleted account {event.name} with its tokens"


def _token_issued(event: ApiTokenIssued, name_of: NameOf) -> str:
    account = _account(event.account_id, name_of)
    if event.use == "session":
        return f"signed {account} in with the role {event.role}"
    until = f" until {event.expires_at:%Y-%m-%d %H:%M} UTC" if event.expires_at else ""
    return f"issued API token {event.name} for {account} with the role {event.role}{until}"


def _token_revoked(event: ApiTokenRevoked, name_of: NameOf) -> str:
    token = name_of(event.token_id) or str(event.token_id)
    return f"revoked API token {token} of {_account(event.account_id, name_of)}"


def _account(item: UUID, name_of: NameOf) -> str:
    name = name_of(item)
    return f"account {item if name is None else name}"


_WORDS: dict[type[DomainEvent], Callable[[Any, NameOf], str]] = {
    NetworkCreated: _created,
    NetworkRenamed: _renamed,
    DefaultNetworkSet: _default_set,
    RouteReflectorModeSet: _route_reflector_mode,
    NetworkDeleted: _deleted,
    MachinesAssigned: _assigned,
    MachinesUnassigned: _unassigned,
    MembershipRegistered: _membership,
    MachineRegistered: _registered,
    MachineRenamed: _machine_renamed,
    MachineAgentUpdated: _agent_updated,
    MachineTransitSet: _transit_set,
    MachineDeleted: _machine_deleted,
    KeyRotationRequested: _key_rotation,
    BootstrapTokenCreated: _bootstrap_created,
    BootstrapTokenRevoked: _bootstrap_revoked,
    MachineEnrolled: _enrolled,
    MachineRevoked: _machine_revoked,
    AccountCreated: _account_created,
    AccountRoleSet: _account_role_set,
    AccountDeleted: _account_deleted,
    ApiTokenIssued: _token_issued,
    ApiTokenRevoked: _token_revoked,
    **WORDS,
}
