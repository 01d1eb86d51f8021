"""What a machine's BGP speaker is to do, as plain values: from these its configuration is written. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from events.routing import PlanStage, Policy


@dataclass(frozen=True, slots=True)
class Neighbour:
    """Another member of the network."""

    machine_id: UUID
    address: IPv4Address


@dataclass(frozen=True, slots=True)
class Announced:
    """A prefix that a machine announces, or may announce, and its LOCAL_PREF."""

    prefix: IPv4Network
    local_pref: int = 100


@dataclass(frozen=True, slots=True)
class Owner:
    """Another member, and all that it may announce: what the import filter lets in with its address as next hop."""

    address: IPv4Address
    prefixes: tuple[IPv4Network, ...]
    """In order."""


@dataclass(frozen=True, slots=True)
class NetworkIntent:
    """What to do in one network."""

    network_id: UUID
    asn: int
    cidr: IPv4Network
    interface: str
    address: IPv4Address
    """The machine's own."""
    stage: PlanStage
    is_reflector: bool
    reflectors: tuple[Neighbour, ...]
    """The others that are reflectors, by address."""
    members: tuple[Neighbour, ...]
    """All other members, by address."""
    owners: tuple[Owner, ...]
    """The others that may announce something, by address."""
    announced: tuple[Announced, ...]
    """What the machine announces now: its routes, and the virtual IPs that it finds healthy; by prefix."""
    import_policy: Policy | None = None
    export_policy: Policy | None = None
    narrow: tuple[IPv4Address, ...] = ()
    """The next hops that are reached through transit machines, where packets must be smaller, in order."""
    narrow_mtu: int = 0


@dataclass(frozen=True, slots=True)
class BgpIntent:
    """What to do in all networks."""

    networks: tuple[NetworkIntent, ...] = ()
    """By id."""
    crossing: tuple[UUID, ...] = ()
    """The networks between which routes cross here; in order, none or two at least."""
