"""What health checks add up to, and whom they ask."""

from __future__ import annotations

import math
from ipaddress import IPv4Address

import pytest

from agent.bgp.health import QUICK, Health, Target, target_of
from events.routing import HealthCheck, HealthCheckType

VIP = IPv4Address("203.0.113.10")
TCP = HealthCheck(type="tcp", target="80", interval_seconds=10, timeout_seconds=5, healthy_threshold=2)


def after(health: Health, *failures: str) -> list[bool]:
    """Take in checks, each begun when it was due; whether each changed the state."""
    return [health.take(health.due, failure) for failure in failures]


def test_without_a_check_a_virtual_ip_is_healthy_after_the_hold_off_and_never_checked_again() -> None:
    health = Health(HealthCheck(holdoff_seconds=30), 100.0)
    assert (health.due, health.is_healthy) == (130.0, False)
    assert after(health, "") == [True]
    assert health.is_healthy
    assert health.due == math.inf


def test_it_is_healthy_only_after_so_many_successes_in_a_row() -> None:
    health = Health(TCP, 0.0)
    assert after(health, "", "refused", "", "") == [False, False, False, True]
    assert health.why == ""


def test_it_is_unhealthy_only_after_so_many_failures_in_a_row() -> None:
    health = Health(TCP.model_copy(update={"unhealthy_threshold": 3}), 0.0)
    after(health, "", "")
    assert after(health, "refused", "refused", "", "refused", "refused") == [False] * 5
    assert health.is_healthy
    assert health.why == "", "what does not count yet is no reason"
    assert after(health, "refused") == [True]
    assert (health.state, health.why) == ("unhealthy", "refused")
    assert after(health, "", "") == [False, True]


def test_checks_follow_each_other_quickly_until_something_is_known() -> None:
    health = Health(TCP, 5.0)
    assert health.due == 5.0
    after(health, "")
    assert health.due == 5.0 + QUICK
    after(health, "")
    assert health.due == 5.0 + QUICK + 10


def test_why_it_is_not_healthy_is_told_from_the_beginning() -> None:
    health = Health(TCP, 0.0)
    assert health.why == "it was not checked yet"
    after(health, "")
    assert health.why == "only 1 of 2 checks in a row succeeded so far"
    after(health, "refused")
    assert (health.state, health.why) == ("unknown", "refused")


@pytest.mark.parametrize(
    ("kind", "target", "expected"),
    [
        ("tcp", "8080", Target("203.0.113.10", 8080)),
        ("tcp", ":8080", Target("203.0.113.10", 8080)),
        ("tcp", "127.0.0.1:22", Target("127.0.0.1", 22)),
        ("tcp", "[::1]:22", Target("::1", 22)),
        ("tcp", "db.example.org:22", Target("db.example.org", 22, is_named=True)),
        ("http", "/health?deep=1", Target("203.0.113.10", 80, "/health?deep=1")),
        ("http", ":8080/health", Target("203.0.113.10", 8080, "/health")),
        ("https", "/", Target("203.0.113.10", 443, "/")),
        ("http", "http://127.0.0.1:81/x?y", Target("127.0.0.1", 81, "/x?y")),
        ("https", "https://www.example.org", Target("www.example.org", 443, "/", is_named=True)),
        ("grpc", ":50051", Target("203.0.113.10", 50051)),
        ("grpcs", "127.0.0.1:50051/my.Service", Target("127.0.0.1", 50051, "my.Service")),
    ],
)
def test_whom_a_check_asks(kind: HealthCheckType, target: str, expected: Target) -> None:
    assert target_of(HealthCheck(type=kind, target=target), VIP) == expected


@pytest.mark.parametrize(
    ("kind", "target"),
    [
        ("tcp", "0"),
        ("tcp", "65536"),
        ("tcp", "http"),
        ("http", "health"),
        ("http", "https://x/"),
        ("http", "http://user@x/"),
        ("http", "8080/health"),
        ("grpc", "host"),
        ("grpc", "host:/service"),
    ],
)
def test_targets_that_nobody_can_be_asked_at(kind: HealthCheckType, target: str) -> None:
    with pytest.raises(ValueError, match=r"port|URL|host|begin"):
        target_of(HealthCheck(type=kind, target=target), VIP)


def test_a_target_as_a_url_has_it() -> None:
    assert Target("::1", 80).authority == "[::1]:80"
    assert Target("127.0.0.1", 80).authority == "127.0.0.1:80"
