"""What routes, virtual IPs and policies may be."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from events.routing import HealthCheck, Policy, PolicyRule, RoutePrefix, VipAddress, network_asn

PREFIX: TypeAdapter[IPv4Network] = TypeAdapter(RoutePrefix)


@given(st.uuids())
def test_a_networks_asn_is_private_and_stays(network_id: UUID) -> None:
    assert 4_200_000_000 <= network_asn(network_id) <= 4_294_967_294
    assert network_asn(network_id) == network_asn(UUID(str(network_id)))


@pytest.mark.parametrize("text", ["10.20.0.0/16", "203.0.113.7/32", "100.64.0.0/10"])
def test_prefixes_that_may_be_announced(text: str) -> None:
    assert str(PREFIX.validate_python(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("0.0.0.0/0", "default route"),
        ("128.0.0.0/1", "shorter than /8"),
        ("127.0.0.0/8", "cannot be routed"),
        ("169.254.7.0/24", "cannot be routed"),
        ("224.0.0.0/8", "cannot be routed"),
        ("10.20.0.1/16", "canonical"),
        ("10.20.0.0", "CIDR notation"),
        ("fd00::/8", "canonical"),
        (167772160, "CIDR notation"),
    ],
)
def test_prefixes_that_may_not(text: Any, why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        PREFIX.validate_python(text)


@pytest.mark.parametrize("address", ["127.0.0.1", "224.0.0.5", "0.0.0.0", 3405803786])
def test_virtual_ips_that_may_not_be(address: Any) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(VipAddress).validate_python(address)


@pytest.mark.parametrize(
    ("check", "why"),
    [
        ({"type": "none", "target": "/x"}, "no target"),
        ({"type": "tcp"}, "needs a target"),
        ({"type": "exec", "target": "../evil"}, "name of a program"),
        ({"type": "exec", "target": ".hidden"}, "name of a program"),
        ({"type": "tcp", "target": "80", "interval_seconds": 1, "timeout_seconds": 2}, "timeout"),
        ({"type": "http", "target": "/a b"}, "pattern"),
        ({"type": "ping", "target": "x"}, "type"),
    ],
)
def test_health_checks_that_cannot_be(check: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        HealthCheck.model_validate(check)


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ({"match_type": "prefix_list"}, "match_type"),
        ({"match_prefixes": ["10.0.0.0/8"]}, "match_type"),
        ({"match_prefix_len_min": 8}, "prefix lengths"),
        (
            {
                "match_type": "prefix_list",
                "match_prefixes": ["10.0.0.0/8"],
                "match_prefix_len_min": 24,
                "match_prefix_len_max": 16,
            },
            "greater",
        ),
        ({"match_type": "community", "match_communities": ["65536:1"]}, "community"),
        ({"match_type": "community", "match_communities": ["1:2 ]; }"]}, "community"),
        ({"match_type": "as_path", "match_as_path": "1 =]; reject"}, "pattern"),
        ({"match_type": "as_path", "match_as_path": "4294967296"}, "at most"),
        ({"description": "a\nb"}, "pattern"),
        ({"action": "reject", "set_med": 5}, "changes nothing"),
        ({"prepend_as_count": 11}, "less than or equal"),
    ],
)
def test_rules_that_cannot_be(rule: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        PolicyRule.model_validate({"sequence": 10, **rule})


@pytest.mark.parametrize("places", [(20, 10), (10, 10)])
def test_rules_stand_in_order(places: tuple[int, int]) -> None:
    with pytest.raises(ValidationError, match="in the order"):
        Policy(direction="import", rules=tuple(PolicyRule(sequence=place) for place in places))
