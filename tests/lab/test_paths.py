"""The places of the lab are what they are called, and every machine reaches every machine between them."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import combinations

import pytest

from deploy.lab.cast import HUB, settle_all
from deploy.lab.lab import Lab
from deploy.lab.matrix import Matrix, verdict
from deploy.lab.mesh import wait_for
from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import Way, predict
from tests.lab.udp import Talk

pytestmark = [pytest.mark.lab, pytest.mark.timed]


@pytest.fixture(scope="module")
def places() -> Iterator[Surroundings]:
    """All places with their machines, without Wireloom."""
    with Lab() as lab:
        surroundings = Surroundings(lab)
        settle_all(surroundings)
        yield surroundings


def test_plain_udp_passes_between_places_as_theory_says(places: Surroundings) -> None:
    spots = places.spots
    pairs = list(combinations(spots, 2))
    asked: set[tuple[str, str]] = set()
    # One end alone: each direction with ports of its own, since an answer would open the way for the other.
    for port, order in ((20000, pairs), (21000, [(b, a) for a, b in pairs])):
        with Talk(places, port) as talk:
            asked |= set(talk.arrivals((a, b, address) for a, b in order for address in talk.own[b]))
    with Talk(places, 22000) as talk:
        seen = talk.arrivals((a, HUB, address) for a in spots for address in talk.own[HUB])
        known = {a: set(talk.own[a]) | seen.get((a, HUB), set()) for a in spots}
        every = [(a, b, address) for a in spots for b in spots if a != b for address in known[b]]
        both = set(talk.arrivals(every))

    def found(a: str, b: str) -> Way:
        if {(a, b), (b, a)} & asked:
            return Way.DIRECT
        return Way.PUNCHED if {(a, b), (b, a)} <= both else Way.TRANSIT

    differences = {
        (a, b): (found(a, b).value, expected.value)
        for a, b in pairs
        if found(a, b) is not (expected := predict(spots[a], spots[b]))
    }
    assert not differences


def test_translation_is_what_it_is_called(places: Surroundings) -> None:
    with Talk(places, 23000) as talk:
        came = talk.arrivals((a, b, address) for a in places.spots for b in (HUB, "field") for address in talk.own[b])

    def mapped(name: str) -> set[tuple[str, int]]:
        return {
            sender for target in (HUB, "field") for sender in came.get((name, target), set()) if ":" not in sender[0]
        }

    assert {name: len(mapped(name)) for name in ("desk", "sofa", "flat", "cabin", "office", "plant")} == {
        "desk": 1,
        "sofa": 1,
        "flat": 1,
        "cabin": 1,
        "office": 2,
        "plant": 2,
    }
    hosts = {name: {host for host, _ in mapped(name)} for name in places.spots}
    assert hosts["desk"] == hosts["sofa"] == {places.lab.machines["desk"].address}
    assert not hosts["six"]


def test_everybody_reaches_the_control_plane_by_tcp(places: Surroundings) -> None:
    server = places.lab.add_machine("control")
    accept = "import socket; s = socket.create_server(('::', 7480), family=socket.AF_INET6, dualstack_ipv6=True)"
    listening = server.start("server", ["python3", "-uc", f"{accept}\nprint('ready')\nwhile 1: s.accept()[0].close()"])
    wait_for(lambda: "ready" in listening.log.read_text(), "the server to listen")
    for name, spot in places.spots.items():
        address = server.address if 4 in spot.place.families else server.address6
        with places.lab.machines[name].network():
            socket.create_connection((address, 7480), timeout=5).close()


def test_every_machine_reaches_every_machine_by_the_way_that_theory_says() -> None:
    with Lab() as lab:
        matrix = Matrix(lab)
        matrix.start()
        matrix.connect()
        cells = matrix.measure()
        assert not verdict(cells)
        assert len(cells) == len(matrix.spots) * (len(matrix.spots) - 1)
        assert {cell.way for cell in cells.values()} == set(Way)
