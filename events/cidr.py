"""Which ranges a mesh network may have, and how many machines fit in one. Pure.

A network's CIDR is canonical, lies inside one of the private ranges of RFC 1918 (section 3), and has a prefix
length from /8 to /30.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, NetmaskValueError

from events.errors import InvalidCidrError

PRIVATE_RANGES = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
)
SHORTEST_PREFIX = 8
LONGEST_PREFIX = 30
_RANGES_TEXT = "10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16"


def parse_network_cidr(text: str) -> IPv4Network:
    """The network that `text` names.

    Raises `InvalidCidrError` that says what is wrong and, where it can be told, the CIDR that was meant.
    """
    address, slash, length = text.partition("/")
    if not slash:
        raise _refuse(
            f"{_shown(text)} has no prefix length.",
            f"Write it in CIDR notation, for example {_example(address)}.",
        )
    if not (length.isascii() and length.isdigit()):
        raise _refuse(
            f"{_shown(text)} does not end in a prefix length.",
            "Write the prefix length as a number from 8 to 30, for example 172.16.0.0/24.",
        )
    try:
        meant = IPv4Interface(text).network
    except (AddressValueError, NetmaskValueError, ValueError) as error:
        raise _refuse(
            f"{_shown(text)} is not an IPv4 range.",
            "Write it in CIDR notation, for example 172.16.0.0/24.",
        ) from error
    if not SHORTEST_PREFIX <= meant.prefixlen <= LONGEST_PREFIX:
        raise _refuse(
            f"{_shown(text)} has the prefix length /{meant.prefixlen}; a mesh network's is from /8 to /30.",
            "A /24 holds 254 machines and a /16 holds 65,534.",
        )
    if not any(meant.subnet_of(private) for private in PRIVATE_RANGES):
        raise _refuse(
            f"{_shown(text)} is not inside a private range of RFC 1918.",
            f"Choose a range inside {_RANGES_TEXT}.",
        )
    if str(meant) != text:
        raise _refuse(f"{_shown(text)} is not the canonical form of a range.", f"Did you mean {meant}?")
    return meant


def capacity(network: IPv4Network) -> int:
    """How many machines fit: every address but the network's own and the broadcast address."""
    return network.num_addresses - 2


def host_index(network: IPv4Network, address: IPv4Address) -> int | None:
    """The host number of `address`, from 1, or None where the network cannot assign it."""
    index = int(address) - int(network.network_address)
    return index if 1 <= index <= capacity(network) else None


def _example(address: str) -> str:
    try:
        return str(IPv4Interface(f"{address}/24").network)
    except ValueError:
        return "172.16.0.0/24"


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:40] + "…")


def _refuse(detail: str, hint: str) -> InvalidCidrError:
    return InvalidCidrError(detail, hint=hint, field="network_cidr")
