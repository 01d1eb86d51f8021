"""The packet filter's rules that keep transit addresses to WireGuard. Pure.

In each network the addresses of the transit prefix are there for WireGuard packets inside of other WireGuard packets,
and for nothing else. What has nothing to do with a transit prefix passes as if the rules were not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv6Network

TABLE = "inet wireloom"
"""The agent's own table of nftables. No other is touched."""

_WIREGUARD = "@th,64,32 { 0x01000000, 0x02000000, 0x03000000, 0x04000000 }"
"""The first four bytes after the UDP header: a message's type, and three zeros (WireGuard's paper, section 5.4)."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:@+-]+")


@dataclass(frozen=True, slots=True)
class TransitNetwork:
    """A network in which this machine has transit addresses, or may be a transit machine."""

    interface: str
    prefix: IPv6Network
    """The network's transit prefix."""
    listen_port: int
    """WireGuard's UDP port on this machine."""
    forwards: bool = False
    """Whether this machine carries other members' packets."""


def only_from(routers: Iterable[str]) -> list[str]:
    """The guard for a system that forwards IPv6 from every interface, though only these and the tunnels should."""
    names = _names(routers)
    return [*([f"iifname {names} accept"] if names else []), "meta nfproto ipv6 drop"]


def not_from(interfaces: Iterable[str]) -> list[str]:
    """The guard for a system that forwards IPv6 from these interfaces for the sake of transit only."""
    names = _names(interfaces)
    return [f"iifname {names} meta nfproto ipv6 drop"] if names else []


def replacement(networks: Iterable[TransitNetwork], guard: Iterable[str] = ()) -> str:
    """What to tell `nft -f` so that the table holds the rules for these networks and no others, in one transaction.

    `guard` is for what the system would forward besides.
    """
    forward, incoming, outgoing = [], [], []
    for network in sorted(networks, key=lambda network: network.interface):
        within = f"ip6 saddr {network.prefix} ip6 daddr {network.prefix} ip6 nexthdr udp"
        others = [f"ip6 saddr {network.prefix} drop", f"ip6 daddr {network.prefix} drop"]
        inside = f'iifname "{network.interface}" oifname "{network.interface}"'
        if network.forwards:
            forward.append(f"{inside} {within} {_WIREGUARD} accept")
        # Every member reaches every other by its own tunnel: also where the system forwards IPv4 for other reasons,
        # nobody has it pass on what it could read.
        forward += [f"{inside} drop", *others]
        incoming += [f'iifname "{network.interface}" {within} udp dport {network.listen_port} accept', *others]
        outgoing += [f'oifname "{network.interface}" {within} udp sport {network.listen_port} accept', *others]
    forward += guard
    chains = "\n".join(
        f"  chain {hook} {{\n    type filter hook {hook} priority filter; policy accept;\n{_indented(rules)}  }}"
        for hook, rules in (("input", incoming), ("forward", forward), ("output", outgoing))
    )
    return f"{REMOVAL}table {TABLE} {{\n{chains}\n}}\n"


REMOVAL = f"table {TABLE}\ndelete table {TABLE}\n"
"""What to tell `nft -f` so that there is no table; made first, because what is not there cannot be deleted."""


def _names(interfaces: Iterable[str]) -> str:
    names = ", ".join(f'"{name}"' for name in sorted(interfaces) if _PLAIN_NAME.fullmatch(name))
    return f"{{ {names} }}" if names else ""


def _indented(rules: Iterable[str]) -> str:
    return "".join(f"    {rule}\n" for rule in rules)
