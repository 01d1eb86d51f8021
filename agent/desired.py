"""What one network's interface should be like, and where this machine stands underneath. Data types."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv6Interface

from agent.device import Route
from agent.probing.places import is_place
from events.fields import split_endpoint

KEEPALIVE = 25
"""Seconds between keepalives: shorter than the usual 30 s after which a NAT forgets a UDP mapping."""

DEFAULT_MTU = 1420
"""1,500 less WireGuard's overhead over IPv6: 40 + 8 + 32."""


@dataclass(frozen=True, slots=True)
class Locality:
    """Where this machine stands in the networks underneath."""

    addresses: tuple[IPv4Interface | IPv6Interface, ...] = ()
    """Its global-scope addresses on interfaces that are not Wireloom's."""
    families: frozenset[int] = frozenset({4, 6})
    """The IP versions for which it has a route."""
    router: str = ""
    """The IPv4 address of its default router, if it has one."""

    def usable(self, endpoints: tuple[str, ...]) -> tuple[str, ...]:
        """The endpoints that this machine can send to, best first: those in one of its own subnets, then the others
        in the order given. Its own addresses never lead to another machine, nor do those that no machine elsewhere can
        have; and what is no endpoint leads nowhere."""
        near, far = [], []
        for endpoint in endpoints:
            try:
                address, _ = split_endpoint(endpoint)
            except ValueError:
                continue
            if not is_place(address) or any(address == own.ip for own in self.addresses):
                continue
            if any(address in own.network for own in self.addresses):
                near.append(endpoint)
            elif address.version in self.families:
                far.append(endpoint)
        return (*near, *far)


@dataclass(frozen=True, slots=True)
class DesiredPeer:
    """A peer as it should be."""

    allowed_ips: frozenset[str]
    endpoints: tuple[str, ...] = ()
    """Where it may be reached, best first; through transit machines too."""
    withdrawn: frozenset[str] = frozenset()
    """Where it said it can be reached, and does no longer."""
    formerly: str = ""
    """The key that it had before: where that was reached, this one is."""
    is_awaited: bool = False
    """Whether no endpoint is to be set yet."""
    keepalive: int = KEEPALIVE


@dataclass(frozen=True, slots=True)
class Desired:
    """An interface as it should be."""

    private_key: str = field(repr=False)
    listen_port: int
    mtu: int
    address: str
    route: str
    peers: Mapping[str, DesiredPeer]
    """By public key."""
    transit_prefix: str = ""
    """Routes into it are the agent's own."""
    transit_addresses: frozenset[str] = frozenset()
    transit_routes: frozenset[Route] = frozenset()
    """To transit addresses, and to peers that are reached through transit machines."""
    mark: int = 0
    """What the packets of WireGuard itself are marked with; 0 for nothing."""
    vips: frozenset[str] = frozenset()
    """The addresses of virtual IPs that were given to the machine."""

    @property
    def addresses(self) -> frozenset[str]:
        """All that the interface should have."""
        return self.transit_addresses | self.vips | {self.address}

    @property
    def routes(self) -> frozenset[Route]:
        """All that should lead through the interface, but for those of others."""
        return self.transit_routes | {Route(self.route)}
