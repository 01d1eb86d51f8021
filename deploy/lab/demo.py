"""The demo: from nothing to a mesh of machines, one that joins, one that leaves, and the events that did it.

`make demo` runs it. Exit status 0 only if every ping that should pass passed, and no other.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from deploy.lab import kept
from deploy.lab.lab import Lab, Pings, ping_all
from deploy.lab.machine import LabError
from deploy.lab.mesh import WIRELOOM, Mesh

NETWORK = "demo"
CIDR = "172.16.0.0/24"
FIRST = ("berlin", "lisbon", "oslo", "paris", "rome")
LATER = "vienna"
LEAVER = "lisbon"


class Demo:
    """The steps of the demo, each shown as it is done."""

    def __init__(self, mesh: Mesh, console: Console) -> None:
        self._mesh = mesh
        self._console = console
        self._asked = 0
        self._right = 0

    def run(self) -> bool:
        """All steps; whether all pings came out as they should."""
        self._start()
        self._say("Create a network and assign the five machines to it")
        self._wireloom("network", "create", NETWORK, CIDR, "--default")
        began = time.monotonic()
        self._wireloom("machine", "assign", *FIRST, "--network", NETWORK)
        self._converge(FIRST, began, "everybody reaches everybody through the mesh")
        self._wireloom("machine", "list")
        self._pings("Pings through the tunnels, in ms", FIRST, FIRST)
        self._join()
        self._leave()
        self._say("What happened, as the log has it")
        self._wireloom("log", "--network", NETWORK)
        return self._right == self._asked

    @property
    def score(self) -> str:
        """How many pings came out as they should."""
        return f"{self._right} of {self._asked} pings came out as they should"

    def _start(self) -> None:
        self._say("Start a control plane, and five machines behind a router, each with an agent")
        began = time.monotonic()
        self._mesh.start_control_plane()
        self._note(f"the control plane is ready after {time.monotonic() - began:.1f} s")
        for name in FIRST:
            self._mesh.add(name)
        self._mesh.await_known(FIRST)
        self._note(f"the machines are known after {time.monotonic() - began:.1f} s")

    def _join(self) -> None:
        self._say(f"{LATER} joins while the mesh is running")
        self._mesh.add(LATER)
        self._mesh.await_known([LATER])
        began = time.monotonic()
        self._wireloom("machine", "assign", LATER, "--network", NETWORK)
        self._converge([*FIRST, LATER], began, f"{LATER} reaches everybody and everybody reaches {LATER}")
        self._pings(f"To and from {LATER}, in ms", [LATER], FIRST)
        self._pings("", FIRST, [LATER])

    def _leave(self) -> None:
        self._say(f"{LEAVER} leaves")
        before = self._mesh.addresses(NETWORK)
        began = time.monotonic()
        self._wireloom("machine", "unassign", LEAVER, "--network", NETWORK)
        others = [name for name in (*FIRST, LATER) if name != LEAVER]
        self._mesh.await_interface_gone(LEAVER)
        self._converge(others, began, f"{LEAVER} has no interface any more, the others reach each other")
        self._pings("Pings through the tunnels, in ms", (*FIRST, LATER), (*FIRST, LATER), before, gone={LEAVER})

    def _converge(self, names: Iterable[str], began: float, what: str) -> None:
        self._mesh.await_all_reach_all(NETWORK, names)
        self._note(f"{what}: {time.monotonic() - began:.1f} s after the command was typed")

    def _pings(
        self,
        title: str,
        sources: Iterable[str],
        targets: Iterable[str],
        addresses: dict[str, str] | None = None,
        gone: Iterable[str] = (),
    ) -> None:
        """Ping once from each source to each target, show and judge it: no ping to or from who is `gone` may pass."""
        known = addresses or self._mesh.addresses(NETWORK)
        machines = self._mesh.lab.machines
        rows, columns, left = list(sources), list(targets), set(gone)
        pings = ping_all((machines[a], machines[b], known[b]) for a in rows for b in columns if a != b)
        self._asked += len(pings)
        self._right += sum((time is None) == bool(left & set(pair)) for pair, time in pings.items())
        self._console.print(_matrix(title, rows, columns, pings, left))

    def _say(self, text: str) -> None:
        self._console.print(f"\n[bold]▪ {text}[/]")

    def _note(self, text: str) -> None:
        self._console.print(f"  [green]✓[/] {text}")

    def _wireloom(self, *arguments: str) -> None:
        """A command of `wireloom`, shown with what it prints."""
        self._console.print(f"  [cyan]$ wireloom {' '.join(arguments)}[/]")
        environment = {"FORCE_COLOR": "1"} if self._console.is_terminal else {}
        finished = subprocess.run(
            self._mesh.control.inside([WIRELOOM, *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment, "COLUMNS": str(self._console.width - 2)},
            check=False,
        )
        for line in finished.stdout.splitlines():
            sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()
        if finished.returncode:
            raise LabError(f"`wireloom {arguments[0]} {arguments[1]}` ended with {finished.returncode}.")


def _matrix(title: str, rows: list[str], columns: list[str], pings: Pings, gone: set[str]) -> Table:
    table = Table(title=title or None, title_justify="left", title_style="", box=None, padding=(0, 2, 0, 0))
    table.add_column("  from ╲ to", style="bold")
    for column in columns:
        table.add_column(column, justify="right", min_width=6)
    for row in rows:
        cells = [_cell(pings.get((row, column)), row == column, bool(gone & {row, column})) for column in columns]
        table.add_row(f"  {row}", *cells)
    return table


def _cell(time: float | None, itself: bool, should_fail: bool) -> str:
    if itself:
        return "[dim]·[/]"
    colour = "green" if (time is None) == should_fail else "bold red"
    return f"[{'dim' if should_fail and time is None else colour}]{'none' if time is None else f'{time:.2f}'}[/]"


def show() -> int:
    """Run the demo; its exit status."""
    console = Console(highlight=False)
    keep = os.environ.get("DEMO_KEEP", "") not in {"", "0"}
    kept.refuse_second()
    with Lab(outlive=keep) as lab:
        demo = Demo(Mesh(lab), console)
        try:
            passed = demo.run()
        except LabError as error:
            console.print(f"\n[bold red]✗[/] {error}", markup=True)
            _show_logs(lab.directory, console)
            return 1
        console.print(f"\n[bold {'green' if passed else 'red'}]{'✓' if passed else '✗'} {demo.score}.[/]")
        if keep:
            kept.keep(lab)
            console.print(kept.how_to_look_around(lab), highlight=False)
        else:
            console.print("Everything is taken down again. DEMO_KEEP=1 leaves it up.")
        return 0 if passed else 1


def _show_logs(directory: Path, console: Console) -> None:
    for log in sorted(directory.glob("*/*.log")):
        lines = log.read_text(errors="replace").splitlines()[-5:]
        console.print(f"[bold]{log.parent.name}/{log.name}[/]")
        console.print("\n".join(f"  {line}" for line in lines), markup=False)


def main() -> int:
    """The program's entry point."""
    parser = argparse.ArgumentParser(prog="deploy.lab.demo", description=__doc__)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--down", action="store_true", help="take down what DEMO_KEEP=1 left up")
    group.add_argument("--shell", metavar="MACHINE", help="open a shell on a machine of a demo that was left up")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        if options.down:
            return kept.take_down()
        if options.shell:
            return kept.shell(options.shell)
        return show()
    except LabError as error:
        Console(stderr=True, highlight=False).print(f"[bold red]✗[/] {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
