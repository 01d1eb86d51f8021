"""Which router, if any, is asked for mappings. Pure."""

from __future__ import annotations

from ipaddress import IPv4Interface, IPv4Network

from agent.desired import Locality

_TRANSLATED = tuple(map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10")))
"""Addresses that need a translator to reach others (RFC 1918, RFC 6598)."""


def router_to_ask(locality: Locality) -> str:
    """The default router for IPv4; nothing where there is none, or where this machine has an address that others can
    send to as it is. IPv6 is not translated: there both ends open their firewalls by sending first."""
    own = [address for address in locality.addresses if isinstance(address, IPv4Interface)]
    is_translated = all(any(address.ip in network for network in _TRANSLATED) for address in own)
    return locality.router if own and is_translated else ""
