"""The objects of the HTTP API that say why things are as they are."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from pydantic import Field, model_validator

from events.fields import GivenAddress, Moment
from events.routing import Prefix
from services.gateway.http.schemas import View, ViewQuery

_NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"
_MACHINE_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"


class WhyStep(View):
    """Something that is, was written, happened or was said, and what it follows from."""

    what: Literal["thing", "record", "event", "report", "command", "actor"] = Field(
        description="A `thing` that is so; a derived `record`; an `event` of the log; a machine's `report`; the "
        "`command` that an event was decided from; the `actor` who gave it."
    )
    text: str = Field(description="In words.", examples=["assigned db-1 to office-mesh as 172.16.0.1"])
    time: Moment | None
    subject: str | None = Field(description="Of a record, where it stands.")
    revision: int | None = Field(description="Of a record, in its scope.", examples=[12])
    stream: str | None = Field(description="Where it stands: LOG, STATE, PATHS, REACH or BGP.", examples=["LOG"])
    position: int | None = Field(
        description="Of an event, in the log; of a report, in its stream; of a record, that of the event or report "
        "that it follows from.",
        examples=[1204],
    )
    uuids: tuple[UUID, ...] = Field(
        description="What it is about; of a command its id; of an actor the account's and the token's."
    )
    follows_from: tuple[WhyStep, ...]


class Why(View):
    """Why things are as they are: a tree of steps for each."""

    items: tuple[WhyStep, ...]
    log_position: int = Field(description="As of this position of the log.", examples=[1204])


_MACHINE = Field(description="Also one that was deleted.", examples=[_MACHINE_UUID])
_NETWORK = Field(None, description="In this network; without it, in all that are meant.", examples=[_NETWORK_UUID])


class PairWhyQuery(ViewQuery):
    """Which two machines."""

    machine: UUID = _MACHINE
    peer: UUID = _MACHINE
    network: UUID | None = _NETWORK


class AddressWhyQuery(ViewQuery):
    """Which address, or the addresses of which machine: one of the two."""

    address: GivenAddress | None = Field(None, examples=["172.16.0.9"])
    machine: UUID | None = Field(None, examples=[_MACHINE_UUID])
    network: UUID | None = _NETWORK

    @model_validator(mode="after")
    def _one(self) -> AddressWhyQuery:
        if (self.address is None) == (self.machine is None):
            raise ValueError("give `address` or `machine`, not both")
        return self


class RouteWhyQuery(ViewQuery):
    """Which prefix."""

    prefix: Prefix = Field(description="In CIDR notation.", examples=["10.20.0.0/16"])
    machine: UUID | None = Field(None, description="Why this machine has a route to it, or none.")
    network: UUID | None = _NETWORK
