"""Which addresses another machine can have at all, as far as the address itself tells. Pure.

What peers say and announce is taken at its word by nobody: a packet to this machine itself, to a group or to a link
without a name never reaches a peer, but may reach something else.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from events.fields import split_endpoint


def is_place(address: IPv4Address | IPv6Address) -> bool:
    """Whether a machine elsewhere can have this address."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped or address.scope_id:
            return False
    elif address.is_reserved:  # 240.0.0.0/4 with the broadcast address; of IPv6, ranges that may come into use
        return False
    return not (address.is_unspecified or address.is_loopback or address.is_multicast or address.is_link_local)


def is_endpoint(endpoint: str) -> bool:
    """Whether a text is an endpoint that a machine elsewhere can have."""
    try:
        return is_place(split_endpoint(endpoint)[0])
    except ValueError:
        return False
