"""Undoing a command, on the page of one of its events: first what it would do, then the deed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Query
from starlette.responses import Response

from events.errors import ConflictError, NotFoundError
from events.log import LoggedEvent
from services.gateway.authority import require, role_to_undo
from services.gateway.deeds import events_of
from services.gateway.http.commands import undo_of
from services.gateway.http.dry_runs import Trial
from services.gateway.http.guard import OPERATOR
from services.gateway.http.schemas import MAX_POSITION
from services.gateway.pages.lines import lines_of
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, fault_of

router = APIRouter(prefix="/events/commands/{undone}/undo", route_class=PageRoute, include_in_schema=False)

_SHOWN = 12
"""So many events, and so many changes, are told one by one."""

Position = Annotated[int | None, Query(ge=0, le=MAX_POSITION)]


@router.get("", dependencies=[OPERATOR])
async def ask(visit: Visiting, undone: UUID, position: Position = None) -> Response:
    """The dialog that says what undoing a command would do, or why it cannot be."""
    events = await events_of(visit.gateway.client, undone, position)
    require(visit.caller, role_to_undo(logged.event for logged in events))
    return await _dialog(visit, events)


@router.post("", dependencies=[OPERATOR])
async def undo(
    visit: Visiting, undone: UUID, command_id: Annotated[UUID, Form()], position: Position = None
) -> Response:
    """Undo a command."""
    events = await events_of(visit.gateway.client, undone, position)
    require(visit.caller, role_to_undo(logged.event for logged in events))
    change = visit.change(command_id)
    try:
        outcome = await visit.give(undo_of(events, change.command_id, change.actor))
    except (ConflictError, NotFoundError) as error:
        return await _dialog(visit, events, fault_of(error))
    if not outcome.changed:
        return visit.stay("Nothing of it was left to take back.")
    return visit.go(f"/events/{outcome.sequence}", "Undone.")


async def _dialog(visit: Visit, events: Sequence[LoggedEvent], fault: Fault | None = None) -> Response:
    change, told = visit.change(), None
    if fault is None:
        trial = Trial(visit.gateway)
        try:
            await trial.give(undo_of(events, change.command_id, change.actor))
            told = await trial.told()
        except (ConflictError, NotFoundError) as error:
            fault = fault_of(error)
    return visit.page(
        "event_undo.html",
        line=lines_of(events[:1], visit.gateway.mirror)[0],
        more=len(events) - 1,
        undone=events[0].event.command_id,
        position=events[0].sequence,
        told=told,
        shown=_SHOWN,
        fault=fault,
    )
