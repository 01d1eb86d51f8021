"""A member of a network as this machine sees it, and what that means for its interface. Data types."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address

from agent.device import NO_CHANGES, Changes, PeerChange
from agent.paths import Way
from events.fields import split_endpoint


@dataclass(slots=True)
class Member:
    """Another member of the network, from its newest record."""

    public_key: str
    address: IPv4Address
    hostname: str
    endpoints: tuple[str, ...]
    listen_port: int = 0
    """The UDP port of its WireGuard on the machine itself; 0 for not known."""
    direct: str = ""
    """Where probes reach it; empty where they do not, or do not yet."""
    last_direct: str = ""
    """Where they reached it last."""
    is_lost: bool = False
    """Whether probes say that they do not reach it."""
    way: Way | None = None
    """The way that its packets go, where they do not go directly."""
    shunned: frozenset[Way] = frozenset()
    """The ways that lead nowhere, as far as is known."""
    withdrawn: frozenset[str] = frozenset()
    formerly: str = ""
    """The key that it had before."""
    allowed_ip: str | None = None
    """None once a newer record has given its address to somebody else."""

    @property
    def port(self) -> int:
        """The port that packets through transit machines go to: where it is not told, that of its own addresses, which
        come last among its candidates."""
        if self.listen_port or not self.endpoints:
            return self.listen_port
        return split_endpoint(self.endpoints[-1])[1]

    def nested(self, way: Way) -> str:
        """Its endpoint by a way."""
        return f"[{way.peer_address}]:{self.port}"


@dataclass(frozen=True, slots=True)
class Increment:
    """What one record, or one finding of the probes, means for the interface."""

    changes: Changes = NO_CHANGES
    compare: bool = False
    """Whether what to do depends on the interface as it is (an endpoint that may have roamed)."""
    refusal: str = ""
    """Why the record is not obeyed, if it is not."""
    reached_otherwise: bool = False
    """Whether somebody is reached by other ways now, or by none, without a record or a finding that says so."""

    @property
    def peers(self) -> tuple[PeerChange, ...]:
        """What changes about peers."""
        return self.changes.peers


NOTHING = Increment()
