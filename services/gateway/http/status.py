"""`/api/v1/mesh-networks/{uuid}/status`: how far the machines of a network have applied what was decided."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.http.changes import PLAIN, Served, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.http.networks import PATH
from services.gateway.http.status_schemas import AtRevision, Change, Laggard, NetworkStatus
from services.gateway.network_status import NetworkStatus as Status
from services.gateway.network_status import status_of

router = APIRouter(prefix=PATH, tags=["mesh networks"], route_class=GuardedRoute)

_NAMED = 1000


@router.get("/{uuid}/status", response_model=NetworkStatus, responses=reading(404), dependencies=[VIEWER, PLAIN])
async def show_status(gateway: Served, uuid: UUID) -> Response:
    """Show how far the machines of a mesh network have applied what was decided: who lags, and how soon the last
    changes were applied."""
    return json_response(
        status_view(status_of(gateway.mirror, gateway.presence, gateway.convergences, uuid, gateway.now()))
    )


def status_view(status: Status) -> NetworkStatus:
    """A status as the API's object."""
    return NetworkStatus(
        mesh_network_uuid=status.network_id,
        revision=status.revision,
        changed_at=status.changed_at,
        machine_count=status.machine_count,
        online_count=status.online_count,
        up_to_date_count=status.machine_count - len(status.laggards),
        revisions=tuple(AtRevision(revision=revision, machine_count=count) for revision, count in status.revisions),
        lagging=tuple(
            Laggard(
                uuid=each.machine_id,
                hostname=each.hostname,
                is_online=each.is_online,
                last_seen_at=each.last_seen_at,
                revision=each.revision,
                since=each.since,
            )
            for each in status.laggards[:_NAMED]
        ),
        lagging_count=len(status.laggards),
        p50_seconds=status.percentile(50),
        p99_seconds=status.percentile(99),
        changes=tuple(
            Change(
                revision=change.revision,
                decided_at=change.said_at,
                machine_count=len(change.seconds),
                p50_seconds=change.percentile(50),
                p99_seconds=change.percentile(99),
            )
            for change in status.changes
        ),
    )
