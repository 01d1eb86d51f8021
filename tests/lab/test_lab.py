"""The lab itself: what it promises the tests, and that it leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.lab.lab import Lab, ping_all
from deploy.lab.machine import LabError
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]

_HOLDER = """
import signal, sys
from deploy.lab.lab import Lab
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
with Lab() as lab:
    machine = lab.add_machine("a")
    stray = machine.start("stray", ["setsid", "sleep", "1000"])
    print(lab.directory, lab.router.pid, machine.pid, stray.pid, flush=True)
    signal.pause()
"""


def test_machines_reach_each_other_until_they_are_cut_apart() -> None:
    with Lab() as lab:
        one, other, third = (lab.add_machine(name) for name in ("one", "other", "third"))
        every = [(a, b, b.address) for a in (one, other, third) for b in (one, other, third) if a is not b]
        assert None not in ping_all(every).values()
        assert one.ping("2001:2:0:1::2") is not None
        lab.cut(one, other)
        cut = ping_all(every, timeout=0.3)
        assert {pair for pair, time in cut.items() if time is None} == {("one", "other"), ("other", "one")}
        assert one.ping("2001:2:0:1::2", timeout=0.3) is None
        lab.mend(other, one)
        assert None not in ping_all(every).values()


def test_a_command_that_fails_says_why() -> None:
    with Lab() as lab, pytest.raises(LabError, match=r"On one, `ls /nowhere` ended with 2: .*No such file"):
        lab.add_machine("one").run(["ls", "/nowhere"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_program_that_made_the_lab(number: signal.Signals) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout
        directory, *pids = holder.stdout.readline().split()
        assert all(Path(f"/proc/{pid}").exists() for pid in pids)
    finally:
        os.kill(holder.pid, number)
        holder.communicate(timeout=30)
    wait_until_sync(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), what="every process to end")
    if number is signal.SIGTERM:
        assert not Path(directory).exists()
    else:
        subprocess.run(["rm", "-r", directory], check=True)


@pytest.mark.timeout(180)
def test_the_demo_shows_what_it_promises() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "deploy.lab.demo"], cwd=ROOT, capture_output=True, text=True, timeout=150, check=False
    )
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "100 of 100 pings came out as they should" in shown.stdout
    for said in ("$ wireloom network create demo 172.16.0.0/24", "172.16.0.6", "$ wireloom log"):
        assert said in shown.stdout
