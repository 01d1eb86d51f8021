"""Whether a machine can answer for a virtual IP: what its health checks add up to, and whom they ask. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import Literal
from urllib.parse import urlsplit

from events.routing import HealthCheck, HealthCheckType

QUICK = 1.0
"""Seconds, at most, between checks for as long as nothing is known: an agent that starts anew soon knows again."""

_PORTS: dict[HealthCheckType, int] = {"http": 80, "https": 443}


class Health:
    """What the checks of one virtual IP add up to. Times are seconds of any clock that never goes back."""

    def __init__(self, check: HealthCheck, now: float) -> None:
        """The virtual IP was given to this machine at `now`."""
        self.check = check
        self.state: Literal["unknown", "healthy", "unhealthy"] = "unknown"
        self.why = "it was not checked yet"
        """Why it is not healthy; empty where it is."""
        self.due = now + check.holdoff_seconds
        """When the next check is to begin."""
        self._in_a_row = 0
        self._last_was_good = False

    @property
    def is_healthy(self) -> bool:
        """Whether the machine can answer; what is not known does not count."""
        return self.state == "healthy"

    def take(self, begun: float, failure: str) -> bool:
        """Take in a check that began at `begun`: how it failed, or nothing. Returns whether the state is another."""
        is_good = not failure
        self._in_a_row = self._in_a_row + 1 if is_good == self._last_was_good else 1
        self._last_was_good = is_good
        before = self.state
        if is_good and self._in_a_row >= self._wanted:
            self.state, self.why = "healthy", ""
        elif not is_good and self._in_a_row >= self.check.unhealthy_threshold:
            self.state = "unhealthy"
        if not is_good and self.state != "healthy":
            self.why = failure
        elif is_good and self.state == "unknown":
            self.why = f"only {self._in_a_row} of {self._wanted} checks in a row succeeded so far"
        self.due = begun + self._pause
        return self.state != before

    @property
    def _wanted(self) -> int:
        return 1 if self.check.type == "none" else self.check.healthy_threshold

    @property
    def _pause(self) -> float:
        if self.check.type == "none":
            return math.inf
        interval = float(self.check.interval_seconds)
        return min(interval, QUICK) if self.state == "unknown" else interval


@dataclass(frozen=True, slots=True)
class Target:
    """Whom a check asks."""

    host: str
    port: int
    path: str = ""
    """With `http` and `https`, what is asked for; with `grpc` and `grpcs`, the service, or empty for the server."""
    is_named: bool = False
    """Whether the host was given by a name, not by an address or by saying nothing."""

    @property
    def authority(self) -> str:
        """Host and port as a URL has them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def target_of(check: HealthCheck, vip: IPv4Address) -> Target:
    """Whom a check over the network asks: at the virtual IP itself where the check names no host, because that is
    where the service must answer. Raises ValueError that says what is wrong with the check's target."""
    text = check.target
    if check.type == "tcp":
        return _authority(text if ":" in text else f":{text}", vip)
    if check.type in {"grpc", "grpcs"}:
        where, _, service = text.partition("/")
        found = _authority(where, vip)
        return Target(found.host, found.port, service, found.is_named)
    if "://" in text:
        return _url(check, text)
    where, slash, rest = text.partition("/")
    if not slash or (where and not where.startswith(":")):
        raise ValueError(f"{text[:60]!r} is neither a URL nor a path, such as /health or :8080/health")
    port = _port(where[1:]) if where else _PORTS[check.type]
    return Target(str(vip), port, f"/{rest}")


def _url(check: HealthCheck, text: str) -> Target:
    url = urlsplit(text)
    if url.scheme != check.type:
        raise ValueError(f"{text[:60]!r} does not begin with {check.type}://")
    if not url.hostname or url.username is not None:
        raise ValueError(f"{text[:60]!r} names no host")
    path = (url.path or "/") + (f"?{url.query}" if url.query else "")
    return Target(url.hostname, url.port or _PORTS[check.type], path, not _is_address(url.hostname))


def _authority(text: str, vip: IPv4Address) -> Target:
    host, colon, port = text.rpartition(":")
    if not colon:
        raise ValueError(f"{text[:60]!r} names no port, such as :8080")
    host = host.removeprefix("[").removesuffix("]")
    return Target(host or str(vip), _port(port), is_named=bool(host) and not _is_address(host))


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or not 0 < int(text) < 65536:
        raise ValueError(f"{text[:20]!r} is not a port")
    return int(text)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
