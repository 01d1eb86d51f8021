"""The demo: from nothing to a mesh of machines, one that joins, one that leaves, one that is revoked, and the events
that did it.

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
STOLEN = "rome"


class Demo:
    """The steps of the demo, each shown as it is done."""

    def __init__(self, mesh: Mesh, console: Console) -> None:
        self._mesh = mesh
        self._console = console
        self._token = ""
        self._asked = 0
        self._right = 0

    def run(self) -> bool:
        """All steps; whether all pings came out as they should."""
        self._start()
        self._wireloom("machine", "list")
        self._pings(FIRST, self._mesh.addresses(NETWORK))
        self._join()
        self._leave()
        self._revoke()
        self._say("What happened, as the log has it")
        self._wireloom("log", "--network", NETWORK)
        return self._right == self._asked

    @property
    def score(self) -> str:
        """How many pings came out as they should."""
        return f"{self._right} of {self._asked} pings came out as they should"

    def _start(self) -> None:
        self._say("Start a control plane, and sign in with the token that its first start shows")
        began = time.monotonic()
        self._mesh.start_control_plane()
        self._wireloom("whoami")
        self._note(f"ready after {time.monotonic() - began:.1f} s")
        self._say(
            "Create a network, and have five machines behind a router join it, each with a key that it made itself"
        )
        self._wireloom("network", "create", NETWORK, CIDR, "--default")
        self._token = self._mesh.bootstrap_token("--uses", str(len(FIRST) + 1))
        self._wireloom("token", "list")
        began = time.monotonic()
        for name in FIRST:
            self._enrol(name)
        self._converge(FIRST, began, "everybody reaches everybody through the mesh")

    def _enrol(self, name: str) -> None:
        self._console.print(f"  [cyan]{name} $ wireloom-agent join {self._mesh.url} --token wlb_…[/]")
        self._mesh.add(name, self._token)

    def _join(self) -> None:
        self._say(f"{LATER} joins while the mesh is running")
        began = time.monotonic()
        self._enrol(LATER)
        everybody = (*FIRST, LATER)
        self._converge(everybody, began, f"{LATER} reaches everybody, everybody reaches {LATER}")
        self._pings(everybody, self._mesh.addresses(NETWORK))

    def _leave(self) -> None:
        self._say(f"{LEAVER} leaves")
        before = self._mesh.addresses(NETWORK)
        began = time.monotonic()
        self._wireloom("machine", "unassign", LEAVER, "--network", NETWORK)
        others = [name for name in (*FIRST, LATER) if name != LEAVER]
        self._mesh.await_interface_gone(LEAVER)
        self._converge(others, began, f"{LEAVER} has no interface left, the others reach each other")
        self._pings((*FIRST, LATER), before, gone=(LEAVER,))

    def _revoke(self) -> None:
        self._say(f"{STOLEN} is stolen: revoke it, and see who has dropped its key")
        before = self._mesh.addresses(NETWORK)
        self._wireloom("machine", "revoke", STOLEN, "--yes")
        self._mesh.await_interface_gone(STOLEN)
        others = [name for name in (*FIRST, LATER) if name != LEAVER]
        self._pings(others, before, gone=(STOLEN,))

    def _converge(self, names: Iterable[str], began: float, what: str) -> None:
        self._mesh.await_all_reach_all(NETWORK, names)
        self._note(f"{time.monotonic() - began:.1f} s later {what}")

    def _pings(self, names: Iterable[str], addresses: dict[str, str], gone: tuple[str, ...] = ()) -> None:
        """Ping once from each to each other, show and judge it: no ping to or from who is `gone` may pass."""
        rows = list(names)
        machines = self._mesh.lab.machines
        pings = ping_all((machines[a], machines[b], addresses[b]) for a in rows for b in rows if a != b)
        self._asked += len(pings)
        self._right += sum((time is None) == (not set(gone).isdisjoint(pair)) for pair, time in pings.items())
        self._console.print("\n  Pings from each to each other at its mesh address, in ms:")
        self._console.print(_matrix(rows, pings, gone))

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
            capture_output=True,  # the error output apart: it shows the progress of what takes long
            text=True,
            env={**os.environ, **environment, **self._mesh.settings, "COLUMNS": str(self._console.width - 2)},
            check=False,
        )
        for line in finished.stdout.splitlines():
            sys.stdout.write(f"  {line}\n")
        sys.stdout.flush()
        if finished.returncode:
            raise LabError(f"`wireloom {' '.join(arguments)}` failed: {finished.stderr.strip()}")


def _matrix(names: list[str], pings: Pings, gone: tuple[str, ...]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("    from ╲ to", style="bold")
    for name in names:
        table.add_column(name, justify="right", min_width=6)
    for row in names:
        cells = [_cell(pings[row, name], row in gone or name in gone) if row != name else "[dim]·[/]" for name in names]
        table.add_row(f"    {row}", *cells)
    return table


def _cell(time: float | None, should_fail: bool) -> str:
    text = "none" if time is None else f"{time:.2f}"
    if (time is None) != should_fail:
        return f"[bold red]{text}[/]"
    return f"[dim]{text}[/]" if should_fail else f"[green]{text}[/]"


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
            console.print(kept.how_to_look_around(lab), soft_wrap=True)
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
