"""How long a broken path stays broken: paths and transits are cut again and again, under a ping every 50 ms.

`python -m deploy.lab.healing` prints the figures. Exit status 0 only if no cut took longer than promised, and no packet
was lost when a direct path returned.
"""

from __future__ import annotations

import argparse
import signal
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from rich.console import Console
from rich.table import Table

from deploy.lab.diamond import Diamond
from deploy.lab.lab import Lab
from deploy.lab.machine import LabError
from deploy.lab.mesh import wait_for
from deploy.lab.pings import Flow, Pings

PROMISED = 3.0
"""Seconds from a cut to the first packet that comes through."""

CUTS = 20
_EVERY = 0.05
_HEALED_WITHIN = 30.0
_CALM = 50
"""So many pings long nothing changes, before a transit is cut off."""

_UNBROKEN = 10
"""So many pings in a row, both ways, and a path is whole."""


@dataclass
class Times:
    """What was measured of one kind of change."""

    kind: str
    within: float | None = PROMISED
    """None where no time was promised."""
    seconds: list[float] = field(default_factory=list)
    lost: list[int] = field(default_factory=list)
    """Pings that were lost each time, where none may be."""

    @property
    def kept(self) -> bool:
        """Whether the promise was kept every time."""
        in_time = self.within is None or max(self.seconds, default=0.0) <= self.within
        return bool(self.seconds) and in_time and not any(self.lost)

    def row(self) -> tuple[str, ...]:
        """For people."""
        if not self.seconds:
            return (self.kind, "0", "", "", "", "")
        low, middle, high = min(self.seconds), statistics.median(self.seconds), max(self.seconds)
        lost = str(sum(self.lost)) if self.lost else ""
        return (self.kind, str(len(self.seconds)), f"{low:.2f}", f"{middle:.2f}", f"{high:.2f}", lost)


class Healing:
    """Cuts, and what they cost. Between two cuts all is whole."""

    def __init__(self, diamond: Diamond, pings: Pings) -> None:
        self._diamond = diamond
        ends = ((diamond.left, "right"), (diamond.right, "left"))
        self._flows = [pings.add(machine, to, diamond.addresses[to], _EVERY) for machine, to in ends]
        self.direct = Times("direct path cut → transit carries")
        self.transit = Times("transit dies → next transit")
        self.orphaned = Times("the same, control plane down")
        self.back = Times("direct path returns → both ends use it", None)
        self.kinds = (self.direct, self.transit, self.orphaned, self.back)

    def cycle(self) -> None:
        """Cut the direct path; then the transit that carries; give both back."""
        diamond = self._diamond
        diamond.await_direct()
        self._await_whole()
        self.direct.seconds.append(self._heal(self.direct, diamond.cut_direct))
        used = self._replace_transit(self.transit)
        diamond.bring_back(used)
        diamond.await_standby()
        self.come_back()

    def come_back(self) -> None:
        """Give the direct path back: it is taken again, and nothing is lost."""
        self._await_whole()
        began = time.monotonic()
        self._diamond.mend_direct()
        self._diamond.await_direct()
        self.back.seconds.append(time.monotonic() - began)
        self._await_whole()
        # What was sent just now is on its way still.
        until = min(flow.sent[-1] for flow in self._flows) - 1.0
        wait_for(lambda: all(flow.sent[-1] > until + 2.0 for flow in self._flows), "pings to be answered")
        self.back.lost.append(sum(flow.lost(began, until) for flow in self._flows))

    def without_control_plane(self, cuts: int) -> None:
        """With the direct path cut and no control plane: let the transit in use die, again and again."""
        diamond = self._diamond
        diamond.cut_direct()
        diamond.await_transit()
        diamond.await_standby()
        diamond.mesh.kill_control_plane()
        for _ in range(cuts):
            used = self._replace_transit(self.orphaned)
            diamond.bring_back(used)
        diamond.await_standby()
        self.come_back()

    def _replace_transit(self, times: Times) -> str:
        """Let the transit in use die; its name."""
        used = self._await_settled()
        times.seconds.append(self._heal(times, partial(self._diamond.cut_off, used)))
        if self._diamond.await_transit() == used:
            raise LabError(f"{used} was cut off and still carries: {times.kind}.")
        return used

    def _await_settled(self) -> str:
        """Wait until both ends know both transits, and have stayed with one for a while: they may go back to the better
        one when it is there again. The one in use."""
        diamond = self._diamond
        diamond.await_standby()
        while True:
            used = diamond.await_transit()
            sent = len(self._flows[0].sent)
            wait_for(lambda: len(self._flows[0].sent) > sent + _CALM, "pings to go on")  # noqa: B023
            self._await_whole()
            if diamond.await_transit() == used:
                return used

    def _heal(self, times: Times, cut: Callable[[], None]) -> float:
        """Seconds from before the cut to the first answers, both ways, to what was sent after it."""
        began = time.monotonic()
        cut()
        done = time.monotonic()
        wait_for(
            lambda: all(flow.first_through(done) is not None for flow in self._flows),
            f"traffic to pass again: {times.kind}",
            _HEALED_WITHIN,
        )
        return max(flow.first_through(done) or 0.0 for flow in self._flows) - began

    def _await_whole(self) -> None:
        wait_for(lambda: all(_is_whole(flow) for flow in self._flows), "pings to go on unbroken", _HEALED_WITHIN)


def _is_whole(flow: Flow) -> bool:
    """Whether the last pings were answered, but for one that is on its way."""
    last = len(flow.sent) - 1
    return last > _UNBROKEN and all(place in flow.answered for place in range(last - _UNBROKEN, last))


def measure(cuts: int, console: Console) -> tuple[Times, ...]:
    """So many cuts of each kind, in a lab of its own."""
    with Lab() as lab:
        diamond = Diamond(lab)
        with Pings() as pings:
            healing = Healing(diamond, pings)
            for done in range(cuts):
                healing.cycle()
                last = ", ".join(f"{times.seconds[-1]:.2f}" for times in healing.kinds if times.seconds)
                console.print(f"[dim]{done + 1} of {cuts}: {last} s[/]")
            healing.without_control_plane(cuts)
            return healing.kinds


def table(kinds: tuple[Times, ...]) -> Table:
    """The figures, for people."""
    shown = Table(box=None, pad_edge=False)
    shown.add_column("seconds to the first packet through")
    for heading in ("times", "min", "median", "max", "lost"):
        shown.add_column(heading, justify="right")
    for times in kinds:
        shown.add_row(*times.row(), style="" if times.kept else "bold red")
    return shown


def main() -> int:
    """The program's entry point."""
    parser = argparse.ArgumentParser(prog="deploy.lab.healing", description=__doc__)
    parser.add_argument("--cuts", type=int, default=CUTS, help="so many of each kind (%(default)s)")
    options = parser.parse_args()
    console = Console(highlight=False)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        kinds = measure(options.cuts, console)
    except LabError as error:
        console.print(f"[bold red]✗[/] {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    console.print(table(kinds))
    kept = all(times.kept for times in kinds)
    console.print(
        f"[bold {'green' if kept else 'red'}]{'✓' if kept else '✗'} promised: {PROMISED:g} s, nothing lost[/]"
    )
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
