"""The packet filter's rules for what a machine that announces routes passes on."""

from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from agent.bgp.passage_rules import REMOVAL, Passage, facing, replacement

LAN = IPv4Network("10.1.0.0/16")
OTHER = IPv4Network("10.2.0.0/16")


def rules(passage: Passage, *opened: str) -> list[str]:
    """The rules of the chain, in order."""
    script = replacement(passage, opened)
    assert script.startswith(REMOVAL)
    lines = [line.strip() for line in script.removeprefix(REMOVAL).splitlines()]
    first = lines.index("type filter hook forward priority filter; policy accept;")
    return lines[first + 1 : -2]


@pytest.mark.parametrize(
    "passage", [Passage(), Passage(("wl-1",)), Passage(prefixes=(LAN,)), Passage((), (), ("wl-1", "wl-2"))]
)
def test_nothing_passes_where_nothing_lies_behind_or_no_interface_is_there(passage: Passage) -> None:
    assert not passage


def test_what_is_for_the_prefixes_and_what_comes_from_them_passes_and_nothing_else() -> None:
    assert rules(Passage(("wl-1", "wl-2"), (LAN, OTHER)), "eth1") == [
        'iifname { "wl-1", "wl-2" } oifname != { "wl-1", "wl-2" } ip daddr { 10.1.0.0/16, 10.2.0.0/16 } accept',
        'oifname { "wl-1", "wl-2" } iifname != { "wl-1", "wl-2" } ip saddr { 10.1.0.0/16, 10.2.0.0/16 } accept',
        'iifname { "wl-1", "wl-2" } ct state established,related accept',
        'iifname { "wl-1", "wl-2" } ct status dnat accept',
        'iifname { "wl-1", "wl-2" } drop',
        'iifname { "eth1" } drop',
    ]


def test_between_crossing_networks_everything_passes() -> None:
    assert rules(Passage(("wl-1", "wl-2", "wl-3"), (), ("wl-1", "wl-2"))) == [
        'iifname { "wl-1", "wl-2" } oifname { "wl-1", "wl-2" } accept',
        'iifname { "wl-1", "wl-2", "wl-3" } ct state established,related accept',
        'iifname { "wl-1", "wl-2", "wl-3" } ct status dnat accept',
        'iifname { "wl-1", "wl-2", "wl-3" } drop',
    ]


def test_a_name_that_could_end_a_rule_is_left_out() -> None:
    assert rules(Passage(("wl-1",), (LAN,)), 'x"; accept')[-1] == 'iifname { "wl-1" } drop'


def test_prefixes_lie_behind_the_interfaces_that_lead_to_parts_of_them_or_around_them() -> None:
    routes = [
        (IPv4Network("0.0.0.0/0"), "wan"),
        (IPv4Network("10.0.0.0/8"), "core"),
        (IPv4Network("10.1.1.0/24"), "rack1"),
        (IPv4Network("10.1.2.0/24"), "rack2"),
        (IPv4Network("10.2.0.0/16"), "lan"),
    ]
    assert facing([LAN], routes) == {"rack1", "rack2", "core"}
    assert facing([OTHER], routes) == {"lan"}
    assert facing([IPv4Network("192.168.0.0/16")], routes) == {"wan"}
    assert facing([LAN], []) == frozenset()
