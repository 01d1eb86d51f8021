"""Which machines have dropped a revoked machine, and which have not yet. Pure: the time is an argument.

A revoked machine's peer records are replaced by tombstones, each with a revision of its network. A member whose
interface agrees with the records up to that revision has no key of the revoked machine any more.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from events.errors import NotFoundError
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence


@dataclass(frozen=True, slots=True)
class Receipt:
    """What one member of a network has said."""

    machine_id: UUID
    hostname: str
    is_online: bool
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class NetworkReceipts:
    """What a network's members have said, in the order of their addresses."""

    network_id: UUID
    name: str
    revision: int
    """The network's revision at which the machine went."""
    dropped: tuple[Receipt, ...]
    pending: tuple[Receipt, ...]


@dataclass(frozen=True, slots=True)
class Revocation:
    """How far a machine's revocation has come."""

    machine_id: UUID
    revoked_at: datetime
    networks: tuple[NetworkReceipts, ...]
    """Those in which others had the machine's key, by name."""

    @property
    def complete(self) -> bool:
        """Whether no machine has the revoked one's keys any more."""
        return not any(network.pending for network in self.networks)


def revocation_of(mirror: Mirror, presence: Presence, machine_id: UUID, now: datetime) -> Revocation:
    """How far the revocation of a machine has come. Raises `NotFoundError` where it was not revoked."""
    identity = mirror.access.identity(machine_id)
    if identity is None or identity.revoked_at is None:
        raise NotFoundError(f"The machine {machine_id} was not revoked.", hint="Revoke it first.")
    networks = [
        _network(mirror, presence, network_id, revision, now)
        for network_id, revision in mirror.departures(machine_id).items()
    ]
    ordered = sorted(networks, key=lambda network: (network.name, network.network_id))
    return Revocation(machine_id, identity.revoked_at, tuple(ordered))


def _network(mirror: Mirror, presence: Presence, network_id: UUID, revision: int, now: datetime) -> NetworkReceipts:
    network, record = mirror.network(network_id)
    dropped: list[Receipt] = []
    pending: list[Receipt] = []
    for _, member in network.by_address.rows:
        known = mirror.machines[member].record
        hostname = known.hostname if known is not None else str(member)
        receipt = Receipt(member, hostname, presence.is_online(member, now), presence.last_seen_at(member))
        (dropped if presence.applied(member, network_id) >= revision else pending).append(receipt)
    return NetworkReceipts(network_id, record.name, revision, tuple(dropped), tuple(pending))
