"""The benchmark with real BIRDs at its smallest: what it counts, and that it leaves nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from benchmarks import bgp
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.lab

ONE_TRIAL = """
import asyncio, sys
from pathlib import Path
from benchmarks import bgp
asyncio.run(bgp.measure(Path(sys.argv[1]), (5,)))
"""


def remains(folder: Path) -> set[str]:
    """What a benchmark may leave behind, but for namespaces, which have no names: processes that work in its
    folder, and links."""
    links = {f"link {link}" for link in os.listdir("/sys/class/net") if re.fullmatch(r"m[0-9]|wl-00000009", link)}
    return links | {f"process {pid}" for pid in working_in(folder)}


def working_in(folder: Path) -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            if folder in (process / "cwd").readlink().parents:
                found.add(int(process.name))
    return found


async def test_five_speakers_stand_in_both_modes_and_nothing_is_left(tmp_path: Path) -> None:
    files, home = os.listdir("/proc/self/fd"), os.readlink("/proc/thread-self/ns/net")
    reflected, mesh = await bgp.measure(tmp_path, (5,), calm=0.2)
    assert (mesh.sessions, mesh.most, mesh.reconfigured) == (10, 4, 5)
    assert mesh.changed >= 5
    assert (reflected.sessions, reflected.most, reflected.most_reflector) == (9, 3, 4)
    assert (reflected.changed, reflected.reconfigured) == (3, 0)
    for each in (mesh, reflected):
        assert each.stood
        assert each.known
        assert each.joined
        assert 0 < each.rss < 5 * each.pss
    assert remains(tmp_path) == set()
    assert len(os.listdir("/proc/self/fd")) == len(files)
    assert os.readlink("/proc/thread-self/ns/net") == home
    assert os.listdir(tmp_path) == []


async def test_who_does_not_stand_in_time_is_told_so(tmp_path: Path) -> None:
    reflected, mesh = await bgp.measure(tmp_path, (5,), patience=0.1)
    assert mesh.stood is reflected.stood is mesh.joined is None
    assert (mesh.learnt, mesh.all_prefixes) == (0, 20)
    assert working_in(tmp_path) == set()
    told = [result for result in bgp.results([reflected, mesh]) if result.unit == "s"]
    assert [(result.ok, "not within 0.1 s" in result.name) for result in told] == [(False, True)] * 2


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGKILL])
def test_a_benchmark_that_is_ended_takes_its_speakers_along(tmp_path: Path, ending: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", ONE_TRIAL, tmp_path], stderr=subprocess.DEVNULL) as benchmark:
        try:
            wait_until_sync(lambda: len(working_in(tmp_path)) >= 5, what="five BIRDs run")
        finally:
            benchmark.send_signal(ending)
    wait_until_sync(lambda: remains(tmp_path) == set(), what="nothing is left")
