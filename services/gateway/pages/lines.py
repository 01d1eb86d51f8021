"""The log as pages list it: each event a line, with who did it, in words, and what it is about. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Literal
from uuid import UUID

from events.log import LoggedEvent
from services.gateway.history import names_in
from services.gateway.mirror import Mirror
from services.gateway.naming import SPELLED_OUT, NameOf
from services.gateway.words import in_words, machines_of, networks_of


@dataclass(frozen=True, slots=True)
class Thing:
    """A network or machine, and its page, if it still has one."""

    id: UUID
    kind: Literal["network", "machine"]
    name: str
    href: str | None


@dataclass(frozen=True, slots=True)
class Who:
    """Who did something: an account (with `detail`, its token), a machine, or what calls itself so."""

    actor: str
    kind: Literal["account", "machine", "other"]
    name: str
    detail: str = ""
    href: str | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """An event. Of many things that it is about it names the first few, and how many `more` there are."""

    sequence: int
    time: datetime
    kind: str
    who: Who
    text: str
    things: tuple[Thing, ...]
    more: int

    @property
    def then(self) -> int:
        """The position at which what it is about can be looked at: right after it; of an end, right before."""
        return self.sequence - 1 if self.kind.endswith(".deleted") else self.sequence

    def about_others(self, than: UUID | None) -> tuple[Thing, ...]:
        """What it is about beside that on whose page it stands."""
        return tuple(thing for thing in self.things if thing.id != than)


@dataclass(frozen=True, slots=True)
class Day:
    """The lines of one day, UTC."""

    day: date
    title: str
    lines: tuple[Line, ...]


def lines_of(events: Sequence[LoggedEvent], mirror: Mirror) -> list[Line]:
    """Events as lines, in their order."""
    name_of = names_in(list(events), mirror.name_of)
    return [_line(logged, mirror, name_of) for logged in events]


def days_of(lines: Iterable[Line], now: datetime) -> list[Day]:
    """Lines in their order, by days."""
    return [
        Day(day, day_in_words(day, now.date()), tuple(group))
        for day, group in groupby(lines, key=lambda line: line.time.date())
    ]


def day_in_words(day: date, today: date) -> str:
    """`Today, 23 November 2026`."""
    written = f"{day.day} {day:%B %Y}"
    nearby = {today: "Today", today - timedelta(days=1): "Yesterday"}
    return f"{nearby.get(day, f'{day:%A}')}, {written}"


def who(actor: str, mirror: Mirror, name_of: NameOf) -> Who:
    """Who an actor is."""
    kind, _, rest = actor.partition(":")
    if kind == "account":
        name, _, token = rest.rpartition("/")
        return Who(actor, "account", name or rest, token if name else "")
    if kind == "machine" and (machine_id := _uuid(rest)) is not None:
        found = thing("machine", machine_id, mirror, name_of)
        return Who(actor, "machine", found.name, href=found.href)
    return Who(actor, "other", actor)


def thing(kind: Literal["network", "machine"], item: UUID, mirror: Mirror, name_of: NameOf) -> Thing:
    """A network or machine by its id, also one that is no more."""
    exists = _has_network(mirror, item) if kind == "network" else mirror.has_machine(item)
    return Thing(item, kind, name_of(item) or f"{kind} {str(item)[:8]}", f"/{kind}s/{item}" if exists else None)


def _has_network(mirror: Mirror, item: UUID) -> bool:
    network = mirror.networks.get(item)
    return network is not None and network.record is not None


def _line(logged: LoggedEvent, mirror: Mirror, name_of: NameOf) -> Line:
    event = logged.event
    networks, machines = networks_of(event), machines_of(event)
    things = [thing("network", item, mirror, name_of) for item in networks[:SPELLED_OUT]]
    things += [thing("machine", item, mirror, name_of) for item in machines[:SPELLED_OUT]]
    return Line(
        sequence=logged.sequence,
        time=event.time,
        kind=event.kind,
        who=who(event.actor, mirror, name_of),
        text=in_words(event, name_of),
        things=tuple(things),
        more=len(networks) + len(machines) - len(things),
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
