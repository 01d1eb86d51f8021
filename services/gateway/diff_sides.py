"""The two moments that are compared: which networks are meant, and what everything is called. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Generic, TypeVar
from uuid import UUID

from services.gateway.differences import Change, Named, What
from services.gateway.mirror import Network
from services.gateway.naming import listed
from services.gateway.seen import Seen

FEW = 8
"""What comes, goes or changes alike in up to so many places is told place by place, else together;"""
FEW_OF_ALL = 10_000
"""up to so many where everything is to be told place by place."""

_Place = TypeVar("_Place")
Pair = tuple[UUID, UUID]
Step = Change | None
"""A change; or None, when others may run."""


@dataclass(frozen=True)
class Sides:
    """Two moments, and what of them is to be compared."""

    before: Seen
    after: Seen
    only: UUID | None = None
    """The network that alone is meant."""
    whole: bool = False
    """Whether everything is told place by place, where that can be."""
    _orders: dict[UUID, tuple[str, UUID]] = field(default_factory=dict)

    @property
    def few(self) -> int:
        """In up to so many places what is alike is told place by place."""
        return FEW_OF_ALL if self.whole else FEW

    @cached_property
    def network_ids(self) -> list[UUID]:
        """The networks that are meant, by name."""
        ids = self.before.mirror.networks.keys() | self.after.mirror.networks.keys()
        meant = (item for item in ids if self.only in (None, item) and (self.had(item) or self.has(item)))
        return sorted(meant, key=self.order)

    def networks(self, network_id: UUID) -> tuple[Network, Network]:
        """A network at both moments: empty where there is none."""
        return _network(self.before, network_id), _network(self.after, network_id)

    def had(self, network_id: UUID) -> bool:
        """Whether there was this network before."""
        return _network(self.before, network_id).record is not None

    def has(self, network_id: UUID) -> bool:
        """Whether there is this network after."""
        return _network(self.after, network_id).record is not None

    def is_meant(self, network_ids: Iterable[UUID], machine_ids: Iterable[UUID]) -> bool:
        """Whether something that names these has to do with what is compared."""
        if self.only is None or self.only in network_ids:
            return True
        return any(machine_id in self._members for machine_id in machine_ids)

    @cached_property
    def _members(self) -> frozenset[UUID]:
        assert self.only is not None
        return frozenset().union(*(network.members for network in self.networks(self.only)))

    def name(self, item: UUID) -> str | None:
        """What something is called after, or if it is gone then, was before."""
        return self.after.mirror.name_of(item) or self.before.mirror.name_of(item)

    def network(self, network_id: UUID) -> Named:
        """A network."""
        return Named(network_id, self.name(network_id) or f"network {network_id}")

    def machine(self, machine_id: UUID) -> Named:
        """A machine."""
        return Named(machine_id, self.name(machine_id) or f"machine {machine_id}")

    def machines(self, machine_ids: Iterable[UUID]) -> tuple[Named, ...]:
        """Machines, in their order."""
        return tuple(map(self.machine, machine_ids))

    def order(self, item: UUID) -> tuple[str, UUID]:
        """By what things are sorted: the names of both moments, so that it is the same looked at from either."""
        known = self._orders.get(item)
        if known is None:
            names = (side.mirror.name_of(item) or "" for side in (self.before, self.after))
            known = self._orders[item] = min(filter(None, (name.lower() for name in names)), default=""), item
        return known

    def in_order(self, items: Iterable[UUID]) -> list[UUID]:
        """Things, by name."""
        return sorted(items, key=self.order)

    def pair(self, one: UUID, other: UUID) -> Pair:
        """Two machines, by name."""
        return (one, other) if self.order(one) < self.order(other) else (other, one)


def names_of(machines: Sequence[Named]) -> str:
    """Machines as a sentence names them."""
    return listed([machine.name for machine in machines])


def together(sides: Sides, network_id: UUID, what: What, text: str, changes: list[Change]) -> Iterator[Change]:
    """Changes that came with a network's creation or deletion, or went: of many, one that stands for them."""
    whole_network = sides.had(network_id) != sides.has(network_id)
    if not whole_network or len(changes) <= sides.few:
        yield from changes
        return
    kind = changes[0].kind
    words = text.format(count=f"{len(changes):,}", network=sides.network(network_id).name)
    end = "" if kind == "added" else " no more"
    yield Change(what, kind, words + end, sides.network(network_id), count=len(changes))


class Alike(Generic[_Place]):
    """Places, such as pairs of machines, where the same changed: so many of them as are told one by one, and how many
    there are."""

    def __init__(self, few: int) -> None:
        self.places: list[_Place] = []
        self.count = 0
        self._few = few
        self._common: set[UUID] | None = None

    @property
    def are_few(self) -> bool:
        """Whether they are to be told place by place."""
        return self.count <= self._few

    @property
    def hub(self) -> UUID | None:
        """The one machine that has a part in all of them, if there is one."""
        return next(iter(self._common)) if self._common is not None and len(self._common) == 1 else None

    def add(self, place: _Place, *machine_ids: UUID) -> None:
        """One more, between these machines."""
        self.count += 1
        if self.count <= self._few:
            self.places.append(place)
        if self._common is None:
            self._common = set(machine_ids)
        elif self._common:
            self._common.intersection_update(machine_ids)


def _network(side: Seen, network_id: UUID) -> Network:
    network = side.mirror.networks.get(network_id)
    return network if network is not None and network.record is not None else Network()
