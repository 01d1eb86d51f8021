"""`/api/v1/keys`: the keys by which machines know the control plane's records."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from events.trust.keys import fingerprint
from services.gateway.http.access_schemas import Keys
from services.gateway.http.changes import PLAIN, Served, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import VIEWER, GuardedRoute, open_to_all

router = APIRouter(prefix="/api/v1/keys", tags=["keys"], route_class=GuardedRoute)


@router.get("", response_model=Keys, responses=reading(409), dependencies=[VIEWER, PLAIN])
async def show_keys(gateway: Served) -> Response:
    """Show which keys count, and how many records are signed with each."""
    if gateway.identity is None:
        raise open_to_all()
    ring = gateway.identity.ring()
    return json_response(
        Keys(
            root=gateway.identity.public.root,
            ring_version=ring.version,
            keys=tuple(fingerprint(key) for key in ring.keys),
            records=dict(gateway.mirror.signed_with()),
        )
    )
