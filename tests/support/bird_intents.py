"""What a speaker is to do, in every kind: each has a golden configuration in `tests/data/bird`."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network
from typing import Any

from agent.bgp.intent import Announced, BgpIntent, NetworkIntent, Owner
from events.routing import Direction, Policy, PolicyRule
from tests.support.birds import address, intent, network_id, prefix, reflected

VIP = IPv4Network("203.0.113.9/32")


def _planned(stage: str, *reflectors: int) -> NetworkIntent:
    plain = intent(1, 5)
    return replace(plain, **reflected(plain, stage, *reflectors))


def _rule(sequence: int, **rule: Any) -> PolicyRule:
    return PolicyRule(sequence=sequence, description="a word to the wise; }", **rule)


def every_rule(direction: Direction) -> Policy:
    """A policy with a rule of every kind."""
    prefixes = {"match_type": "prefix_list", "match_prefixes": ("172.20.0.0/16", "172.16.0.0/12")}
    return Policy(
        direction=direction,
        default_action="reject",
        local_pref=120,
        rules=(
            _rule(10, action="reject", match_type="prefix_list", match_prefixes=("172.20.9.0/24",)),
            _rule(20, **prefixes, match_prefix_len_min=14, match_prefix_len_max=24, set_local_pref=300, set_med=5),
            _rule(30, **prefixes, match_prefix_len_min=28, prepend_as_count=2),
            _rule(40, match_type="prefix_list", match_prefixes=("172.20.0.0/16",), match_prefix_len_max=8),
            _rule(50, match_type="community", match_communities=("65000:1", "65000:2"), set_communities=()),
            _rule(60, match_type="community", match_communities=("0:0",), set_communities=("65535:65535", "1:1")),
            _rule(70, match_type="as_path", match_as_path="* 4294967295 ? *", add_communities=("2:2", "3:3")),
            _rule(80, enabled=False, action="reject"),
            _rule(90, remove_communities=("4:4", "5:5"), set_local_pref=4_294_967_295, set_med=0),
        ),
    )


def _gateway() -> BgpIntent:
    inner, outer, third = intent(1, 3, 8), intent(1, 3, 9), intent(1, 3, 10)
    behind = Owner(address(9, 2), (prefix(2), inner.cidr, prefix(7)))
    outer = replace(outer, owners=(behind, *outer.owners[1:]))
    return BgpIntent((inner, outer, third), (network_id(8), network_id(9)))


INTENTS: dict[str, BgpIntent] = {
    "empty": BgpIntent(),
    "alone": BgpIntent((intent(1, 1),)),
    "mesh": BgpIntent((replace(intent(1, 5), announced=(Announced(prefix(1)), Announced(VIP, 200))),)),
    "switching": BgpIntent((_planned("switching", 2, 3),)),
    "client": BgpIntent((_planned("reflectors", 2, 3),)),
    "reflector": BgpIntent(
        (replace(_planned("reflectors", 1, 2, 3), announced=(Announced(prefix(1)), Announced(VIP, 199))),)
    ),
    "narrow": BgpIntent((replace(intent(1, 3), narrow=(address(9, 2), address(9, 3)), narrow_mtu=1360),)),
    "policies": BgpIntent(
        (replace(intent(1, 3), import_policy=every_rule("import"), export_policy=every_rule("export")),)
    ),
    "gateway": _gateway(),
}
