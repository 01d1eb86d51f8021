"""`/api/v1/machines/{uuid}/gateway` and `/api/v1/mesh-networks/{uuid}/reflectors`: machines with a special part."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from events.commands import PinReflectors, SetGateway
from services.gateway.http.changes import PLAIN, Changing, json_response
from services.gateway.http.documents import changing, viewing
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.route_schemas import CrossingGateway, CrossingGatewaySet, Reflectors, ReflectorsSet
from services.gateway.seen import Seen

router = APIRouter(prefix="/api/v1", tags=["routes"], route_class=GuardedRoute)


@router.get(
    "/machines/{uuid}/gateway", response_model=CrossingGateway, responses=viewing(), dependencies=[VIEWER, PLAIN_AT]
)
async def show_gateway(seen: Viewed, uuid: UUID) -> Response:
    """Show between which networks a machine lets routes and traffic cross."""
    return json_response(_gateway(seen, uuid))


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
    "/mesh-networks/{uuid}/reflectors", response_model=Reflectors, responses=viewing(), dependencies=[VIEWER, PLAIN_AT]
)
async def show_reflectors(seen: Viewed, uuid: UUID) -> Response:
    """Show the machines that are pinned as a mesh network's route reflectors."""
    return json_response(_reflectors(seen, uuid))


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


def _gateway(seen: Seen, machine_id: UUID) -> CrossingGateway:
    seen.mirror.machine(machine_id)
    record = seen.mirror.routing.gateways.get(machine_id)
    return CrossingGateway(machine_uuid=machine_id, network_uuids=record.network_ids if record is not None else ())


def _reflectors(seen: Seen, network_id: UUID) -> Reflectors:
    _, record = seen.mirror.network(network_id)
    return Reflectors(network_uuid=network_id, machine_uuids=record.reflectors)
