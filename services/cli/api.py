"""The gateway's HTTP API as the client commands see it: one small shell around httpx2.

Every change carries an `Idempotency-Key`, so that it can be sent again, once, when the connection broke or the
gateway answered 503: it is executed once all the same.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx2
import orjson

from events.errors import InvalidInputError, UnavailableError, WireloomError

Json = dict[str, Any]
"""One JSON object of the API."""

PAGE = 1000
"""How many items are asked for at once where all are wanted."""

_RETRY_AFTER = 0.5
_TIMEOUT = httpx2.Timeout(60, connect=5)


class Api:
    """A client of one gateway. Use it as a context manager.

    `transport` and `pause` are what tests put in the place of the network and of waiting.
    """

    def __init__(
        self,
        url: str,
        actor: str,
        transport: httpx2.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.url = _checked_url(url)
        self._pause = pause
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"X-Wireloom-Actor": actor, "Accept": "application/json"},
            transport=transport,
            timeout=_TIMEOUT,
            trust_env=not _is_loopback(self.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        """What stands at `path`. Parameters that are None are left out. Raises any `WireloomError`."""
        return _body(self._send("GET", path, params=_given(params)), self.url)

    def pages(self, path: str, **params: Any) -> Iterator[Json]:
        """The pages of a collection, first to last."""
        following: Any = None
        while True:
            page = self.get(path, limit=PAGE, after=following, **params)
            yield page
            following = page.get("next")
            if following is None:
                return

    def all(self, path: str, **params: Any) -> list[Json]:
        """All items of a collection."""
        return [item for page in self.pages(path, **params) for item in page["items"]]

    def change(self, method: str, path: str, body: Json | None = None, **params: Any) -> Json:
        """Make a change and return the answer's object, empty where there is none. Raises any `WireloomError`.

        Also empty where the change was made but the gateway does not show it yet (202).
        """
        headers = {"Idempotency-Key": str(uuid4())}
        response = self._send(method, path, params=_given(params), body=body, headers=headers)
        answer = _body(response, self.url)
        return {} if response.status_code == 202 else answer

    def ready(self) -> tuple[bool, Json]:
        """Whether the control plane is ready, and what the gateway says about its parts."""
        response = self._send("GET", "/readyz", accept=(503,))
        return response.is_success, _body(response, self.url, problems=False)

    def follow(self, path: str, after: int, **params: Any) -> Iterator[Json]:
        """The items of a stream of server-sent events from position `after` on, until the connection ends."""
        query = _given(params | {"after": after})
        headers = {"Accept": "text/event-stream"}
        try:
            with self._http.stream(
                "GET", path, params=query, headers=headers, timeout=httpx2.Timeout(60, connect=5)
            ) as response:
                if not response.is_success:
                    response.read()
                    _body(response, self.url)
                for event in httpx2.EventSource(response, max_event_size=None):
                    if event.data:
                        yield orjson.loads(event.data)
        except httpx2.TransportError as error:
            raise _unreachable(self.url, error) from error

    def _send(
        self,
        method: str,
        path: str,
        *,
        params: Json | None = None,
        body: Json | None = None,
        headers: dict[str, str] | None = None,
        accept: tuple[int, ...] = (),
    ) -> httpx2.Response:
        for last in (False, True):
            try:
                response = self._http.request(method, path, params=params, json=body, headers=headers)
            except httpx2.TransportError as error:
                if last:
                    raise _unreachable(self.url, error) from error
            else:
                if last or response.status_code != 503 or 503 in accept:
                    return response
            self._pause(_RETRY_AFTER)
        raise AssertionError("the last try returns or raises")


def _body(response: httpx2.Response, url: str, problems: bool = True) -> Json:
    if response.is_success and not response.content:
        return {}
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError as error:
        raise _stranger(response, url) from error
    if not isinstance(body, dict):
        raise _stranger(response, url)
    if problems and not response.is_success:
        if "code" not in body:
            raise _stranger(response, url)
        raise WireloomError.from_problem(body)
    return body


def _stranger(response: httpx2.Response, url: str) -> UnavailableError:
    return UnavailableError(
        f"What answers at {url} is not a Wireloom gateway (it said {response.status_code} to {response.url.path}).",
        hint="Give the gateway's address with --url or WIRELOOM_URL.",
    )


def _unreachable(url: str, error: httpx2.TransportError) -> UnavailableError:
    if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout | httpx2.PoolTimeout):
        return UnavailableError(
            f"The gateway at {url} did not answer in time.",
            hint="The change may have been made all the same: look with `wireloom log`, then try again.",
        )
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return UnavailableError(
            f"Nothing answers at {url}.",
            hint="Start a control plane with `wireloom up`, or say where it is with --url or WIRELOOM_URL.",
        )
    return UnavailableError(f"The connection to {url} broke ({error or type(error).__name__}).", hint="Try again.")


def _given(params: Json) -> Json:
    return {name: value for name, value in params.items() if value is not None}


def _checked_url(text: str) -> str:
    try:
        url = httpx2.URL(text.rstrip("/"))
    except httpx2.InvalidURL as error:
        raise _not_a_url(text) from error
    if url.scheme not in ("http", "https") or not url.host:
        raise _not_a_url(text)
    return str(url)


def _not_a_url(text: str) -> InvalidInputError:
    return InvalidInputError(
        f"{text!r} is not the address of a gateway.", hint="Write it like http://127.0.0.1:7480.", field="url"
    )


def _is_loopback(url: str) -> bool:
    host = httpx2.URL(url).host
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
