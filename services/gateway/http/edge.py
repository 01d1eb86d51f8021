"""What every HTTP request passes first: which host it was meant for, how large it is, and that it is counted. And every
answer last: what browsers are told about it."""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from ipaddress import ip_address
from time import perf_counter

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.http.problems import http_problem, problem_response
from services.gateway.metrics import Metrics

MAX_BODY = 512 * 1024
"""How many bytes a request's body may have."""

BODY_SECONDS = 30.0
"""How long all of it may take to come."""

SECURITY_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
"""Of every answer that does not say otherwise."""

_HSTS = "max-age=31536000"
"""A year (RFC 6797, section 6.1.1)."""

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_DRAINED = 16 * 1024 * 1024
_TOO_LARGE = f"The body is larger than {MAX_BODY:,} bytes."
_TOO_SLOW = "The body did not come in time."


class Edge:
    """ASGI middleware around the whole application.

    Without authorisation (`is_open`), whoever reaches the gateway may do everything. A web page in a browser on this
    machine must not: so only requests for a loopback host are answered (against DNS rebinding), and changes must be
    JSON (`services.gateway.http.changes`), which browsers do not let other sites send.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, is_open: bool) -> None:
        self._app = app
        self._metrics = metrics
        self._is_open = is_open

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = perf_counter()
        status = 500

        async def watched_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                _tell_browsers(message, is_https=scope["scheme"] == "https")
                self._metrics.http_seconds.labels(_method(scope), _route(scope)).observe(perf_counter() - started)
            await send(message)

        try:
            await self._guarded(scope, receive, watched_send)
        finally:
            self._metrics.http_requests.labels(_method(scope), _route(scope), str(status)).inc()

    async def _guarded(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if self._is_open and not _is_loopback(headers.get("host", "")):
            problem = http_problem(
                421, "This gateway answers for this machine only.", "Ask for 127.0.0.1 or localhost."
            )
            await problem_response(421, problem)(scope, receive, send)
        elif length.isdigit() and int(length) > MAX_BODY:
            await _drain(receive)
            refusal = problem_response(413, http_problem(413, _TOO_LARGE), {"Connection": "close"})
            await refusal(scope, receive, send)
        else:
            await self._app(scope, _limited(receive), send)


def _tell_browsers(start: Message, is_https: bool) -> None:
    headers = MutableHeaders(scope=start)
    for name, value in SECURITY_HEADERS.items():
        headers.setdefault(name, value)
    if is_https:
        headers["Strict-Transport-Security"] = _HSTS


def _limited(receive: Receive) -> Receive:
    size, ends_at = 0, asyncio.get_running_loop().time() + BODY_SECONDS

    async def limited() -> Message:
        nonlocal size, ends_at
        try:
            async with asyncio.timeout_at(ends_at):
                message = await receive()
        except TimeoutError as error:
            raise HTTPException(408, _TOO_SLOW, {"Connection": "close"}) from error
        if message["type"] == "http.request":
            if not message.get("more_body"):
                ends_at = math.inf  # what comes now is the end of the connection
            size += len(message.get("body", b""))
            if size > MAX_BODY:
                if message.get("more_body"):
                    await _drain(receive)
                raise HTTPException(413, _TOO_LARGE, {"Connection": "close"})
        return message

    return limited


async def _drain(receive: Receive) -> None:
    """Read what is still coming, within reason: a client that is cut off while it sends does not see the answer."""
    size = 0
    with suppress(TimeoutError):
        async with asyncio.timeout(BODY_SECONDS):
            while size < _DRAINED:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body"):
                    return


def _is_loopback(host: str) -> bool:
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.lower() == "localhost"


def _method(scope: Scope) -> str:
    """Strangers must not make up labels."""
    method: str = scope["method"]
    return method if method in _METHODS else "other"


def _route(scope: Scope) -> str:
    return getattr(scope.get("route"), "path", "unmatched")
