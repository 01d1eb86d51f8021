"""A gateway's address as a person writes it. Pure."""

from __future__ import annotations

from ipaddress import ip_address

import httpx2

from events.errors import InvalidInputError

_PORTS = {"http": 80, "https": 443}


def checked_url(text: str) -> str:
    """The address of a gateway in its canonical form. Raises `InvalidInputError`, without what may be a password."""
    try:
        url = httpx2.URL(text.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise _not_a_url(text) from error
    if url.userinfo:
        raise InvalidInputError(
            "A gateway's address holds neither name nor password.", hint="Sign in with: wireloom login URL", field="url"
        )
    if url.scheme not in ("http", "https") or not url.host:
        raise _not_a_url(text)
    return str(url)


def origin(url: str) -> tuple[str, str, int | None]:
    """What makes two addresses the same gateway: scheme, host and port."""
    parsed = httpx2.URL(url)
    return parsed.scheme, parsed.host, parsed.port or _PORTS.get(parsed.scheme)


def is_loopback(url: str) -> bool:
    """Whether the address is this machine's own."""
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _not_a_url(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"{text!r} is not the address of a gateway.", hint="Write it like http://127.0.0.1:7480.", field="url"
    )
