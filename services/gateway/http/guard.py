"""Who asks over HTTP, and whether he may: the first thing that every route does, before it reads a body.

A token comes in the header `Authorization: Bearer`, or a browser's in a cookie; then every request that may change
something also needs the header `X-CSRF-Token`, which other sites' pages cannot know. With both, the header counts.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Depends
from fastapi.routing import APIRoute
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from events.errors import (
    ConflictError,
    ForbiddenError,
    InternalError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from events.fields import AccountRole, TokenUse
from events.trust import tokens
from services.gateway.access import Speaker
from services.gateway.authority import includes, require
from services.gateway.http.as_of import AT, absent, headers_of, timeless
from services.gateway.http.bodies import Handler, JsonRoute
from services.gateway.http.parameters import parameters_of, require_once

if TYPE_CHECKING:
    from services.gateway.http.changes import Gateway

COOKIE = "__Host-wireloom_session"
"""The browser's token. The prefix has browsers take it from us alone, over HTTPS (RFC 6265bis, section 4.1.3.2)."""

CSRF_HEADER = "X-CSRF-Token"

OPEN_ACTOR = "http:local"
"""Who asks where nobody is asked who he is, and does not say it."""

_SAFE = {"GET", "HEAD", "OPTIONS"}
_CATCH_UP = 1.0


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. Without authorisation (`speaker` None) anybody may do everything."""

    role: AccountRole
    actor: str
    speaker: Speaker | None

    def still_counts(self, gateway: Gateway) -> bool:
        """Whether the token has neither expired nor been revoked since, nor lost the role that it had."""
        if self.speaker is None:
            return True
        now = gateway.mirror.access.principal(self.speaker.token.token_id, gateway.now())
        return now is not None and includes(now.role, self.role)


class Needs:
    """What a route needs: a role, or None for a route that anybody may call.

    It stands in the route's `dependencies`. `GuardedRoute` sees to it, and takes no route without it.
    """

    def __init__(self, role: AccountRole | None) -> None:
        self.role = role

    def __call__(self) -> None:
        """Nothing: it was seen to before."""


ANYBODY = Depends(Needs(None))
VIEWER = Depends(Needs("viewer"))
OPERATOR = Depends(Needs("operator"))
ADMIN = Depends(Needs("admin"))


class GuardedRoute(JsonRoute):
    """A route that lets in only those whom it needs."""

    @property
    def needed_role(self) -> AccountRole | None:
        """The role that it takes; None where anybody may call it. Raises `InternalError` if nothing is said."""
        return needed_role(self)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As FastAPI's, after the caller was found and let in. Answers about the past say of when they are."""
        role, handle = self.needed_role, super().get_route_handler()
        known = parameters_of(self.dependant)

        async def guarded(request: Request) -> Response:
            gateway: Gateway = request.app.state.gateway
            if role is not None:
                caller = await _authenticated(request, gateway)
                require(caller, role)
                request.state.caller = caller
            elif gateway.admission is not None:
                gateway.throttle.request(address_of(request))
            if self.include_in_schema:
                require_once(request, known)
                if AT in request.query_params and AT not in known:
                    raise timeless(request.method, self.name, [str(tag) for tag in self.tags])
            return await _told(request, handle)

        return guarded


async def _told(request: Request, handle: Handler) -> Response:
    """The answer, with the moment that it is of where that is past."""
    try:
        response = await handle(request)
    except NotFoundError as error:
        if past := getattr(request.state, "past", None):
            absent(error, past.position)
        raise
    if past := getattr(request.state, "past", None):
        response.headers.update(headers_of(past))
    return response


def needed_role(route: APIRoute) -> AccountRole | None:
    """The role that a route takes; None where anybody may call it. Raises `InternalError` if it does not say so."""
    for dependency in route.dependencies:
        if isinstance(dependency.dependency, Needs):
            return dependency.dependency.role
    raise InternalError(f"The route {route.path} does not say whom it lets in.")


def caller_of(request: Request) -> Caller:
    """Who asks; only for routes that need a role."""
    caller: Caller = request.state.caller
    return caller


Calling = Annotated[Caller, Depends(caller_of)]


def speaker_of(caller: Calling) -> Speaker:
    """The account and token of who asks. Raises `ConflictError` where there are none."""
    if caller.speaker is None:
        raise open_to_all()
    return caller.speaker


Speaking = Annotated[Speaker, Depends(speaker_of)]


def open_to_all() -> ConflictError:
    """The refusal of what makes sense only where people and machines show who they are."""
    return ConflictError(
        "This control plane runs without authorisation: it has no accounts, tokens or keys.",
        hint="Run `wireloom up` without --no-auth.",
    )


def address_of(request: HTTPConnection) -> str:
    """Where a request comes from."""
    return request.client.host if request.client is not None else ""


def csrf_token(mint: bytes, token: str) -> str:
    """What a browser with this session token must send with every change."""
    return hmac.digest(mint, f"csrf {token}".encode(), hashlib.sha256).hex()


async def speaker_with(gateway: Gateway, token: str, use: TokenUse, address: str) -> Speaker:
    """Who speaks with a token that is for `use`. A gateway that does not know the token yet looks again.

    Raises `UnauthenticatedError`, and `RateLimitedError` after too many of them.
    """
    if tokens.looks_like(token, "api"):
        digest = tokens.hashed(token)
        speaker = gateway.mirror.access.speaker(digest, gateway.now())
        if speaker is None:
            gateway.throttle.check_failures(address)
            await gateway.follower.catch_up(_CATCH_UP)
            speaker = gateway.mirror.access.speaker(digest, gateway.now())
        if speaker is not None and speaker.token.use == use:
            return speaker
    gateway.throttle.failure(address)
    raise UnauthenticatedError(
        "The token is unknown, expired or revoked.", hint="Sign in again with a token that counts."
    )


async def _authenticated(request: Request, gateway: Gateway) -> Caller:
    if gateway.admission is None:
        return Caller("admin", OPEN_ACTOR, None)
    if not gateway.follower.loaded.is_set():
        raise UnavailableError("The gateway is still loading the derived state.", hint="Try again in a moment.")
    token, use = _shown(request)
    speaker = await speaker_with(gateway, token, use, address_of(request))
    if use == "session" and request.method not in _SAFE:
        given = request.headers.get(CSRF_HEADER, "")
        if not hmac.compare_digest(given.encode(), csrf_token(gateway.admission.mint, token).encode()):
            raise ForbiddenError(
                f"The request does not carry this session's {CSRF_HEADER}.",
                hint=f"Send what GET /api/v1/session gives as csrf_token in the header {CSRF_HEADER}.",
            )
    return Caller(speaker.role, speaker.actor, speaker)


def _shown(request: Request) -> tuple[str, TokenUse]:
    """The token that a request shows, and what tokens in that place are for. Raises `UnauthenticatedError`."""
    header = request.headers.get("authorization")
    if header is not None:
        scheme, _, token = header.partition(" ")
        return (token.strip() if scheme.lower() == "bearer" else ""), "api"
    cookie = request.cookies.get(COOKIE)
    if cookie is None:
        raise UnauthenticatedError(
            "The request does not say who asks.",
            hint="Sign in with `wireloom login`, or send a token as Authorization: Bearer.",
        )
    return cookie, "session"
