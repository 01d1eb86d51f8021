"""The time line of a page: the moments at which something happened to what it shows, and where each stands. Pure.

Moments are evenly spaced, in their order, so that each can be reached however close together many of them were; bands
tell days apart, and a mark is the taller, the more machines it was about. Events come from the log. Paths change
without events: of those changes it has what the machines' newest reports tell, which is each path's last change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from typing import Literal

from events.log import LoggedEvent
from services.gateway.naming import NameOf, listed, machine_name
from services.gateway.ways import Way
from services.gateway.words import machines_of

MOST = 150
"""So many events are on one time line."""

_BURST = timedelta(seconds=1)
"""Paths that change within this time of each other change at one moment."""

_LABELS = 5
_NAMED = 2
_LOW, _HIGH = 9, 24
"""How tall marks are, in pixels."""

Kind = Literal["network", "members", "machines", "routing", "access", "paths"]

KINDS: dict[Kind, str] = {
    "network": "network",
    "members": "members",
    "machines": "machine",
    "routing": "routing",
    "access": "access",
    "paths": "paths",
}
"""What the legend calls each."""


@dataclass(frozen=True, slots=True)
class Moment:
    """Right after something happened."""

    at: str
    """As addresses have it: a position of the log, or a time."""
    time: datetime
    text: str
    kind: Kind
    sequence: int | None = None
    """Its event; of several that one command caused, the last."""
    weight: int = 1
    """About so many machines."""

    @property
    def when(self) -> str:
        """Its time, for people."""
        return in_full(self.time)


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a moment stands."""

    moment: Moment
    x: str
    top: int


@dataclass(frozen=True, slots=True)
class Label:
    """A time that stands beside the line."""

    text: str
    x: str
    anchor: str
    is_minor: bool
    """Left out where there is little room."""


@dataclass(frozen=True, slots=True)
class Band:
    """A day, every other of which is shaded."""

    x: str
    width: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """The moments of a page, the oldest first, and which of them it shows."""

    moments: tuple[Moment, ...]
    here: int
    """The last moment that had come: -1 where none had, as many as there are for the present."""
    previous: Moment | None = None
    next: Moment | None = None
    """None where that is the present."""
    has_earlier: bool = False
    """Whether there are moments before the first."""

    @property
    def is_now(self) -> bool:
        """Whether it is the present that is shown."""
        return self.here == len(self.moments)

    @property
    def shown(self) -> Moment | None:
        """The moment that is shown, or the last before."""
        return self.moments[self.here] if 0 <= self.here < len(self.moments) else None

    @property
    def marks(self) -> tuple[Mark, ...]:
        """All moments in their places."""
        return tuple(Mark(each, self._x(index), _top(each)) for index, each in enumerate(self.moments))

    @property
    def labels(self) -> tuple[Label, ...]:
        """Few of the times: the first and, spread evenly, some others; never two that say the same."""
        if not self.moments:
            return ()
        steps = min(_LABELS, len(self.moments))
        indices = sorted({step * len(self.moments) // steps for step in range(steps)})
        days = {each.time.date() for each in self.moments}
        found: list[Label] = []
        for number, index in enumerate(indices):
            text = _short(self.moments[index].time, with_day=len(days) > 1)
            if all(text != label.text for label in found):
                found.append(Label(text, self._x(index), "middle" if index else "start", number % 2 == 1))
        return tuple(found)

    @property
    def bands(self) -> tuple[Band, ...]:
        """Every other day, where there are several."""
        found: list[Band] = []
        start = 0
        for number, (_, group) in enumerate(groupby(self.moments, key=_day)):
            end = start + len(list(group))
            if number % 2:
                left, right = self._part(start - 0.5), self._part(end - 0.5)
                found.append(Band(f"{left:g}%", f"{right - left:g}%"))
            start = end
        return tuple(found)

    def kinds(self) -> tuple[tuple[Kind, str], ...]:
        """The kinds of moments that there are."""
        present = {each.kind for each in self.moments}
        return tuple((kind, name) for kind, name in KINDS.items() if kind in present)

    def _part(self, index: float) -> float:
        return round(100 * max(0.0, min(1.0, index / max(1, len(self.moments)))), 2)

    def _x(self, index: int) -> str:
        return f"{self._part(index):g}%"


def timeline_of(
    events: Sequence[Moment],
    changes: Iterable[Moment],
    at: tuple[int, datetime] | None,
    earlier: Iterable[Moment] = (),
    *,
    has_earlier: bool = False,
) -> Timeline:
    """The time line of these moments, as of a position of the log and a time; None is the present. `earlier` are
    changes that only the reports of then tell of: one may step back to them."""
    moments = _merged(events, changes)
    if at is None:
        return Timeline(moments, len(moments), moments[-1] if moments else None, has_earlier=has_earlier)
    had_come = [_had_come(each, at) for each in moments]
    here = max((index for index, come in enumerate(had_come) if come), default=-1)
    shown = moments[here] if here >= 0 else None
    is_exact = shown is not None and shown.time == at[1]
    apart = timedelta(0) if is_exact and shown is not None and shown.sequence is not None else _BURST
    previous = moments[here - 1] if is_exact and here > 0 else None if is_exact else shown
    floor = previous.time if previous is not None else datetime.min.replace(tzinfo=UTC)
    between = [each for each in earlier if floor < each.time < at[1] - apart]
    if between and moments:
        previous = max(between, key=lambda each: each.time)
    return Timeline(
        moments,
        here,
        previous,
        moments[here + 1] if here + 1 < len(moments) else None,
        has_earlier=has_earlier,
    )


def moments_of(events: Iterable[LoggedEvent], said: Callable[[LoggedEvent], str]) -> list[Moment]:
    """The moments of events, given and returned oldest first: what one command caused is one moment. `said` says what
    happened."""
    found = []
    for _, group in groupby(events, key=lambda logged: logged.event.command_id):
        together = list(group)
        last = together[-1]
        more = f", and {len(together) - 1} more" if len(together) > 1 else ""
        found.append(
            Moment(
                at=str(last.sequence),
                time=last.event.time,
                text=said(together[0]) + more,
                kind=kind_of(together[0].event.kind),
                sequence=last.sequence,
                weight=max(len(machines_of(each.event)) for each in together) or 1,
            )
        )
    return found


def changes_of(ways: Iterable[Way], name_of: NameOf) -> list[Moment]:
    """The moments at which paths changed, each for the last time; those at nearly the same time as one."""
    found = ((_changed(way), way) for way in ways)
    dated = sorted(((time, way) for time, way in found if time is not None), key=lambda each: each[0])
    bursts: list[list[tuple[datetime, Way]]] = []
    for since, way in dated:
        if bursts and since - bursts[-1][-1][0] <= _BURST:
            bursts[-1].append((since, way))
        else:
            bursts.append([(since, way)])
    return [_change([way for _, way in burst], burst[-1][0], name_of) for burst in bursts]


def kind_of(event_kind: str) -> Kind:
    """What an event is about, in few kinds."""
    group, _, rest = event_kind.partition(".")
    if group == "network":
        return "members" if rest.startswith(("machines_", "membership_", "key_")) else "network"
    if group == "machine" or rest.startswith("machine_"):
        return "machines"
    return "routing" if group == "routing" else "access"


def in_full(time: datetime) -> str:
    """`3 May 2026 14:02:11 UTC`."""
    return f"{time.day} {time:%b %Y %H:%M:%S} UTC"


def at_of(time: datetime) -> str:
    """A time as addresses have it, exactly."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _changed(way: Way) -> datetime | None:
    """When a path last changed; where it is not told when a way was chosen, when the reports did that it follows."""
    return way.since or max((link.since for link in way.links if link is not None), default=None)


def _change(ways: Sequence[Way], time: datetime, name_of: NameOf) -> Moment:
    pairs = [_path(way, name_of) for way in ways[:_NAMED]]
    text = listed(pairs) if len(ways) <= _NAMED else f"{pairs[0]}, and {len(ways) - 1} other paths changed"
    return Moment(at_of(time), time, text, "paths", weight=len(ways))


def _path(way: Way, name_of: NameOf) -> str:
    how = {"direct": "directly", "none": "no more", "unknown": "in a way not reported"}.get(way.kind, "")
    if way.ways:
        how = "through " + ", then ".join(machine_name(each, name_of) for each in way.ways[0])
    ends = f"{machine_name(way.machine_id, name_of)} and {machine_name(way.peer_id, name_of)}"
    return f"{ends} reach each other {how}"


def _merged(events: Sequence[Moment], changes: Iterable[Moment]) -> tuple[Moment, ...]:
    """Events in the log's order, whatever their clocks say, and the changes among them."""
    keyed: list[tuple[datetime, int, Moment]] = []
    latest = datetime.min.replace(tzinfo=UTC)
    for each in events:
        latest = max(latest, each.time)
        keyed.append((latest, each.sequence or 0, each))
    first = events[0].time if events else latest
    keyed += [(each.time, 0, each) for each in changes if each.time >= first]
    return tuple(moment for _, _, moment in sorted(keyed, key=lambda each: each[:2]))


def _had_come(moment: Moment, at: tuple[int, datetime]) -> bool:
    position, time = at
    return moment.sequence <= position if moment.sequence is not None else moment.time <= time


def _top(moment: Moment) -> int:
    height = _LOW if moment.kind == "paths" else _LOW + 4
    return _HIGH - min(_HIGH, height + round(3 * math.log2(moment.weight)))


def _day(moment: Moment) -> date:
    return moment.time.date()


def _short(time: datetime, *, with_day: bool) -> str:
    return f"{time.day} {time:%b %H:%M}" if with_day else f"{time:%H:%M:%S}"
