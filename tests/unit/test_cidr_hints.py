"""What is said of a network CIDR while somebody types it, and which ranges are offered as free."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from events.cidr import PRIVATE_RANGES, parse_network_cidr
from events.domain import REGISTRY_ID
from services.allocator.aggregates import NetworkEntry, Registry
from services.gateway.pages.cidr_hints import SUGGESTED, Claim, first_free, hint, meant, overlaps, suggestions

OFFICE = Claim(IPv4Network("172.16.0.0/24"), "the network office")
LAB = Claim(IPv4Network("172.16.8.0/22"), "the network lab")
LAN = Claim(IPv4Network("10.9.0.0/16"), "the route lan")
KNOWN = [OFFICE, LAB, LAN]


def inside(private: IPv4Network) -> st.SearchStrategy[IPv4Network]:
    def placed(length: int) -> st.SearchStrategy[IPv4Network]:
        count = 1 << (length - private.prefixlen)
        step = 1 << (32 - length)
        return st.integers(0, count - 1).map(lambda place: IPv4Network((int(private[0]) + place * step, length)))

    return st.integers(private.prefixlen, 32).flatmap(placed)


prefixes = st.lists(st.one_of(*map(inside, PRIVATE_RANGES)), max_size=30)


@given(prefixes, st.integers(8, 30))
@example([IPv4Network("172.16.0.0/12"), IPv4Network("10.0.0.0/8")], 24)
@example([IPv4Network("172.16.0.128/25"), IPv4Network("172.16.0.0/16")], 24)
def test_what_is_offered_as_free_is_free(taken: list[IPv4Network], length: int) -> None:
    free = first_free(taken, length)
    if free is None:
        candidates = [each for each in PRIVATE_RANGES if each.prefixlen <= length]
        assert all(any(each.overlaps(prefix) for prefix in taken) for each in candidates)
        return
    assert free.prefixlen == length
    assert parse_network_cidr(str(free)) == free
    assert not any(free.overlaps(prefix) for prefix in taken)


@given(st.lists(st.integers(0, 255), max_size=256), st.integers(24, 28))
def test_a_range_is_found_if_there_is_one(places: list[int], length: int) -> None:
    """All but 192.168.0.0/16 is taken, and of that some /24."""
    taken = [IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12")]
    taken += [IPv4Network((int(IPv4Address("192.168.0.0")) + place * 256, 24)) for place in places]
    free = first_free(taken, length)
    lowest = next((place for place in range(256) if place not in places), None)
    assert free == (None if lowest is None else IPv4Network((int(IPv4Address("192.168.0.0")) + lowest * 256, length)))


@given(prefixes)
def test_suggestions_are_free_and_of_several_sizes(taken: list[IPv4Network]) -> None:
    offered = suggestions(taken)
    assert [each.prefixlen for each in offered] == [
        each for each in SUGGESTED if each in {o.prefixlen for o in offered}
    ]
    for each in offered:
        assert hint(str(each), [Claim(prefix, "somebody") for prefix in taken]).kind == "good"  # type: ignore[union-attr]


def test_what_is_suggested_at_first_is_small_and_common() -> None:
    assert list(map(str, suggestions([]))) == ["172.16.0.0/24", "172.16.0.0/22", "172.16.0.0/20", "172.16.0.0/16"]


def test_where_containers_live_is_not_suggested_but_free() -> None:
    assert "172.17.0.0/16" not in map(str, suggestions([IPv4Network("172.16.0.0/16")]))
    assert first_free([IPv4Network("172.16.0.0/16")], 16) == IPv4Network("172.17.0.0/16")


def test_no_network_has_such_a_length() -> None:
    for length in (7, 31):
        with pytest.raises(ValueError, match="from /8 to /30"):
            first_free([], length)


@given(prefixes, st.one_of(*map(inside, PRIVATE_RANGES)))
def test_the_allocator_means_the_same_by_overlapping(taken: list[IPv4Network], wanted: IPv4Network) -> None:
    apart = [each for number, each in enumerate(taken) if not any(each.overlaps(other) for other in taken[:number])]
    registry = Registry(REGISTRY_ID)
    ranges = []
    for number, each in enumerate(apart):
        entry = NetworkEntry(UUID(int=number), f"n{number}", each, route_reflector_mode=False)
        registry = Registry(REGISTRY_ID, networks=registry.networks.insert(entry.network_id, entry))
        ranges.append((int(each[0]), int(each[-1]), entry.network_id))
    registry = Registry(REGISTRY_ID, networks=registry.networks, ranges=tuple(sorted(ranges)))
    found = overlaps(wanted, [Claim(each, "somebody") for each in apart])
    assert bool(found) == (registry.overlapping(wanted) is not None)


@pytest.mark.parametrize(
    ("text", "offer"),
    [
        ("172.16.0.7/24", "172.16.0.0/24"),
        ("172.16.0.0", "172.16.0.0/24"),
        ("172.16.0.0/", "172.16.0.0/24"),
        ("10.1.2.3/16", "10.1.0.0/16"),
        ("10.0.0.0/255.255.0.0", "10.0.0.0/16"),
        (" 10.1.0.0 / 16 ", "10.1.0.0/16"),
        ("172.16.0.0/24/", "172.16.0.0/24"),
        ("172.16.0.0/24", None),
        ("8.8.8.8/24", None),
        ("10.0.0.0/31", None),
        ("office", None),
        ("", None),
    ],
)
def test_what_was_meant(text: str, offer: str | None) -> None:
    found = meant(text)
    assert (None if found is None else str(found)) == offer


@given(st.text(max_size=40) | st.from_regex(r"[0-9./ ]{0,20}", fullmatch=True))
def test_whatever_is_typed_something_true_is_said(text: str) -> None:
    said = hint(text, KNOWN)
    assert (said is None) == (not text)
    if said is not None and said.offer is not None:
        assert parse_network_cidr(str(said.offer)) == said.offer
        assert hint(str(said.offer), KNOWN).kind in ("good", "taken")  # type: ignore[union-attr]


@pytest.mark.parametrize("text", ["1", "172", "172.16", "172.16.", "10.0.0.0/1", "10.0.0.0", "10.0.0.0/"])
def test_who_has_not_finished_is_not_told_that_it_is_wrong(text: str) -> None:
    said = hint(text, KNOWN)
    assert said is not None
    assert said.kind == "unfinished"
    sent = hint(text, KNOWN, finished=True)
    assert sent is not None
    assert sent.kind == "wrong"


def test_who_sends_nothing_is_told_what_is_missing() -> None:
    assert hint("", KNOWN) is None
    said = hint("", KNOWN, finished=True)
    assert said is not None
    assert (said.kind, said.detail) == ("wrong", "The network needs a range.")


def test_a_good_one() -> None:
    said = hint("172.16.4.0/22", KNOWN)
    assert said is not None
    assert said.kind == "good"
    assert said.detail == "Holds 1,022 machines and overlaps nothing."
    assert "inside the private range 172.16.0.0/12" in said.more
    assert "172.16.4.1 to 172.16.7.254" in said.more


def test_a_taken_one_names_whose_it_is_and_offers_a_free_one() -> None:
    said = hint("172.16.0.0/16", KNOWN)
    assert said is not None
    assert said.kind == "taken"
    assert "172.16.0.0/24 of the network office and 172.16.8.0/22 of the network lab" in said.detail
    assert said.offer == IPv4Network("172.17.0.0/16")
    nothing_left = hint("10.0.0.0/8", KNOWN)
    assert nothing_left is not None
    assert nothing_left.offer is None
    assert nothing_left.more == "No /8 is free."


def test_a_wrong_one_says_why() -> None:
    said = hint("8.8.8.0/24", KNOWN)
    assert said is not None
    assert (said.kind, said.offer) == ("wrong", None)
    assert "RFC 1918" in said.detail
