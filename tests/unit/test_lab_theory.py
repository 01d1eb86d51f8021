"""What theory says of two places, and how what happens is named."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import pytest

from deploy.lab.healing import PROMISED, Times
from deploy.lab.matrix import Cell, verdict
from deploy.lab.pings import Flow
from deploy.lab.theory import (
    CARRIER,
    GUARDED,
    HOME,
    OFFICE,
    OPEN,
    PLACES,
    SIX,
    WALLED,
    Place,
    Spot,
    Way,
    observe,
    predict,
)

D, P, T = Way.DIRECT, Way.PUNCHED, Way.TRANSIT
EXPECTED = {
    OPEN: (D, D, D, D, D, T, D),
    HOME: (D, P, T, P, P, T, T),
    OFFICE: (D, T, T, T, T, T, T),
    CARRIER: (D, P, T, P, P, T, T),
    WALLED: (D, P, T, P, P, T, D),
    GUARDED: (T, T, T, T, T, T, T),
    SIX: (D, T, T, T, D, T, D),
}


def spot(name: str, place: Place, *addresses: str, lan: str = "", only: str = "") -> Spot:
    return Spot(name=name, place=place, addresses=addresses, lan=lan, only=only or ("hub" if place.limited else ""))


@pytest.mark.parametrize(("a", "b"), list(combinations_with_replacement(PLACES, 2)))
def test_each_two_places_have_their_way(a: Place, b: Place) -> None:
    expected = EXPECTED[a][PLACES.index(b)]
    assert predict(spot("a", a), spot("b", b)) is predict(spot("b", b), spot("a", a)) is expected


@pytest.mark.parametrize(("a", "b"), list(product((HOME, OFFICE, CARRIER), repeat=2)))
def test_behind_one_router_all_is_direct(a: Place, b: Place) -> None:
    assert predict(spot("a", a, lan="home"), spot("b", b, lan="home")) is D


def test_the_one_machine_that_udp_may_go_to_is_reached() -> None:
    assert predict(spot("clinic", GUARDED), spot("hub", OPEN)) is D
    assert predict(spot("hub", HOME), spot("clinic", GUARDED)) is P
    assert predict(spot("clinic", GUARDED), spot("hub", SIX)) is D


OPEN_SPOT = spot("open", OPEN, "198.18.1.2", "2001:2:0:1::2")
HOME_SPOT = spot("home", HOME, "192.168.1.2")
WALLED_SPOT = spot("walled", WALLED, "198.19.8.2", "2001:2:1:8::2")


@pytest.mark.parametrize(
    ("a", "b", "to_b", "to_a", "expected"),
    [
        (OPEN_SPOT, HOME_SPOT, "198.18.3.2:4000", "198.18.1.2:51820", D),
        (HOME_SPOT, OPEN_SPOT, "198.18.1.2:51820", "198.18.3.2:4000", D),
        (OPEN_SPOT, WALLED_SPOT, "[2001:2:1:8::2]:51820", "[2001:2:0:1::2]:51820", D),
        (HOME_SPOT, WALLED_SPOT, "198.19.8.2:51820", "198.18.3.2:4000", P),
        (HOME_SPOT, spot("flat", HOME, "192.168.1.2"), "198.18.4.2:51820", "198.18.3.2:51820", P),
        (OPEN_SPOT, HOME_SPOT, "[fd12::1]:51820", "[fd12::2]:51820", T),
        (OPEN_SPOT, HOME_SPOT, "198.18.3.2:4000", "[fd12::2]:51820", T),
    ],
)
def test_a_way_is_seen_by_the_endpoints(a: Spot, b: Spot, to_b: str, to_a: str, expected: Way) -> None:
    assert observe(a, b, to_b, to_a) is expected


def test_behind_one_router_own_addresses_count() -> None:
    desk, sofa = spot("desk", HOME, "192.168.1.2", lan="home"), spot("sofa", HOME, "192.168.1.3", lan="home")
    assert observe(desk, sofa, "192.168.1.3:51820", "192.168.1.2:51820") is D
    assert observe(desk, sofa, "198.18.3.2:51820", "198.18.3.2:4000") is P


def test_what_differs_from_theory_is_told() -> None:
    cells = {
        ("a", "b"): Cell(D, D, 1.0, 0.5),
        ("b", "a"): Cell(D, T, 1.0, 0.5),
        ("a", "c"): Cell(P, P, 1.0, None),
        ("c", "a"): Cell(P, P, None, 0.5),
        ("b", "c"): Cell(T, None, None, None),
    }
    assert verdict(cells) == [
        "b → a: transit, theory says direct",
        "a → c: no traffic, theory says punched",
        "c → a: punched, theory says punched",
        "b → c: no traffic, theory says transit",
    ]


def test_pings_are_counted_by_when_they_were_sent() -> None:
    flow = Flow("a", "b", "172.16.0.2", 1, 0.05)
    flow.sent = [1.0, 2.0, 3.0, 4.0]
    flow.answered = {0: 1.1, 1: 3.5, 3: 4.2}
    assert flow.first_through() == 1.1
    assert flow.first_through(since=1.5) == 3.5
    assert flow.first_through(since=2.5) == 4.2
    assert flow.first_through(since=5.0) is None
    assert flow.lost(0.0, 5.0) == 1
    assert flow.lost(3.5, 5.0) == 0
    assert flow.round_trip(last=1) == pytest.approx(200)


def test_a_promise_is_kept_every_time_or_not_at_all() -> None:
    assert Times("cut", seconds=[0.5, PROMISED]).kept
    assert not Times("cut", seconds=[0.5, PROMISED + 0.1]).kept
    assert not Times("cut").kept
    assert Times("back", None, seconds=[9.0], lost=[0]).kept
    assert not Times("back", None, seconds=[9.0], lost=[0, 1]).kept
