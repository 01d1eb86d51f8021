"""`/api/v1/machines/{uuid}/gateway` and `/api/v1/mesh-networks/{uuid}/reflectors`: machines with a special part."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from events.commands import PinReflectors, SetGateway
from services.gateway.http.changes import PLAIN, Changing, Gateway, Served, json_response
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.route_schemas import CrossingGateway, CrossingGatewaySet, Reflectors, ReflectorsSet

router = APIRouter(prefix="/api/v1", tags=["routes"], route_class=GuardedRoute)


@router.get(
    "/machines/{uuid}/gateway", response_model=CrossingGateway, responses=reading(404), dependencies=[VIEWER, PLAIN]
)
async def show_gateway(gateway: Served, uuid: UUID) -> Response:
    """Show between which networks a machine lets routes and traffic cross."""
    return json_response(_gateway(gateway, uuid))


@router.put(
    "/machines/{uuid}/gateway",
    response_model=CrossingGateway,
    responses=changing(200),
    dependencies=[OPERATOR, PLAIN],
)
async def set_gateway(change: Changing, uuid: UUID, body: CrossingGatewaySet) -> Response:
    """Have a machine let routes and traffic cross between networks that it is in; with none, no more."""
    outcome = await change.give(
        SetGateway(
            command_id=change.command_id,
            actor=change.actor,
            machine_id=uuid,
            network_ids=tuple(body.network_uuids),
        )
    )
    location = f"/api/v1/machines/{uuid}/gateway"
    return await change.answer(outcome, 200, location, lambda: _gateway(change.gateway, uuid))


@router.get(
    "/mesh-networks/{uuid}/reflectors", response_model=Reflectors, responses=reading(404), dependencies=[VIEWER, PLAIN]
)
async def show_reflectors(gateway: Served, uuid: UUID) -> Response:
    """Show the machines that are pinned as a mesh network's route reflectors."""
    return json_response(_reflectors(gateway, uuid))


@router.put(
    "/mesh-networks/{uuid}/reflectors",
    response_model=Reflectors,
    responses=changing(200),
    dependencies=[OPERATOR, PLAIN],
)
async def pin_reflectors(change: Changing, uuid: UUID, body: ReflectorsSet) -> Response:
    """Pin machines as a mesh network's route reflectors; with none, they are chosen."""
    outcome = await change.give(
        PinReflectors(
            command_id=change.command_id,
            actor=change.actor,
            network_id=uuid,
            machine_ids=tuple(body.machine_uuids),
        )
    )
    location = f"/api/v1/mesh-networks/{uuid}/reflectors"
    return await change.answer(outcome, 200, location, lambda: _reflectors(change.gateway, uuid))


def _gateway(gateway: Gateway, machine_id: UUID) -> CrossingGateway:
    gateway.mirror.machine(machine_id)
    record = gateway.mirror.routing.gateways.get(machine_id)
    return CrossingGateway(machine_uuid=machine_id, network_uuids=record.network_ids if record is not None else ())


def _reflectors(gateway: Gateway, network_id: UUID) -> Reflectors:
    _, record = gateway.mirror.network(network_id)
    return Reflectors(network_uuid=network_id, machine_uuids=record.reflectors)
