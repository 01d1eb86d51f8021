"""Every error as a problem object (RFC 9457), whoever raises it. None repeats a secret, wherever it was given."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any

import orjson
import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from events.errors import PROBLEM_TYPE_PREFIX, InternalError, InvalidInputError, RateLimitedError, WireloomError
from services.gateway.invalid import SAID_BY_US

MEDIA_TYPE = "application/problem+json"

_FIELDS = {
    "account_id": "account_uuid",
    "address": "wg_ip_address",
    "machine_id": "machine_uuid",
    "machine_ids": "machine_uuids",
    "network_id": "mesh_network_uuid",
    "network_ids": "network_uuids",
    "policy_id": "uuid",
    "route_id": "uuid",
    "vip_id": "uuid",
}
"""What the commands' fields are called over HTTP."""

_HINTS = {
    404: "See /api/v1/openapi.json for what there is.",
    405: "The Allow header names the methods that this address knows.",
}


_SECRET = re.compile(r"(wl[ab]_)[A-Za-z0-9]{16,}|eyJ[\w-]{16,}[\w.-]*|\bS[AOU][A-Z2-7]{40,}", re.ASCII)
"""Our own tokens, those of the bus (RFC 7519, section 3.1), and the seeds of keys; whole or cut off."""


def without_secrets(text: str) -> str:
    """`text` without the tokens and private keys in it."""
    return _SECRET.sub(lambda found: f"{found[1] or ''}…", text)


def problem_response(status: int, problem: dict[str, Any], headers: dict[str, str] | None = None) -> Response:
    """A problem object as a response."""
    body = without_secrets(orjson.dumps(problem).decode())
    return Response(body, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def http_problem(status: int, detail: str, hint: str = "") -> dict[str, Any]:
    """The problem object of an error that HTTP itself has a status for; its code is the status in words."""
    phrase = HTTPStatus(status).phrase
    code = phrase.lower().replace(" ", "-")
    problem = {"type": PROBLEM_TYPE_PREFIX + code, "title": phrase, "status": status, "detail": detail, "code": code}
    return problem | ({"hint": hint} if hint else {})


def install(app: FastAPI) -> None:
    """Answer every error of this application with a problem object."""
    app.add_exception_handler(WireloomError, _wireloom)
    app.add_exception_handler(RequestValidationError, _validation)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _fault)


async def _wireloom(request: Request, error: Exception) -> Response:
    assert isinstance(error, WireloomError)
    problem = error.to_problem()
    if "field" in problem:
        problem["field"] = field_name(problem["field"], request.url.path)
    return problem_response(error.status, problem, _headers(error))


def field_name(name: str, path: str = "") -> str:
    """What people call a command's field."""
    if name == "address" and path.startswith("/api/v1/vips"):
        return name
    return _FIELDS.get(name, name)


def _headers(error: WireloomError) -> dict[str, str]:
    if isinstance(error, RateLimitedError):
        return {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        return {"WWW-Authenticate": "Bearer"}
    return {"Retry-After": "1"} if error.status == 503 else {}


async def _validation(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    faults = [_fault_of(fault) for fault in error.errors()]
    if any(fault["type"] == "json_invalid" for fault in error.errors()):
        return problem_response(400, http_problem(400, "The body is not JSON.", faults[0]["message"]))
    whole = InvalidInputError(
        "; ".join(f"{_place(fault['field'])}: {fault['message']}" for fault in faults[:5]) + ".",
        hint="Correct the fields in `errors`." if len(faults) > 1 else "Correct it.",
        field=faults[0]["field"],
    )
    return problem_response(422, whole.to_problem() | {"errors": faults})


def _fault_of(fault: dict[str, Any]) -> dict[str, str]:
    message = str(fault.get("ctx", {}).get("error") if fault["type"] == "json_invalid" else fault["msg"])
    return {"field": ".".join(str(part) for part in fault["loc"]), "message": message.removeprefix(SAID_BY_US)}


def _place(field: str) -> str:
    """A field without the part of the request that it is in, which people need not know."""
    return field.partition(".")[2] or field


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    status, detail = error.status_code, str(error.detail)
    if status == 404:
        detail = f"There is nothing at {request.url.path}."
    if status == 405:
        detail = f"{request.url.path} does not know the method {request.method}."
    problem = http_problem(status, detail, _HINTS.get(status, ""))
    return problem_response(status, problem, dict(error.headers or {}))


async def _fault(request: Request, error: Exception) -> Response:
    log = structlog.get_logger("gateway")
    log.error("a request failed", path=without_secrets(request.url.path), error=without_secrets(repr(error)))
    return problem_response(
        500, InternalError("The request could not be handled.", hint="See the gateway's log.").to_problem()
    )
