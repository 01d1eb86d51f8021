"""Whatever happens, who can reach each other by theory does: a mesh to which things happen at random, for minutes.

`python -m deploy.lab.soak` runs it. Machines join, leave, change address, lose links and power and get them back; after
each few steps every pair must ping that theory says can. Exit status 0 only if all did. What happens follows from the
seed, which is shown.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rich.console import Console

from deploy.lab.lab import Lab
from deploy.lab.machine import LabError
from deploy.lab.mesh import Mesh, wait_for
from deploy.lab.moving import Moving
from deploy.lab.pings import Flow, Pings
from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import HOME, OFFICE, OPEN, WALLED
from deploy.lab.turmoil import HUB, Kind, Step, Turmoil

NETWORK = "soak"
CIDR = "172.16.0.0/24"
MINUTES = 10.0
WITHIN = 60.0
"""Seconds until every pair must ping after the last step."""
FIRST = {HUB: OPEN, "field": OPEN, "desk": HOME, "office": OFFICE, "bank": WALLED}
"""The machines that are there at the beginning, and where."""
MOST = 10
"""So many machines there will be."""
LOGS = Path("build/soak")
"""Where the machines' logs are kept after a failure."""

_BURSTS = (1, 1, 1, 2, 3)
"""So many steps are taken one right after the other."""
_EVERY = 0.25
_UNBROKEN = 3
"""So many pings in a row, and a pair talks."""
_SHOWN = 3
"""So many of the pairs that do not talk are explained."""
_MANY = "1000"


@dataclass
class Tally:
    """What a soak comes to."""

    steps: list[Step] = field(default_factory=list)
    quiet: list[float] = field(default_factory=list)
    """For each quiet moment the seconds until every pair talked."""
    pairs: int = 0
    """How many pairs were seen to talk, at all quiet moments together."""

    def __str__(self) -> str:
        kinds = Counter(step.kind.name.lower().replace("_", " ") for step in self.steps)
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        waited = f"{median(self.quiet):.1f} s (median), {max(self.quiet):.1f} s (slowest)" if self.quiet else "never"
        return (
            f"{len(self.steps)} steps ({told}); {len(self.quiet)} quiet moments, at which {self.pairs:,} pairs talked; "
            f"until all did it took {waited}"
        )


class Soak:
    """A mesh, and what happens to it."""

    def __init__(self, lab: Lab, seed: int, say: Callable[[str], None], within: float = WITHIN) -> None:
        self.mesh = Mesh(lab, by_name=True)
        self.tally = Tally()
        self._lab = lab
        self._say = say
        self._chance = random.Random(seed)  # noqa: S311
        self._within = within
        self.turmoil = Turmoil(self._chance, MOST)
        self._surroundings = Surroundings(lab)
        self._moving = Moving(self._surroundings)
        self._token = ""
        self._takers: dict[Kind, Callable[[Step], None]] = {
            Kind.ARRIVE: self._arrive,
            Kind.JOIN: lambda step: self._assign(step.name),
            Kind.LEAVE: self._leave,
            Kind.MOVE: self._move,
            Kind.MOVE_ROUTER: lambda step: self._moving.move_router(step.name),
            Kind.CUT: lambda step: lab.cut(lab.machines[step.name], lab.machines[step.other]),
            Kind.MEND: lambda step: lab.mend(lab.machines[step.name], lab.machines[step.other]),
            Kind.UNPLUG: lambda step: self._moving.unplug(step.name),
            Kind.PLUG: lambda step: self._moving.plug(step.name),
            Kind.FAIL: self._fail,
            Kind.REVIVE: self._revive,
        }

    def start(self) -> None:
        """A control plane, and the first machines."""
        self.mesh.start_control_plane()
        self.mesh.wireloom("network", "create", NETWORK, CIDR)
        self._token = self.mesh.bootstrap_token("--uses", _MANY)
        for name, place in FIRST.items():
            self._take(Step(Kind.ARRIVE, name, place=place))
        self.tally = Tally()
        self.await_quiet()

    def round(self) -> None:
        """Some steps, and a quiet moment."""
        for _ in range(self._chance.choice(_BURSTS)):
            self._take(self.turmoil.next())
        self.await_quiet()

    def _take(self, step: Step) -> None:
        self.tally.steps.append(step)
        self._say(str(step))
        self._takers[step.kind](step)
        self.turmoil.note(step, self._surroundings.spots[step.name])

    def await_quiet(self) -> None:
        """Wait until every pair talks that can by theory. Raises `LabError` that tells which do not, and why."""
        pairs = sorted(self.turmoil.connected())
        addresses = self.mesh.addresses(NETWORK)
        began = time.monotonic()
        with Pings() as pings:
            flows = [
                pings.add(self._lab.machines[a], b, addresses[b], _EVERY)
                for one, other in pairs
                for a, b in ((one, other), (other, one))
            ]
            silent = flows

            def all_talk() -> bool:
                nonlocal silent
                now = [flow for flow in flows if not _talks(flow)]
                silent = now or silent
                return not now

            try:
                wait_for(all_talk, "every pair to talk that can", self._within)
            except LabError as error:
                raise LabError(f"{error}\n{self._explain(silent)}") from error
        self.tally.quiet.append(time.monotonic() - began)
        self.tally.pairs += len(pairs)
        last = f", last of all {silent[0].source} → {silent[0].target}" if silent else ""
        self._say(f"[green]✓[/] {len(pairs)} pairs talk after {self.tally.quiet[-1]:.1f} s{last}")

    def _explain(self, silent: list[Flow]) -> str:
        """What there is to know of pairs that do not talk."""
        lines = [f"{flow.source} → {flow.target}: {len(flow.answered)} of {len(flow.sent)} pings" for flow in silent]
        for flow in silent[:_SHOWN]:
            lines += ["", f"$ wireloom path {flow.source} {flow.target}"]
            lines.append(self.mesh.wireloom("path", flow.source, flow.target, "--network", NETWORK))
        return "\n".join(lines)

    # -- steps

    def _arrive(self, step: Step) -> None:
        assert step.place
        lan, only = self.turmoil.arrival(step.name, step.place)
        self._surroundings.settle(step.name, step.place, lan=lan, only=only)
        self.mesh.enrol(self._lab.machines[step.name], self._token)
        self.mesh.await_known([step.name])
        self._assign(step.name)

    def _assign(self, name: str) -> None:
        self.mesh.wireloom("machine", "assign", name, "--network", NETWORK)

    def _leave(self, step: Step) -> None:
        self.mesh.wireloom("machine", "unassign", step.name, "--network", NETWORK)

    def _move(self, step: Step) -> None:
        self._moving.move(step.name)

    def _fail(self, step: Step) -> None:
        machine = self._lab.machines[step.name]
        machine.run(["sh", "-c", "kill -9 -1"], check=False)
        self.mesh.agents[step.name].wait()
        self.mesh.await_interface_gone(step.name)

    def _revive(self, step: Step) -> None:
        self.mesh.start_agent(self._lab.machines[step.name])


def _talks(flow: Flow) -> bool:
    """Whether the last pings were answered, but for one that is on its way."""
    last = len(flow.sent) - 1
    return last >= _UNBROKEN and all(place in flow.answered for place in range(last - _UNBROKEN, last))


def soak(minutes: float, seed: int, console: Console, *, within: float = WITHIN, logs: Path = LOGS) -> bool:
    """Run one; whether nothing was wrong. Shows a line for each step, and what it came to."""
    began = time.monotonic()

    def say(text: str) -> None:
        console.print(f"[dim]{time.monotonic() - began:6.1f} s[/]  {text}", soft_wrap=True)

    console.print(f"seed {seed}", style="bold")
    with Lab() as lab:
        run = Soak(lab, seed, say, within)
        try:
            run.start()
            until = time.monotonic() + minutes * 60
            while time.monotonic() < until:
                run.round()
        except LabError as error:
            console.print(f"[bold red]✗[/] {error}", markup=True, soft_wrap=True)
            console.print(f"\nseed {seed}; what happened:")
            for step in run.tally.steps:
                console.print(f"  {step}", markup=False, soft_wrap=True)
            console.print(f"The machines' logs are in {_keep_logs(lab, logs)}.")
            return False
    console.print(f"[bold green]✓[/] seed {seed}: {run.tally}", soft_wrap=True)
    return True


def _keep_logs(lab: Lab, logs: Path) -> Path:
    shutil.rmtree(logs, ignore_errors=True)
    for log in lab.directory.glob("*/*.log"):
        kept = logs / log.relative_to(lab.directory)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(log, kept)
    return logs


def main() -> int:
    """The program's entry point."""
    parser = argparse.ArgumentParser(prog="deploy.lab.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="so long (%(default)g)")
    parser.add_argument("--seed", type=int, default=None, help="have the same happen again (another each time)")
    told = "fail where a pair is silent for so many seconds (%(default)g)"
    parser.add_argument("--within", type=float, default=WITHIN, metavar="SECONDS", help=told)
    options = parser.parse_args()
    seed = random.SystemRandom().randrange(1_000_000) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    console = Console(highlight=False)
    try:
        return 0 if soak(options.minutes, seed, console, within=options.within) else 1
    except LabError as error:
        console.print(f"[bold red]✗[/] {error}")
        return 1
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
