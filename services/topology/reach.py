"""Who reaches whom in one network, by the newest reports of its members. Pure.

What counts follows from the newest report of each link, by its place in REACH, and from who is a member: the order in
which either is told makes no difference. Machines are numbers here, in the order in which they were first heard of.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from events.fields import TransitMode
from events.records import LinkState
from events.transit import MAX_HOPS, RTT_STEPS

UNREACHABLE = 0
"""Where a link has no round trip because there is no direct path."""

ALWAYS, AUTO, UNWILLING, ABSENT = range(4)
"""How gladly a machine is a transit; absent are those that are not members."""

_RANKS: dict[TransitMode, int] = {"always": ALWAYS, "auto": AUTO, "never": UNWILLING}
_RTT_BITS = 12


class Turn(NamedTuple):
    """What became of a pair: the round trip in milliseconds, `UNREACHABLE`, or None where nothing is known."""

    one: int
    other: int
    before: int | None
    after: int | None


class Reach:
    """The members of a network and the links between them."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []
        """Each machine's id, by its number."""
        self.numbers: dict[UUID, int] = {}
        """The other way round."""
        self.keys: list[int] = []
        """For each machine a number of 64 bits that follows from its id, as good as chance."""
        self.ranks: list[int] = []
        """For each machine how gladly it is a transit."""
        self.near: list[dict[int, int]] = []
        """For each machine who is reached directly, and the round trip: in both directions the same."""
        self.far: list[set[int]] = []
        """For each machine to whom there is no direct path: in both directions the same."""
        self._around: dict[int, list[set[int]]] = {}
        self._reports: list[dict[int, int]] = []
        """For each machine its newest report of each peer: the place in REACH and the round trip in one number."""
        self._reported_by: list[set[int]] = []

    def enter(self, machine_id: UUID, transit: TransitMode) -> Iterator[Turn]:
        """Note a member, a new one or as it is now. Its pairs change one by one, as the answer is read."""
        number = self._number(machine_id)
        self._set_rank(number, _RANKS[transit])
        yield from self._settle_all(number)

    def leave(self, machine_id: UUID) -> Iterator[Turn]:
        """Note that a machine is no member any more; like `enter`. Its reports count again if it comes back."""
        number = self.numbers.get(machine_id)
        if number is not None:
            self._set_rank(number, ABSENT)
            yield from self._settle_all(number)

    def forget(self, machine_id: UUID) -> None:
        """Let go of the reports by and about a machine that is no member and will never be one again."""
        number = self.numbers.get(machine_id)
        if number is None:
            return
        for peer in self._reported_by[number]:
            del self._reports[peer][number]
        for peer in self._reports[number]:
            self._reported_by[peer].discard(number)
        self._reports[number], self._reported_by[number] = {}, set()

    def report(self, sequence: int, machine_id: UUID, link: LinkState) -> Iterator[Turn]:
        """Take in what stands at a sequence of REACH; what follows for the pair."""
        number, peer = self._number(machine_id), self._number(link.peer_id)
        if self._reports[number].get(peer, 0) >> _RTT_BITS >= sequence:
            return
        rtt = UNREACHABLE if link.state == "unreachable" else link.rtt or RTT_STEPS[-1]
        self._reports[number][peer] = sequence << _RTT_BITS | min(max(rtt, 0), RTT_STEPS[-1])
        self._reported_by[peer].add(number)
        yield from self._settle(number, peer)

    def clear(self) -> None:
        """Note that nobody is a member any more."""
        for number in range(len(self.ids)):
            self._set_rank(number, ABSENT)
            self.near[number].clear()
            self.far[number].clear()

    def around(self, number: int) -> list[set[int]]:
        """The machines that are willing to be a transit, by how many links away they are: first those one link away,
        then those two links, through such machines only. Up to `MAX_HOPS`, or as far as there are any."""
        found = self._around.get(number)
        if found is None:
            found = self._around[number] = []
            willing = {one for one, rank in enumerate(self.ranks) if rank < UNWILLING} - {number}
            edge = {number}
            while edge and len(found) < MAX_HOPS:
                edge = willing.intersection(set().union(*(self.near[one].keys() for one in edge)))
                willing -= edge
                found.append(edge)
        return found

    def _number(self, machine_id: UUID) -> int:
        number = self.numbers.get(machine_id)
        if number is None:
            number = self.numbers[machine_id] = len(self.ids)
            self.ids.append(machine_id)
            self.keys.append(int.from_bytes(hashlib.sha256(machine_id.bytes).digest()[:8], "big"))
            self.ranks.append(ABSENT)
            self.near.append({})
            self.far.append(set())
            self._reports.append({})
            self._reported_by.append(set())
        return number

    def _set_rank(self, number: int, rank: int) -> None:
        if self.ranks[number] != rank:
            self.ranks[number] = rank
            self._around.clear()

    def _settle_all(self, number: int) -> Iterator[Turn]:
        for peer in self._reports[number].keys() | self._reported_by[number]:
            yield from self._settle(number, peer)

    def _settle(self, one: int, other: int) -> Iterator[Turn]:
        before = UNREACHABLE if other in self.far[one] else self.near[one].get(other)
        after = self._found(one, other)
        if before == after:
            return
        if before or after:
            self._around.clear()
        if before == UNREACHABLE:
            self.far[one].discard(other)
            self.far[other].discard(one)
        elif not after:
            self.near[one].pop(other, None)
            self.near[other].pop(one, None)
        if after == UNREACHABLE:
            self.far[one].add(other)
            self.far[other].add(one)
        elif after is not None:
            self.near[one][other] = self.near[other][one] = after
        yield Turn(one, other, before, after)

    def _found(self, one: int, other: int) -> int | None:
        """What both ends' newest reports come to: no direct path where either says so, else the longer round trip."""
        if one == other or ABSENT in (self.ranks[one], self.ranks[other]):
            return None
        reports = (self._reports[one].get(other), self._reports[other].get(one))
        said = [report & ((1 << _RTT_BITS) - 1) for report in reports if report is not None]
        if not said:
            return None
        return UNREACHABLE if UNREACHABLE in said else max(said)
