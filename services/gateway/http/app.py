"""The HTTP application: its routes, its errors, its document."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter, FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp

from events.errors import InternalError
from services.gateway.http import (
    accounts,
    agents_api,
    archive,
    bgp,
    bootstrap_tokens,
    bus_credentials,
    commands,
    crossings,
    diff,
    events,
    health,
    keys,
    ledger,
    machines,
    networks,
    paths,
    revocations,
    route_policies,
    session,
    status,
    tokens,
    tunnels,
    verification,
    vips,
    why,
)
from services.gateway.http import (
    routes as routes_api,
)
from services.gateway.http.changes import PLAIN, Gateway
from services.gateway.http.documents import DESCRIPTION, document
from services.gateway.http.edge import Edge
from services.gateway.http.guard import ANYBODY, GuardedRoute
from services.gateway.http.problems import install
from services.gateway.pages import site
from services.gateway.pages.page import show_faults

_TAGS = [
    {"name": "mesh networks", "description": "Encrypted networks, and the machines in them."},
    {"name": "machines", "description": "Machines, each with an agent."},
    {"name": "paths", "description": "How machines reach each other, and why so."},
    {"name": "BGP", "description": "Machines' BGP speakers, their sessions and the routes that they know."},
    {"name": "routes", "description": "What machines announce to each other with BGP, and what they take in."},
    {"name": "bootstrap tokens", "description": "What lets machines in."},
    {"name": "accounts", "description": "People and programs, and the tokens that speak for them."},
    {"name": "session", "description": "Who asks, and browsers' signing in and out."},
    {"name": "agents", "description": "How machines come in, and stay in."},
    {"name": "keys", "description": "The control plane's own keys, and programs' access to its message bus."},
    {"name": "events", "description": "Everything that ever happened, in order."},
    {"name": "diff", "description": "What changed between two moments."},
    {"name": "why", "description": "Why things are as they are, or were."},
    {"name": "ledger", "description": "Who held an address, from when to when."},
    {"name": "log", "description": "Whether the log is what was written."},
    {"name": "health", "description": "For those who watch over the control plane."},
]


ROUTERS = (
    networks.router,
    status.router,
    machines.router,
    paths.router,
    tunnels.router,
    bgp.router,
    routes_api.router,
    vips.router,
    route_policies.router,
    crossings.router,
    revocations.router,
    bootstrap_tokens.router,
    accounts.router,
    tokens.router,
    session.router,
    agents_api.router,
    keys.router,
    bus_credentials.router,
    events.router,
    archive.router,
    commands.router,
    diff.router,
    verification.router,
    ledger.router,
    why.router,
    health.router,
)

about = APIRouter(route_class=GuardedRoute)


@about.get("/api/v1/openapi.json", include_in_schema=False, dependencies=[ANYBODY, PLAIN])
async def describe(request: Request) -> Response:
    """The OpenAPI document."""
    app: FastAPI = request.app
    return JSONResponse(app.openapi())


def routes() -> Iterator[GuardedRoute]:
    """Every route there is. Raises `InternalError` for one that does not say whom it lets in."""
    for router in (*ROUTERS, *site.ROUTERS, about):
        for route in router.routes:
            if not isinstance(route, GuardedRoute):
                raise InternalError(f"Nothing guards the route {route}.")
            yield route


def make_app(gateway: Gateway, version: str) -> ASGIApp:
    """The application that serves this gateway. The API's document is `/api/v1/openapi.json`."""
    app = FastAPI(
        title="Wireloom",
        version=version,
        description=DESCRIPTION,
        openapi_url=None,
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.gateway = gateway
    install(app)
    show_faults(app)
    guarded = list(routes())
    for router in (*ROUTERS, *site.ROUTERS, about):
        app.include_router(router)
    app.openapi = lambda: document(app, guarded)  # type: ignore[method-assign]
    return Edge(app, gateway.metrics, is_open=gateway.admission is None)
