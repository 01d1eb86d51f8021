"""How often one may ask without saying who one is."""

from __future__ import annotations

import pytest

from events.errors import RateLimitedError
from services.gateway.http.throttle import Throttle, site_of
from services.gateway.settings import Limits
from tests.support.waiting import wait_until_sync

ONE, OTHER = "192.0.2.1", "192.0.2.2"


def is_refused(throttle: Throttle, address: str) -> bool:
    try:
        throttle.check_failures(address)
    except RateLimitedError:
        return True
    return False


def test_what_one_address_used_up_costs_no_other_anything() -> None:
    throttle = Throttle(Limits(failures=2, all_failures=5, seconds=60))
    for _ in range(2):
        throttle.failure(ONE)
    for _ in range(20):
        with pytest.raises(RateLimitedError, match="your address"):
            throttle.failure(ONE)
    assert is_refused(throttle, ONE)
    assert not is_refused(throttle, OTHER)
    throttle.failure(OTHER)


def test_all_together_have_a_limit_too() -> None:
    throttle = Throttle(Limits(requests=2, all_requests=5, seconds=60))
    for number in range(5):
        throttle.request(f"192.0.2.{number}")
    with pytest.raises(RateLimitedError, match="at the moment") as refused:
        throttle.request("192.0.2.99")
    assert 50 <= refused.value.retry_after <= 60
    assert not is_refused(throttle, "192.0.2.99")


def test_it_is_over_when_the_window_is() -> None:
    throttle = Throttle(Limits(failures=1, seconds=1))
    throttle.failure(ONE)
    assert is_refused(throttle, ONE)
    wait_until_sync(lambda: not is_refused(throttle, ONE), timeout=5)


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("testclient", "unknown"),
        ("", "unknown"),
    ],
)
def test_an_address_counts_as_its_site(address: str, site: str) -> None:
    assert site_of(address) == site
