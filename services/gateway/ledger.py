"""Who held which address of which network, from when to when, as the events tell it. Pure.

A *holding* begins with the event that assigned a machine and ends with the one that unassigned it, or with its
network's deletion. Within a network, a machine has one address at a time, and an address one machine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from events.client import Entry, header
from events.domain import (
    MachinesAssigned,
    MachinesUnassigned,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
)
from events.log import LoggedEvent
from events.subjects import EVENT_HEADER

Place = tuple[int, int]
"""Where a holding begins: the position of its event in the log, and which of the event's assignments it is."""

_EVENT = EVENT_HEADER.encode()
_MOVES = (MachinesAssigned.kind.encode(), MachinesUnassigned.kind.encode())


@dataclass(frozen=True, slots=True)
class Holding:
    """A machine's holding of an address."""

    network_id: UUID
    machine_id: UUID
    address: IPv4Address
    place: Place
    began: LoggedEvent
    ended: LoggedEvent | None = None
    """None while it is held."""


@dataclass
class Life:
    """A network from its creation to its deletion."""

    created: LoggedEvent
    cidr: IPv4Network
    names: list[tuple[int, str]]
    """Each with the position from which on it counted."""
    deleted: LoggedEvent | None = None

    def name_at(self, position: int) -> str:
        """Its name at a position of the log; its first one before that."""
        return self.names[max(0, bisect_right(self.names, position, key=lambda named: named[0]) - 1)][1]

    @property
    def name_now(self) -> str | None:
        """Its name; None if it was deleted."""
        return None if self.deleted is not None else self.names[-1][1]


def lives_of(events: Iterable[LoggedEvent]) -> dict[UUID, Life]:
    """All networks that there ever were, the oldest first, from the registry's events."""
    lives: dict[UUID, Life] = {}
    for logged in events:
        match event := logged.event:
            case NetworkCreated():
                lives[event.network_id] = Life(logged, event.network_cidr, [(logged.sequence, event.name)])
            case NetworkRenamed():
                lives[event.network_id].names.append((logged.sequence, event.name))
            case NetworkDeleted():
                lives[event.network_id].deleted = logged
            case _:
                pass
    return lives


@dataclass(frozen=True)
class Asked:
    """Which holdings are meant: all of those that these are true of."""

    address: IPv4Address | None = None
    machine_id: UUID | None = None
    at: int | None = None
    """Held right after the event at this position of the log."""

    def may_tell(self, entry: Entry) -> bool:
        """False for a message of the log that surely tells of none; looked at without reading the event, which costs
        far more."""
        topic = (header(entry.headers, _EVENT) or b"").partition(b" ")[2]
        if not topic.startswith(_MOVES):
            return False
        if self.machine_id is not None and str(self.machine_id).encode() not in entry.data:
            return False
        return self.address is None or f'"{self.address}"'.encode() in entry.data

    def means(self, machine_id: UUID, address: IPv4Address) -> bool:
        """Whether it is about this machine and address."""
        return self.machine_id in (None, machine_id) and self.address in (None, address)

    def concerns(self, life: Life) -> bool:
        """Whether a network can have had such a holding."""
        if self.address is not None and self.address not in life.cidr:
            return False
        if self.at is None:
            return True
        return life.created.sequence <= self.at and (life.deleted is None or life.deleted.sequence > self.at)


@dataclass
class Roll:
    """The first `limit` holdings of a network that are asked for, and that begin after `after`. Takes the network's
    events in the order of the log.

    It keeps those holdings alone, and with `at` those that were held at one time.
    """

    network_id: UUID
    asked: Asked
    limit: int
    after: Place = (0, -1)
    is_held: Callable[[Holding], bool] = lambda holding: False
    """Whether it is known that a holding has not ended: then it is not looked for where it ends."""
    more: bool = False
    """Whether there are more of them."""
    _found: dict[Place, Holding] = field(default_factory=dict)
    _open: dict[UUID, Place] = field(default_factory=dict)
    """Those that have not ended, by machine."""

    @property
    def holdings(self) -> list[Holding]:
        """What was found, in the order in which they began."""
        self._trim()
        return list(self._found.values())

    def take(self, logged: LoggedEvent) -> None:
        """The network's next event."""
        event, at = logged.event, self.asked.at
        if isinstance(event, MachinesAssigned):
            if at is None or logged.sequence <= at:
                self._begin(logged, event)
        elif isinstance(event, MachinesUnassigned):
            for assignment in event.assignments:
                self._end(assignment.machine_id, logged)

    def deleted(self, logged: LoggedEvent) -> None:
        """The network's deletion, after all its events."""
        for machine_id in list(self._open):
            self._end(machine_id, logged)

    def is_done(self, position: int) -> bool:
        """Whether nothing changes any more that follows after a position of the log."""
        if self.asked.at is not None:
            if position < self.asked.at:
                return False
            self._trim()
        elif not self.more and not (self._open and self._is_one_alone):
            return False
        return all(self.is_held(self._found[place]) for place in self._open.values())

    @property
    def _is_one_alone(self) -> bool:
        """Whether nobody else can come to have it while somebody has it."""
        return self.asked.address is not None or self.asked.machine_id is not None

    def _begin(self, logged: LoggedEvent, event: MachinesAssigned) -> None:
        for index, (machine_id, address) in enumerate((each.machine_id, each.address) for each in event.assignments):
            place = (logged.sequence, index)
            if place <= self.after or not self.asked.means(machine_id, address):
                continue
            if self.asked.at is None and len(self._found) == self.limit:
                self.more = True
                return
            self._found[place] = Holding(self.network_id, machine_id, address, place, logged)
            self._open[machine_id] = place

    def _end(self, machine_id: UUID, logged: LoggedEvent) -> None:
        place = self._open.pop(machine_id, None)
        if place is None:
            return
        if self.asked.at is not None and logged.sequence <= self.asked.at:
            del self._found[place]
        else:
            self._found[place] = replace(self._found[place], ended=logged)

    def _trim(self) -> None:
        for place in list(self._found)[self.limit :]:
            self.more = True
            del self._found[place]
        self._open = {machine_id: place for machine_id, place in self._open.items() if place in self._found}
