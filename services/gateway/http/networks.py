"""`/api/v1/mesh-networks`: the networks, and who is in them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateNetwork,
    DeleteNetwork,
    Outcome,
    RenameNetwork,
    SetDefaultNetwork,
    SetRouteReflectorMode,
    UnassignMachine,
)
from events.errors import NotFoundError
from services.gateway.http.changes import PLAIN, Change, Changing, json_response
from services.gateway.http.documents import changing, viewing
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.schemas import (
    Assign,
    AssignBatch,
    Assignment,
    Assignments,
    DeleteQuery,
    MachinePage,
    MemberQuery,
    Membership,
    Network,
    NetworkChange,
    NetworkCreate,
    NetworkPage,
    NetworkQuery,
)
from services.gateway.http.views import machine_view, membership_view, network_view
from services.gateway.queries import find_members, find_networks, take

PATH = "/api/v1/mesh-networks"
router = APIRouter(prefix=PATH, tags=["mesh networks"], route_class=GuardedRoute)


@router.get("", response_model=NetworkPage, responses=viewing(), dependencies=[VIEWER])
async def list_networks(seen: Viewed, query: Annotated[NetworkQuery, Query()]) -> Response:
    """List the mesh networks."""
    mirror = seen.mirror
    rows = find_networks(mirror, query.sort, name=query.name, is_default=query.is_default, search=query.search)
    page = take(rows, query.sort, query.limit, query.after)
    await seen.look_at_plans(page.ids)
    items = tuple(network_view(mirror, network_id, seen.tracks.plan(network_id)) for network_id in page.ids)
    return json_response(NetworkPage(items=items, total=page.total, next=page.next))


@router.post(
    "", status_code=201, response_model=Network, responses=changing(201, located=True), dependencies=[OPERATOR, PLAIN]
)
async def create_network(change: Changing, body: NetworkCreate) -> Response:
    """Create a mesh network. Names are unique, and the networks' ranges do not overlap."""
    network_id = change.another_id("network")
    outcome = await change.give(
        CreateNetwork(
            command_id=change.command_id,
            actor=change.actor,
            network_id=network_id,
            name=body.name,
            network_cidr=body.network_cidr,
            is_default=body.is_default,
            route_reflector_mode=body.route_reflector_mode,
        )
    )
    return await _answer_network(change, outcome, network_id, 201)


@router.get("/{uuid}", response_model=Network, responses=viewing(), dependencies=[VIEWER, PLAIN_AT])
async def show_network(seen: Viewed, uuid: UUID) -> Response:
    """Show a mesh network."""
    await seen.look_at_plans([uuid])
    return json_response(network_view(seen.mirror, uuid, seen.tracks.plan(uuid)))


@router.patch("/{uuid}", response_model=Network, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def change_network(change: Changing, uuid: UUID, body: NetworkChange) -> Response:
    """Change a mesh network. Making it the default takes that from the network before; its CIDR never changes.

    Each field is a command of its own, the name first, which alone can be wrong. Should the network be deleted in
    between, one is refused after another was executed; the hint then says so.
    """
    commands = _commands_of(change, uuid, body)
    return await _answer_network(change, await change.give_all(commands), uuid, 200)


@router.delete("/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[OPERATOR])
async def delete_network(change: Changing, uuid: UUID, query: Annotated[DeleteQuery, Query()]) -> Response:
    """Delete a mesh network. One with machines only with `force`, and then with all its assignments at once."""
    outcome = await change.give(
        DeleteNetwork(command_id=change.command_id, actor=change.actor, network_id=uuid, force=query.force)
    )
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


@router.get("/{uuid}/machines", response_model=MachinePage, responses=viewing(), dependencies=[VIEWER])
async def list_members(seen: Viewed, uuid: UUID, query: Annotated[MemberQuery, Query()]) -> Response:
    """List the machines of a mesh network, in the order of their addresses."""
    now = seen.now()
    rows = find_members(seen.mirror, uuid)
    if query.is_online is not None:
        rows = [row for row in rows if seen.presence.is_online(row[1], now) == query.is_online]
    page = take(rows, "address", query.limit, query.after)
    items = tuple(machine_view(seen.mirror, seen.presence, machine_id, now) for machine_id in page.ids)
    return json_response(MachinePage(items=items, total=page.total, next=page.next))


@router.post(
    "/{uuid}/machines",
    status_code=201,
    response_model=Assignment,
    responses=changing(201, located=True),
    dependencies=[OPERATOR, PLAIN],
)
async def assign_machine(change: Changing, uuid: UUID, body: Assign) -> Response:
    """Assign a machine to a mesh network. One that is assigned already keeps its address."""
    outcome = await change.give(
        AssignMachine(
            command_id=change.command_id,
            actor=change.actor,
            network_id=uuid,
            machine_id=body.machine_uuid,
            address=body.wg_ip_address,
        )
    )
    made = _assignments(uuid, outcome)
    return await change.answer(outcome, 201, f"{PATH}/{uuid}/machines/{body.machine_uuid}", lambda: made.items[0])


@router.post(
    "/{uuid}/machines/batch",
    status_code=201,
    response_model=Assignments,
    responses=changing(201, located=True),
    dependencies=[OPERATOR, PLAIN],
)
async def assign_machines(change: Changing, uuid: UUID, body: AssignBatch) -> Response:
    """Assign many machines to a mesh network, all or none, at the lowest free addresses in the order given."""
    outcome = await change.give(
        AssignMachines(
            command_id=change.command_id,
            actor=change.actor,
            network_id=uuid,
            machine_ids=tuple(body.machine_uuids),
        )
    )
    return await change.answer(outcome, 201, f"{PATH}/{uuid}/machines", lambda: _assignments(uuid, outcome))


@router.get(
    "/{uuid}/machines/{machine_uuid}", response_model=Membership, responses=viewing(), dependencies=[VIEWER, PLAIN_AT]
)
async def show_member(seen: Viewed, uuid: UUID, machine_uuid: UUID) -> Response:
    """Show a machine's place in a mesh network."""
    _, network = seen.mirror.network(uuid)
    membership = membership_view(seen.mirror, uuid, machine_uuid)
    if membership is None:
        raise NotFoundError(f"The machine {machine_uuid} is not in {network.name}.", hint="Assign it first.")
    return json_response(membership)


@router.delete(
    "/{uuid}/machines/{machine_uuid}",
    status_code=204,
    response_class=Response,
    responses=changing(204),
    dependencies=[OPERATOR, PLAIN],
)
async def unassign_machine(change: Changing, uuid: UUID, machine_uuid: UUID) -> Response:
    """Take a machine out of a mesh network. Its address is free again."""
    outcome = await change.give(
        UnassignMachine(command_id=change.command_id, actor=change.actor, network_id=uuid, machine_id=machine_uuid)
    )
    return await change.answer(outcome, 204, f"{PATH}/{uuid}/machines/{machine_uuid}")


async def _answer_network(change: Change, outcome: Outcome, network_id: UUID, status: int) -> Response:
    def view() -> Network:
        return network_view(change.gateway.mirror, network_id, change.gateway.tracks.plan(network_id))

    return await change.answer(outcome, status, f"{PATH}/{network_id}", view)


def _assignments(network_id: UUID, outcome: Outcome) -> Assignments:
    items = tuple(
        Assignment(mesh_network_uuid=network_id, machine_uuid=made.machine_id, wg_ip_address=made.address)
        for made in outcome.assignments
    )
    return Assignments(items=items, total=len(items))


def _commands_of(change: Change, network_id: UUID, body: NetworkChange) -> list[Command]:
    """The commands that a change of a network takes; of their ids see `Change.ids`. Raises `NotFoundError`."""
    change.gateway.mirror.network(network_id)
    given = body.model_fields_set
    planned: list[tuple[type[Command], dict[str, object]]] = []
    if "name" in given:
        planned.append((RenameNetwork, {"network_id": network_id, "name": body.name}))
    if "is_default" in given:
        # Having no default concerns this network only while it is the default.
        target, only_if = (network_id, None) if body.is_default else (None, network_id)
        planned.append((SetDefaultNetwork, {"network_id": target, "only_if_default": only_if}))
    if "route_reflector_mode" in given:
        planned.append((SetRouteReflectorMode, {"network_id": network_id, "enabled": body.route_reflector_mode}))
    ids = change.ids(command_type for command_type, _ in planned)
    return [
        command_type(command_id=command_id, actor=change.actor, **fields)
        for command_id, (command_type, fields) in zip(ids, planned, strict=True)
    ]
