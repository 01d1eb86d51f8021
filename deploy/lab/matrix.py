"""Every machine to every other, between all kinds of places: what carries their traffic, and whether that is what
theory says.

`make lab` runs it. Exit status 0 only if every pair carries traffic both ways, by the way that was predicted.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations

from rich.console import Console
from rich.table import Table

from deploy.lab.cast import settle_all
from deploy.lab.lab import Lab
from deploy.lab.machine import LabError
from deploy.lab.mesh import Mesh
from deploy.lab.pings import Flow, Pings
from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import Spot, Way, observe, predict

NETWORK = "matrix"
CIDR = "172.16.0.0/24"
_FIRST_EVERY = 0.25
"""Seconds between pings until the first is answered."""
_LATER_EVERY = 0.1
"""And while round trips are measured, a machine's pings one after the other."""
_TRAFFIC_WITHIN = 60.0
_SETTLED_WITHIN = 90.0
"""Ends whose first burst found no way try again together every half minute, and then less often."""
_LOOK_EVERY = 1.0
_MEASURED = 5
_COLOURS = {Way.DIRECT: "green", Way.PUNCHED: "cyan", Way.TRANSIT: "magenta"}
_WIDTH = 170

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Cell:
    """How one machine's packets reach another."""

    predicted: Way
    way: Way | None
    """None where nothing came back, or WireGuard had no endpoint for the other."""
    first: float | None
    """Seconds from when the machines were put into the network to the first answer; None if there was none."""
    round_trip: float | None
    """Milliseconds, once all was settled; None where nothing came back any more."""

    @property
    def right(self) -> bool:
        """Whether traffic passes, and by the way that theory says."""
        return self.way is self.predicted and self.first is not None and self.round_trip is not None

    @property
    def shown(self) -> str:
        """The way in a word."""
        return self.way.value if self.way and self.round_trip is not None else "no traffic"


class Matrix:
    """A mesh with a machine or two at every place."""

    def __init__(self, lab: Lab) -> None:
        self.mesh = Mesh(lab, by_name=True)
        self.surroundings = Surroundings(lab)
        self.firsts: dict[Pair, float | None] = {}
        self.settled_after = 0.0
        """Seconds until every pair was as predicted, or we waited no longer."""

    @property
    def spots(self) -> dict[str, Spot]:
        """Who is where."""
        return self.surroundings.spots

    def start(self) -> None:
        """Start the control plane, and have everybody join: not yet any network."""
        settle_all(self.surroundings)
        self.mesh.start_control_plane()
        token = self.mesh.bootstrap_token("--uses", str(len(self.spots)))
        for name in self.spots:
            self.mesh.enrol(self.mesh.lab.machines[name], token)
        self.mesh.await_known(self.spots)

    def connect(self) -> None:
        """Put everybody into a network, and wait until each pair has carried traffic, and has settled."""
        mesh = self.mesh
        mesh.wireloom("network", "create", NETWORK, CIDR)
        began = time.monotonic()
        mesh.wireloom("machine", "assign", *self.spots, "--network", NETWORK)
        with Pings() as pings:
            flows = self._ping_all(pings, _FIRST_EVERY)
            self._until(lambda: self._all_through(pings, flows), _TRAFFIC_WITHIN)
            for flow in flows:
                through = flow.first_through()
                self.firsts[flow.source, flow.target] = None if through is None else through - began
            self._until(self._as_predicted, _SETTLED_WITHIN, _LOOK_EVERY)
        self.settled_after = time.monotonic() - began

    def _all_through(self, pings: Pings, flows: list[Flow]) -> bool:
        through = [flow for flow in flows if flow.first_through() is not None]
        pings.end(through)
        return len(through) == len(flows)

    def _ping_all(self, pings: Pings, every: float, names: Iterable[str] = ()) -> list[Flow]:
        addresses = self.mesh.addresses(NETWORK)
        machines = self.mesh.lab.machines
        sources = list(names) or list(self.spots)
        return [pings.add(machines[a], b, addresses[b], every) for a in sources for b in self.spots if a != b]

    @staticmethod
    def _until(condition: Callable[[], bool], timeout: float, pause: float = 0.05) -> None:
        """Wait for a condition, but no longer than `timeout`: what is missing then is shown in the matrix."""
        deadline = time.monotonic() + timeout
        while not condition() and time.monotonic() < deadline:
            time.sleep(pause)

    def _as_predicted(self) -> bool:
        ways = self.ways()
        return all(ways[a, b] is predict(self.spots[a], self.spots[b]) for a, b in combinations(self.spots, 2))

    def ways(self) -> dict[Pair, Way | None]:
        """How each pair's packets travel now, by what WireGuard says."""
        endpoints = self.mesh.endpoints(self.spots)
        found: dict[Pair, Way | None] = {}
        for a, b in combinations(self.spots, 2):
            to_b, to_a = endpoints.get((a, b)), endpoints.get((b, a))
            way = observe(self.spots[a], self.spots[b], to_b, to_a) if to_a and to_b else None
            found[a, b] = found[b, a] = way
        return found

    def measure(self) -> dict[Pair, Cell]:
        """The matrix as it is now."""
        trips: dict[Pair, float | None] = {}
        for name in self.spots:
            with Pings() as pings:
                flows = self._ping_all(pings, _LATER_EVERY, [name])
                self._until(lambda: all(len(flow.answered) >= _MEASURED for flow in flows), 3.0)  # noqa: B023
                trips |= {(flow.source, flow.target): flow.round_trip() for flow in flows}
        ways = self.ways()
        return {
            (a, b): Cell(predict(self.spots[a], self.spots[b]), way, self.firsts.get((a, b)), trips[a, b])
            for (a, b), way in ways.items()
        }


def table(cells: dict[Pair, Cell], spots: dict[str, Spot]) -> Table:
    """The matrix, for people: in each cell the way, the seconds to the first packet, the round trip."""
    shown = Table(box=None, pad_edge=False, padding=(0, 1, 1, 0), show_edge=False)
    shown.add_column("from ╲ to", style="bold", no_wrap=True, min_width=8)
    for name, spot in spots.items():
        shown.add_column(f"{name}\n[dim]{spot.place.name}[/]", no_wrap=True, min_width=12)
    for row, spot in spots.items():
        line = ["[dim]·[/]" if row == name else _shown(cells[row, name]) for name in spots]
        shown.add_row(f"{row}\n[dim]{spot.place.name}[/]", *line)
    return shown


def _shown(cell: Cell) -> str:
    first = "never" if cell.first is None else f"{cell.first:.1f} s"
    trip = "" if cell.round_trip is None else f" {cell.round_trip:.1f} ms"
    if cell.right:
        return f"[{_COLOURS[cell.predicted]}]{cell.shown}[/]\n[dim]{first}{trip}[/]"
    return f"[bold red]✗ {cell.shown}[/]\n[red]{first}{trip}[/]"


def verdict(cells: dict[Pair, Cell]) -> list[str]:
    """What differs from theory, a line each."""
    return [
        f"{a} → {b}: {cell.shown}, theory says {cell.predicted.value}"
        for (a, b), cell in cells.items()
        if not cell.right
    ]


def run(console: Console) -> bool:
    """Build the mesh, print the matrix; whether all is as theory says."""
    with Lab() as lab:
        matrix = Matrix(lab)
        matrix.start()
        console.print(f"{len(matrix.spots)} machines have joined; now into one network, and every pair must talk …")
        matrix.connect()
        cells = matrix.measure()
        console.print(table(cells, matrix.spots))
        wrong = verdict(cells)
        for line in wrong:
            console.print(f"[bold red]✗[/] {line}")
        counts = [f"{sum(cell.way is way for cell in cells.values()) // 2} {way.value}" for way in Way]
        firsts = sorted(cell.first for cell in cells.values() if cell.first is not None)
        slowest = f"first packets after {firsts[len(firsts) // 2]:.1f} s (median), {firsts[-1]:.1f} s (slowest)"
        console.print(
            f"[bold {'red' if wrong else 'green'}]{'✗' if wrong else '✓'} {len(cells) - len(wrong)} of {len(cells)} as "
            f"theory says[/]; pairs: {', '.join(counts)}; {slowest if firsts else 'no traffic'}; "
            f"settled after {matrix.settled_after:.1f} s",
            soft_wrap=True,
        )
        return not wrong


def main() -> int:
    """The program's entry point."""
    console = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        return 0 if run(console) else 1
    except LabError as error:
        console.print(f"[bold red]✗[/] {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
