"""The derivation of paths: who reaches whom into the records that PATHS must hold. Pure.

The records follow from the newest report of each link and from who is a member, and from nothing else: not from the
order in which this was told, nor from what was chosen before. (What steadies the choice is that round trips are
reported in steps, which jitter does not change.) A pair without a direct path has a record for each end, with the same
ways each the other way round; a transit on a way through several has relay records.

The work for a report follows the pairs for which the link can matter, never the size of the network. What is told only
marks pairs; `Paths.drain` chooses for those that are marked, each once however much was told.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import NamedTuple
from uuid import UUID

from events.fields import TransitMode
from events.records import PathRecord, ReachEvent, RelayRecord
from events.subjects import path, relay
from services.topology.choice import Chosen, Way
from services.topology.choices import Choices, Pair, pair_of
from services.topology.reach import ABSENT, Reach, Turn

Wanted = PathRecord | RelayRecord | None
"""What a subject of PATHS must say; None for nothing."""


class Change(NamedTuple):
    """A subject of PATHS whose record must change, from what, and to what."""

    subject: str
    before: Wanted
    body: Wanted


class Paths:
    """The paths of all networks."""

    def __init__(self) -> None:
        self._networks: dict[UUID, _Network] = {}
        self._unsettled: dict[UUID, None] = {}
        """Each network's turn comes before that of those which changed later."""

    def member(self, network_id: UUID, machine_id: UUID, transit: TransitMode) -> None:
        """A machine is a member of a network, a new one or as it is now."""
        self._network(network_id).member(machine_id, transit)

    def gone(self, network_id: UUID, machine_id: UUID) -> None:
        """A machine is no member of a network (any more)."""
        if network_id in self._networks:
            self._network(network_id).gone(machine_id)

    def network_gone(self, network_id: UUID) -> None:
        """A network was deleted: nothing is said of it any more, not even that its paths are gone."""
        if network_id in self._networks:
            self._networks[network_id].clear()

    def forget(self, machine_id: UUID) -> None:
        """A machine was deleted, after it left its networks. Its id is never used again."""
        for network in self._networks.values():
            network.reach.forget(machine_id)

    def link(self, sequence: int, event: ReachEvent) -> None:
        """A report that stands at a sequence of REACH."""
        if event.link.peer_id != event.machine_id:
            self._network(event.network_id).link(sequence, event)

    @property
    def is_settled(self) -> bool:
        """Whether everything that has changed was told."""
        return not self._unsettled

    def drain(self, limit: int) -> list[Change]:
        """What has changed since it was last asked, of at most so many pairs at once: until `is_settled`. A network
        with more to choose comes after the others next time."""
        changes: list[Change] = []
        for network_id in list(self._unsettled):
            network = self._networks[network_id]
            limit = network.drain(limit, changes)
            del self._unsettled[network_id]
            if network.choices.marked:
                self._unsettled[network_id] = None
                break
        return changes

    def wanted(self, subject: str) -> Wanted:
        """What a subject must say, as it was drained."""
        _, _, machine, kind, network, peer = subject.split(".")
        held = self._networks.get(UUID(network))
        if held is None:
            return None
        return held.path(UUID(machine), UUID(peer)) if kind == "path" else held.relay(UUID(machine), UUID(peer))

    def _network(self, network_id: UUID) -> _Network:
        network = self._networks.get(network_id)
        if network is None:
            network = self._networks[network_id] = _Network(network_id)
        self._unsettled.setdefault(network_id)
        return network


class _Network:
    """The paths of one network."""

    def __init__(self, network_id: UUID) -> None:
        self.reach = Reach()
        self._id = network_id
        self.choices = Choices(self.reach)
        self._relays: defaultdict[tuple[int, int], Counter[tuple[int, int]]] = defaultdict(Counter)
        """For a transit and the next machine: the addresses (machine and its transit) behind, each with how many ways
        need it."""

    def member(self, machine_id: UUID, transit: TransitMode) -> None:
        """See `Paths`."""
        number = self.reach.numbers.get(machine_id)
        before = None if number is None else self.reach.ranks[number]
        self._turn(self.reach.enter(machine_id, transit))
        number = self.reach.numbers[machine_id]
        if before not in (None, ABSENT, self.reach.ranks[number]):
            self.choices.will_changed(number)

    def gone(self, machine_id: UUID) -> None:
        """See `Paths`."""
        self._turn(self.reach.leave(machine_id))

    def clear(self) -> None:
        """See `Paths.network_gone`."""
        self.reach.clear()
        self.choices = Choices(self.reach)
        self._relays.clear()

    def link(self, sequence: int, event: ReachEvent) -> None:
        """See `Paths`."""
        self._turn(self.reach.report(sequence, event.machine_id, event.link))

    def _turn(self, turns: Iterable[Turn]) -> None:
        for turn in turns:
            self.choices.turned(turn)

    def drain(self, limit: int, changes: list[Change]) -> int:
        """Choose for at most `limit` pairs and add the changes; how many of the limit are left."""
        paths: list[tuple[Pair, Chosen | None, Chosen | None]] = []
        relays: dict[tuple[int, int], frozenset[tuple[int, int]]] = {}
        while limit and self.choices.marked:
            limit -= 1
            pair, before, after = self.choices.choose()
            if (before and before.ways) != (after and after.ways):
                paths.append((pair, before, after))
                self._count(pair, before, -1, relays)
                self._count(pair, after, 1, relays)
        ids = self.reach.ids
        # The transits first, so that they are ready sooner.
        for ends, told in relays.items():
            needed = self._relays.get(ends, {}).keys()
            if needed != told:
                subject = relay(ids[ends[0]], self._id, ids[ends[1]])
                changes.append(Change(subject, self._relay(ends, told), self._relay(ends, needed)))
        for pair, before, after in paths:
            for ends in (pair, pair[::-1]):
                subject = path(ids[ends[0]], self._id, ids[ends[1]])
                changes.append(Change(subject, self._path(ends, before), self._path(ends, after)))
        return limit

    def path(self, machine_id: UUID, peer_id: UUID) -> PathRecord | None:
        """See `Paths.wanted`."""
        ends = self._ends(machine_id, peer_id)
        return ends and self._path(ends, self.choices.held.get(pair_of(*ends)))

    def relay(self, machine_id: UUID, peer_id: UUID) -> RelayRecord | None:
        """See `Paths.wanted`."""
        ends = self._ends(machine_id, peer_id)
        return ends and self._relay(ends, self._relays.get(ends, {}))

    def _ends(self, machine_id: UUID, peer_id: UUID) -> tuple[int, int] | None:
        numbers = self.reach.numbers
        return (numbers[machine_id], numbers[peer_id]) if machine_id in numbers and peer_id in numbers else None

    def _path(self, ends: tuple[int, int], chosen: Chosen | None) -> PathRecord | None:
        if chosen is None:
            return None
        (one, other), ids = ends, self.reach.ids
        ways = chosen.ways if one < other else tuple(way[::-1] for way in chosen.ways)
        named = tuple(tuple(ids[transit] for transit in way) for way in ways)
        return PathRecord(network_id=self._id, machine_id=ids[one], peer_id=ids[other], ways=named)

    def _relay(self, ends: tuple[int, int], behind: Iterable[tuple[int, int]]) -> RelayRecord | None:
        (one, other), ids = ends, self.reach.ids
        named = tuple(sorted((ids[machine], ids[via]) for machine, via in behind))
        if not named:
            return None
        return RelayRecord(network_id=self._id, machine_id=ids[one], peer_id=ids[other], behind=named)

    def _count(
        self,
        pair: Pair,
        chosen: Chosen | None,
        count: int,
        told: dict[tuple[int, int], frozenset[tuple[int, int]]],
    ) -> None:
        """Count what the ways of a pair need of their transits; `told` takes what was there before."""
        one, other = pair
        for way in chosen.ways if chosen else ():
            for transit, following, behind in _relays_of(one, way, other):
                counted = self._relays[transit, following]
                told.setdefault((transit, following), frozenset(counted))
                counted[behind] += count
                if not counted[behind]:
                    del counted[behind]
                if not counted:
                    del self._relays[transit, following]


def _relays_of(one: int, way: Way, other: int) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """Which transit of a way passes on to which machine, and for which machine at the end and transit next to it."""
    for transit, following in pairwise(way):
        yield transit, following, (other, way[-1])
        yield following, transit, (one, way[0])
