"""`/api/v1/commands`: what a command did, and undoing it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID, uuid4

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import Actor, Undo
from events.domain import DomainEvent
from events.errors import ConflictError, ForbiddenError, NotFoundError
from events.log import LoggedEvent
from services.gateway import history
from services.gateway.authority import require, role_to_undo
from services.gateway.deeds import events_of
from services.gateway.http.changes import Change, Changing, Gateway, Served, json_response
from services.gateway.http.command_schemas import (
    CommandQuery,
    CommandView,
    UndoAnswer,
    UndoEvent,
    UndoneView,
    UndoQuery,
)
from services.gateway.http.documents import changing, reading
from services.gateway.http.events import event_view
from services.gateway.http.guard import OPERATOR, VIEWER, Caller, Calling, GuardedRoute
from services.gateway.naming import NameOf
from services.gateway.words import fields_of, in_words, machines_of, networks_of

COMMANDS = "/api/v1/commands"

router = APIRouter(prefix=COMMANDS, tags=["events"], route_class=GuardedRoute)


@router.get("/{command_id}", response_model=CommandView, responses=reading(404), dependencies=[VIEWER])
async def get_command(
    command_id: UUID, gateway: Served, caller: Calling, query: Annotated[CommandQuery, Query()]
) -> Response:
    """Get what a command did, and whether that could be undone now, by who asks.

    Without `position` the log is looked through for it, newest first.
    """
    events = await _found(gateway, command_id, query.position)
    name_of = history.names_in(events, gateway.mirror.name_of)
    first = events[0].event
    return json_response(
        CommandView(
            command_id=command_id,
            actor=first.actor,
            time=first.time,
            events=tuple(event_view(logged, name_of) for logged in events),
            undo=await _undo_now(gateway, caller, events, name_of),
        )
    )


@router.post("/{command_id}/undo", response_model=UndoneView, responses=changing(200), dependencies=[OPERATOR])
async def undo_command(
    command_id: UUID, change: Changing, caller: Calling, query: Annotated[UndoQuery, Query()]
) -> Response:
    """Undo a command: make the events that take back all that it did, or none where something is in the way.

    What the command set must still be as it set it, and what it took away must still be free: `detail` says what is
    not, and who changed it. It takes the role that the command took: for accounts and API tokens, admin. An undo is a
    command like others, and can be undone.
    """
    gateway = change.gateway
    events = await _found(gateway, command_id, query.position)
    require(caller, role_to_undo(logged.event for logged in events))
    outcome = await change.give(undo_of(events, change.command_id, change.actor))
    done: Sequence[LoggedEvent] = ()
    if change.trial is None and outcome.changed:
        done = await events_of(gateway.client, outcome.command_id, outcome.sequence)

    def view() -> UndoneView:
        name_of = history.names_in([*events, *done], gateway.mirror.name_of)
        return UndoneView(
            command_id=outcome.command_id,
            undone=command_id,
            log_sequence=outcome.sequence,
            changed=outcome.changed,
            events=tuple(event_view(logged, name_of) for logged in done),
        )

    return await change.answer(outcome, 200, _location(change, outcome.sequence, bool(done)), view)


async def _found(gateway: Gateway, command_id: UUID, position: int | None) -> list[LoggedEvent]:
    """A command's events. One search through the log goes on at a time. Raises as `events_of`."""
    if position is not None:
        return await events_of(gateway.client, command_id, position)
    async with gateway.searching:
        return await events_of(gateway.client, command_id)


def _location(change: Change, sequence: int, has_events: bool) -> str:
    return f"{COMMANDS}/{change.command_id}?position={sequence}" if has_events else "/api/v1/events"


def undo_of(events: Sequence[LoggedEvent], command_id: UUID, actor: Actor) -> Undo:
    """The command that undoes the one that had these events."""
    return Undo(
        command_id=command_id,
        actor=actor,
        undone=events[0].event.command_id,
        first_sequence=events[0].sequence,
        last_sequence=events[-1].sequence,
    )


async def _undo_now(gateway: Gateway, caller: Caller, events: Sequence[LoggedEvent], name_of: NameOf) -> UndoAnswer:
    """What the allocator says to undoing the command now, asked only for who may. Raises `UnavailableError`."""
    role = role_to_undo(logged.event for logged in events)
    try:
        require(caller, role)
    except ForbiddenError as error:
        return UndoAnswer(possible=False, role=role, detail=error.detail, hint=error.hint)
    answer = await gateway.commander.preview([undo_of(events, uuid4(), events[0].event.actor)])
    preview = answer.commands[0]
    try:
        preview.done()
    except (ConflictError, NotFoundError) as error:
        return UndoAnswer(possible=False, role=role, detail=error.detail, hint=error.hint)
    return UndoAnswer(possible=True, role=role, events=tuple(_undo_event(each, name_of) for each in preview.decoded()))


def _undo_event(event: DomainEvent, name_of: NameOf) -> UndoEvent:
    return UndoEvent(
        kind=event.kind,
        network_uuids=networks_of(event),
        machine_uuids=machines_of(event),
        text=in_words(event, name_of),
        data=fields_of(event),
    )
