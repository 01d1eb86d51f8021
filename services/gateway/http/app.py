"""The HTTP application: its routes, its errors, its document."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.types import ASGIApp

from services.gateway.http import events, health, machines, networks
from services.gateway.http.changes import Gateway
from services.gateway.http.documents import DESCRIPTION, document
from services.gateway.http.edge import Edge
from services.gateway.http.problems import install

_TAGS = [
    {"name": "mesh networks", "description": "Encrypted networks, and the machines in them."},
    {"name": "machines", "description": "Machines, each with an agent."},
    {"name": "events", "description": "Everything that ever happened, in order."},
    {"name": "health", "description": "For those who watch over the control plane."},
]


def make_app(gateway: Gateway, version: str) -> ASGIApp:
    """The application that serves this gateway. It has no pages: the document is `/api/v1/openapi.json`."""
    app = FastAPI(
        title="Wireloom",
        version=version,
        description=DESCRIPTION,
        openapi_url="/api/v1/openapi.json",
        openapi_tags=_TAGS,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.gateway = gateway
    install(app)
    for router in (networks.router, machines.router, events.router, health.router):
        app.include_router(router)
    app.openapi = lambda: document(app)  # type: ignore[method-assign]
    return Edge(app, gateway.metrics)
