"""What all pages have in common: who looks, which answers he gets, and how what goes wrong is shown.

A page is asked for by a browser itself, or by our script in it (`HX-Request`), which puts the answer into the page that
is open. Changes come from our script alone: they carry the session's token in `X-CSRF-Token`, which no other site's
page can know, nor send.
"""

from __future__ import annotations

import hmac
import secrets
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Annotated, Any
from urllib.parse import quote, urlencode, urlsplit
from uuid import UUID, uuid4

import structlog
from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response

from events.commands import Command, Outcome
from events.errors import ForbiddenError, InternalError, InvalidInputError, UnauthenticatedError, WireloomError
from events.fields import AccountRole
from services.gateway.authority import includes
from services.gateway.http.as_of import AT, timeless
from services.gateway.http.changes import VISIBLE_WITHIN, Change, Gateway, gateway_of
from services.gateway.http.guard import COOKIE, CSRF_HEADER, Caller, GuardedRoute, caller_of, csrf_token
from services.gateway.http.problems import field_name, without_secrets
from services.gateway.invalid import invalid
from services.gateway.pages.keeping import keep_moment, with_moment
from services.gateway.pages.rendering import how_long_ago, render
from services.gateway.pages.timeline import Timeline, in_full
from services.gateway.past import Past
from services.gateway.seen import Seen

SIGN_IN = "/sign-in"
OPEN_CSRF = secrets.token_hex()
"""What changes carry where nobody signs in: other sites' pages cannot know it either."""
_OPEN_ACTOR = "dashboard:local"
_SAFE = {"GET", "HEAD"}
_NO_PAGES = (SIGN_IN, "/sign-out", "/static/", "/live", "/api/")
_REFRESHED = "main"
"""What our script says it wants when it brings a page up to date: that may become a page that says what is wrong."""
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


@dataclass(frozen=True)
class Fault:
    """Why something was refused, for people."""

    detail: str
    hint: str = ""
    field: str = ""
    status: int = 500
    title: str = ""


@dataclass(frozen=True)
class Visit:
    """One request of a page."""

    request: Request
    gateway: Gateway
    caller: Caller
    began: float = field(default_factory=time.time)
    """When, in seconds since 1970: what has changed since, the page may not show."""
    past: Past | None = None
    """The moment that the page is of; None for the present."""
    at: str = ""
    """That moment, as addresses have it."""
    timeline: Timeline | None = None
    """Where one can go from there; None where the page shows none."""

    @property
    def seen(self) -> Seen:
        """What pages are made of: the mesh as it is, or as it was."""
        return self.gateway if self.past is None else self.past

    @property
    def is_past(self) -> bool:
        """Whether the page is of a moment that is past: then it does not follow what happens, and offers no change."""
        return self.past is not None

    @property
    def csrf(self) -> str:
        """What this browser's changes must carry."""
        admission = self.gateway.admission
        return OPEN_CSRF if admission is None else csrf_token(admission.mint, self.request.cookies.get(COOKIE, ""))

    @property
    def may_change(self) -> bool:
        """Whether who looks may change networks and machines."""
        return self.may("operator")

    def may(self, role: AccountRole) -> bool:
        """Whether who looks may do what takes this role. The past nobody can change."""
        return not self.is_past and includes(self.caller.role, role)

    def page(self, template: str, *, status: int = 200, **context: Any) -> Response:
        """A page, or a part of one: what the template makes of `context`, `visit`, `now` and a new `command_id`. Its
        links lead to the same moment."""
        html = render(template, visit=self, now=self.seen.now(), command_id=uuid4(), **context)
        return respond(keep_moment(html, self.at) if self.is_past else html, status)

    def keep(self, location: str) -> str:
        """An address, at the moment that the page is of."""
        return with_moment(location, self.at) if self.is_past else location

    @property
    def as_of(self) -> str:
        """The moment that the page is of, in words."""
        return in_full(self.past.time) if self.past is not None and self.past.position else "the beginning"

    @property
    def age(self) -> str:
        """How long ago that was."""
        if self.past is None or not self.past.position:
            return ""
        return how_long_ago((self.gateway.now() - self.past.time).total_seconds())

    @property
    def given(self) -> list[tuple[str, str]]:
        """What the address says beside the moment."""
        return [(name, value) for name, value in self.request.query_params.multi_items() if name != AT]

    @property
    def of_now(self) -> str:
        """Where the same page is in the present."""
        return self.request.url.path + (f"?{urlencode(self.given)}" if self.given else "")

    @property
    def compares(self) -> str:
        """Where it is told what changed in the page's network since; empty where it is about none."""
        path = self.request.url.path.split("/")
        if path[1] != "networks" or len(path) < 3:
            return ""
        return address(f"/networks/{path[2]}/changes", **{"from": self.at})

    def of(self, at: str) -> str:
        """Where the same page is at another moment."""
        return with_moment(self.of_now, at)

    def go(self, location: str, notice: str = "") -> Response:
        """Have our script go to another page (the same one: load it anew), and say something there."""
        headers = {"HX-Redirect": location} | ({"X-Notice": quote(notice)} if notice else {})
        return respond("", 200, headers)

    def stay(self, notice: str = "", *, error: bool = False) -> Response:
        """Have our script say something and bring the open page up to date."""
        headers = {"HX-Reswap": "none", "X-Refresh": "1", "X-Notice": quote(notice)}
        return respond("", 200, headers | ({"X-Notice-Kind": "error"} if error else {}))

    def change(self, command_id: UUID | None = None) -> Change:
        """A change that who looks asks for. `command_id` is what the form had, so that a repetition changes nothing."""
        actor = _OPEN_ACTOR if self.caller.speaker is None else self.caller.actor
        return Change(self.gateway, actor, command_id or uuid4())

    async def done(self, outcome: Outcome) -> bool:
        """Wait until what a command did shows. False if it does not in time."""
        return await self.gateway.follower.wait_for(outcome.sequence, VISIBLE_WITHIN)

    async def give(self, command: Command) -> Outcome:
        """Have a command decided, and wait until what it did shows. Raises what it was refused with."""
        outcome = await self.gateway.commander.give(command)
        await self.done(outcome)
        return outcome


def visit_of(request: Request, gateway: Annotated[Gateway, Depends(gateway_of)]) -> Visit:
    """The visit that a request is; only for routes that need a role. Raises `InvalidInputError` for one of the past:
    see `looking` for the pages that can be of a moment."""
    if AT in request.query_params:
        raise timeless(request.method, request.scope["route"].name, ())
    return Visit(request, gateway, caller_of(request))


Visiting = Annotated[Visit, Depends(visit_of)]


class PageRoute(GuardedRoute):
    """A route of the dashboard. What goes wrong is shown as a page, or as a notice where our script asked; who has not
    signed in, or no more, is asked to."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """As `GuardedRoute`'s, for people."""
        handle = super().get_route_handler()

        async def shown(request: Request) -> Response:
            try:
                _check_origin(request)
                return await handle(request)
            except UnauthenticatedError:
                return _asked_to_sign_in(request)
            except (WireloomError, ValidationError, RequestValidationError, HTTPException) as error:
                return refuse(request, fault_of(error))
            except Exception as error:
                log = structlog.get_logger("gateway")
                log.error("a page failed", path=without_secrets(request.url.path), error=without_secrets(repr(error)))
                return refuse(request, fault_of(InternalError("This page could not be made.", hint="See the log.")))

        return shown


def fault_of(error: Exception) -> Fault:
    """What is wrong, for people; with the field's name as forms have it."""
    if isinstance(error, ValidationError):
        error = invalid(error)
    if isinstance(error, RequestValidationError):
        error = InvalidInputError("The address or the form is not as it should be.", hint="Go back and try again.")
    if isinstance(error, HTTPException) and error.status_code == 404:
        return Fault("Nothing is at this address.", status=404, title="There is no such page")
    if isinstance(error, HTTPException):
        return Fault(str(error.detail), status=error.status_code, title="That does not work")
    if not isinstance(error, WireloomError):
        raise error
    field = field_name(error.field or "")
    return Fault(without_secrets(error.detail), error.hint, field, error.status, error.title)


def refuse(request: Request, fault: Fault) -> Response:
    """A page that says what is wrong; for our script a notice."""
    if "hx-request" in request.headers and request.headers.get("hx-target") != _REFRESHED:
        text = f"{fault.detail} {fault.hint}".strip()
        return respond("", fault.status, {"HX-Reswap": "none", "X-Notice": quote(text), "X-Notice-Kind": "error"})
    visit = _visit_at(request)
    html = render("fault.html", fault=fault, visit=visit, back=request.url.path if AT in request.query_params else "")
    return respond(keep_moment(html, visit.at) if visit is not None and visit.is_past else html, fault.status)


def show_faults(app: FastAPI) -> None:
    """Have browsers shown a page where there is none at an address, or it does not know the method."""
    answer: Any = app.exception_handlers[HTTPException]

    async def shown(request: Request, error: Exception) -> Response:
        is_person = "text/html" in request.headers.get("accept", "") and not request.url.path.startswith("/api/")
        if is_person and isinstance(error, HTTPException):
            return refuse(request, fault_of(error))
        response: Response = await answer(request, error)
        return response

    app.add_exception_handler(HTTPException, shown)


def _visit_at(request: Request) -> Visit | None:
    """The visit that came to nothing; None where nobody knows who looks."""
    known: Visit | None = getattr(request.state, "visit", None)
    if known is not None:
        return known
    caller: Caller | None = getattr(request.state, "caller", None)
    return None if caller is None else Visit(request, request.app.state.gateway, caller)


def respond(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """HTML, and what browsers may do with it."""
    told = {"Content-Security-Policy": _POLICY, "Referrer-Policy": "same-origin", "Vary": "HX-Request"}
    return Response(body, status, told | (headers or {}), "text/html; charset=utf-8")


def address(path: str, **query: object) -> str:
    """A path with those parameters that are neither None nor empty."""
    given = {name: value for name, value in query.items() if value not in (None, "")}
    return f"{path}?{urlencode(given)}" if given else path


def ours(location: str, otherwise: str) -> str:
    """An address that somebody has put into a link, if it is that of a page of ours."""
    is_ours = location.startswith("/") and not location.startswith(("//", "/\\")) and location.isprintable()
    return location if is_ours and not location.startswith(_NO_PAGES) else otherwise


def shown_at(request: Request) -> str:
    """The path and query of the page that is open where our script asks; empty where it does not say so."""
    try:
        current = urlsplit(request.headers.get("hx-current-url", ""))
    except ValueError:
        return ""
    return current.path + (f"?{current.query}" if current.query else "")


def _check_origin(request: Request) -> None:
    """Raises `ForbiddenError` for a change that another site's page may have sent: browsers say whose page it was. With
    a session, `guard` asks for its token too; without sessions, this does."""
    gateway: Gateway = request.app.state.gateway
    if request.method in _SAFE:
        return
    if _is_foreign(request, gateway.public_url):
        raise ForbiddenError("Another site's page has sent this.", hint="Open the dashboard yourself.")
    given = request.headers.get(CSRF_HEADER, "")
    if gateway.admission is None and not hmac.compare_digest(given.encode(), OPEN_CSRF.encode()):
        raise ForbiddenError("The page is from before the gateway was started again.", hint="Load it anew.")


def _is_foreign(request: Request, public_url: str) -> bool:
    """Whether a browser says that another site's page asks: `Sec-Fetch-Site` (Fetch Metadata), in older ones `Origin`
    (RFC 6454, section 7)."""
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return True
    origin = request.headers.get("origin")
    return origin is not None and _host(origin) not in {request.headers.get("host", ""), _host(public_url)}


def _host(url: str) -> str | None:
    try:
        return urlsplit(url).netloc or None
    except ValueError:
        return None


def _asked_to_sign_in(request: Request) -> Response:
    wanted = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    is_script = "hx-request" in request.headers
    if is_script and request.headers.get("hx-target") != _REFRESHED:
        wanted = shown_at(request)
    elif request.method not in _SAFE:
        wanted = ""
    wanted = ours(wanted, "/")
    location = SIGN_IN if wanted == "/" else address(SIGN_IN, next=wanted)
    if is_script:
        return respond("", 401, {"HX-Redirect": location})
    return RedirectResponse(location, 303, {"Content-Security-Policy": _POLICY})
