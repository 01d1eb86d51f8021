"""Whom each route of the HTTP API lets in."""

from __future__ import annotations

import pytest
from fastapi import APIRouter

from events.errors import InternalError
from services.gateway.http.app import routes
from services.gateway.http.guard import ANYBODY, VIEWER, GuardedRoute

PUBLIC = {
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/api/v1/openapi.json"),
    ("GET", "/api/v1/ca"),
    ("POST", "/api/v1/agents/challenge"),
    ("POST", "/api/v1/agents/enrol"),
    ("POST", "/api/v1/agents/renew"),
    ("POST", "/api/v1/session"),
    ("GET", "/sign-in"),
    ("POST", "/sign-in"),
    ("GET", "/static/{digest}/{name:path}"),
}
"""All that those may call who have not shown who they are."""

OWN = {
    ("POST", "/api/v1/tokens"),
    ("DELETE", "/api/v1/tokens/{uuid}"),
    ("DELETE", "/api/v1/session"),
    ("POST", "/sign-out"),
}
"""What everybody may change: his own."""


def test_every_route_says_whom_it_lets_in() -> None:
    needed = {(method, route.path): route.needed_role for route in routes() for method in route.methods or ()}
    assert len(needed) > 30
    for (method, path), role in needed.items():
        if (method, path) in PUBLIC:
            assert role is None, path
        elif path.startswith("/api/v1/accounts") or path == "/api/v1/log/export":
            assert role == "admin", path
        elif path.startswith("/api/v1/bootstrap-tokens"):
            assert role == "operator", path
        elif method == "GET" and not path.startswith("/api/"):
            assert role in {"viewer", "operator"}, path  # a dialog is for those who may do what it asks for
        elif method == "GET" or (method, path) in OWN:
            assert role == "viewer", path
        else:
            assert role == "operator", path
    assert set(needed) >= PUBLIC | OWN


def test_a_route_that_does_not_say_it_is_not_made() -> None:
    router = APIRouter(route_class=GuardedRoute)
    router.add_api_route("/a", lambda: None, dependencies=[VIEWER])
    router.add_api_route("/b", lambda: None, dependencies=[ANYBODY])
    with pytest.raises(InternalError, match="does not say whom it lets in"):
        router.add_api_route("/c", lambda: None)
