"""What the map of a mesh network shows, and where. Pure.

A network of a few machines is shown whole, on a ring; machines that others go through stand inside it. In a larger one
all lines would be a tangle, so the paths of one machine are shown, which stands in the middle.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from services.gateway.http.path_schemas import PathMachine
from services.gateway.pages.arrangement import Group
from services.gateway.pages.geometry import (
    Box,
    Place,
    Ring,
    between,
    chain,
    edge,
    straight,
    through,
    turns,
)
from services.gateway.ways import Kind, Way

WHOLE = 59
"""Networks of up to so many machines are shown whole."""

CARDS = 12
"""Up to so many machines have their addresses beside them."""

EACH = 24
"""In networks of up to so many machines each direct path is a line by itself; in larger ones they are a web."""

_TOLD = 5
"""In networks of up to so many machines each line says its round trip."""

_DOT = Box(9, 9, is_round=True)
_MIDDLE, _FAR, _TOWARDS = Place(0, 0), 180, 0.08
"""Who is further from the middle than that is on the ring; lines that go through it pass it a little nearer."""

_CLEAR = 12
"""So far from a machine a line passes that leads around it."""

LONGEST = 18
"""So many characters of a hostname are shown."""

_FAST = (5, 20, 100)
"""Round trips in milliseconds: up to each, lines look alike."""

KINDS: tuple[Kind, ...] = ("direct", "transit", "none", "unknown")
WORDS: dict[Kind, str] = {"direct": "direct", "transit": "through transit", "none": "down", "unknown": "unknown"}
"""How people call each kind of path."""

Rays = tuple[tuple[Kind, str], ...]
"""A machine's lines, of each kind as one."""


@dataclass(frozen=True, slots=True)
class Line:
    """A path."""

    one: UUID
    other: UUID
    kind: Kind
    drawn: str
    name: str
    speed: int
    """From 1, fast, to 4, slow or not known."""
    label: str
    at: Place
    """Where its label stands."""
    is_lost: bool = False
    """Down since one end is offline."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A machine."""

    machine: PathMachine
    place: Place
    is_inner: bool = False
    """Inside the ring."""
    carries: int = 0
    """So many of the paths go through it."""
    is_reflector: bool = False
    is_chosen: bool = False
    is_found: bool = False
    rays: Rays = ()


@dataclass(frozen=True, slots=True)
class More:
    """Machines that are not drawn."""

    kind: Kind
    count: int
    place: Place


@dataclass(frozen=True, slots=True)
class Picture:
    """A map, with what is drawn first at the beginning."""

    view: str
    """The part of the plane that it fills: left, top, width, height."""
    box: Box
    spots: tuple[Spot, ...]
    lines: tuple[Line, ...]
    grounds: tuple[str, ...] = ()
    """Where machines stand that reach the same others directly."""
    web: str = ""
    """Direct paths, all as one."""
    lost: str = ""
    """Paths to machines that are offline, all as one."""
    more: tuple[More, ...] = ()
    tells_times: bool = False
    """Whether all lines show their labels."""


@dataclass(frozen=True)
class Sights:
    """What is known of a network, and what of it is wanted."""

    machines: Mapping[UUID, PathMachine]
    ways: Sequence[Way]
    reflectors: Collection[UUID] = ()
    chosen: UUID | None = None
    kind: Kind | None = None
    """Only paths like this."""
    found: Collection[UUID] = ()
    carries: Mapping[UUID, int] = field(init=False)

    def __post_init__(self) -> None:
        carried = Counter(each for way in self.ways if way.ways for each in way.ways[0])
        object.__setattr__(self, "carries", {each: carried[each] for each in carried if each in self.machines})

    @property
    def wanted(self) -> list[Way]:
        """The paths to draw, the calm ones first."""
        found = [
            way
            for way in self.ways
            if self.kind in (None, way.kind) and self.chosen in (None, way.machine_id, way.peer_id)
        ]
        order = {"unknown": 0, "direct": 1, "transit": 2, "none": 3}
        return sorted(found, key=lambda way: order[way.kind])

    def spot(
        self, item: UUID, place: Place, rays: tuple[tuple[Kind, str], ...] = (), *, is_inner: bool = False
    ) -> Spot:
        """A machine in its place."""
        return Spot(
            machine=self.machines[item],
            place=place,
            is_inner=is_inner,
            carries=self.carries.get(item, 0),
            is_reflector=item in self.reflectors,
            is_chosen=item == self.chosen,
            is_found=item in self.found,
            rays=rays,
        )


def counted(ways: Iterable[Way]) -> dict[Kind, int]:
    """How many paths there are of each kind."""
    found = Counter(way.kind for way in ways)
    return {kind: found[kind] for kind in KINDS}


def whole(sights: Sights, groups: Sequence[Group]) -> Picture:
    """A network, all of it, with its machines in the order of `groups`. With a chosen one, its paths alone."""
    size = len(sights.machines)
    box = _box(sights)
    ring = _ring(size, box)
    turned = turns([group.members for group in groups if group.role != "inner"])
    inside = turns([group.members for group in groups if group.role == "inner"])
    places = {each: ring.at(turn) for each, turn in turned.items()}
    places |= {each: ring.at(turn, 0.0 if len(inside) == 1 else 0.42) for each, turn in inside.items()}
    ways = sights.wanted
    lines = [line_of(sights, way, places, box) for way in ways]
    merges = size > EACH and sights.chosen is None
    rays = _rays(lines) if sights.chosen is None else {}
    ordered = sorted(places, key=lambda each: (each in inside, places[each].turn))
    return Picture(
        view=_view(box, places.values()),
        box=box,
        spots=tuple(sights.spot(each, places[each], rays.get(each, ()), is_inner=each in inside) for each in ordered),
        lines=tuple(line for line in lines if not merges or (line.kind in ("transit", "none") and not line.is_lost)),
        grounds=tuple(_grounds(groups, places)),
        web="".join(line.drawn for line in lines if line.kind == "direct") if merges else "",
        lost="".join(line.drawn for line in lines if line.is_lost) if merges else "",
        tells_times=size <= _TOLD or (sights.chosen is not None and size <= EACH),
    )


def _box(sights: Sights) -> Box:
    """Cards are as wide as the longest name, or address, is; in a few steps, so that they rarely change."""
    if len(sights.machines) > CARDS:
        return _DOT
    texts = [min(len(each.hostname), LONGEST) * 8.2 for each in sights.machines.values()]
    texts += [len(str(each.wg_ip_address)) * 7.3 for each in sights.machines.values()]
    return Box(math.ceil((max(texts) + 46) / 12) * 6, 25)


def _ring(size: int, box: Box) -> Ring:
    if box.is_round:
        return Ring(0, 0, 262, 262)
    return Ring(0, 0, 290 if size <= 2 else 350 if size <= 4 else 390, 160 if size <= 4 else 210 if size <= 8 else 265)


def _view(box: Box, places: Collection[Place]) -> str:
    """What machines and their grounds need, and as much to the left as to the right."""
    if box.is_round:
        return "-500 -400 1000 800"
    top, bottom = min(place.y for place in places) - 85, max(place.y for place in places) + 85
    side = max(360.0, max(abs(place.x) for place in places) + box.width + 60)
    return f"{-side:g} {top:g} {2 * side:g} {bottom - top:g}"


def line_of(sights: Sights, way: Way, places: Mapping[UUID, Place], box: Box) -> Line:
    """A path as a line; its ends have places, and transit machines that have none are passed over."""
    named = [each for each in (way.ways[0] if way.ways else ()) if each in places]
    via = [between(places[each], _MIDDLE, _TOWARDS) if _is_far(places[each]) else places[each] for each in named]
    stops = [places[way.machine_id], *via, places[way.peer_id]]
    aside = 6.0 if box.is_round else 18.0
    if sights.chosen == way.peer_id:
        stops.reverse()  # a machine's lines are furthest from each other at their other ends, where labels are
        aside = -aside
    part = 0.5 if sights.chosen is None else 0.74
    if not via and (around := _around(stops[0], stops[1], places.values(), box)) is not None:
        stops.insert(1, around)
        aside = 0.0
    begin, end = edge(box, stops[0], stops[1]), edge(box, stops[-1], stops[-2])
    if len(stops) > 2:
        drawn, at = through([begin, *stops[1:-1], end], aside, part)
    else:
        drawn, at = straight(begin, end), between(begin, end, part if len(sights.machines) != 4 else 0.36)
    return Line(
        one=way.machine_id,
        other=way.peer_id,
        kind=way.kind,
        drawn=drawn,
        name=_named(sights, way),
        speed=next((index for index, limit in enumerate(_FAST, 1) if way.rtt is not None and way.rtt <= limit), 4),
        label=f"{way.rtt:,} ms" if way.rtt is not None else "",
        at=at,
        is_lost=way.kind == "none"
        and any(sights.machines[each].is_online is False for each in (way.machine_id, way.peer_id)),
    )


def _around(one: Place, other: Place, places: Iterable[Place], box: Box) -> Place | None:
    """Past which point a line leads that would else lead behind a machine inside the ring; None where none is in its
    way."""
    if (other.x, other.y) < (one.x, one.y):
        one, other = other, one  # the same line from both ends
    along = complex(other.x - one.x, other.y - one.y)
    for place in places:
        if _is_far(place) or place in (one, other):
            continue
        offset = complex(place.x - one.x, place.y - one.y) / along
        normal = along * 1j / abs(along)
        room = box.width if box.is_round else abs(normal.real) * box.width + abs(normal.imag) * box.height
        if 0 < offset.real < 1 and abs(offset.imag) * abs(along) < room:
            point = complex(place.x, place.y) + normal * (room + _CLEAR)
            return Place(round(point.real, 1), round(point.imag, 1))
    return None


def _is_far(place: Place) -> bool:
    """Whether it is on the ring: lines pass it on the inside, so that they keep clear of the names."""
    return math.hypot(place.x, place.y) > _FAR


def _named(sights: Sights, way: Way) -> str:
    names = {each: sights.machines[each].hostname for each in (way.machine_id, way.peer_id)}
    how = WORDS[way.kind]
    if way.ways:
        known = (sights.machines.get(each) for each in way.ways[0])
        how = "through " + ", then ".join(each.hostname if each else "another machine" for each in known)
    time = f", {way.rtt:,} ms" if way.rtt is not None else ""
    return f"{names[way.machine_id]} to {names[way.peer_id]}: {how}{time}"


def _rays(lines: Iterable[Line]) -> dict[UUID, Rays]:
    drawn: defaultdict[UUID, defaultdict[Kind, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        for end in (line.one, line.other):
            drawn[end][line.kind].append(line.drawn)
    return {each: tuple((kind, "".join(parts)) for kind, parts in kinds.items()) for each, kinds in drawn.items()}


def _grounds(groups: Sequence[Group], places: Mapping[UUID, Place]) -> Iterable[str]:
    for group in groups:
        if group.role == "alike" and len(group.members) > 1:
            yield chain([places[each] for each in group.members])
