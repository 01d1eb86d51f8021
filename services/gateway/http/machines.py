"""`/api/v1/machines`: the machines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import DeleteMachine, Outcome, RegisterMachine, RenameMachine
from services.gateway.http.changes import PLAIN, Change, Changing, Gateway, Served, json_response
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
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

PATH = "/api/v1/machines"
router = APIRouter(prefix=PATH, tags=["machines"], route_class=GuardedRoute)


@router.get("", response_model=MachinePage, responses=reading(404), dependencies=[VIEWER])
async def list_machines(gateway: Served, query: Annotated[MachineQuery, Query()]) -> Response:
    """List the machines."""
    now = gateway.now()
    keep: Callable[[UUID], bool] | None = None
    if query.is_online is not None:
        keep = lambda item: gateway.presence.is_online(item, now) == query.is_online  # noqa: E731
    rows = find_machines(
        gateway.mirror,
        query.sort,
        hostname=query.hostname,
        network_id=query.mesh_network_uuid,
        search=query.search,
        keep=keep,
    )
    page = take(rows, query.sort, query.limit, query.after)
    items = tuple(machine_view(gateway.mirror, gateway.presence, machine_id, now) for machine_id in page.ids)
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


@router.get("/{uuid}", response_model=Machine, responses=reading(404), dependencies=[VIEWER, PLAIN])
async def show_machine(gateway: Served, uuid: UUID) -> Response:
    """Show a machine."""
    return json_response(_view(gateway, uuid))


@router.patch("/{uuid}", response_model=Machine, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def change_machine(change: Changing, uuid: UUID, body: MachineChange) -> Response:
    """Give a machine another hostname."""
    outcome = await change.give(
        RenameMachine(command_id=change.command_id, actor=change.actor, machine_id=uuid, hostname=body.hostname)
    )
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


def _view(gateway: Gateway, machine_id: UUID) -> Machine:
    return machine_view(gateway.mirror, gateway.presence, machine_id, gateway.now())
