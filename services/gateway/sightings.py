"""Where a machine may be reached in a network, and who says that he reaches it there. Pure."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from ipaddress import IPv4Network, IPv6Network
from typing import Literal
from uuid import UUID

from events.fields import split_endpoint
from services.gateway.mirror import Mirror
from services.gateway.reach import Reach

EndpointKind = Literal["private", "shared", "link-local", "public", "mapped", "unknown"]

_PRIVATE = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv6Network("fc00::/7"),
)
_SHARED = IPv4Network("100.64.0.0/10")


@dataclass(frozen=True, slots=True)
class Sighting:
    """A peer that reports that it reaches the machine somewhere."""

    peer_id: UUID
    rtt: int | None
    since: datetime


@dataclass(frozen=True, slots=True)
class Failure:
    """A peer that does not reach the machine, and what came of its trying here."""

    peer_id: UUID
    result: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint: one that the machine announces, or one at which peers found it all the same."""

    endpoint: str
    kind: EndpointKind
    announced: bool
    seen_by: tuple[Sighting, ...]
    """The shortest round trip first."""
    failed_for: tuple[Failure, ...]
    """The newest first."""


def candidates_of(mirror: Mirror, reach: Reach, network_id: UUID, machine_id: UUID) -> list[Candidate]:
    """The endpoints of a machine in a network: those that it announces, in its order, then the others. Raises
    `NotFoundError`."""
    network, _ = mirror.network(network_id)
    peer = network.peers.get(machine_id)
    announced = peer.endpoints if peer is not None else ()
    port = peer.listen_port if peer is not None else 0
    seen: defaultdict[str, list[Sighting]] = defaultdict(list)
    failed: defaultdict[str, list[Failure]] = defaultdict(list)
    for member in network.members:
        link = reach.link(network_id, member, machine_id)
        if link is None:
            continue
        event = link.newest.event
        if event.link.state == "direct":
            if event.link.endpoint:
                seen[event.link.endpoint].append(Sighting(member, event.link.rtt, link.since))
        else:
            for endpoint, result in event.link.tried:
                failed[endpoint].append(Failure(member, result, event.time))
    others = sorted(seen.keys() - set(announced))
    return [
        Candidate(
            endpoint,
            endpoint_kind(endpoint, port),
            endpoint in announced,
            tuple(sorted(seen[endpoint], key=_nearest)),
            tuple(sorted(failed[endpoint], key=lambda failure: failure.time, reverse=True)),
        )
        for endpoint in itertools.chain(dict.fromkeys(announced), others)
    ]


def endpoint_kind(endpoint: str, listen_port: int) -> EndpointKind:
    """What an endpoint tells by itself. `mapped`: public, and not with the port that the machine listens on, so that
    something in front of it maps one to the other."""
    try:
        host, port = split_endpoint(endpoint)
    except ValueError:
        return "unknown"
    if host.is_link_local:
        return "link-local"
    if any(host.version == network.version and host in network for network in _PRIVATE):
        return "private"
    if host.version == 4 and host in _SHARED:
        return "shared"
    return "public" if listen_port in (0, port) else "mapped"


def _nearest(sighting: Sighting) -> tuple[float, UUID]:
    return (float("inf") if sighting.rtt is None else sighting.rtt, sighting.peer_id)
