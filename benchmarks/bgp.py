"""Real BIRDs, in full mesh and with route reflectors: until all stands, until a prefix is known, what a join changes.

Every machine's configuration is the one that its agent would write. Each announces one prefix. All BIRDs are on this
machine and share its processors: what one of many needs is seen, not what the wire between them would add.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from math import inf
from pathlib import Path
from statistics import median
from uuid import UUID

from rich.console import Console
from rich.table import Table

from agent.bgp.config import render
from agent.bgp.intent import Announced, BgpIntent, Neighbour, NetworkIntent, Owner
from benchmarks.result import Result
from benchmarks.speakers import Session, Stage, stage
from events.interfaces import interface_name
from events.routing import DEFAULT_REFLECTORS, PlanStage, network_asn

SIZES = (10, 50, 100, 250)
PATIENCE = 60.0
"""Seconds in which all must stand. What does not, is shown as what it is, and not waited for."""
CALM = 4.0
"""Seconds for which no session begins anew before it is said that all stand: longer than BFD takes to miss somebody."""
ANNOUNCEMENTS = 5
"""So many machines announce one prefix more, one after the other."""
AIM_STANDS, AIM_KNOWN = 1, 2
"""Of what the full mesh takes. A prefix goes to all others in two steps where it went in one."""

_NETWORK = UUID(int=9 << 96, version=4)
_CIDR = IPv4Network("172.16.0.0/22")
_GLANCE = 0.05
_MODES: tuple[PlanStage, ...] = ("reflectors", "mesh")

Pair = frozenset[int]
"""Two machines with a session."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured of so many speakers. None where they never stood."""

    size: int
    mode: PlanStage
    patience: float
    """Seconds that there were for all of it."""
    heard: float | None
    """Seconds from the start of the first BIRD until all prefixes are in all kernels, for good."""
    stood: float | None
    """The same, until also all sessions stand, for good."""
    learnt: int
    """Prefixes that are in kernels at last, counted in each."""
    sessions: int
    """That stand, at last; two reflectors' with each other count as one. Nobody is asked if prefixes are missing."""
    most: int
    """Of one machine that is no reflector."""
    most_reflector: int
    known: float | None
    """Seconds until one prefix more is in all kernels, the median."""
    joined: float | None
    """Seconds from the start of one more BIRD until it has its sessions, and all have all prefixes."""
    changed: int | None
    """Sessions that went, came or began anew by that."""
    reconfigured: int | None
    """Machines whose configuration that changed."""
    pss: int
    """Bytes, of all together. A page that several share counts once."""
    rss: int
    """Bytes, of one: the median."""

    @property
    def all_prefixes(self) -> int:
        """As many should be in kernels."""
        return self.size * (self.size - 1)


async def run(folder: Path) -> list[Result]:
    """All sizes in both modes; prints what it found of each."""
    found = await measure(folder, SIZES)
    show(found)
    return list(results(found))


async def measure(folder: Path, sizes: Sequence[int], patience: float = PATIENCE, calm: float = CALM) -> list[Figures]:
    """Each size with reflectors and in full mesh. Raises CannotError."""
    addresses = [_address(number) for number in range(max(sizes) + 1)]
    with stage(folder, addresses, _CIDR, interface_name(_NETWORK)) as machines:
        return [await _Trial(machines, size, mode, patience, calm).run() for size in sizes for mode in _MODES]


class _Trial:
    """So many speakers in one mode."""

    def __init__(self, machines: Stage, size: int, mode: PlanStage, patience: float, calm: float) -> None:
        self._stage = machines
        self._size = size
        self._mode = mode
        self._patience = patience
        self._calm = calm
        self._more: set[int] = set()
        """Those that announce one prefix more."""

    async def run(self) -> Figures:
        """Start them, measure, and stop them."""
        try:
            return await self._run()
        finally:
            self._stage.stop()

    async def _run(self) -> Figures:
        size = self._size
        heard, stood, ends = await self._begin(range(size), size)
        pairs = _pairs(ends)
        learnt = sum(len(machine.learnt) for machine in self._stage.machines)
        memory = [machine.memory() for machine in self._stage.machines[:size]]
        known = joined = changed = reconfigured = None
        if stood is not None:
            known = median([await self._announce(number) for number in self._announcers()])
            before = {number: self._stage.machines[number].configuration for number in range(size)}
            after = {number: self._configuration(number, size + 1) for number in range(size)}
            others = {number: text for number, text in after.items() if text != before[number]}
            now = time.time()
            _, joined, ends = await self._begin([size], size + 1, others)
            changed, reconfigured = len((pairs - _pairs(ends)) | _begun(ends, now)), len(others)
        reflectors = range(DEFAULT_REFLECTORS) if self._mode == "reflectors" else range(0)
        counts = [sum(number in pair for pair in pairs) for number in range(size)]
        return Figures(
            size=size,
            mode=self._mode,
            patience=self._patience,
            heard=heard,
            stood=stood,
            learnt=learnt,
            sessions=len(pairs),
            most=max(count for number, count in enumerate(counts) if number not in reflectors),
            most_reflector=max((counts[number] for number in reflectors), default=0),
            known=known,
            joined=joined,
            changed=changed,
            reconfigured=reconfigured,
            pss=sum(pss for pss, _ in memory),
            rss=int(median(rss for _, rss in memory)),
        )

    async def _begin(
        self, started: Sequence[int], size: int, others: Mapping[int, str] | None = None
    ) -> tuple[float | None, float | None, list[dict[str, Session]]]:
        """Start machines' BIRDs, and give others their new configurations. See `Figures.heard` and `Figures.stood`; and
        the sessions at last."""
        machines = self._stage.machines[:size]
        self._stage.place({number: self._configuration(number, size) for number in started})
        wall, began = time.time(), time.monotonic()
        for number in started:
            machines[number].start()
        await self._stage.configure(others or {})
        deadline = began + self._patience
        prefixes = [len(self._prefixes(number)) for number in range(size)]

        def all_know() -> bool:
            return all(len(each.learnt) == sum(prefixes) - own for each, own in zip(machines, prefixes, strict=True))

        while True:
            if not await _until(all_know, deadline):
                return None, None, [{} for _ in machines]
            ends = await self._stage.sessions(size)
            heard = max((when for each in machines for when in each.learnt.values()), default=began) - began
            last = max((session.since.timestamp() for each in ends for session in each.values()), default=wall)
            calm = time.time() - last >= self._calm
            if calm and all_know() and _pairs(ends) == _wanted(size, self._mode):
                return heard, max(heard, last - wall), ends
            if time.monotonic() > deadline:
                return heard if all_know() else None, None, ends
            await asyncio.sleep(max(_GLANCE, 0 if calm else self._calm - (time.time() - last)))

    async def _announce(self, number: int) -> float:
        """Seconds until all others have one more prefix of this machine's."""
        self._more.add(number)
        others = [machine for place, machine in enumerate(self._stage.machines[: self._size]) if place != number]
        began = await self._stage.machines[number].configure(self._configuration(number, self._size))
        prefix = _extra(number)
        if not await _until(lambda: all(prefix in each.learnt for each in others), began + self._patience):
            raise TimeoutError(f"one prefix more does not come to all of {self._size} within {self._patience:g} s")
        return max(each.learnt[prefix] for each in others) - began

    def _announcers(self) -> Iterator[int]:
        """Clients, in the middle of the line."""
        first = max(self._size // 2, DEFAULT_REFLECTORS)
        yield from range(first, min(first + ANNOUNCEMENTS, self._size))

    def _prefixes(self, number: int) -> list[IPv4Network]:
        return [_prefix(number), *([_extra(number)] if number in self._more else [])]

    def _configuration(self, number: int, size: int) -> str:
        """What the agent of a machine in a network of `size` would give to its BIRD. What machines may announce, and
        also the next one to join, is known to all before."""
        others = [other for other in range(size) if other != number]
        owners = [other for other in range(self._size + 1) if other != number]
        reflectors = range(DEFAULT_REFLECTORS) if self._mode == "reflectors" else range(0)
        plain = NetworkIntent(
            network_id=_NETWORK,
            asn=network_asn(_NETWORK),
            cidr=_CIDR,
            interface=interface_name(_NETWORK),
            address=_address(number),
            stage=self._mode,
            is_reflector=number in reflectors,
            reflectors=tuple(Neighbour(_machine_id(each), _address(each)) for each in reflectors if each != number),
            members=tuple(Neighbour(_machine_id(each), _address(each)) for each in others),
            owners=tuple(Owner(_address(each), (_prefix(each), _extra(each))) for each in owners),
            announced=tuple(Announced(prefix) for prefix in self._prefixes(number)),
        )
        return render(BgpIntent((plain,)))


def _address(number: int) -> IPv4Address:
    return _CIDR[number + 1]


def _machine_id(number: int) -> UUID:
    return UUID(int=number, version=4)


def _prefix(number: int) -> IPv4Network:
    return IPv4Network(f"192.168.{number}.0/24")


def _extra(number: int) -> IPv4Network:
    return IPv4Network(f"198.18.{number}.0/24")


def _wanted(size: int, mode: PlanStage) -> set[Pair]:
    ends = range(size) if mode == "mesh" else range(min(DEFAULT_REFLECTORS, size))
    return {frozenset({one, other}) for one in ends for other in range(size) if one != other}


def _pairs(ends: Sequence[Mapping[str, Session]]) -> set[Pair]:
    """The pairs of machines with a session. At least one end has the other's id in its name."""
    return {pair for number, sessions in enumerate(ends) for name in sessions.values() if (pair := _pair(number, name))}


def _pair(number: int, session: Session) -> Pair | None:
    other = session.name.machine_id
    return None if other is None else frozenset({number, other.int & 0xFFFF})


def _begun(ends: Sequence[Mapping[str, Session]], since: float) -> set[Pair]:
    """The pairs with a session that began after that, in seconds since 1970."""
    return _pairs(
        [{name: each for name, each in sessions.items() if each.since.timestamp() > since} for sessions in ends]
    )


async def _until(condition: Callable[[], bool], deadline: float) -> bool:
    """Whether it came true until then, by `time.monotonic`."""
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(_GLANCE)
    return True


def show(found: Sequence[Figures]) -> None:
    """Print all figures."""
    table = Table("", *(f"{each.size}\n{each.mode}" for each in found), box=None, title="BGP speakers on this machine")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    rows: dict[str, Callable[[Figures], str]] = {
        "prefixes everywhere, s": lambda each: _seconds(each.heard),
        "sessions stand, s": lambda each: _seconds(each.stood),
        "one prefix more, s": lambda each: _seconds(each.known) if each.stood else "-",
        "one machine more, s": lambda each: _seconds(each.joined) if each.stood else "-",
        "… changes sessions": lambda each: _number(each.changed),
        "… changes configurations": lambda each: _number(each.reconfigured),
        "prefixes in kernels": lambda each: f"{each.learnt / each.all_prefixes:.0%}",
        "sessions": lambda each: _number(each.sessions or None),
        "… of a machine": lambda each: _number(each.most or None),
        "… of a reflector": lambda each: _number(each.most_reflector or None),
        "PSS of all, MB": lambda each: f"{each.pss / 1e6:,.0f}",
        "PSS of each, MB": lambda each: f"{each.pss / each.size / 1e6:.1f}",
        "RSS of each, MB": lambda each: f"{each.rss / 1e6:.1f}",
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, found))
    Console(width=120).print(table)


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.2f}" if value >= 0.1 else f"{value:.3f}"


def _number(value: int | None) -> str:
    return "-" if value is None else f"{value:,}"


def results(found: Sequence[Figures]) -> Iterator[Result]:
    """Reflectors beside the full mesh of the same run, and sessions beside the number of reflectors."""
    for reflected, mesh in zip(found[::2], found[1::2], strict=True):
        at = f"BGP at {mesh.size}"
        never = "" if mesh.stood else f" (mesh: not within {mesh.patience:g} s)"
        for name, value, floor in (
            ("prefixes everywhere", reflected.heard, mesh.heard),
            ("sessions stand", reflected.stood, mesh.stood),
        ):
            yield Result(f"{at}, {name}{never}", value or inf, floor or mesh.patience, "at most", AIM_STANDS, "s")
        if reflected.known and mesh.known:
            yield Result(f"{at}, one prefix more", reflected.known, mesh.known, "at most", AIM_KNOWN, "s")
        yield Result(f"{at}, memory of all", reflected.pss / 1e6, mesh.pss / 1e6, "at most", 1, "MB")
    most = reflected
    yield Result(f"{at}, sessions of a machine", most.most, DEFAULT_REFLECTORS, "at most", 1, "")
    yield Result(f"{at}, sessions of a reflector", most.most_reflector, most.size - 1, "at most", 1, "")
    if most.changed is not None:
        yield Result(f"{at}, sessions a join changes", most.changed, DEFAULT_REFLECTORS, "at most", 1, "")
