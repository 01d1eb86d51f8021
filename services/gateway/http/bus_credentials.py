"""`/api/v1/bus-credentials`: programs' access to the message bus."""

from __future__ import annotations

from fastapi import APIRouter, Depends
from starlette.responses import Response

from events.subjects import command
from events.trust.permissions import inbox
from services.gateway.http.access_schemas import BusCredentials, BusCredentialsCreate
from services.gateway.http.changes import PLAIN, Admitting, Served, check_json, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import OPERATOR, GuardedRoute, Speaking, open_to_all

router = APIRouter(prefix="/api/v1/bus-credentials", tags=["keys"], route_class=GuardedRoute)


@router.post(
    "",
    response_model=BusCredentials,
    responses=reading(400, 409, 413, 415),
    dependencies=[OPERATOR, PLAIN, Depends(check_json)],
)
async def give_bus_credentials(
    gateway: Served, admission: Admitting, speaker: Speaking, body: BusCredentialsCreate
) -> Response:
    """Get a program onto the message bus, where it may give commands and hear their answers, and nothing else.

    The program makes its own user key (nkey) and sends the public half. Its access is short: ask again before it ends.
    """
    if gateway.identity is None:
        raise open_to_all()
    token, expires_at = admission.program_access(speaker, body.public_key)
    principal = speaker.token.token_id
    return json_response(
        BusCredentials(
            token=token,
            expires_at=expires_at,
            principal=principal,
            subject=command("<kind>", principal),
            inbox=inbox(str(principal)),
            bus=gateway.bus_urls,
            bus_ca=gateway.identity.ca(),
        )
    )
