"""How machines reach each other, as the records and reports tell it together. Pure."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from events.records import PathRecord, Record
from services.gateway.reach import Link, Reach

Kind = Literal["direct", "transit", "none", "unknown"]
_Ends = tuple[UUID, UUID]
"""A machine and its peer."""


@dataclass(frozen=True, slots=True)
class Way:
    """How one machine reaches another in a network."""

    network_id: UUID
    machine_id: UUID
    peer_id: UUID
    kind: Kind
    """`none`: there is no way; `unknown`: nobody has reported yet."""
    ways: tuple[tuple[UUID, ...], ...]
    """The ways through transit machines, the one in use first."""
    rtt: int | None
    """Milliseconds, in steps; through transit the sum of the links' steps, where all are known."""
    since: datetime | None
    links: tuple[Link | None, Link | None]
    """What the machine, and what the peer, reported of the direct link."""
    record: Record | None
    """The record that names the ways, where it counts."""


class Ways:
    """The ways of all pairs."""

    def __init__(self, dated: bool = True) -> None:
        """`dated` is False where the records do not say when the ways were chosen: those of a moment that is past."""
        self._dated = dated
        self._kind = _kind
        self._records: dict[UUID, dict[_Ends, Record]] = {}
        """By network."""

    def doubt(self) -> None:
        """Reports may be missing: then only what both ends say alike is known."""
        self._kind = _sure_kind

    def take(self, subject: str, record: Record) -> None:
        """A record of the stream PATHS."""
        _, _, machine, kind, *rest = subject.split(".")
        if kind != "path":
            return
        network, peer = rest
        records, ends = self._records.setdefault(UUID(network), {}), (UUID(machine), UUID(peer))
        if record.body is None:
            records.pop(ends, None)
        else:
            records[ends] = record

    def records(self, network_id: UUID) -> Mapping[_Ends, Record]:
        """The records of a network, by machine and peer. Where both ends report a direct path, that counts, and not the
        record."""
        return self._records.get(network_id, {})

    def kind(self, reach: Reach, network_id: UUID, machine_id: UUID, peer_id: UUID) -> Kind:
        """As that of `way`, for who counts very many."""
        mine, theirs = reach.link(network_id, machine_id, peer_id), reach.link(network_id, peer_id, machine_id)
        return self._kind(self.records(network_id).get((machine_id, peer_id)), mine, theirs)

    def kinds(
        self, reach: Reach, network_id: UUID, machine_id: UUID, peer_ids: Iterable[UUID]
    ) -> Iterator[tuple[UUID, Kind]]:
        """The kind of the way to each of these peers, at less than half the cost of `kind`."""
        links, records = reach.links(network_id, machine_id), self.records(network_id)
        for peer_id in peer_ids:
            mine, theirs = links.get(peer_id), reach.link(network_id, peer_id, machine_id)
            if mine is not None and theirs is not None and mine.is_direct and theirs.is_direct:
                yield peer_id, "direct"
            elif peer_id != machine_id:
                yield peer_id, self._kind(records.get((machine_id, peer_id)), mine, theirs)

    def way(self, reach: Reach, network_id: UUID, machine_id: UUID, peer_id: UUID) -> Way:
        """How a machine reaches a peer."""
        mine, theirs = reach.link(network_id, machine_id, peer_id), reach.link(network_id, peer_id, machine_id)
        record = self.records(network_id).get((machine_id, peer_id))
        kind = self._kind(record, mine, theirs)
        if kind in ("direct", "unknown"):
            record = None
        ways = record.body.ways if record is not None and isinstance(record.body, PathRecord) else ()
        return Way(
            network_id=network_id,
            machine_id=machine_id,
            peer_id=peer_id,
            kind=kind,
            ways=ways,
            rtt=None
            if kind in ("none", "unknown")
            else _rtt(reach, network_id, (machine_id, *(ways[0] if ways else ()), peer_id)),
            since=_since(kind, mine, theirs) if record is None else record.time if self._dated else None,
            links=(mine, theirs),
            record=record,
        )


def _rtt(reach: Reach, network_id: UUID, hops: tuple[UUID, ...]) -> int | None:
    steps = [round_trip(reach, network_id, one, other) for one, other in itertools.pairwise(hops)]
    return None if None in steps else sum(step for step in steps if step is not None)


def round_trip(reach: Reach, network_id: UUID, one: UUID, other: UUID) -> int | None:
    """What the two ends of a link last reported of its round trip: the longer, in milliseconds."""
    links = reach.link(network_id, one, other), reach.link(network_id, other, one)
    said = [link.newest.event.link.rtt for link in links if link is not None]
    return max((step for step in said if step is not None), default=None)


def _kind(record: Record | None, mine: Link | None, theirs: Link | None) -> Kind:
    states = [link.newest.event.link.state for link in (mine, theirs) if link is not None]
    if states == ["direct", "direct"]:
        return "direct"  # both have taken the direct path back, even if a record says otherwise still
    if record is not None:
        return "transit" if isinstance(record.body, PathRecord) and record.body.ways else "none"
    if not states:
        return "unknown"
    return "none" if "unreachable" in states else "direct"


def _sure_kind(record: Record | None, mine: Link | None, theirs: Link | None) -> Kind:
    """As `_kind` where reports may be missing: what is missing may say otherwise, or have led to another way."""
    both = mine is not None and theirs is not None and mine.is_direct and theirs.is_direct
    return "direct" if both else "unknown"


def _since(kind: Kind, mine: Link | None, theirs: Link | None) -> datetime | None:
    """Direct since both ends say so, without a way since the first end says that there is none."""
    links = [link for link in (mine, theirs) if link is not None]
    if kind == "unknown":
        return None
    if kind == "direct":
        return max(link.since for link in links)
    return min((link.since for link in links if link.newest.event.link.state == "unreachable"), default=None)
