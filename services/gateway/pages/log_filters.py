"""What the events page is asked for: its address read into what is wanted, and back. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from urllib.parse import urlencode
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.gateway.http.schemas import MAX_POSITION
from services.gateway.mirror import Mirror
from services.gateway.pages.kinds import NAMES
from services.gateway.wanted import Wanted, actors_called

PATH = "/events"

_FIELDS = ("network", "machine", "actor", "since", "until")
_LABELS = {"network": "Network", "machine": "Machine", "actor": "By", "since": "From", "until": "Until"}


class Asked(BaseModel):
    """The address as it came. What is empty was not given."""

    model_config = ConfigDict(extra="ignore", str_max_length=200, str_strip_whitespace=True)

    network: str = ""
    machine: str = ""
    actor: str = ""
    since: str = ""
    until: str = ""
    kind: list[str] = Field(default_factory=list, max_length=2 * len(NAMES))
    before: int | None = Field(None, ge=0, le=MAX_POSITION)
    after: int | None = Field(None, ge=0, le=MAX_POSITION)


@dataclass(frozen=True, slots=True)
class Chosen:
    """One filter in force, and the address without it."""

    label: str
    value: str
    without: str


@dataclass(frozen=True)
class Filters:
    """What is asked for, as far as it means something. `faults` says of fields why they do not."""

    network: UUID | None
    machine: UUID | None
    actor: str
    kinds: tuple[str, ...]
    since: datetime | None
    until: datetime | None
    faults: dict[str, str]

    def wanted(self, mirror: Mirror) -> Wanted:
        """The events that this means."""
        actors = actors_called(self.actor, mirror)
        return Wanted(self.network, self.machine, actors, frozenset(self.kinds), self.since, self.until)

    def address(self, without: str = "", **place: int | None) -> str:
        """The page's address with these filters, but for one, at a place in the log."""
        given: list[tuple[str, object]] = [
            ("network", self.network),
            ("machine", self.machine),
            ("actor", self.actor),
            ("since", written(self.since)),
            ("until", written(self.until)),
            *(("kind", kind) for kind in self.kinds),
        ]
        kept = [(name, value) for name, value in given if value and without not in (name, f"{name}:{value}")]
        kept += [(name, value) for name, value in place.items() if value is not None]
        return f"{PATH}?{urlencode(kept)}" if kept else PATH

    def chosen(self, mirror: Mirror) -> list[Chosen]:
        """The filters in force, in words."""
        times = {"since": self.since, "until": self.until}
        values = {"network": name_in(mirror, self.network), "machine": name_in(mirror, self.machine)}
        values |= {"actor": self.actor} | {
            name: f"{time:%Y-%m-%d %H:%M:%S} UTC" for name, time in times.items() if time
        }
        found = [Chosen(_LABELS[name], values[name], self.address(name)) for name in _FIELDS if values.get(name)]
        return found + [Chosen("Kind", NAMES[kind], self.address(f"kind:{kind}")) for kind in self.kinds]


def read(asked: Asked, mirror: Mirror) -> Filters:
    """What an address asks for; networks and machines by their names or ids."""
    faults: dict[str, str] = {}
    return Filters(
        network=_item("network", asked.network, mirror, faults),
        machine=_item("machine", asked.machine, mirror, faults),
        actor=asked.actor,
        kinds=tuple(kind for kind in NAMES if kind in asked.kind),
        since=_time("since", asked.since, faults),
        until=_time("until", asked.until, faults),
        faults=faults,
    )


def is_plain(asked: Asked, query: str) -> bool:
    """Whether an address says what it asks for in the shortest way: without empty fields, with ids instead of names."""
    names = [part.partition("=") for part in query.split("&")] if query else []
    return all(value for _, _, value in names) and all(_uuid(text) for text in (asked.network, asked.machine) if text)


def name_in(mirror: Mirror, item: UUID | None) -> str:
    """What a filter's network or machine is called; its id, where that is not known any more."""
    return "" if item is None else mirror.name_of(item) or str(item)


def written(time: datetime | None) -> str:
    """A time as browsers' fields have it, in UTC."""
    return "" if time is None else f"{time:%Y-%m-%dT%H:%M:%S}" if time.second else f"{time:%Y-%m-%dT%H:%M}"


def _item(kind: Literal["network", "machine"], text: str, mirror: Mirror, faults: dict[str, str]) -> UUID | None:
    found = _uuid(text)
    if found is None and kind == "network":
        found = mirror.network_ids.get(text)
    elif found is None:
        found = next(iter(mirror.by_hostname.with_key(text.lower())), None)
    if text and found is None:
        faults[kind] = f"There is no {kind} of this name. Of one that was deleted, give the uuid."
    return found


def _time(name: str, text: str, faults: dict[str, str]) -> datetime | None:
    if not text:
        return None
    try:
        time = datetime.fromisoformat(text)
        return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).replace(microsecond=0)
    except (ValueError, OverflowError):
        faults[name] = "Write it as 2026-05-04T08:30, in UTC."
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
