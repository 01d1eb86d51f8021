"""Which reports of tunnels are wanted, and the newest ones. Pure: the time is an argument.

Nothing is read that nobody asked for here, and of who was asked only so much. A machine tells of itself and of the
members of its own networks; whatever else it says is left out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from events.errors import RateLimitedError
from events.tunnels import APART, MAX_PARTS, Tunnel, TunnelPart, TunnelPeer
from services.gateway.mirror import Mirror

FRESH_FOR = 5.0
"""Seconds for which a report is the answer to who asks."""

HINT_APART = 0.4
"""Seconds, at least, between two hints to a machine. One may be lost; an agent answers several at once."""

WANTED_FOR = 3.0
"""Seconds after a hint in which what the machine tells is read."""

MOST_READ = 2 * MAX_PARTS
"""So many parts of a machine are read in `APART` seconds: two reports' at most."""

MOST_ASKED = 64
"""So many machines may owe an answer at once."""

MOST_KEPT = 64
"""So many machines' reports are kept."""


@dataclass(frozen=True, slots=True)
class Report:
    """What a machine told of all its tunnels."""

    read_at: datetime
    """When the machine read it off its interfaces, by this gateway's clock."""
    taken: float
    """When it came."""
    tunnels: Mapping[UUID, Tunnel]
    """By network; each with all the peers that were told, which are members."""
    left_out: int = 0
    """How many tunnels and peers the machine did not tell, since they were too many."""

    def among_members(self, machine_id: UUID, mirror: Mirror) -> Report:
        """Without what is no longer the machine's to tell of."""
        return replace(
            self, tunnels={each.network_id: each for each in _own(machine_id, self.tunnels.values(), mirror)}
        )


@dataclass(slots=True)
class _Asked:
    """A machine that owes an answer, and what it has told so far."""

    hinted: float
    reading: float
    """Since when what was read counts."""
    read: int = 0
    first: TunnelPart | None = None
    parts: dict[int, tuple[Tunnel, ...]] = field(default_factory=dict)


class TunnelReports:
    """Of all machines."""

    def __init__(self) -> None:
        self._asked: dict[UUID, _Asked] = {}
        self._newest: OrderedDict[UUID, Report] = OrderedDict()

    def __bool__(self) -> bool:
        """Whether anything is held."""
        return bool(self._asked or self._newest)

    def ask(self, machine_id: UUID, now: float) -> bool:
        """Somebody wants to know. Returns whether to hint now. Raises `RateLimitedError`."""
        self.sweep(now)
        asked = self._asked.get(machine_id)
        if asked is None:
            if len(self._asked) >= MOST_ASKED:
                raise RateLimitedError(
                    f"The tunnels of {MOST_ASKED} machines are being asked for at this moment.", hint="Wait a second."
                )
            self._asked[machine_id] = _Asked(now, now)
            return True
        if now - asked.hinted < HINT_APART:
            return False
        asked.hinted = now
        return True

    def wants(self, machine_id: UUID, now: float) -> bool:
        """Whether to read what a machine tells; it counts as read then."""
        asked = self._asked.get(machine_id)
        if asked is None or now - asked.hinted > WANTED_FOR:
            return False
        if now - asked.reading >= APART:
            asked.reading, asked.read = now, 0
        if asked.read >= MOST_READ:
            return False
        asked.read += 1
        return True

    def refuse(self, machine_id: UUID) -> None:
        """What a machine told cannot be read: nothing more is, for `APART` seconds."""
        if (asked := self._asked.get(machine_id)) is not None:
            asked.read = MOST_READ

    def take(self, machine_id: UUID, part: TunnelPart, mirror: Mirror, now: float, time: datetime) -> Report | None:
        """A part that is wanted. Returns the report that it completes."""
        asked = self._asked.get(machine_id)
        if asked is None:
            return None
        first = asked.first
        if first is None or _is_newer(part, first):
            asked.first, asked.parts = part, {}
        elif _is_newer(first, part) or part.parts != first.parts:
            return None
        asked.parts.setdefault(part.part, tuple(_own(machine_id, part.tunnels, mirror)))
        if len(asked.parts) < part.parts:
            return None
        told = (tunnel for number in sorted(asked.parts) for tunnel in asked.parts[number])
        report = Report(time - timedelta(seconds=part.age), now, _joined(told), part.left_out)
        del self._asked[machine_id]
        self._newest[machine_id] = report
        self._newest.move_to_end(machine_id)
        if len(self._newest) > MOST_KEPT:
            self._newest.popitem(last=False)
        return report

    def newest(self, machine_id: UUID, now: float) -> Report | None:
        """The newest report of a machine, if it is fresh."""
        report = self._newest.get(machine_id)
        return report if report is not None and now - report.taken <= FRESH_FOR else None

    def forget(self, machine_id: UUID) -> None:
        """The machine may not tell anything any more."""
        self._asked.pop(machine_id, None)
        self._newest.pop(machine_id, None)

    def sweep(self, now: float) -> None:
        """Forget what is too old for anybody."""
        for machine_id in [each for each, asked in self._asked.items() if now - asked.hinted > WANTED_FOR]:
            del self._asked[machine_id]
        while self._newest and now - next(iter(self._newest.values())).taken > FRESH_FOR:
            self._newest.popitem(last=False)


def _is_newer(part: TunnelPart, other: TunnelPart) -> bool:
    """Whether a part is of a later report than another; of two starts of an agent, what comes later is."""
    return part.boot_id != other.boot_id or part.counter > other.counter


def _own(machine_id: UUID, tunnels: Iterable[Tunnel], mirror: Mirror) -> Iterable[Tunnel]:
    """The tunnels in networks that a machine is in, each with the peers that are members."""
    for tunnel in tunnels:
        network = mirror.networks.get(tunnel.network_id)
        if network is None or network.record is None or machine_id not in network.members:
            continue
        members = network.members.keys() - {machine_id}
        peers = tuple(peer for peer in tunnel.peers if peer.machine_id in members)
        yield tunnel if len(peers) == len(tunnel.peers) else tunnel.model_copy(update={"peers": peers})


def _joined(tunnels: Iterable[Tunnel]) -> dict[UUID, Tunnel]:
    """One tunnel of each network, with the peers of all its parts, each once."""
    heads: dict[UUID, Tunnel] = {}
    peers: dict[UUID, dict[UUID, TunnelPeer]] = {}
    for tunnel in tunnels:
        heads.setdefault(tunnel.network_id, tunnel)
        known = peers.setdefault(tunnel.network_id, {})
        for peer in tunnel.peers:
            known.setdefault(peer.machine_id, peer)
    return {key: head.model_copy(update={"peers": tuple(peers[key].values())}) for key, head in heads.items()}
