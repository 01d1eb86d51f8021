"""Where machines and paths stand in a picture: places on a ring, lines between them. Pure; in the SVG's units."""

from __future__ import annotations

import cmath
import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

_GAP = 0.9
"""Between two groups there is room for so many machines."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Place:
    """A point of the picture; `turn` is its direction from the middle, in degrees clockwise from the right."""

    x: float
    y: float
    turn: float = 0.0

    @property
    def is_left(self) -> bool:
        """Whether it is in the left half, where labels end at their machine."""
        return 90 < self.turn % 360 < 270


@dataclass(frozen=True, slots=True)
class Ring:
    """An ellipse."""

    x: float
    y: float
    width: float
    """From the middle to the side."""
    height: float

    def at(self, turn: float, part: float = 1.0) -> Place:
        """The place in a direction, at this part of the way from the middle to the ring."""
        angle = math.radians(turn)
        return Place(
            round(self.x + self.width * part * math.cos(angle), 1),
            round(self.y + self.height * part * math.sin(angle), 1),
            turn,
        )


@dataclass(frozen=True, slots=True)
class Box:
    """What a machine is drawn as: from its middle to its sides, and so far up and down."""

    width: float
    height: float
    is_round: bool = False


def turns(groups: Sequence[Sequence[Key]]) -> dict[Key, float]:
    """The direction in which each stands, evenly, clockwise, with gaps between groups. Of several groups the first is
    in the middle of the left side; one alone begins at the top, and two machines stand left and right."""
    sizes = [len(group) for group in groups] or [0]
    gap = _GAP if len(groups) > 1 else 0.0
    step = 360 / max(1.0, sum(sizes) + gap * len(groups))
    start = 180 - (sizes[0] - 1) / 2 * step if gap else 180.0 if sum(sizes) == 2 else -90.0
    found: dict[Key, float] = {}
    for group in groups:
        for number, each in enumerate(group):
            found[each] = round(start + number * step, 2)
        start += (len(group) + gap) * step
    return found


def straight(one: Place, other: Place) -> str:
    """A line, as the path of an SVG."""
    return f"M{one.x:g} {one.y:g}L{other.x:g} {other.y:g}"


def between(one: Place, other: Place, part: float) -> Place:
    """A point on the line from one to the other."""
    return Place(round(one.x + (other.x - one.x) * part, 1), round(one.y + (other.y - one.y) * part, 1))


def edge(box: Box, here: Place, there: Place) -> Place:
    """Where the line from a machine's middle to another point leaves its box."""
    x, y = there.x - here.x, there.y - here.y
    if box.is_round:
        part = box.width / (math.hypot(x, y) or 1.0)
    else:
        part = min(box.width / (abs(x) or 0.1), box.height / (abs(y) or 0.1))
    return between(here, there, min(part, 0.45))


def through(places: Sequence[Place], aside: float, label_part: float) -> tuple[str, Place]:
    """A smooth line from the first to the last place (a Catmull-Rom spline) that passes those between them, `aside` of
    their middles, where their own lines end; and a point at this part of its last piece."""
    first, last = places[0], places[-1]
    x, y = last.x - first.x, last.y - first.y
    length = math.hypot(x, y) or 1.0
    bow = aside / 60
    points = [complex(place.x, place.y) for place in places]
    points[1:-1] = [point + complex(-y, x) / length * aside for point in points[1:-1]]
    drawn, label = f"M{first.x:g} {first.y:g}", points[0]
    padded = [points[0], *points, points[-1]]
    for before, here, there, after in zip(padded, padded[1:], padded[2:], padded[3:], strict=False):
        # Its direction at each place is that between the places around it; how far it keeps it depends on how near
        # the next one is, so that it makes no loops.
        reach = abs(there - here) / 3
        leave, arrive = _unit(there - before), _unit(after - here)
        if here is padded[1]:
            leave *= cmath.rect(1, bow)
        if there is padded[-2]:
            arrive *= cmath.rect(1, -bow)
        c1, c2 = here + leave * reach, there - arrive * reach
        drawn += "C" + " ".join(f"{point.real:.1f} {point.imag:.1f}" for point in (c1, c2, there))
        t = label_part
        label = here * (1 - t) ** 3 + 3 * c1 * t * (1 - t) ** 2 + 3 * c2 * t**2 * (1 - t) + there * t**3
    return drawn, Place(round(label.real, 1), round(label.imag, 1))


def _unit(vector: complex) -> complex:
    return vector / abs(vector) if vector else vector


def chain(places: Sequence[Place]) -> str:
    """From place to place, as the path of an SVG."""
    return "M" + "L".join(f"{place.x:g} {place.y:g}" for place in places)
