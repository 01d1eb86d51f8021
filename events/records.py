"""The derived records: what the topology service makes of the log, for the gateway and the agents.

A record stands under one subject of the STATE stream, which holds the newest only and repeats it live
(`events.subjects`). Each belongs to a *scope*: a network (heard by all its machines) or a machine (heard by it alone).
A scope has a revision that rises by one with each of its records, so a listener that holds revision `n` and hears a
record whose `previous` is not `n` knows that it missed something.
"""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from events.fields import Address, Cidr, Endpoint, Moment, PublicKey, Tolerant


class NetworkRecord(Tolerant):
    """A network, in its own scope."""

    kind: Literal["network"] = "network"

    network_id: UUID
    name: str
    network_cidr: Cidr
    is_default: bool
    route_reflector_mode: bool
    created_at: Moment


class PeerRecord(Tolerant):
    """A member of a network as the other members need it, in the network's scope."""

    kind: Literal["peer"] = "peer"

    network_id: UUID
    machine_id: UUID
    hostname: str
    address: Address
    public_key: PublicKey
    endpoints: tuple[str, ...]
    """As the allocator accepted them; checked again where they are used."""


class MachineRecord(Tolerant):
    """A machine, in its own scope."""

    kind: Literal["machine"] = "machine"

    machine_id: UUID
    hostname: str
    agent_version: str
    created_at: Moment


class MembershipRecord(Tolerant):
    """A machine's place in one network, in the machine's scope: what it needs in order to join."""

    kind: Literal["membership"] = "membership"

    machine_id: UUID
    network_id: UUID
    network_cidr: Cidr
    address: Address
    assigned_at: Moment


Body = Annotated[NetworkRecord | PeerRecord | MachineRecord | MembershipRecord, Field(discriminator="kind")]


class Record(Tolerant):
    """One derived record with its place in its scope's history. Without a body it says: this is gone."""

    revision: int
    previous: int
    """The scope's revision before this record."""
    cause: int
    """The log position of the event that led to this record."""
    time: Moment
    """The time of that event."""
    body: Body | None


class SubjectRecord(Tolerant):
    """A record together with the STATE subject it stands under."""

    subject: str
    record: Record


class SyncRequest(Tolerant):
    """An agent asks for the records of a scope (`network:<uuid>` or `machine:<uuid>`) after a revision."""

    scope: str
    since: int = 0
    """The revision the agent holds; 0 for nothing."""


class SyncReply(Tolerant):
    """The records asked for, in the order of their revisions."""

    scope: str
    revision: int
    """The revision that the agent has once it has applied `records`."""
    reset: bool = False
    """The agent's revision is not one of this scope's: it must drop what it holds first."""
    gone: bool = False
    """The scope does not exist (any more), or is not the agent's to hear."""
    more: bool = False
    """There is more: ask again from `revision`."""
    records: tuple[SubjectRecord, ...] = ()


class RegisterRequest(Tolerant):
    """An agent makes its machine known."""

    hostname: str
    agent_version: str = ""


class MembershipRequest(Tolerant):
    """An agent announces its key, port and endpoint candidates for one network."""

    network_id: UUID
    public_key: PublicKey
    listen_port: int
    endpoints: tuple[Endpoint, ...] = ()


class Heartbeat(Tolerant):
    """An agent is alive. Not an event: kept in memory only."""

    boot_id: UUID
    counter: int
    leaving: bool = False
    """The agent stops on purpose: the machine counts as offline at once."""
