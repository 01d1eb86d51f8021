"""What a WireGuard interface is like, what can be changed about it, and who can do so. Data types and one interface.

Allowed IPs, addresses and destinations are canonical CIDR text (`172.16.0.5/32`, `fd00::5/128`); endpoints are text as
in `events.fields`; keys are base64, as `wg` prints them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

from events.errors import ConflictError, InternalError, UnavailableError

_T = TypeVar("_T")

OUTER_MARK = 20179
"""What the packets of WireGuard itself are marked with, and probes: learnt routes are not for them."""


class PortTakenError(ConflictError):
    """Raised when another program holds the UDP port that an interface should listen on."""

    code = "port-taken"
    title = "The UDP port is taken"


class DeviceError(InternalError):
    """Raised when the system refuses a change to an interface; part of the change may have been made."""

    code = "device"
    title = "The system refuses a change to an interface"


class NoBackendError(UnavailableError):
    """Raised when this machine has no WireGuard that the agent can drive."""

    code = "no-backend"
    title = "This machine has no WireGuard"


@dataclass(frozen=True, slots=True)
class Route:
    """A route of the main table that goes out through an interface, without a gateway."""

    destination: str
    mtu: int | None = None
    """None for the interface's."""
    source: str | None = None
    """The address that packets leave with if nothing else says which; None for the system's choice. The machine must
    have it."""

    def __str__(self) -> str:
        """As `ip route` writes it."""
        mtu = "" if self.mtu is None else f" mtu {self.mtu}"
        source = "" if self.source is None else f" src {self.source}"
        return f"{self.destination}{mtu}{source}"


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer of an interface as it is now."""

    allowed_ips: frozenset[str] = frozenset()
    endpoint: str | None = None
    keepalive: int = 0
    """Seconds; 0 for off."""
    preshared: bool = False
    """Whether a preshared key is set. Wireloom sets none."""
    last_handshake: float = 0.0
    """Seconds since 1970; 0 for never."""
    rx_bytes: int = 0
    tx_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Device:
    """An interface as it is now."""

    private_key: str | None = field(default=None, repr=False)
    listen_port: int = 0
    mtu: int = 0
    up: bool = False
    addresses: frozenset[str] = frozenset()
    """Without link-local ones."""
    routes: frozenset[Route] = frozenset()
    """Whoever made them, but for those that the kernel makes by itself for IPv6 addresses."""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    """By public key."""
    mark: int = 0
    """What the packets of WireGuard itself are marked with; 0 for nothing."""


@dataclass(frozen=True, slots=True)
class PeerChange:
    """What to do to one peer. What is absent is left alone; a peer that is not there is made."""

    public_key: str
    remove: bool = False
    endpoint: str | None = None
    keepalive: int | None = None
    add_allowed_ips: frozenset[str] = frozenset()
    """An allowed IP that another peer has moves over."""
    remove_allowed_ips: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Changes:
    """What to do to one interface. What is absent is left alone."""

    create: bool = False
    private_key: str | None = field(default=None, repr=False)
    listen_port: int | None = None
    mtu: int | None = None
    up: bool = False
    """Bring the interface up."""
    add_addresses: frozenset[str] = frozenset()
    remove_addresses: frozenset[str] = frozenset()
    add_routes: frozenset[Route] = frozenset()
    """One to a destination that `remove_routes` names too takes that one's place, without a gap."""
    remove_routes: frozenset[Route] = frozenset()
    peers: tuple[PeerChange, ...] = ()
    """In the order in which they are to be made."""
    mark: int | None = None
    answering: frozenset[str] = frozenset()
    """Of the addresses to add, the ones that the machine answers at, but does not send from by itself."""

    def __bool__(self) -> bool:
        return self != NO_CHANGES


NO_CHANGES = Changes()


def merged(*several: Changes) -> Changes:
    """Changes to an interface that is there, one after the other, as one."""
    add_addresses, remove_addresses, answering = set[str](), set[str](), set[str]()
    add_routes, remove_routes = set[Route](), set[Route]()
    peers: list[PeerChange] = []
    for changes in several:
        _follow(add_addresses, remove_addresses, changes.add_addresses, changes.remove_addresses)
        _follow(add_routes, remove_routes, changes.add_routes, changes.remove_routes)
        answering |= changes.answering
        peers += changes.peers
    return Changes(
        add_addresses=frozenset(add_addresses),
        answering=frozenset(answering),
        remove_addresses=frozenset(remove_addresses),
        add_routes=frozenset(add_routes),
        remove_routes=frozenset(remove_routes),
        peers=tuple(peers),
    )


def _follow(adds: set[_T], removes: set[_T], then_add: frozenset[_T], then_remove: frozenset[_T]) -> None:
    adds -= then_remove
    removes |= then_remove
    adds |= then_add
    removes -= then_add


class Devices(Protocol):
    """The WireGuard interfaces of this machine. Every backend passes `tests/support/device_contract.py`."""

    name: str
    """What the backend is called in logs and in `wireloom-agent status`."""

    blocking: bool
    """Whether calls wait for the system, so that they belong into a thread: always the same one."""

    def read(self, interface: str) -> Device | None:
        """The interface as it is, or None if there is none that this backend can drive. Raises `DeviceError`."""

    def apply(self, interface: str, changes: Changes) -> None:
        """Make the changes, and no others.

        Creating replaces an interface of that name that this backend cannot drive. Changes name what shall be true
        after them, so making them twice is harmless.

        Raises `PortTakenError`, `DeviceError`. Error contract: some of the changes may have been made; reading the
        interface again tells which.
        """

    def remove(self, interface: str) -> None:
        """Take the interface away, with everything that hangs on it, if there is one. Raises `DeviceError`."""

    def interfaces(self) -> list[str]:
        """The names of the interfaces that begin with `INTERFACE_PREFIX`, whoever drives them."""

    def close(self) -> None:
        """Let go of the system's handles. The interfaces stay."""
