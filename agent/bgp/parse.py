"""What BIRD's commands print, as values. Pure.

Written for BIRD 2.0.12 to 2.17, with `timeformat … iso long ms` and UTC. Lines are told by what they say, not by their
place, and those that say nothing to us are passed over: versions differ in what else they print.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from typing import Literal
from uuid import UUID

from agent.bgp.names import read_session_name
from events.records import RibRoute, SessionState

_STATES: dict[str, Literal["idle", "connect", "active", "opensent", "openconfirm", "established"]] = {
    "connect": "connect",
    "active": "active",
    "passive": "active",
    "opensent": "opensent",
    "openconfirm": "openconfirm",
    "established": "established",
}
_TIME = r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?)"
_PROTOCOL = re.compile(rf"(\S+)\s+(\S+)\s+(\S+)\s+(\S+)\s+{_TIME}\s*(.*)")
_ROUTES = re.compile(r"\s*Routes:\s+(\d+) imported,.*?(\d+) exported")
_CHANGES = re.compile(r"\s*(?:Import|Export) (?:updates|withdraws):")
_ROUTE = re.compile(rf"(\d+\.\d+\.\d+\.\d+/\d+)?\s+\S.*?\[(\S+) {_TIME}[^\]]*\](.*)")
_ATTRIBUTE = re.compile(r"\s+(?:BGP\.|bgp_)(\w+):\s*(.*)")
_PAIR = re.compile(r"\((\d+),\s*(\d+)\)")
_STARTED = re.compile(rf"Last reboot on {_TIME}")
_MOST = 50
"""So many AS numbers and communities of a route are told."""


@dataclass(slots=True)
class Protocol:
    """A protocol, as `show protocols all` tells of it."""

    name: str
    is_up: bool
    since: datetime
    state: str = ""
    """Of a BGP session: `Established` and the like."""
    neighbour: IPv4Address | None = None
    error: str = ""
    imported: int = 0
    exported: int = 0
    changes: list[str] = field(default_factory=list)
    """The lines that count changes of routes."""


def read_time(text: str) -> datetime:
    """A time as BIRD writes it where its time zone is UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def read_started(lines: Iterable[str]) -> datetime | None:
    """When BIRD was started, from `show status`."""
    for line in lines:
        if found := _STARTED.search(line):
            return read_time(found[1])
    return None


def read_protocols(lines: Iterable[str]) -> list[Protocol]:
    """From `show protocols all`."""
    protocols: list[Protocol] = []
    for line in lines:
        if found := _PROTOCOL.fullmatch(line):
            name, _, _, state, since, info = found.groups()
            words = info.split()
            protocols.append(Protocol(name, state == "up", read_time(since), words[0] if words else ""))
        elif protocols:
            _read_detail(line, protocols[-1])
    return protocols


def _read_detail(line: str, protocol: Protocol) -> None:
    if found := _ROUTES.match(line):
        protocol.imported, protocol.exported = int(found[1]), int(found[2])
    elif _CHANGES.match(line):
        protocol.changes.append(line)
    name, _, value = (part.strip() for part in line.partition(":"))
    if name == "BGP state":
        protocol.state = value
    elif name == "Neighbor address":
        protocol.neighbour = _address(value)
    elif name == "Last error":
        protocol.error = value


def _address(text: str) -> IPv4Address | None:
    try:
        return IPv4Address(text.partition("%")[0])
    except ValueError:
        return None


def sessions(
    protocols: Iterable[Protocol], label: str, by_address: Mapping[IPv4Address, UUID]
) -> tuple[SessionState, ...]:
    """A network's sessions, by peer and purpose. A reflector's clients are known by their addresses."""
    found: dict[tuple[UUID, str], SessionState] = {}
    for protocol in protocols:
        name = read_session_name(protocol.name)
        if name is None or name.label != label:
            continue
        peer = name.machine_id
        if peer is None and protocol.neighbour is not None:
            peer = by_address.get(protocol.neighbour)
        if peer is None:
            continue
        session = SessionState(
            peer_id=peer,
            purpose=name.kind,
            state=_STATES.get(protocol.state.lower(), "idle"),
            since=protocol.since,
            imported=protocol.imported,
            exported=protocol.exported,
            error=protocol.error[:200],
        )
        before = found.get((peer, name.kind))
        if before is None or before.state != "established":
            found[peer, name.kind] = session
    return tuple(found[key] for key in sorted(found, key=lambda key: (key[0].bytes, key[1])))


def read_rib(lines: Iterable[str], own: IPv4Address) -> tuple[RibRoute, ...]:
    """From `show route table … all`, in the order of prefixes, the best first. `own` is the machine's address in the
    network: a route with that next hop is one that crosses here."""
    routes = [_rib_route(entry, own) for entry in _entries(lines)]
    return tuple(sorted(routes, key=lambda route: (route.prefix, not route.best, route.next_hop or own)))


@dataclass(slots=True)
class _Entry:
    prefix: IPv4Network
    since: datetime
    best: bool
    attributes: dict[str, str] = field(default_factory=dict)


def _entries(lines: Iterable[str]) -> Iterator[_Entry]:
    entry: _Entry | None = None
    for line in lines:
        if found := _ROUTE.fullmatch(line):
            prefix, _, since, rest = found.groups()
            if prefix is None and entry is None:
                continue
            if entry is not None:
                yield entry
            network = IPv4Network(prefix) if prefix is not None or entry is None else entry.prefix
            entry = _Entry(network, read_time(since), rest.lstrip().startswith("*"))
        elif entry is not None and (found := _ATTRIBUTE.fullmatch(line)):
            entry.attributes[found[1]] = found[2]
    if entry is not None:
        yield entry


def _rib_route(entry: _Entry, own: IPv4Address) -> RibRoute:
    attributes = entry.attributes
    hops = attributes.get("next_hop", "").split()
    hop = _address(hops[0]) if hops else None
    med = attributes.get("med", "")
    preference = attributes.get("local_pref", "")
    path = attributes.get("path") or attributes.get("as_path", "")
    return RibRoute(
        prefix=entry.prefix,
        next_hop=None if hop == own else hop,
        best=entry.best,
        local_pref=int(preference) if preference.isdigit() else 0,
        med=int(med) if med.isdigit() else None,
        as_path=tuple(int(number) for number in re.findall(r"\d+", path))[:_MOST],
        communities=tuple(f"{high}:{low}" for high, low in _PAIR.findall(attributes.get("community", "")))[:_MOST],
        since=entry.since,
    )
