"""What the HTTP API tells of commands, and takes to undo them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import Field

from events.fields import AccountRole, Moment
from services.gateway.http.schemas import DRY_RUN_TEXT, Event, Given, Position, View

_POSITION_TEXT = "The log position of one of its events, where it is known: then the log is not looked through."


class CommandQuery(Given):
    """Where a command is."""

    position: Position = Field(None, description=_POSITION_TEXT)


class UndoQuery(CommandQuery):
    """How to undo a command."""

    dry_run: bool = Field(False, description=DRY_RUN_TEXT)


class UndoEvent(View):
    """An event that would take back what a command did."""

    kind: str = Field(examples=["network.machines_unassigned"])
    network_uuids: tuple[UUID, ...]
    machine_uuids: tuple[UUID, ...]
    text: str = Field(description="In words.", examples=["unassigned db-1 from office-mesh"])
    data: dict[str, Any] = Field(description="The fields of this kind of event.")


class UndoAnswer(View):
    """Whether a command can be undone now."""

    possible: bool
    role: AccountRole = Field(description="The role that it takes.")
    events: tuple[UndoEvent, ...] = Field((), description="The events that would be written.")
    detail: str | None = Field(
        None,
        description="Why it is not possible.",
        examples=["172.16.0.2 in the network office was given to web-2 since: event 42, by cli:alice."],
    )
    hint: str | None = Field(None, description="What to do, where it is not possible.")


class CommandView(View):
    """What a command did."""

    command_id: UUID
    actor: str = Field(description="Who gave it.", examples=["account:alice/laptop"])
    time: Moment
    events: tuple[Event, ...]
    undo: UndoAnswer


class UndoneView(View):
    """A command that was undone."""

    command_id: UUID = Field(description="The id of the undo, which is a command like others.")
    undone: UUID = Field(description="The id of the command that was undone.")
    log_sequence: int = Field(description="The log position of the undo's last event.", examples=[42])
    changed: bool = Field(description="Whether events were written: false where there was nothing to take back.")
    events: tuple[Event, ...] = Field(description="What took it back.")
