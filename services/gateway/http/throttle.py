"""How often those may ask who have not shown who they are. In memory, by each gateway for itself."""

from __future__ import annotations

import math
import time
from ipaddress import IPv6Address, ip_network

from limits import RateLimitItem, RateLimitItemPerSecond
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from events.errors import RateLimitedError
from services.gateway.settings import Limits

_EVERYBODY = "everybody"
_IPV6_SITE = 64


class Throttle:
    """Counts requests and failures by address, and all together.

    Every method raises `RateLimitedError` where there were too many. What one address used up costs no other anything.
    """

    def __init__(self, limits: Limits) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        seconds = limits.seconds
        self._requests = _Pair("request", limits.requests, limits.all_requests, seconds)
        self._failures = _Pair("failure", limits.failures, limits.all_failures, seconds)

    def request(self, address: str) -> None:
        """Somebody asks without saying who he is."""
        self._count(self._requests, address)

    def failure(self, address: str) -> None:
        """Somebody showed a token or proof that does not count."""
        self._count(self._failures, address)

    def check_failures(self, address: str) -> None:
        """Whether to look at a token or proof at all."""
        for item, who in self._failures.of(address):
            if not self._limiter.test(item, who):
                raise self._refusal(item, who)

    def _count(self, pair: _Pair, address: str) -> None:
        for item, who in pair.of(address):
            if not self._limiter.hit(item, who):
                raise self._refusal(item, who)

    def _refusal(self, item: RateLimitItem, who: str) -> RateLimitedError:
        wait = max(1, math.ceil(self._limiter.get_window_stats(item, who).reset_time - time.time()))
        seconds = "a second" if wait == 1 else f"{wait} seconds"
        of_all = who == _EVERYBODY
        detail = "There are too many requests" + (" at the moment." if of_all else " from your address.")
        error = RateLimitedError(detail, hint=f"Try again in {seconds}.")
        error.retry_after = wait
        return error


class _Pair:
    """A limit for each address, and one for all."""

    def __init__(self, name: str, each: int, every: int, seconds: int) -> None:
        self._each = RateLimitItemPerSecond(each, seconds, namespace=name)
        self._every = RateLimitItemPerSecond(every, seconds, namespace=name)

    def of(self, address: str) -> tuple[tuple[RateLimitItem, str], ...]:
        return (self._each, site_of(address)), (self._every, _EVERYBODY)


def site_of(address: str) -> str:
    """Whom an address counts as: an IPv4 address as itself, an IPv6 address as its /64, of which a site has a whole."""
    try:
        network = ip_network(address.partition("%")[0])
    except ValueError:
        return "unknown"
    first = network.network_address
    if not isinstance(first, IPv6Address):
        return str(first)
    if first.ipv4_mapped is not None:
        return str(first.ipv4_mapped)
    return str(ip_network((first, _IPV6_SITE), strict=False))
