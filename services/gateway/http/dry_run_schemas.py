"""What the HTTP API tells of a change that is not made."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from pydantic import Field

from services.gateway.http.diff_schemas import Changes
from services.gateway.http.schemas import View


class DryRunAssignment(View):
    """The address that a machine would have."""

    machine_uuid: UUID
    wg_ip_address: IPv4Address


class DryRunCommand(View):
    """A command that the change takes."""

    command_id: UUID
    kind: str = Field(examples=["assign-machine"])
    summary: str = Field(description="What it does, in words.", examples=["assign a machine to a network"])
    changed: bool = Field(description="Whether it would write events: false where everything is already as asked.")
    executed: bool = Field(
        description="Whether it was executed before, with this Idempotency-Key: then nothing would happen now."
    )
    log_sequence: int = Field(description="The log position that it was decided at, or that it was executed at.")
    assignments: tuple[DryRunAssignment, ...] = ()


class DryRunEvent(View):
    """An event that would be written."""

    kind: str = Field(examples=["network.machines_assigned"])
    actor: str
    command_id: UUID
    network_uuids: tuple[UUID, ...]
    machine_uuids: tuple[UUID, ...]
    text: str = Field(description="In words.", examples=["assigned db-1 to office-mesh as 172.16.0.1"])
    data: dict[str, Any] = Field(description="The fields of this kind of event.")


class DryRun(View):
    """What a change would do. Nothing was changed."""

    position: int = Field(description="The log's last position: at which all of this holds.", examples=[42])
    commands: tuple[DryRunCommand, ...]
    events: tuple[DryRunEvent, ...] = ()
    effects: Changes = Field(description="What would be otherwise then, as between two moments.")
    later: tuple[str, ...] = Field(
        (),
        description="What follows once agents have done their part, in words.",
        examples=[["db-1 becomes a peer of web-1 in office-mesh once its agent has announced a key."]],
    )
