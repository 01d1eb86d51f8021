"""What follows a change later, by what agents and people do, so that no derivation shows it yet: in words. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from events.domain import (
    ApiTokenIssued,
    BootstrapTokenCreated,
    DomainEvent,
    KeyRotationRequested,
    MachineRevoked,
    MachinesAssigned,
    RouteReflectorModeSet,
)
from services.gateway.naming import count, listed, machine_name, network_name
from services.gateway.seen import Seen

IsOnline = Callable[[UUID], bool]


def aftermath(events: Iterable[DomainEvent], then: Seen, is_online: IsOnline) -> tuple[str, ...]:
    """What is still to come after the events, for people: one sentence each. `then` is the mesh right after them."""
    found: list[str] = []
    joining: dict[UUID, list[UUID]] = {}
    for event in events:
        if isinstance(event, MachinesAssigned):
            joining.setdefault(event.network_id, []).extend(each.machine_id for each in event.assignments)
        elif tell := _LATER.get(type(event)):
            found.append(tell(event, then, is_online))
    for network_id, machines in joining.items():
        found += _joining(network_id, machines, then, is_online)
    return tuple(dict.fromkeys(found))


def _joining(network_id: UUID, assigned: Sequence[UUID], then: Seen, is_online: IsOnline) -> Iterator[str]:
    """A machine has a key, hence peers, paths and sessions, only once its agent has made one."""
    network = then.mirror.networks.get(network_id)
    machines = [] if network is None else [each for each in assigned if each in network.members]
    if network is None or network.record is None or not machines:
        return
    who, where, one = _named(machines, then), network.record.name, len(machines) == 1
    becomes, have = ("becomes a peer", "its agent has") if one else ("become peers", "their agents have")
    others = sorted(network.peers.keys() - set(machines), key=lambda peer: network.peers[peer].hostname)
    if others or not one:
        whose = _named(others, then) if others else "each other"
        yield f"{who} {becomes} of {whose} in {where} once {have} announced a key; {_sessions(network_id, then)}."
    else:
        yield f"{who} has no peers in {where} until it and another machine there have announced a key."
    if away := [machine_id for machine_id in machines if not is_online(machine_id)]:
        yield f"{_named(away, then)} {'is' if len(away) == 1 else 'are'} offline now, and will do so when back."


def _sessions(network_id: UUID, then: Seen) -> str:
    plan = then.tracks.plan(network_id)
    if plan.stage == "mesh":
        return "then each two of them have a path and a BGP session"
    reflectors = _named(sorted(plan.reflectors), then)
    return f"then each two of them have a path, and they have BGP sessions with the reflectors {reflectors}"


def _rotating(event: KeyRotationRequested, then: Seen, is_online: IsOnline) -> str:
    network = then.mirror.networks.get(event.network_id)
    peers = [peer for peer in network.peers if peer != event.machine_id] if network is not None else []
    machine = machine_name(event.machine_id, then.mirror.name_of)
    when = "" if is_online(event.machine_id) else ", when it is back online"
    where = network_name(event.network_id, then.mirror.name_of)
    taken = (
        f" Then its {'peer' if len(peers) == 1 else count(len(peers), 'peer')} there can take it in." if peers else ""
    )
    return f"{machine} makes itself a new key in {where}{when}.{taken}"


def _revoked(event: MachineRevoked, then: Seen, is_online: IsOnline) -> str:
    machine = machine_name(event.machine_id, then.mirror.name_of)
    return f"The message bus drops {machine}'s connection, and it is never let in again as the same machine."


def _switching(event: RouteReflectorModeSet, then: Seen, is_online: IsOnline) -> str:
    network, to = network_name(event.network_id, then.mirror.name_of), "reflectors" if event.enabled else "full mesh"
    return f"{network} goes over to {to} step by step, as its machines' BGP speakers report that they are ready."


def _secret(event: DomainEvent, then: Seen, is_online: IsOnline) -> str:
    return "The token itself is shown only when it is really made, and will be another."


_LATER: dict[type[DomainEvent], Callable[[Any, Seen, IsOnline], str]] = {
    KeyRotationRequested: _rotating,
    MachineRevoked: _revoked,
    RouteReflectorModeSet: _switching,
    BootstrapTokenCreated: _secret,
    ApiTokenIssued: _secret,
}


def _named(machine_ids: Sequence[UUID], then: Seen) -> str:
    return listed([machine_name(machine_id, then.mirror.name_of) for machine_id in machine_ids])
