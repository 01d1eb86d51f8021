"""The API's objects about how far a network's machines agree with its records."""

from __future__ import annotations

from uuid import UUID

from pydantic import Field

from events.fields import Moment
from services.gateway.http.schemas import View


class AtRevision(View):
    """How many machines have applied a network's records up to a revision, and no further."""

    revision: int
    machine_count: int


class Laggard(View):
    """A machine that has not applied all of a network's records, as far as is known."""

    uuid: UUID
    hostname: str = Field(examples=["db-1"])
    is_online: bool
    last_seen_at: Moment | None = Field(description="Null if it was not heard of since this gateway started.")
    revision: int | None = Field(description="Up to which it has; null if it has not said since this gateway started.")
    since: Moment | None = Field(description="When the first change that it lacks was decided, where that is known.")


class Change(View):
    """A change of a network, and how soon machines had applied it: those that were online then."""

    revision: int
    decided_at: Moment
    machine_count: int = Field(description="How many machines have acknowledged it and count here.")
    p50_seconds: float | None = Field(description="From the decision until half of them had applied it.")
    p99_seconds: float | None


class NetworkStatus(View):
    """How far the machines of a mesh network agree with its records."""

    mesh_network_uuid: UUID
    revision: int = Field(description="Rises by one with each record about the network.")
    changed_at: Moment | None
    machine_count: int
    online_count: int
    up_to_date_count: int = Field(description="How many machines have applied everything.")
    revisions: tuple[AtRevision, ...] = Field(description="The newest first; without machines that have not said.")
    lagging: tuple[Laggard, ...] = Field(description="Those online first; at most 1000.")
    lagging_count: int
    p50_seconds: float | None = Field(description="Over all of `changes`; null where no machine has acknowledged any.")
    p99_seconds: float | None
    changes: tuple[Change, ...] = Field(description="The last 64 since this gateway started, the newest first.")
