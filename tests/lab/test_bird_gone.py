"""Real BIRDs whose neighbour is gone: its routes are held for the time that a restart takes, unless it is known that it
is not reached in any way."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from agent.bgp.config import RESTART_TIME
from tests.lab.test_bird import await_sessions, bfd, plan
from tests.support.birds import Station, intent, machine_id, network_id, prefix, stations
from tests.support.namespaces import command
from tests.support.waiting import wait_until_sync

pytestmark = [pytest.mark.lab, pytest.mark.timed]

FOUR = range(1, 5)
LOST = str(prefix(4))


@pytest.fixture
def four(tmp_path: Path) -> Iterator[dict[int, Station]]:
    """Four machines in a full mesh that has come up."""
    with stations(tmp_path, dict.fromkeys(FOUR, (9,))) as machines:
        for number, machine in machines.items():
            machine.apply(intent(number, 4))
        for number, machine in machines.items():
            machine.await_routes(*(set(FOUR) - {number}))
        yield machines


def lose(machine: Station, *numbers: int) -> None:
    """Tell a speaker that machines are not reached."""
    assert machine._loop is not None
    assert machine._speaker is not None
    gone = {network_id(9): {machine_id(number) for number in numbers}} if numbers else {}
    machine._loop.call_soon_threadsafe(machine._speaker.lose, gone)


def await_watched(machine: Station, by: Station) -> None:
    """Until BFD of another watches a machine: it begins a moment after the session, and misses nobody before."""
    wait_until_sync(lambda: "Up" in bfd(by, machine.number), what=f"BFD of {by.name} to be up")


def cut_off(machine: Station, state: str = "down") -> None:
    """Take a machine off the network, without a word; or with `up`, back."""
    own = intent(machine.number, 4)
    command("ip", "link", "set", own.interface, state, namespace=machine.name)
    if state == "up":
        command("ip", "route", "replace", str(own.cidr), "dev", own.interface, "scope", "link", namespace=machine.name)


def await_gone(*machines: Station) -> float:
    """Seconds until the lost machine's route is in none of these kernels."""
    begun = time.monotonic()
    wait_until_sync(lambda: not any(LOST in machine.routes() for machine in machines), what="the route to go")
    return time.monotonic() - begun


def test_in_full_mesh(four: dict[int, Station]) -> None:
    await_watched(four[4], by=four[1])
    cut_off(four[4])
    lose(four[1], 4)
    assert await_gone(four[1]) < RESTART_TIME
    assert LOST in four[2].routes(), "who does not know holds it"
    assert four[1].routes().keys() == {str(prefix(2)), str(prefix(3))}
    lose(four[1])
    cut_off(four[4], "up")
    four[1].await_routes(2, 3, 4)


def test_with_reflectors_whose_client_is_gone(four: dict[int, Station]) -> None:
    plan(four, "switching", 1, 2)
    await_sessions(four[3], (1, "mesh"), (2, "mesh"), (4, "mesh"), (1, "client"), (2, "client"))
    plan(four, "reflectors", 1, 2)
    await_sessions(four[3], (1, "client"), (2, "client"))
    four[3].await_routes(1, 2, 4)
    for number in (1, 2):
        await_watched(four[4], by=four[number])
    cut_off(four[4])
    for number in (1, 2, 3):
        lose(four[number], 4)
    assert await_gone(four[1], four[2], four[3]) < RESTART_TIME
    for number in (1, 2, 3):
        lose(four[number])
    cut_off(four[4], "up")
    four[3].await_routes(1, 2, 4)
