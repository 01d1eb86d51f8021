"""A mesh to which things happen at random: who can talk by theory talks; if not, it is told; nothing is left behind."""

from __future__ import annotations

import io
import os
import random
import re
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from deploy.lab.lab import Lab
from deploy.lab.moving import Moving
from deploy.lab.soak import FIRST, soak
from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import CARRIER, HOME, OPEN, WALLED, Spot
from deploy.lab.turmoil import HUB, Kind, Step, Turmoil

STEPS = 300


def populated(seed: int) -> Turmoil:
    """A mesh of five."""
    turmoil = Turmoil(random.Random(seed), 10)
    for name, place in FIRST.items():
        turmoil.note(Step(Kind.ARRIVE, name, place=place), Spot(name=name, place=place))
    return turmoil


def walk(seed: int) -> list[Step]:
    """What happens by a seed; at each step as much is broken as may be, and no more."""
    turmoil, steps = populated(seed), []
    for _ in range(STEPS):
        step = turmoil.next()
        spot = None
        if step.place:
            lan, only = turmoil.arrival(step.name, step.place)
            spot = Spot(name=step.name, place=step.place, lan=lan, only=only)
        before = turmoil.connected()
        turmoil.note(step, spot)
        if step.kind is Kind.MEND:
            assert turmoil.connected() == before, "who finds no way for long may find one only minutes later"
        steps.append(step)
        assert len(turmoil.spots) <= 10
        assert len(turmoil.members) >= 5
        assert len(turmoil.dark | turmoil.unplugged) <= 2
        assert any(4 in turmoil.spots[name].place.families for name in turmoil.seers())
        connected = turmoil.connected()
        assert {name for pair in connected for name in pair} <= turmoil.members & turmoil.awake
        assert all(turmoil.can_speak(a, b) == turmoil.can_speak(b, a) for a, b in connected)
    return steps


def test_everything_happens_some_time_and_the_same_by_the_same_seed() -> None:
    walks = [walk(seed) for seed in range(5)]
    assert {step.kind for steps in walks for step in steps} == set(Kind)
    assert walk(3) == walks[3] != walks[4]


def test_who_must_talk_follows_from_what_happened() -> None:
    turmoil = populated(1)
    everybody = len(turmoil.members) * (len(turmoil.members) - 1) // 2
    assert len(turmoil.connected()) == everybody
    assert not turmoil.can_speak("desk", "office")
    assert turmoil.can_speak("desk", "bank")
    assert turmoil.transits() == ["field", HUB]

    turmoil.note(Step(Kind.CUT, "field", "office"))
    turmoil.note(Step(Kind.FAIL, HUB))
    assert turmoil.connected() == {("bank", "desk"), ("bank", "field"), ("desk", "field")}
    assert turmoil.can_speak("desk", "bank")
    turmoil.note(Step(Kind.CUT, "desk", "field"))
    assert not turmoil.can_speak("desk", "bank"), "nobody sees where desk's packets come from"

    turmoil.note(Step(Kind.MEND, "field", "office"))
    turmoil.note(Step(Kind.REVIVE, HUB))
    turmoil.note(Step(Kind.LEAVE, "field"))
    assert len(turmoil.connected()) == everybody - 4


@pytest.mark.lab
@pytest.mark.timed
def test_machines_move_and_lose_their_link_and_have_it_again() -> None:
    with Lab() as lab:
        surroundings = Surroundings(lab)
        for name, place in ((HUB, OPEN), ("desk", HOME), ("cabin", CARRIER), ("bank", WALLED)):
            surroundings.settle(name, place)
        moving, hub = Moving(surroundings), lab.machines[HUB]
        for name in ("desk", "cabin", "bank"):
            machine = lab.machines[name]
            before = surroundings.spots[name].addresses
            assert not set(before) & set(moving.move(name).addresses)
            assert machine.ping(hub.address) is not None
            moving.unplug(name)
            assert machine.ping(hub.address, 0.2) is None
            moving.plug(name)
            assert machine.ping(hub.address) is not None
            assert not machine.address6 or machine.ping(hub.address6) is not None
        bank, former = lab.machines["bank"], hub.address
        moving.move(HUB)
        assert bank.ping(former, 0.2) is None
        assert bank.ping(hub.address) is not None
        assert bank.ping(hub.address6) is not None
        for name in ("desk", "cabin"):
            machine, seen = lab.machines[name], lab.machines[name].address
            moving.move_router(name)
            assert machine.address != seen
            assert machine.ping(hub.address) is not None
            lab.cut(machine, hub)
            assert machine.ping(hub.address, 0.2) is None, "the cut is where the machine was"


@pytest.mark.lab
@pytest.mark.timed
def test_whatever_happens_every_pair_talks_that_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    shown = io.StringIO()
    assert soak(0.3, 7, Console(file=shown, width=200), logs=tmp_path / "logs"), shown.getvalue()
    assert "seed 7" in shown.getvalue()
    assert shown.getvalue().count("pairs talk after") >= 3
    assert_nothing_is_left(tmp_path)


@pytest.mark.lab
@pytest.mark.timed
def test_a_pair_that_does_not_talk_is_told_with_its_path_and_what_happened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("deploy.lab.soak.FIRST", {HUB: OPEN, "bank": WALLED})
    shown = io.StringIO()
    assert not soak(0.3, 8, Console(file=shown, width=200), within=0.1, logs=tmp_path / "logs")
    assert re.search(r"(bank → hub|hub → bank): \d+ of \d+ pings", shown.getvalue())
    for said in ("$ wireloom path ", " in soak\n", "seed 8; what happened:"):
        assert said in shown.getvalue()
    assert (tmp_path / "logs" / "bank" / "agent.log").read_text()
    assert_nothing_is_left(tmp_path)


def assert_nothing_is_left(folder: Path) -> None:
    """Neither files of a lab, nor processes that we started: machines live no longer than their first process."""
    assert not list(folder.glob("wireloom-lab-*"))
    children = [
        int(pid) for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    assert not [pid for pid in children if b"unshare" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    lines = [
        path.read_bytes()
        for pid in os.listdir("/proc")
        if pid.isdigit() and (path := Path(f"/proc/{pid}/cmdline")).exists()
    ]
    assert not [line for line in lines if bytes(folder) in line]
