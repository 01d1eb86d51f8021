"""What is known of one network's BGP speakers, and of who reaches whom. Pure.

What counts is the newest report of each thing, and who is a member; in which order it was told makes no difference.
Machines are numbers here, in the order in which they were first heard of, and sets of them the bits of an integer, so
that large networks are looked at quickly.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import datetime, timedelta
from uuid import UUID

from events.routing import SessionKind

GONE_AFTER = timedelta(seconds=30)
"""A machine that seems to be gone counts as gone after so long."""

Machines = int
"""A set of machines: the bit of each one's number."""


class Sight:
    """The members of a network, their speakers, sessions and links."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []
        """Each machine's id, by its number."""
        self.members: Machines = 0
        self._numbers: dict[UUID, int] = {}
        self._told: Machines = 0
        """Those whose speaker was told of."""
        self._running: Machines = 0
        self._failed: Machines = 0
        """Speakers that ran and do not now, but are meant to."""
        self._sessions: dict[SessionKind, defaultdict[int, Machines]] = {
            kind: defaultdict(int) for kind in ("mesh", "client")
        }
        """With whom a machine says that its sessions are established."""
        self._near = _Said()
        """Whom a machine reaches directly, by its own words."""
        self._far = _Said()
        """Whom it does not."""
        self._seems_gone: dict[int, datetime] = {}
        """Since when."""
        self._seems_remote: dict[int, datetime] = {}
        """Since when a machine is out of reach for most others, but is not gone."""

    # What is told

    def member(self, machine_id: UUID, *, is_member: bool) -> None:
        """A machine is a member, or is none (any more)."""
        self.members = _with(self.members, self.number(machine_id), is_in=is_member)

    def clear(self) -> None:
        """Nobody is a member any more."""
        self.members = 0

    def speaker(self, machine_id: UUID, state: str) -> None:
        """A machine's speaker is `running`, `off` or `failed`."""
        number = self.number(machine_id)
        self._told |= 1 << number
        self._running = _with(self._running, number, is_in=state == "running")
        self._failed = _with(self._failed, number, is_in=state == "failed")

    def session(self, machine_id: UUID, peer_id: UUID, kind: SessionKind, *, is_established: bool) -> None:
        """How a machine finds a session of its. A reflector's with its clients are known from those."""
        if kind == "reflector":
            return
        sessions, number = self._sessions[kind], self.number(machine_id)
        sessions[number] = _with(sessions[number], self.number(peer_id), is_in=is_established)

    def link(self, machine_id: UUID, peer_id: UUID, *, is_direct: bool) -> None:
        """How a machine finds its link to a peer."""
        number, peer = self.number(machine_id), self.number(peer_id)
        self._near.put(number, peer, is_in=is_direct)
        self._far.put(number, peer, is_in=not is_direct)

    def number(self, machine_id: UUID) -> int:
        """A machine's number."""
        number = self._numbers.get(machine_id)
        if number is None:
            number = self._numbers[machine_id] = len(self.ids)
            self.ids.append(machine_id)
        return number

    def bits(self, machine_ids: frozenset[UUID] | tuple[UUID, ...]) -> Machines:
        """These machines as a set."""
        return sum(1 << number for number in {self.number(machine_id) for machine_id in machine_ids})

    def named(self, machines: Machines) -> frozenset[UUID]:
        """The ids of a set."""
        return frozenset(self.ids[number] for number in each(machines))

    # What follows

    def look(self, now: datetime) -> datetime | None:
        """Note who seems to be gone as of now, and who does not any more; when to look again, if nothing is told."""
        speaking = (self._running | self._failed) & self.members
        gone = (self._failed | self._unheard()) & self.members
        _note(self._seems_gone, gone, now)
        _note(self._seems_remote, self._remote(speaking & ~gone), now)
        due = [since + GONE_AFTER for since in (*self._seems_gone.values(), *self._seems_remote.values())]
        return min((moment for moment in due if moment > now), default=None)

    def live(self, now: datetime, presumed: Machines) -> Machines:
        """The members that run a speaker, and are not gone. Of whose speaker nothing was told (any more), it runs if
        they are `presumed` to have one, or somebody has an established session with it."""
        for sessions in self._sessions.values():
            for peers in sessions.values():
                presumed |= peers
        speaking = self._running | self._failed | (presumed & ~self._told)
        return speaking & self.members & ~_since_long(self._seems_gone, now)

    def remote(self, now: datetime) -> Machines:
        """The members that most others have not reached directly for long."""
        return _since_long(self._seems_remote, now)

    def linked(self, number: int, machines: Machines) -> int:
        """To how many of these a machine has direct links."""
        return (self._direct(number) & machines).bit_count()

    def has_full_mesh(self, machines: Machines) -> bool:
        """Whether each two of these have a session of the full mesh, but for those that nothing joins."""
        mesh = self._sessions["mesh"]
        return all(
            not (island & ~(1 << number) & ~mesh[number])
            for island in self._islands(machines)
            for number in each(island)
        )

    def lacks(self, number: int, reflectors: Machines) -> Machines:
        """The reflectors of which a machine is no client with a session that is established, but for itself."""
        return reflectors & ~self._sessions["client"][number] & ~(1 << number)

    def lonely(self, machines: Machines) -> Machines:
        """Those of these that say that they reach none of the others directly."""
        return sum(1 << number for number in each(machines) if not machines & ~(1 << number) & ~self._far.by[number])

    def _apart(self, number: int) -> Machines:
        """To whom a machine has no direct link, as one end says at least."""
        return self._far.by[number] | self._far.of[number]

    def serving(self, machines: Machines) -> Machines:
        """Those of these of which most others are clients."""
        counts: Counter[int] = Counter()
        for number in each(machines):
            counts.update(each(self._sessions["client"][number] & machines))
        return sum(1 << number for number, count in counts.items() if 2 * count >= machines.bit_count())

    def _direct(self, number: int) -> Machines:
        """To whom a machine has direct links: neither end says otherwise, and one says so."""
        near = self._near.by[number] | self._near.of[number]
        return near & ~self._apart(number)

    def _unheard(self) -> Machines:
        """Those of whom nothing is heard. What counts is who says that he does not reach them, while they go on saying
        otherwise, for they say nothing; and who says that he does. What those say who are unheard themselves counts
        not.

        One member alone must not make others seem gone whom somebody reaches: it may tell what is not so.
        """
        unheard, before = 0, -1
        while unheard != before:
            before, speaking = unheard, self.members & ~unheard
            for number in each(speaking):
                missing = (self._far.of[number] & ~self._far.by[number] & speaking).bit_count()
                if not missing:
                    continue
                reaching = (self._near.of[number] & speaking).bit_count()
                if not reaching or (missing > 1 and 2 * missing >= reaching):
                    unheard |= 1 << number
        return unheard

    def _remote(self, machines: Machines) -> Machines:
        found = 0
        for number in each(machines):
            far = self._apart(number) & machines
            if 2 * far.bit_count() > machines.bit_count() - 1:
                found |= 1 << number
        return found

    def _islands(self, machines: Machines) -> Iterator[Machines]:
        """These machines, those together that are joined by links of which nobody says that they are not there."""
        left = machines
        while left:
            island, edge = 0, left & -left
            while edge:
                island |= edge
                around = 0
                for number in each(edge):
                    around |= ~self._apart(number)
                edge = around & machines & ~island
            yield island
            left &= ~island


class _Said:
    """What machines say of others, and what is said of them."""

    def __init__(self) -> None:
        self.by: defaultdict[int, Machines] = defaultdict(int)
        self.of: defaultdict[int, Machines] = defaultdict(int)

    def put(self, number: int, other: int, *, is_in: bool) -> None:
        self.by[number] = _with(self.by[number], other, is_in=is_in)
        self.of[other] = _with(self.of[other], number, is_in=is_in)


def each(machines: Machines) -> Iterator[int]:
    """The numbers in a set, in order."""
    while machines:
        lowest = machines & -machines
        yield lowest.bit_length() - 1
        machines ^= lowest


def _with(machines: Machines, number: int, *, is_in: bool) -> Machines:
    return machines | 1 << number if is_in else machines & ~(1 << number)


def _note(since: dict[int, datetime], machines: Machines, now: datetime) -> None:
    for number in [known for known in since if not machines >> known & 1]:
        del since[number]
    for number in each(machines):
        since.setdefault(number, now)


def _since_long(since: dict[int, datetime], now: datetime) -> Machines:
    return sum(1 << number for number, moment in since.items() if moment + GONE_AFTER <= now)
