"""What the OpenAPI document says beside the routes themselves: every error answer, and the headers of changes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from events.fields import AccountRole
from services.gateway.http.as_of import AT_HEADER, SINCE_HEADER
from services.gateway.http.dry_run_schemas import DryRun
from services.gateway.http.guard import COOKIE, CSRF_HEADER, GuardedRoute
from services.gateway.http.problems import MEDIA_TYPE
from services.gateway.http.schemas import Accepted, Problem

DESCRIPTION = """\
Wireloom connects machines into encrypted WireGuard mesh networks.

Every change is a command that is decided once and written to a log; the answers come from what the log led to. A
changing request is answered when its effect shows in this API (else with 202 and a `Location`), carries
`X-Command-Id` and `X-Log-Sequence`, and may be repeated safely with the same `Idempotency-Key`.

With `dry_run` a change is not made: the answer tells its events, and what they would do to peers, paths and sessions.

What reads the mesh takes `at`: a position of the log, a time, or how long ago. The answer is then of that moment, and
has the header `X-Wireloom-At`. Who was online is not recorded: of the past that is null.

Errors are problem objects (RFC 9457): `detail` says why, `hint` what to do, `code` is for programs.

Who asks shows an API token. Its role, or the lower one of its account, is *viewer* (may see), *operator* (may change
networks and machines too) or *admin* (may manage accounts too); `x-role` says which one an operation takes. A browser
signs in with `POST /api/v1/session`, has its token in a cookie, and sends `X-CSRF-Token` with every change.
"""

_MEANINGS = {
    400: "The body is not JSON.",
    401: "The request shows no token, or one that does not count.",
    403: "Who asks may not do this.",
    404: "What was named does not exist.",
    405: "The address does not know the method.",
    409: "The request does not fit the present state; `code` says how.",
    413: "The body is too large.",
    415: "The body is not declared as JSON.",
    421: "The request was meant for another host.",
    422: "The request is not valid; `errors` names the fields.",
    429: "There were too many requests or failures; `Retry-After` says for how many seconds to wait.",
    500: "A fault of the gateway.",
    503: "A part of the control plane does not answer, or is not ready; the same request may succeed later.",
}
_READING = (421, 422, 500, 503)
_CHANGING = (400, 404, 409, 413, 415, 421, 422, 500, 503)
_CHANGE_HEADERS = {
    "X-Command-Id": {"description": "The id of the command.", "schema": {"type": "string", "format": "uuid"}},
    "X-Log-Sequence": {"description": "The log position of its last event.", "schema": {"type": "integer"}},
}
_PAST_HEADERS = {
    AT_HEADER: {
        "description": "With `at`: the log's position then, a space, and the time; at the log's beginning no time.",
        "schema": {"type": "string"},
    },
    SINCE_HEADER: {
        "description": "With `at`, where reports that count then may be gone: since when all are known. Paths of which "
        "too little is known are `unknown` then.",
        "schema": {"type": "string", "format": "date-time"},
    },
}
_LOCATION = {"Location": {"description": "Where it stands.", "schema": {"type": "string"}}}

SCHEMES = {
    "token": {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "wla_…",
        "description": "An API token.",
    },
    "session": {
        "type": "apiKey",
        "in": "cookie",
        "name": COOKIE,
        "description": "A browser's token, which `POST /api/v1/session` gives.",
    },
    "csrf": {
        "type": "apiKey",
        "in": "header",
        "name": CSRF_HEADER,
        "description": "What `GET /api/v1/session` gives as `csrf_token`.",
    },
}

Responses = dict[int | str, dict[str, Any]]


def reading(*more: int) -> Responses:
    """The error answers of a query."""
    return {status: _problem(status) for status in sorted({*_READING, *more})}


def viewing(*more: int) -> Responses:
    """The answers of a query that may be about a moment that is past (`at`)."""
    return {200: {"headers": _PAST_HEADERS}, **reading(404, *more)}


def changing(success: int, located: bool = False) -> Responses:
    """The answers of a change."""
    headers = _CHANGE_HEADERS | (_LOCATION if located else {})
    return {
        success: {"headers": headers},
        202: {"model": Accepted, "description": "Done, but it does not show yet.", "headers": headers},
        **{status: _problem(status) for status in _CHANGING},
    }


def document(app: FastAPI, routes: Iterable[GuardedRoute]) -> dict[str, Any]:
    """The OpenAPI document of an application with these routes, made once."""
    if app.openapi_schema is None:
        made = get_openapi(
            title=app.title,
            version=app.version,
            description=app.description,
            routes=app.routes,
            tags=app.openapi_tags,
            license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas = made["components"]["schemas"]
        schemas |= problem.pop("$defs")
        schemas["Problem"] = problem
        dry_run = DryRun.model_json_schema(mode="serialization", ref_template="#/components/schemas/{model}")
        schemas |= dry_run.pop("$defs")
        schemas["DryRun"] = dry_run
        made["components"]["securitySchemes"] = SCHEMES
        for route in routes:
            for method in (route.methods or ()) if route.include_in_schema else ():
                operation = made["paths"][route.path][method.lower()]
                _secure(operation, method, route.needed_role)
                if any(parameter["name"] == "dry_run" for parameter in operation.get("parameters", ())):
                    _tell_dry_run(operation)
        app.openapi_schema = made
    return app.openapi_schema


def _secure(operation: dict[str, Any], method: str, role: AccountRole | None) -> None:
    """Tell whom an operation lets in, and how it refuses the others."""
    refusals = (429,) if role is None else (401, 403, 429)
    operation["responses"] |= {str(status): _problem(status) for status in refusals}
    operation["responses"] = dict(sorted(operation["responses"].items()))
    if role is None:
        operation["security"] = []
        return
    operation["x-role"] = role
    operation["security"] = [{"token": []}, {"session": []} if method == "GET" else {"session": [], "csrf": []}]


def _tell_dry_run(operation: dict[str, Any]) -> None:
    """Tell how a change that may be tried answers then: in the place of, or beside, what it gives when it is made."""
    told: dict[str, Any] = {"$ref": "#/components/schemas/DryRun"}
    answers = operation["responses"]
    if "200" in answers:
        content = answers["200"]["content"]["application/json"]
        content["schema"] = {"anyOf": [content["schema"], told]}
        for header in answers["200"].get("headers", {}).values():
            header["description"] += " Not with `dry_run`."
    else:
        answers["200"] = {
            "description": "With `dry_run`: what the change would do.",
            "content": {"application/json": {"schema": told}},
        }
        operation["responses"] = dict(sorted(answers.items()))


def _problem(status: int) -> dict[str, Any]:
    return {
        "description": _MEANINGS[status],
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
