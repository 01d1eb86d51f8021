"""`/api/v1/machines`: the machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import Command, DeleteMachine, Outcome, RegisterMachine, RenameMachine, SetTransit
from services.gateway.http.changes import PLAIN, Change, Changing, json_response
from services.gateway.http.documents import changing, viewing
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.schemas import (
    DeleteQuery,
    Machine,
    MachineChange,
    MachineCreate,
    MachinePage,
    MachineQuery,
)
from services.gateway.http.views import machine_view
from services.gateway.queries import find_machines, take
from services.gateway.seen import Seen

PATH = "/api/v1/machines"
router = APIRouter(prefix=PATH, tags=["machines"], route_class=GuardedRoute)


@router.get("", response_model=MachinePage, responses=viewing(), dependencies=[VIEWER])
async def list_machines(seen: Viewed, query: Annotated[MachineQuery, Query()]) -> Response:
    """List the machines."""
    now = seen.now()
    keep: Callable[[UUID], bool] | None = None
    if query.is_online is not None:
        keep = lambda item: seen.presence.is_online(item, now) == query.is_online  # noqa: E731
    rows = find_machines(
        seen.mirror,
        query.sort,
        hostname=query.hostname,
        network_id=query.mesh_network_uuid,
        search=query.search,
        keep=keep,
    )
    page = take(rows, query.sort, query.limit, query.after)
    items = tuple(machine_view(seen.mirror, seen.presence, machine_id, now) for machine_id in page.ids)
    return json_response(MachinePage(items=items, total=page.total, next=page.next))


@router.post(
    "", status_code=201, response_model=Machine, responses=changing(201, located=True), dependencies=[OPERATOR, PLAIN]
)
async def register_machine(change: Changing, body: MachineCreate) -> Response:
    """Register a machine. One that is known already keeps its hostname."""
    machine_id = body.uuid or change.another_id("machine")
    outcome = await change.give(
        RegisterMachine(
            command_id=change.command_id,
            actor=change.actor,
            machine_id=machine_id,
            hostname=body.hostname,
            agent_version=body.agent_version,
        )
    )
    return await answer_machine(change, outcome, machine_id, 201)


@router.get("/{uuid}", response_model=Machine, responses=viewing(), dependencies=[VIEWER, PLAIN_AT])
async def show_machine(seen: Viewed, uuid: UUID) -> Response:
    """Show a machine."""
    return json_response(_view(seen, uuid))


@router.patch("/{uuid}", response_model=Machine, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def change_machine(change: Changing, uuid: UUID, body: MachineChange) -> Response:
    """Give a machine another hostname, or say whether others' traffic may go through it.

    Each field is a command of its own, the hostname first, which alone can be wrong. Should the machine be deleted in
    between, one is refused after another was executed; the hint then says so.
    """
    outcome = await change.give_all(_commands_of(change, uuid, body))
    return await answer_machine(change, outcome, uuid, 200)


@router.delete("/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[OPERATOR])
async def delete_machine(change: Changing, uuid: UUID, query: Annotated[DeleteQuery, Query()]) -> Response:
    """Delete a machine for good. One that is assigned only with `force`, and then out of all its networks at once."""
    outcome = await change.give(
        DeleteMachine(command_id=change.command_id, actor=change.actor, machine_id=uuid, force=query.force)
    )
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


async def answer_machine(change: Change, outcome: Outcome, machine_id: UUID, status: int) -> Response:
    """The answer to a change of a machine: the machine as it is then."""
    return await change.answer(outcome, status, f"{PATH}/{machine_id}", lambda: _view(change.gateway, machine_id))


def _commands_of(change: Change, machine_id: UUID, body: MachineChange) -> list[Command]:
    """The commands that a change of a machine takes; of their ids see `Change.ids`."""
    given = body.model_fields_set
    planned: list[tuple[type[RenameMachine | SetTransit], dict[str, Any]]] = []
    if "hostname" in given:
        planned.append((RenameMachine, {"hostname": body.hostname}))
    if "transit" in given:
        planned.append((SetTransit, {"transit": body.transit}))
    ids = change.ids(command_type for command_type, _ in planned)
    return [
        command_type(command_id=command_id, actor=change.actor, machine_id=machine_id, **fields)
        for command_id, (command_type, fields) in zip(ids, planned, strict=True)
    ]


def _view(seen: Seen, machine_id: UUID) -> Machine:
    return machine_view(seen.mirror, seen.presence, machine_id, seen.now())
