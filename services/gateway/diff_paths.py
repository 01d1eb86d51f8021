"""What changed of the paths between two moments. Pure.

Two machines' path is looked at where one of them has reported since, or a record of a path differs, or one of them came
or went. What a network's moments cost is one look at each member and each record of a path, and then what differs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

from events.records import PathRecord, Record
from services.gateway.diff_sides import Alike, Pair, Sides, Step, names_of
from services.gateway.differences import Change, ChangeKind
from services.gateway.naming import count
from services.gateway.reach import Link
from services.gateway.seen import Seen
from services.gateway.ways import Kind, Way

_LOOKED_AT = 5_000
"""Of more paths than these that came or went it is not told how they are or were."""

_AT_ONCE = 500
"""After so many pairs others may run."""

_SHORT: dict[Kind, str] = {"direct": "direct", "none": "no way", "unknown": "not known"}
_REACH: dict[Kind, str] = {
    "direct": "reach each other directly",
    "none": "do not reach each other",
    "unknown": "have not told yet how they reach each other",
}
_ORDER: dict[ChangeKind, int] = {"added": 0, "removed": 1, "changed": 2}


class _Group(NamedTuple):
    """What is alike in all paths that may be told together."""

    is_lesser: bool
    kind: ChangeKind
    field: str
    before: str | None
    after: str | None
    words: str
    """What the machines of a pair do after, or if they are no pair then, did before."""

    @property
    def place(self) -> tuple[bool, int, str, str, str]:
        """Where it stands among the others."""
        return self.is_lesser, _ORDER[self.kind], self.field, self.before or "", self.after or ""


def path_changes(sides: Sides, network_id: UUID) -> Iterator[Step]:
    """The paths of a network that came, went or changed, each pair once; last those whose round trip alone did."""
    groups: dict[_Group, Alike[Pair]] = {}
    for number, step in enumerate(_pairs(sides, network_id), 1):
        if step is None or number % _AT_ONCE == 0:
            yield None
        if step is not None and (group := _group(sides, network_id, *step)) is not None:
            groups.setdefault(group, Alike(sides.few)).add(step[1:], *step[1:])
    for group in sorted(groups, key=lambda each: each.place):
        alike = groups[group]
        if alike.are_few:
            pairs = sorted(alike.places, key=lambda pair: (sides.order(pair[0]), sides.order(pair[1])))
            yield from (_told(sides, network_id, group, pair) for pair in pairs)
        else:
            yield _told_together(sides, network_id, group, alike.count, alike.hub)
    yield from _too_many(sides, network_id)


def way_in_words(sides: Sides, way: Way) -> str:
    """How a way goes, in short: `direct`, `through gw-1`, `no way` or `not known`."""
    return f"through {_via(sides, way.ways[0])}" if way.ways else _SHORT.get(way.kind, way.kind)


def _pairs(sides: Sides, network_id: UUID) -> Iterator[tuple[ChangeKind, UUID, UUID] | None]:
    """The pairs that are to be looked at, those of one machine after those of another."""
    before, after = (network.members.keys() for network in sides.networks(network_id))
    stayed = before & after
    for pair in _differing(sides, network_id, stayed):
        yield None if pair is None else ("changed", *sides.pair(*pair))
    moved: tuple[tuple[ChangeKind, set[UUID]], ...] = (("added", after - stayed), ("removed", before - stayed))
    for kind, ids in moved:
        if _count(len(ids), len(stayed)) <= max(_LOOKED_AT, sides.few):
            others = sides.in_order(stayed)
            for machine_id in sides.in_order(ids):
                yield from ((kind, *sides.pair(machine_id, other)) for other in others)
                others.append(machine_id)


def _too_many(sides: Sides, network_id: UUID) -> Iterator[Change]:
    """The paths that came or went and are not looked at one by one."""
    before, after = (network.members.keys() for network in sides.networks(network_id))
    stayed, network = before & after, sides.network(network_id)
    moved: tuple[tuple[ChangeKind, set[UUID]], ...] = (("added", after - stayed), ("removed", before - stayed))
    for kind, ids in moved:
        if (paths := _count(len(ids), len(stayed))) > max(_LOOKED_AT, sides.few):
            come = "are there" if kind == "added" else "are gone"
            text = f"{paths:,} paths of {count(len(ids), 'machine')} in {network.name} {come}"
            yield Change("path", kind, text, network, count=paths)


def _count(moved: int, stayed: int) -> int:
    """How many paths so many machines have that came or went: with each other, and with those that stayed."""
    return moved * (moved - 1) // 2 + moved * stayed


def _differing(sides: Sides, network_id: UUID, stayed: set[UUID]) -> Iterator[Pair | None]:
    """The pairs of those that stayed whose reports or records differ, or on whose way a round trip does; None now and
    then, when others may run."""
    found: set[Pair] = set()
    before, after = sides.before.tracks.reach, sides.after.tracks.reach
    for one in stayed:
        if before.newest(network_id, one) == after.newest(network_id, one):
            continue
        old, new = before.links(network_id, one), after.links(network_id, one)
        for other in stayed & (old.keys() | new.keys()):
            ends = _ends(one, other)
            if ends not in found and _said(old.get(other)) != _said(new.get(other)):
                found.add(ends)
                yield ends
        yield None
    trips = frozenset(found)
    earlier, later = (side.tracks.ways.records(network_id) for side in (sides.before, sides.after))
    for number, (one, other) in enumerate(earlier.keys() | later.keys()):
        ends = _ends(one, other)
        if ends not in found and one in stayed and other in stayed:
            ways = _ways(later.get((one, other)))
            hops = itertools.pairwise((one, *ways[0], other)) if ways and trips else ()
            if _ways(earlier.get((one, other))) != ways or any(_ends(*hop) in trips for hop in hops):
                found.add(ends)
                yield ends
        if number % _AT_ONCE == 0:
            yield None


def _said(link: Link | None) -> tuple[str, int | None] | None:
    return None if link is None else (link.newest.event.link.state, link.newest.event.link.rtt)


def _ways(record: Record | None) -> tuple[tuple[UUID, ...], ...] | None:
    return record.body.ways if record is not None and isinstance(record.body, PathRecord) else None


def _ends(one: UUID, other: UUID) -> Pair:
    return (one, other) if one < other else (other, one)


def _group(sides: Sides, network_id: UUID, kind: ChangeKind, one: UUID, other: UUID) -> _Group | None:
    """What there is to tell of a pair; None for nothing."""

    def way_of(side: Seen) -> Way:
        return side.tracks.way(network_id, one, other)

    if kind == "added":
        new = way_of(sides.after)
        return _Group(False, kind, "", None, way_in_words(sides, new), _reach(sides, new))
    if kind == "removed":
        old = way_of(sides.before)
        return _Group(False, kind, "", way_in_words(sides, old), None, _reach(sides, old))
    old, new = way_of(sides.before), way_of(sides.after)
    if (old.kind, old.ways[:1]) != (new.kind, new.ways[:1]):
        words = way_in_words(sides, old), way_in_words(sides, new)
        return _Group(False, kind, "way", *words, f"{_reach(sides, new)}, before {words[0]}")
    if old.ways != new.ways:
        standby = _standby(sides, old), _standby(sides, new)
        words_now = f"reach each other through {standby[1]} if the way {way_in_words(sides, new)} fails"
        return _Group(False, kind, "standby", *standby, f"{words_now}, before {standby[0]}")
    if old.rtt != new.rtt:
        trips = _milliseconds(old), _milliseconds(new)
        return _Group(True, kind, "round_trip", *trips, f"reach each other in {trips[1]}, before in {trips[0]}")
    return None


def _reach(sides: Sides, way: Way) -> str:
    return f"reach each other through {_via(sides, way.ways[0])}" if way.ways else _REACH.get(way.kind, way.kind)


def _standby(sides: Sides, way: Way) -> str:
    return _via(sides, way.ways[1]) if len(way.ways) > 1 else "nobody"


def _via(sides: Sides, hops: Sequence[UUID]) -> str:
    return ", then ".join(machine.name for machine in sides.machines(hops))


def _milliseconds(way: Way) -> str:
    return "not known" if way.rtt is None else f"{way.rtt:,} ms"


def _told(sides: Sides, network_id: UUID, group: _Group, pair: Pair) -> Change:
    machines = sides.machines(pair)
    about = Change("path", group.kind, names_of(machines), sides.network(network_id), machines)
    return _change(about, group, sides.network(network_id).name)


def _told_together(sides: Sides, network_id: UUID, group: _Group, pairs: int, hub: UUID | None) -> Change:
    machines = () if hub is None else (sides.machine(hub),)
    who = f"{machines[0].name} and {pairs:,} others" if machines else f"{pairs:,} pairs"
    about = Change("path", group.kind, who, sides.network(network_id), machines, count=pairs)
    return _change(about, group, sides.network(network_id).name)


def _change(about: Change, group: _Group, network: str) -> Change:
    """The change of those that `about` names in its text."""
    text = f"{about.text} in {network} {group.words}"
    if group.kind == "removed":
        what = "a path" if about.count == 1 else "paths"
        text = f"{about.text} in {network} have {what} no more, before {group.before}"
    return replace(
        about, text=text, field=group.field, before=group.before, after=group.after, is_lesser=group.is_lesser
    )
