"""A network and a machine as the derivation keeps them in mind. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address
from uuid import UUID

from events.records import MachineRecord, NetworkRecord


@dataclass(slots=True)
class Member:
    """A machine in a network."""

    address: IPv4Address
    assigned_at: datetime
    key_generation: int = 0
    """How often it was told to make itself a new key here."""
    public_key: str | None = None
    """None until the machine has announced its key."""
    endpoints: tuple[str, ...] = ()
    listen_port: int = 0


@dataclass(slots=True)
class Network:
    """A network, who is in it, and who was."""

    record: NetworkRecord
    members: dict[UUID, Member] = field(default_factory=dict)
    former: set[UUID] = field(default_factory=set)
    """Machines that left: a tombstone of their membership stands in STATE."""


@dataclass(slots=True)
class Machine:
    """A machine and where it is, and was."""

    record: MachineRecord
    networks: set[UUID] = field(default_factory=set)
    left: set[UUID] = field(default_factory=set)
    """The networks among whose `former` it is."""
    void: set[UUID] = field(default_factory=set)
    """Deleted networks of which a membership, or the tombstone of one, still stands in STATE."""
