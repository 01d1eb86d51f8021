"""`/api/v1/machines/{uuid}`: keeping a machine out for good, and new WireGuard keys."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from events.commands import RevokeMachine, RotateKeys
from services.gateway.http.access_schemas import Debtor, KeyRotation, NetworkRevocation, Revocation, Witness
from services.gateway.http.changes import PLAIN, Changing, Served, json_response
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.machines import PATH, answer_machine
from services.gateway.http.schemas import Machine
from services.gateway.receipts import NetworkReceipts, revocation_of

router = APIRouter(prefix=PATH, tags=["machines"], route_class=GuardedRoute)


@router.post("/{uuid}/revoke", response_model=Machine, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def revoke_machine(change: Changing, uuid: UUID) -> Response:
    """Take a machine out of all its networks and off the message bus, and never let it in again."""
    outcome = await change.give(RevokeMachine(command_id=change.command_id, actor=change.actor, machine_id=uuid))
    return await answer_machine(change, outcome, uuid, 200)


@router.get("/{uuid}/revocation", response_model=Revocation, responses=reading(404), dependencies=[VIEWER, PLAIN])
async def show_revocation(gateway: Served, uuid: UUID) -> Response:
    """Show which machines have dropped a revoked machine, and which have not yet."""
    found = revocation_of(gateway.mirror, gateway.presence, uuid, gateway.now())
    networks = tuple(_network(network) for network in found.networks)
    return json_response(
        Revocation(
            machine_uuid=found.machine_id, revoked_at=found.revoked_at, complete=found.complete, networks=networks
        )
    )


@router.post("/{uuid}/rotate-key", response_model=Machine, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def rotate_key(change: Changing, uuid: UUID, body: KeyRotation | None = None) -> Response:
    """Have a machine make itself new WireGuard keys."""
    outcome = await change.give(
        RotateKeys(
            command_id=change.command_id,
            actor=change.actor,
            machine_id=uuid,
            network_id=body.mesh_network_uuid if body is not None else None,
        )
    )
    return await answer_machine(change, outcome, uuid, 200)


def _network(receipts: NetworkReceipts) -> NetworkRevocation:
    return NetworkRevocation(
        mesh_network_uuid=receipts.network_id,
        name=receipts.name,
        revision=receipts.revision,
        dropped=tuple(Witness(uuid=each.machine_id, hostname=each.hostname) for each in receipts.dropped),
        pending=tuple(
            Debtor(
                uuid=each.machine_id,
                hostname=each.hostname,
                is_online=each.is_online,
                last_seen_at=each.last_seen_at,
            )
            for each in receipts.pending
        ),
    )
