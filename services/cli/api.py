"""The gateway's HTTP API as the client commands see it: one small shell around httpx2.

Every change carries an `Idempotency-Key`, so that it can be sent again, once, when the connection broke or the
gateway answered 503: it is executed once all the same.

A token is sent to this gateway only: redirects are not followed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx2
import orjson

from events.errors import UnauthenticatedError, UnavailableError, WireloomError
from services.cli import trust
from services.cli.address import checked_url, is_loopback

Json = dict[str, Any]
"""One JSON object of the API."""

PAGE = 1000
"""How many items are asked for at once where all are wanted."""

_RETRY_AFTER = 0.5
_CREATE_TRIES = 20
_LINE_SECONDS = 120
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
        *,
        token: str = "",
        ca: str = "",
        at: str | None = None,
        answered: Callable[[httpx2.Headers], None] = lambda _: None,
    ) -> None:
        """`token` speaks for an account; `ca` (PEM) is the only authority to believe, else the system's are.

        `at` is the moment that all queries are about, None for the present. `answered` hears the headers of what they
        are answered.
        """
        self.is_dry = False
        """Whether changes are only tried: what they would do is then in `tried`."""
        self.tried: list[Json] = []
        self._at = at
        self._answered = answered
        self.url = checked_url(url)
        self._pause = pause
        self._transport = transport
        known = {"Authorization": f"Bearer {token}"} if token else {}
        self._http = httpx2.Client(
            base_url=self.url,
            headers={"X-Wireloom-Actor": actor, "Accept": "application/json"} | known,
            transport=transport,
            timeout=_TIMEOUT,
            verify=trust.context(ca) if self.url.startswith("https:") else True,
            trust_env=not is_loopback(self.url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: Any) -> Json:
        """What stands at `path`. Parameters that are None are left out. Raises any `WireloomError`."""
        response = self._send("GET", path, params=_given(params | {"at": self._at}))
        self._answered(response.headers)
        return _body(response, self.url)

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

        Also empty where the change was made but the gateway does not show it yet (202), or where it is only tried.
        """
        response = self._changed(method, path, body, params, str(uuid4()))
        return {} if response.status_code == 202 or self.is_dry else _body(response, self.url)

    def create(self, path: str, body: Json) -> Json:
        """Make something whose answer is needed, for it has a secret that is shown once. Raises any `WireloomError`.

        Where the gateway does not show it yet (202) it is asked again with the same key, which gives the same secret.
        Empty where it is only tried.
        """
        key = str(uuid4())
        for _ in range(_CREATE_TRIES):
            response = self._changed("POST", path, body, {}, key)
            if self.is_dry:
                return {}
            if response.status_code != 202:
                return _body(response, self.url)
            self._pause(_RETRY_AFTER)
        raise UnavailableError(
            "It was made, but the gateway does not show it yet, so that its secret is lost.", hint="Make another."
        )

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
            raise self._unreachable(error) from error

    def download(self, path: str) -> Iterator[bytes]:
        """What stands at `path` as a file, in pieces. Raises any `WireloomError`."""
        try:
            with self._http.stream("GET", path, headers={"Accept": "*/*"}) as response:
                if not response.is_success:
                    response.read()
                    _body(response, self.url)
                yield from response.iter_raw()
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def lines(self, path: str, body: Json) -> Iterator[Json]:
        """The objects that come, one a line, as the answer to a POST. Raises any `WireloomError`."""
        timeout = httpx2.Timeout(_LINE_SECONDS, connect=5)
        try:
            with self._http.stream("POST", path, json=body, timeout=timeout) as response:
                if not response.is_success:
                    response.read()
                    _body(response, self.url)
                for line in response.iter_lines():
                    yield orjson.loads(line)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error

    def _changed(self, method: str, path: str, body: Json | None, params: Json, key: str) -> httpx2.Response:
        """The answer to a change, if it was made, or to one that is only tried. Raises any `WireloomError`."""
        asked = _given(params | {"dry_run": "true" if self.is_dry else None})
        response = self._send(method, path, params=asked, body=body, headers={"Idempotency-Key": key})
        if not response.is_success:
            _body(response, self.url)
        if self.is_dry:
            self.tried.append(_body(response, self.url))
        return response

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
                if last or isinstance(trust.explained(self.url, error), trust.CertificateError):
                    raise self._unreachable(error) from error
            else:
                if last or response.status_code != 503 or 503 in accept:
                    return response
            self._pause(_RETRY_AFTER)
        raise AssertionError("the last try returns or raises")

    def _unreachable(self, error: httpx2.TransportError) -> WireloomError:
        if isinstance(error, httpx2.ReadTimeout | httpx2.WriteTimeout | httpx2.PoolTimeout):
            return UnavailableError(
                f"The gateway at {self.url} did not answer in time.",
                hint="The change may have been made all the same: look with `wireloom log`, then try again.",
            )
        if untrusted := trust.explained(self.url, error):
            return untrusted
        if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
            return UnavailableError(
                f"Nothing answers at {self.url}.",
                hint="Start a control plane with `wireloom up`, or say where it is with --url or WIRELOOM_URL.",
            )
        if self.url.startswith("http:") and trust.speaks_tls(self.url, self._transport):
            secure = self.url.replace("http:", "https:", 1)
            return UnauthenticatedError(
                f"The gateway at {self.url} speaks HTTPS only.", hint=f"Sign in first: wireloom login {secure}"
            )
        why = error or type(error).__name__
        return UnavailableError(f"The connection to {self.url} broke ({why}).", hint="Try again.")


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
        raise _refusal(body, url)
    return body


def _refusal(body: Json, url: str) -> WireloomError:
    error = WireloomError.from_problem(body)
    if isinstance(error, UnauthenticatedError):
        error.hint = f"Sign in: wireloom login {url}"
    return error


def _stranger(response: httpx2.Response, url: str) -> UnavailableError:
    return UnavailableError(
        f"What answers at {url} is not a Wireloom gateway (it said {response.status_code} to {response.url.path}).",
        hint="Give the gateway's address with --url or WIRELOOM_URL.",
    )


def _given(params: Json) -> Json:
    return {name: value for name, value in params.items() if value is not None}
