"""`/api/v1/agents` and `/api/v1/ca`: how machines come in, and stay in. See `events.enrolment`."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request
from starlette.responses import PlainTextResponse, Response

from events.enrolment import Access, Challenge, EnrolRequest, RenewRequest
from events.errors import NotFoundError, WireloomError
from services.gateway.http.changes import PLAIN, Admitting, Gateway, Served, check_json, json_response
from services.gateway.http.documents import reading
from services.gateway.http.guard import ANYBODY, GuardedRoute, address_of

PEM = "application/x-pem-file"

router = APIRouter(prefix="/api/v1", tags=["agents"], route_class=GuardedRoute)
OPEN = [ANYBODY, PLAIN, Depends(check_json)]


@router.get(
    "/ca",
    response_class=PlainTextResponse,
    responses={200: {"content": {PEM: {"schema": {"type": "string"}}}}, **reading(404)},
    dependencies=[ANYBODY, PLAIN],
)
async def show_authority(request: Request) -> Response:
    """Show the certificate (PEM) that signed this gateway's own, if that is self-made. A join line pins it."""
    gateway: Gateway = request.app.state.gateway
    if gateway.ca is None:
        raise NotFoundError(
            "This gateway has no certificate of its own making.",
            hint="Verify its certificate as any other's; leave out --ca-sha256.",
        )
    return Response(gateway.ca, media_type=PEM)


@router.post("/agents/challenge", response_model=Challenge, responses=reading(409, 413, 415), dependencies=OPEN)
async def challenge(admission: Admitting) -> Response:
    """Get a text to make a proof for. It counts for a minute, once."""
    return json_response(Challenge(challenge=admission.challenge()))


@router.post("/agents/enrol", response_model=Access, responses=reading(400, 401, 403, 409, 413, 415), dependencies=OPEN)
async def enrol(request: Request, gateway: Served, admission: Admitting, body: EnrolRequest) -> Response:
    """Come in with a bootstrap token and a key of one's own. Who has come in with the same key before is the same
    machine."""
    # The allocator is asked about every token, so nobody may try without end.
    gateway.throttle.check_failures(address_of(request))
    try:
        return json_response(await admission.enrol(body))
    except WireloomError as error:
        raise _counted(gateway, request, error) from error


@router.post("/agents/renew", response_model=Access, responses=reading(400, 401, 403, 409, 413, 415), dependencies=OPEN)
async def renew(request: Request, gateway: Served, admission: Admitting, body: RenewRequest) -> Response:
    """Get access to the message bus again. A proof that counts is never limited: many machines share an address."""
    try:
        return json_response(await admission.renew(body))
    except WireloomError as error:
        raise _counted(gateway, request, error) from error


def _counted(gateway: Gateway, request: Request, error: WireloomError) -> WireloomError:
    """The error, counted where it is the caller's. Raises `RateLimitedError` where there were too many."""
    if error.status < 500:
        gateway.throttle.failure(address_of(request))
    return error
