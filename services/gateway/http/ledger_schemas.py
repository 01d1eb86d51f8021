"""The objects of the HTTP API that are about who held an address."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Literal
from uuid import UUID

from pydantic import Field

from events.fields import GivenAddress, Moment
from services.gateway.http.schemas import After, At, Given, Limit, View

_NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"
_MACHINE_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"


class LedgerEvent(View):
    """The event with which a machine got an address, or lost it."""

    sequence: int = Field(description="Its position in the log.", examples=[1204])
    kind: Literal["network.machines_assigned", "network.machines_unassigned", "network.deleted"]
    time: Moment
    actor: str = Field(description="Who caused it.", examples=["account:anna/laptop"])
    command_id: UUID


class LedgerEntry(View):
    """That a machine held an address, from when to when."""

    wg_ip_address: IPv4Address = Field(examples=["172.16.0.9"])
    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    mesh_network_name: str = Field(description="As it was called when this began.", examples=["office-mesh"])
    mesh_network_name_now: str | None = Field(description="Null if it was deleted.", examples=["office-mesh"])
    machine_uuid: UUID = Field(examples=[_MACHINE_UUID])
    hostname: str = Field(description="As it was called when this began.", examples=["db-1"])
    hostname_now: str | None = Field(description="Null if it was deleted.", examples=["db-1"])
    held_from: Moment
    held_until: Moment | None = Field(description="Null if it holds it still.")
    began: LedgerEvent
    ended: LedgerEvent | None = Field(description="A network's deletion ends all that is held in it.")


class LedgerPage(View):
    """Who held addresses: by network, the oldest first, then by when it began."""

    items: tuple[LedgerEntry, ...]
    next: str | None = Field(description="Give it as `after` to get the next page; null on the last.")
    last_sequence: int = Field(description="The log position up to which this is true.", examples=[1204])


class LedgerQuery(Given):
    """Which holdings: those that all of these are true of."""

    address: GivenAddress | None = Field(None, description="Only this address.", examples=["172.16.0.9"])
    network: UUID | None = Field(None, description="Only in this network, also if it was deleted.")
    machine: UUID | None = Field(None, description="Only this machine's, also if it was deleted.")
    at: At = Field(
        None,
        description="Only who held it then: right after this position of the log, at this time, or so long ago.",
        examples=["1204", "2026-05-03T14:02", "2 hours ago"],
    )
    limit: Limit = 100
    after: After = None
