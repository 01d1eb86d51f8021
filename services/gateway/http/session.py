"""`/api/v1/session`: who asks; signing in with a browser, and out."""

from __future__ import annotations

import math
from uuid import uuid4

from fastapi import APIRouter, Depends, Request
from starlette.responses import Response

from events.commands import SESSION_LIFETIME, IssueApiToken, RevokeApiToken
from events.errors import UnavailableError
from events.trust import tokens
from services.gateway.access import Speaker
from services.gateway.http.access_schemas import Session, SessionCreate
from services.gateway.http.access_views import session_view
from services.gateway.http.changes import (
    PLAIN,
    VISIBLE_WITHIN,
    Admitting,
    Gateway,
    Making,
    Served,
    check_json,
    json_response,
)
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import (
    ANYBODY,
    COOKIE,
    VIEWER,
    GuardedRoute,
    Speaking,
    address_of,
    csrf_token,
    speaker_with,
)

PATH = "/api/v1/session"
router = APIRouter(prefix=PATH, tags=["session"], route_class=GuardedRoute)


@router.get("", response_model=Session, responses=reading(409), dependencies=[VIEWER, PLAIN])
async def show_session(request: Request, admission: Admitting, speaker: Speaking) -> Response:
    """Show who asks, and what he may do."""
    csrf = csrf_token(admission.mint, request.cookies[COOKIE]) if speaker.token.use == "session" else None
    return json_response(session_view(speaker, csrf))


@router.post(
    "",
    status_code=201,
    response_model=Session,
    responses=reading(400, 401, 409, 413, 415),
    dependencies=[ANYBODY, PLAIN, Depends(check_json)],
)
async def sign_in(request: Request, gateway: Served, admission: Admitting, body: SessionCreate) -> Response:
    """Sign a browser in: with what the given API token may do, for twelve hours or until that token ends."""
    speaker = await speaker_with(gateway, body.token.get_secret_value(), "api", address_of(request))
    session, token = await begin_session(gateway, admission.mint, speaker)
    response = json_response(session_view(session, csrf_token(admission.mint, token)), 201)
    began = session.token.created_at
    seconds = math.ceil(((session.token.expires_at or began + SESSION_LIFETIME) - began).total_seconds())
    response.set_cookie(COOKIE, token, seconds, path="/", secure=True, httponly=True, samesite="strict")
    return response


@router.delete("", status_code=204, response_class=Response, responses=changing(204), dependencies=[VIEWER, PLAIN])
async def sign_out(change: Making, speaker: Speaking) -> Response:
    """Sign out: the token that the caller shows counts no more."""
    outcome = await change.give(
        RevokeApiToken(command_id=change.command_id, actor=change.actor, token_id=speaker.token.token_id)
    )
    response = await change.answer(outcome, 204, PATH)
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response


async def begin_session(gateway: Gateway, mint: bytes, speaker: Speaker) -> tuple[Speaker, str]:
    """A new session for the owner of an API token, and its token: never one that was there before."""
    command_id, token_id = uuid4(), uuid4()
    token = tokens.make(mint, "api", token_id)
    outcome = await gateway.commander.give(
        IssueApiToken(
            command_id=command_id,
            actor=speaker.actor,
            token_id=token_id,
            account_id=speaker.account.account_id,
            name=f"browser-{token_id.hex[:8]}",
            role=speaker.role,
            use="session",
            begun_with=speaker.token.token_id,
            secret_hash=tokens.hashed(token),
        )
    )
    await gateway.follower.wait_for(outcome.sequence, VISIBLE_WITHIN)
    session = gateway.mirror.access.principal(token_id, gateway.now())
    if session is None:
        raise UnavailableError("The session does not show yet.", hint="Sign in again.")
    return session, token
