"""The packet filter's rules for what a machine that announces routes passes on, and through which interfaces. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

TABLE = "ip wireloom_routes"
"""The agent's own table of nftables for routes. That for transit is another, and both must let a packet pass."""

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.:@+-]+")


@dataclass(frozen=True, slots=True)
class Passage:
    """What may pass through a machine, between its WireGuard interfaces and elsewhere."""

    interfaces: tuple[str, ...] = ()
    """Its WireGuard interfaces, in order."""
    prefixes: tuple[IPv4Network, ...] = ()
    """What lies behind it, in order."""
    crossing: tuple[str, ...] = ()
    """The WireGuard interfaces between which everything passes, in order."""
    addresses: tuple[IPv4Address, ...] = ()
    """The machine's own in its meshes, in order."""
    meshes: tuple[IPv4Network, ...] = ()
    """The ranges of these, in order."""

    def __bool__(self) -> bool:
        """Whether anything is to pass."""
        return bool(self.interfaces and (self.prefixes or self.crossing))


def replacement(passage: Passage, opened: Iterable[str]) -> str:
    """What to tell `nft -f` so that the table holds the rules for this passage, in one transaction.

    `opened` are the interfaces that forward for the sake of it only: nothing else may come in there to be passed on.
    What comes from a mesh and answers something that this machine's own guests (containers, say) asked for, passes; and
    so does what was for this machine itself, and is redirected to a guest by its own packet filter (a published port).
    """
    tunnels, crossing, others = names(passage.interfaces), names(passage.crossing), names(opened)
    rules = []
    if passage.prefixes:
        prefixes = f"{{ {', '.join(str(prefix) for prefix in passage.prefixes)} }}"
        rules.append(f"iifname {tunnels} oifname != {tunnels} ip daddr {prefixes} accept")
        rules.append(f"oifname {tunnels} iifname != {tunnels} ip saddr {prefixes} accept")
    if crossing:
        rules.append(f"iifname {crossing} oifname {crossing} accept")
    rules.append(f"iifname {tunnels} ct state established,related accept")
    rules.append(f"iifname {tunnels} ct status dnat accept")
    rules.append(f"iifname {tunnels} drop")
    if others:
        rules.append(f"iifname {others} drop")
    lines = "".join(f"    {rule}\n" for rule in rules)
    chain = f"  chain forward {{\n    type filter hook forward priority filter; policy accept;\n{lines}  }}\n"
    return f"{REMOVAL}table {TABLE} {{\n{chain}}}\n"


REMOVAL = f"table {TABLE}\ndelete table {TABLE}\n"
"""What to tell `nft -f` so that there is no table; made first, because what is not there cannot be deleted."""


def facing(prefixes: Iterable[IPv4Network], routes: Iterable[tuple[IPv4Network, str]]) -> frozenset[str]:
    """The interfaces behind which prefixes lie, by a machine's own routes: those to parts of them, and the one that
    leads there otherwise."""
    known = list(routes)
    found: set[str] = set()
    for prefix in prefixes:
        found |= {name for route, name in known if route.subnet_of(prefix)}
        around = [(route.prefixlen, name) for route, name in known if prefix.subnet_of(route)]
        if around:
            longest = max(around)[0]
            found |= {name for length, name in around if length == longest}
    return frozenset(found)


def names(interfaces: Iterable[str]) -> str:
    """Interfaces as nft writes a set of them; empty for none."""
    plain = ", ".join(f'"{name}"' for name in sorted(interfaces) if _PLAIN_NAME.fullmatch(name))
    return f"{{ {plain} }}" if plain else ""
