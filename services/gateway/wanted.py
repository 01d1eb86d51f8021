"""Which events of the log somebody wants to see. Pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import orjson

from events.client import Entry, header
from events.domain import EVENT_TYPES, DomainEvent
from events.subjects import EVENT_HEADER
from services.gateway.mirror import Mirror
from services.gateway.words import machines_of, networks_of

KINDS = tuple(event_type.kind for event_type in EVENT_TYPES)
"""The kinds of events that there are."""

_EVENT = EVENT_HEADER.encode()


@dataclass(frozen=True)
class Wanted:
    """Events about this network and this machine, by one of these actors, of one of these kinds, and from that time;
    None, or nothing, stands for any."""

    network: UUID | None = None
    machine: UUID | None = None
    actors: frozenset[str] = frozenset()
    """Each as the log has it, or without its kind, or without its token; in small letters."""
    kinds: frozenset[str] = frozenset()
    since: datetime | None = None
    until: datetime | None = None
    """Not included."""

    @property
    def is_everything(self) -> bool:
        """Whether each event is wanted."""
        return self == Wanted()

    def matches(self, event: DomainEvent) -> bool:
        """Whether this is one of them."""
        return (
            (not self.kinds or event.kind in self.kinds)
            and (self.since is None or event.time >= self.since)
            and (self.until is None or event.time < self.until)
            and (self.network is None or self.network in networks_of(event))
            and (self.machine is None or self.machine in machines_of(event))
            and (not self.actors or not self.actors.isdisjoint(names_of_actor(event.actor)))
        )

    def may_match(self, entry: Entry) -> bool:
        """False for what is surely none of them; looked at without reading the event, which costs far more."""
        if self.kinds and kind_of(entry) not in self.kinds:
            return False
        if not all(str(item).encode() in entry.data for item in (self.network, self.machine) if item is not None):
            return False
        return not self.actors or _contains(entry.data.lower(), self.actors)


def names_of_actor(actor: str) -> tuple[str, ...]:
    """What an actor may be asked for by: `account:alice/laptop` also by `account:alice`, `alice/laptop` and `alice`."""
    whole = actor.lower()
    _, _, rest = whole.partition(":")
    names = (whole, whole.rpartition("/")[0], rest, rest.rpartition("/")[0])
    return tuple(name for name in names if name)


def actors_called(name: str, mirror: Mirror) -> frozenset[str]:
    """Whom somebody means by a name: an actor (`names_of_actor`), or the machines with this hostname."""
    asked = name.strip().lower()
    machines = (f"machine:{machine_id}" for machine_id in mirror.by_hostname.with_key(asked))
    return frozenset((asked, *machines)) - {""}


def kind_of(entry: Entry) -> str:
    """The kind of the event that a message of the log holds, by its header."""
    return (header(entry.headers, _EVENT) or b"").decode().partition(" ")[2].partition(":")[0]


def _contains(data: bytes, names: Collection[str]) -> bool:
    return any(orjson.dumps(name)[1:-1] in data for name in names)
