"""How the paths of one machine of a large network are drawn: it in the middle, on the ring the machines that it
reaches, by how it does. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

from services.gateway.pages.geometry import Box, Place, Ring, turns
from services.gateway.pages.map import More, Picture, Sights, line_of
from services.gateway.ways import Kind, Way

_SHOWN: dict[Kind, int] = {"none": 12, "transit": 24, "direct": 24, "unknown": 6}
"""So many paths of each kind are drawn."""

_VIEW, _BOX = "-500 -400 1000 800", Box(9, 9, is_round=True)
_RING = Ring(0, 0, 262, 262)
_INNER = 0.5


@dataclass(frozen=True, slots=True)
class Sector:
    """Machines that are reached alike; through `via`, if they are."""

    kind: Kind
    via: UUID | None
    peers: tuple[UUID, ...]
    more: int


def sectors(chosen: UUID, ways: Iterable[Way]) -> tuple[Sector, ...]:
    """The machines that `chosen` reaches, by how it does: the first of each kind, in the order given, and how many more
    there are."""
    ways = list(ways)
    shown, left = [], dict(_SHOWN)
    for way in ways:
        if left[way.kind]:
            left[way.kind] -= 1
            shown.append(way)
    nearest = {way.ways[0][0] for way in shown if way.ways}
    found: defaultdict[tuple[Kind, UUID | None], list[UUID]] = defaultdict(list)
    for way in shown:
        if way.peer_id not in nearest:
            found[way.kind, way.ways[0][0] if way.ways else None].append(way.peer_id)
    order: tuple[Kind, ...] = ("direct", "transit", "none", "unknown")
    made = []
    for kind in order:
        parts = [(via, peers) for (each, via), peers in found.items() if each == kind]
        more = sum(way.kind == kind for way in ways) - sum(way.kind == kind for way in shown)
        for number, (via, peers) in enumerate(parts, 1):
            made.append(Sector(kind, via, tuple(peers), more if number == len(parts) else 0))
    return tuple(made)


def star(sights: Sights, chosen: UUID, shown: Sequence[Sector]) -> Picture:
    """The paths of a machine. `sights` has its way to each that is shown, with it as the machine."""
    keys: list[list[UUID | str]] = [[*each.peers, *([f"more-{each.kind}"] if each.more else [])] for each in shown]
    turned = turns([group for group in keys if group])
    places: dict[UUID, Place] = {each: _RING.at(turn) for each, turn in turned.items() if isinstance(each, UUID)}
    places[chosen] = Place(_RING.x, _RING.y)
    inner = _inner(sights, shown, keys, turned)
    places |= inner
    lines = [line_of(sights, way, places, _BOX) for way in sights.wanted if way.peer_id in places]
    ordered = sorted(places, key=lambda each: (each == chosen, each in inner, turned.get(each, 0.0)))
    return Picture(
        view=_VIEW,
        box=_BOX,
        spots=tuple(sights.spot(each, places[each], is_inner=each in inner or each == chosen) for each in ordered),
        lines=tuple(lines),
        more=tuple(More(each.kind, each.more, _RING.at(turned[f"more-{each.kind}"])) for each in shown if each.more),
    )


def _inner(
    sights: Sights, shown: Sequence[Sector], keys: Sequence[Sequence[UUID | str]], turned: dict[UUID | str, float]
) -> dict[UUID, Place]:
    """Transit machines stand before those that are reached through them."""
    found = {}
    for sector, group in zip(shown, keys, strict=True):
        if sector.via is not None and group and sector.via in sights.machines:
            found[sector.via] = _RING.at((turned[group[0]] + turned[group[-1]]) / 2, _INNER)
    return found
