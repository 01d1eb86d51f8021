"""Whatever a policy or a plan is, BIRD takes the configuration, and nobody's words get into it."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent.bgp.config import render
from agent.bgp.intent import Announced, BgpIntent, NetworkIntent, Owner
from events.routing import Direction, Policy, PolicyRule
from tests.support.birds import address, intent, reflected

EXAMPLES = settings(max_examples=60)
HOSTILE = '"; } protocol static { ipv4; route 0.0.0.0/0 unreachable; } #'

numbers = st.integers(0, 0xFFFF_FFFF)
communities = st.builds(lambda high, low: f"{high}:{low}", st.integers(0, 65_535), st.integers(0, 65_535))
several = st.lists(communities, max_size=3).map(tuple)
prefixes = st.builds(
    lambda bits, length: IPv4Network((bits >> (32 - length) << (32 - length) if length else 0, length)),
    numbers,
    st.integers(0, 32),
)
paths = st.lists(
    st.one_of(st.just("*"), st.just("?"), st.integers(1, 0xFFFF_FFFF).map(str)), min_size=1, max_size=5
).map(" ".join)
matches = st.one_of(
    st.just({}),
    st.fixed_dictionaries(
        {
            "match_type": st.just("prefix_list"),
            "match_prefixes": st.lists(prefixes, min_size=1, max_size=3).map(tuple),
            "match_prefix_len_min": st.none() | st.integers(0, 16),
            "match_prefix_len_max": st.none() | st.integers(16, 32),
        }
    ),
    st.fixed_dictionaries(
        {
            "match_type": st.just("community"),
            "match_communities": st.lists(communities, min_size=1, max_size=3).map(tuple),
        }
    ),
    st.fixed_dictionaries({"match_type": st.just("as_path"), "match_as_path": paths}),
)
changes = st.one_of(
    st.just({"action": "reject"}),
    st.fixed_dictionaries(
        {
            "set_local_pref": st.none() | numbers,
            "set_med": st.none() | numbers,
            "set_communities": st.none() | several,
            "add_communities": several,
            "remove_communities": several,
            "prepend_as_count": st.integers(0, 10),
        }
    ),
)


@st.composite
def policies(draw: st.DrawFn, direction: Direction) -> Policy:
    rules = draw(st.lists(st.tuples(matches, changes, st.booleans()), max_size=5))
    return Policy(
        direction=direction,
        default_action=draw(st.sampled_from(["accept", "reject"])),
        local_pref=draw(st.none() | numbers),
        rules=tuple(
            PolicyRule(sequence=place, enabled=enabled, description=HOSTILE, **match, **change)
            for place, (match, change, enabled) in enumerate(rules, start=1)
        ),
    )


@st.composite
def networks(draw: st.DrawFn, number: int) -> NetworkIntent:
    size = draw(st.integers(1, 5))
    plain = intent(1, size, number)
    reflectors = draw(st.sets(st.integers(1, size), max_size=3))
    change: dict[str, Any] = reflected(plain, draw(st.sampled_from(["mesh", "switching", "reflectors"])), *reflectors)
    some = st.lists(prefixes, max_size=3).map(tuple)
    change["owners"] = tuple(Owner(address(number, draw(st.integers(2, 6))), draw(some)) for _ in range(size))
    change["announced"] = tuple(Announced(each, draw(numbers)) for each in draw(some))
    change["narrow"] = tuple(address(number, each) for each in draw(st.lists(st.integers(2, 6), max_size=3)))
    change["narrow_mtu"] = draw(st.integers(1280, 1420))
    change["import_policy"] = draw(st.none() | policies("import"))
    change["export_policy"] = draw(st.none() | policies("export"))
    return replace(plain, **change)


@st.composite
def intents(draw: st.DrawFn) -> BgpIntent:
    found = tuple(draw(networks(number)) for number in range(7, 7 + draw(st.integers(0, 3))))
    crossing = tuple(network.network_id for network in found) if len(found) > 1 and draw(st.booleans()) else ()
    return BgpIntent(found, crossing)


@EXAMPLES
@given(intents())
def test_bird_takes_every_configuration_and_it_holds_nobodys_words(wish: BgpIntent) -> None:
    text = render(wish)
    with TemporaryDirectory() as folder:
        (Path(folder) / "bird.conf").write_text(text)
        done = subprocess.run(
            ["bird", "-p", "-c", "bird.conf"], cwd=folder, capture_output=True, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (0, ""), text
    assert "0.0.0.0/0 unreachable" not in text
    assert text.count("protocol static") == 2 * len(wish.networks)
