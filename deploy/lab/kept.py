"""A demo that was left up: remembered in a file, looked at through a shell, taken down by its processes' ids."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from deploy.lab.lab import Lab
from deploy.lab.machine import LabError

MEMORY = Path("/run/wireloom-demo.json")


def refuse_second() -> None:
    """Raises `LabError` if a demo is up already."""
    if MEMORY.exists() and any(_lives(anchor) for anchor in json.loads(MEMORY.read_text())["machines"].values()):
        raise LabError("A demo is still up. Take it down first: make demo-down")


def keep(lab: Lab) -> None:
    """Remember a lab, and leave it when this program ends."""
    machines = {machine.name: [machine.anchor, machine.pid] for machine in (lab.router, *lab.machines.values())}
    anchors = {name: [*pids, _started(pids[0])] for name, pids in machines.items()}
    MEMORY.write_text(json.dumps({"directory": str(lab.directory), "machines": anchors}))
    lab.leave_up()


def how_to_look_around(lab: Lab) -> str:
    """What to type now."""
    names = " ".join(name for name in lab.machines if name != "control")
    return f"""
The demo stays up. Look around:

  make demo-shell             a shell beside the control plane: try `wireloom machine list`, `wireloom log --follow`
  make demo-shell ON=berlin   a shell on a machine: try `wg`, `ip address`, `ping 172.16.0.1`
  make demo-down              takes everything down

Machines: {names}
Logs: {lab.directory}/*/*.log"""


def shell(name: str) -> int:
    """A shell on a machine of the demo that is up; its exit status."""
    memory = _remembered()
    machines = memory["machines"]
    if name not in machines:
        raise LabError(f"There is no machine {name}; there are {', '.join(machines)}.")
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
        "XDG_CONFIG_HOME": f"{memory['directory']}/{name}/config",
        "WIRELOOM_AGENT_STATE_DIR": f"{memory['directory']}/{name}/state",
    }
    target = f"--target={machines[name][1]}"
    program = os.environ.get("SHELL", "/bin/sh")
    command = ["nsenter", target, "--net", "--mount", "--uts", "--pid", "--", program]
    return subprocess.run(command, env=environment, check=False).returncode


def take_down() -> int:
    """End every process of the demo that is up and remove its files; an exit status."""
    memory = _remembered()
    for anchor in memory["machines"].values():
        if _lives(anchor):
            os.kill(anchor[0], signal.SIGKILL)
    shutil.rmtree(memory["directory"], ignore_errors=True)
    MEMORY.unlink()
    print("The demo is taken down.")  # noqa: T201
    return 0


def _remembered() -> dict[str, Any]:
    try:
        memory: dict[str, Any] = json.loads(MEMORY.read_text())
    except FileNotFoundError as error:
        raise LabError("No demo is up. Start one that stays: make demo DEMO_KEEP=1") from error
    return memory


def _lives(anchor: list[int]) -> bool:
    """Whether the process still is the one it was: ids are used again."""
    pid, _, started = anchor
    return _started(pid) == started


def _started(pid: int) -> int:
    """When a process started, in ticks since the boot (proc(5), field 22 of `stat`); 0 if there is none."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
    except FileNotFoundError:
        return 0
