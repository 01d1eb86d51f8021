"""`/sign-in` and `/sign-out`."""

from __future__ import annotations

import math
from typing import Annotated

from fastapi import APIRouter, Form, Request
from starlette.responses import RedirectResponse, Response

from events.commands import SESSION_LIFETIME, RevokeApiToken
from events.errors import WireloomError
from services.gateway.http.changes import Served
from services.gateway.http.guard import ANYBODY, COOKIE, VIEWER, address_of, speaker_with
from services.gateway.http.session import begin_session
from services.gateway.pages.page import SIGN_IN, PageRoute, Visiting, fault_of, ours, respond
from services.gateway.pages.rendering import render

router = APIRouter(route_class=PageRoute, include_in_schema=False)

HOME = "/networks"


@router.get("/", dependencies=[VIEWER])
async def begin(visit: Visiting) -> Response:
    """Where one begins."""
    return RedirectResponse(HOME, 303)


@router.get(SIGN_IN, dependencies=[ANYBODY])
async def ask(gateway: Served, next: str = HOME) -> Response:  # noqa: A002
    """Ask for a token."""
    if gateway.admission is None:
        return RedirectResponse(HOME, 303)
    return respond(render("sign_in.html", next=ours(next, HOME), fault=None))


@router.post(SIGN_IN, dependencies=[ANYBODY])
async def sign_in(
    request: Request,
    gateway: Served,
    token: Annotated[str, Form()] = "",
    next: Annotated[str, Form()] = HOME,  # noqa: A002
) -> Response:
    """Sign a browser in, with what the token may do."""
    if gateway.admission is None:
        return RedirectResponse(HOME, 303)
    try:
        speaker = await speaker_with(gateway, token.strip(), "api", address_of(request))
        session, secret = await begin_session(gateway, gateway.admission.mint, speaker)
    except WireloomError as error:
        return respond(render("sign_in.html", next=ours(next, HOME), fault=fault_of(error)), error.status)
    began = session.token.created_at
    seconds = math.ceil(((session.token.expires_at or began + SESSION_LIFETIME) - began).total_seconds())
    response = RedirectResponse(ours(next, HOME), 303)
    response.set_cookie(COOKIE, secret, seconds, path="/", secure=True, httponly=True, samesite="strict")
    return response


@router.post("/sign-out", dependencies=[VIEWER])
async def sign_out(visit: Visiting) -> Response:
    """Sign out: the session counts no more."""
    response = visit.go(SIGN_IN)
    speaker = visit.caller.speaker
    if speaker is not None and speaker.token.use == "session":
        change = visit.change()
        await visit.give(
            RevokeApiToken(command_id=change.command_id, actor=change.actor, token_id=speaker.token.token_id)
        )
        response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
    return response
