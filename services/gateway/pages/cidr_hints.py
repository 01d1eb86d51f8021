"""What a network CIDR that somebody is typing would mean, and which ranges are free. Pure.

What counts as a network CIDR is `events.cidr`'s to say; that no two networks, and no network and route or virtual IP,
may share an address is the allocator's rule, which it applies again when the network is made.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv4Network
from typing import Literal

from events.cidr import LONGEST_PREFIX, PRIVATE_RANGES, SHORTEST_PREFIX, capacity, parse_network_cidr
from events.errors import InvalidCidrError
from services.gateway.mirror import Mirror
from services.gateway.naming import listed

SUGGESTED = (24, 22, 20, 16)
"""The prefix lengths of the ranges that are offered."""

_PREFERRED = (IPv4Network("172.16.0.0/12"), IPv4Network("10.0.0.0/8"), IPv4Network("192.168.0.0/16"))
"""Where a free range is looked for: first where neither homes nor clouds usually have their own."""

_CONTAINERS = IPv4Network("172.17.0.0/16")
"""Where container engines put their own network unless told otherwise: it is not offered, and free to whoever asks."""

_UNFINISHED = re.compile(r"\d{0,3}(\.\d{0,3}){0,3}|\d{1,3}(\.\d{1,3}){3}/[1-3]?")
_WHOLE_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}/?")


@dataclass(frozen=True, slots=True)
class Claim:
    """Addresses that somebody has."""

    prefix: IPv4Network
    owner: str
    """In words: `the network office`."""


@dataclass(frozen=True, slots=True)
class CidrHint:
    """What there is to say about a text. `kind` is `unfinished` while what is missing may still be typed."""

    kind: Literal["unfinished", "wrong", "taken", "good"]
    detail: str
    more: str = ""
    offer: IPv4Network | None = None
    """What may have been meant, or is free instead."""


def claims_of(mirror: Mirror) -> list[Claim]:
    """All addresses that a new network must not touch: those of networks, of routes and of virtual IPs, also of those
    that are turned off."""
    routing = mirror.routing
    networks = (network.record for network in mirror.networks.values())
    return [
        *(Claim(each.network_cidr, f"the network {each.name}") for each in networks if each is not None),
        *(Claim(prefix, f"the route {each.name}") for each in routing.routes.values() for prefix in each.prefixes),
        *(Claim(IPv4Network(each.address), f"the virtual IP {each.name}") for each in routing.vips.values()),
    ]


def hint(text: str, claims: Iterable[Claim], *, finished: bool = False) -> CidrHint | None:
    """What there is to say about `text` as a new network's CIDR. Who has not `finished` is spared what more letters
    may mend, and told nothing (None) as long as nothing is typed."""
    if not text:
        return CidrHint("wrong", "The network needs a range.", "For example 172.16.0.0/24.") if finished else None
    known = list(claims)
    try:
        network = parse_network_cidr(text)
    except InvalidCidrError as error:
        return _not_a_cidr(text, error, finished)
    overlapping = overlaps(network, known)
    size = f"/{network.prefixlen}"
    if overlapping:
        owned = [f"{each.prefix} of {each.owner}" for each in overlapping]
        free = first_free((each.prefix for each in known), network.prefixlen)
        more = f"No {size} is free." if free is None else f"This {size} is free:"
        return CidrHint("taken", f"{network} shares addresses with {listed(owned)}.", more, free)
    private = next(each for each in PRIVATE_RANGES if network.subnet_of(each))
    where = f"It is inside the private range {private}" if network != private else f"It is the whole of {private}"
    return CidrHint(
        "good",
        f"Holds {capacity(network):,} machines and overlaps nothing.",
        f"{where} (RFC 1918). Machines get {network[1]} to {network[-2]}.",
    )


def overlaps(network: IPv4Network, claims: Iterable[Claim]) -> list[Claim]:
    """The claims that share addresses with `network`, in order."""
    found = (each for each in claims if each.prefix.overlaps(network))
    return sorted(found, key=lambda each: (each.prefix, each.owner))


def meant(text: str) -> IPv4Network | None:
    """The network CIDR that somebody may have meant who wrote `text`; None where that cannot be told, or it is one."""
    clean = "".join(text.split()).rstrip("/")
    guesses: tuple[Callable[[], str], ...] = (
        lambda: clean,
        lambda: str(IPv4Interface(clean if "/" in clean else f"{clean}/24").network),
    )
    for guess in guesses:
        try:
            found = parse_network_cidr(guess())
        except (InvalidCidrError, ValueError):
            continue
        return found if str(found) != text else None
    return None


def suggestions(prefixes: Iterable[IPv4Network], lengths: Sequence[int] = SUGGESTED) -> list[IPv4Network]:
    """A free range of each of these prefix lengths, where there is one that nobody trips over."""
    taken = [*prefixes, _CONTAINERS]
    found = (first_free(taken, length) for length in lengths)
    return [each for each in found if each is not None]


def first_free(prefixes: Iterable[IPv4Network], length: int) -> IPv4Network | None:
    """The lowest private range with this prefix length, from 8 to 30, that overlaps none of `prefixes`, in the order of
    preference of the private ranges; None where there is none."""
    if not SHORTEST_PREFIX <= length <= LONGEST_PREFIX:
        raise ValueError(f"a mesh network's prefix length is from /8 to /30, not /{length}")
    taken = sorted((int(each.network_address), int(each.broadcast_address)) for each in prefixes)
    free = (_first_free_in(private, taken, length) for private in _PREFERRED if private.prefixlen <= length)
    return next((each for each in free if each is not None), None)


def _first_free_in(private: IPv4Network, taken: Sequence[tuple[int, int]], length: int) -> IPv4Network | None:
    size = 1 << (32 - length)
    start = int(private.network_address)
    for first, last in taken:
        if last < start:
            continue
        if first >= start + size:
            break
        start = -(-(last + 1) // size) * size
    return IPv4Network((start, length)) if start + size - 1 <= int(private.broadcast_address) else None


def _not_a_cidr(text: str, error: InvalidCidrError, finished: bool) -> CidrHint:
    offer = meant(text)
    if not finished and _UNFINISHED.fullmatch(text) and (offer is None or _WHOLE_ADDRESS.fullmatch(text)):
        said = "Now the prefix length." if offer else "An address and a prefix length, for example 172.16.0.0/24."
        return CidrHint("unfinished", said, "Did you mean" if offer else "", offer)
    return CidrHint("wrong", error.detail, "Did you mean" if offer else error.hint, offer)
