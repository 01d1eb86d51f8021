"""Asking the control plane's gateway over HTTPS: to be let in, and for access to the bus. A shell.

Whom it talks to is decided by certificates alone: those that the system trusts, or one authority that is pinned.
Redirects are not followed, and no proxy is used.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import http.client
import json
import re
import ssl
import threading
import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ValidationError

from agent.outer import create_connection
from events.enrolment import Access, Challenge, EnrolRequest, RenewRequest
from events.errors import InternalError, InvalidInputError, NotFoundError, UnavailableError, WireloomError
from events.fields import shown
from events.trust.certificates import trusting

DEFAULT_PORT = 443
_TIMEOUT = 10.0
"""Seconds that the gateway may take for a step of an exchange, and for a whole answer."""
_MAX_ANSWER = 4 * 1024 * 1024
_MAX_SAID = 500
_PATH = "/api/v1"
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)

T = TypeVar("T")
M = TypeVar("M", bound=BaseModel)


class UntrustedGatewayError(UnavailableError):
    """Raised when what answers does not show a certificate that is trusted. Somebody may stand in between: only for
    now, perhaps, so that it is worth another try."""

    code = "untrusted-gateway"
    title = "What answers is not known to be the control plane"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a gateway is."""

    url: str
    host: str
    port: int
    path: str

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises `InvalidInputError` unless `url` is `https://host[:port]`, perhaps with a path."""
        split = urlsplit(url.strip())
        try:
            port = split.port or DEFAULT_PORT
        except ValueError:
            port = 0
        if split.scheme != "https":
            raise InvalidInputError(
                f"{shown(url)} is not the address of a control plane: it must begin with https://.",
                hint="Copy the join line as `wireloom token create` printed it.",
            )
        if not (split.hostname and port) or split.username is not None or split.query or split.fragment:
            raise InvalidInputError(
                "This is not the address of a control plane.",
                hint="Write https://host:port, for example https://wireloom.example.org:7480.",
            )
        path = split.path.rstrip("/")
        return cls(f"https://{_authority(split)}{path}", split.hostname, port, path)


def _authority(split: SplitResult) -> str:
    host = f"[{split.hostname}]" if ":" in str(split.hostname) else str(split.hostname)
    return host if split.port in {None, DEFAULT_PORT} else f"{host}:{split.port}"


class Gateway:
    """A client of one gateway, for one thread at a time. Each request is a connection of its own."""

    def __init__(self, address: Address, ca: str = "") -> None:
        """`ca` (PEM) alone is trusted; without it, whatever the system trusts. Raises `InvalidInputError`."""
        self.address = address
        try:
            self._tls = trusting(ca) if ca else _system_trust()
        except ssl.SSLError as error:
            raise InvalidInputError("The pinned certificate cannot be read.", hint="Join again.") from error

    def challenge(self) -> str:
        """A text to prove oneself with, good for a minute."""
        return self._ask("agents/challenge", None, Challenge).challenge

    def enrol(self, request: EnrolRequest) -> Access:
        """Be let in. Raises what the gateway refuses with."""
        return self._ask("agents/enrol", request, Access)

    def renew(self, request: RenewRequest) -> Access:
        """Have access to the bus again. Raises what the gateway refuses with."""
        return self._ask("agents/renew", request, Access)

    def _ask(self, what: str, request: BaseModel | None, answer: type[M]) -> M:
        body = b"{}" if request is None else request.model_dump_json().encode()
        said = _exchange(self.address, self._tls, "POST", f"{_PATH}/{what}", body)
        try:
            return answer.model_validate_json(said)
        except ValidationError:
            # Not told further: what was said may hold a token.
            raise InternalError(
                f"The control plane at {self.address.url} gives an answer that this agent does not understand.",
                hint="Install the version of the agent that belongs to the control plane.",
            ) from None


def fetch_ca(address: Address, sha256: str) -> str:
    """The certificate authority (PEM) with this fingerprint, from the gateway that it certifies.

    Nothing is believed before that: the gateway may be anybody, but only the right one has the right certificate.
    Raises `UntrustedGatewayError` where the fingerprint is another.
    """
    wanted = sha256.replace(":", "").strip().lower()
    if not re.fullmatch(r"[0-9a-f]{64}", wanted):
        raise InvalidInputError(
            "This is not the fingerprint of a certificate.", hint="It is 64 hexadecimal digits: copy the whole line."
        )
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    text = _exchange(address, anybody, "GET", f"{_PATH}/ca", None).decode("ascii", "replace")
    first = _CERTIFICATE.search(text)
    try:
        der = ssl.PEM_cert_to_DER_cert(first[0]) if first else b""
    except ValueError:
        der = b""
    if not hmac.compare_digest(hashlib.sha256(der).hexdigest(), wanted):
        raise UntrustedGatewayError(
            f"What answers at {address.url} has another certificate than the join line names. Nothing was sent to it.",
            hint="Make a new join line with `wireloom token create`. If that names the same one, somebody stands "
            "between this machine and the control plane.",
        )
    # Only the certificate that was compared: whatever came after it may be anybody's.
    return ssl.DER_cert_to_PEM_cert(der)


def _system_trust() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _exchange(address: Address, tls: ssl.SSLContext, method: str, path: str, body: bytes | None) -> bytes:
    """The body of a good answer. Raises the error that another one describes."""
    connection = http.client.HTTPSConnection(address.host, address.port, timeout=_TIMEOUT, context=tls)
    connection._create_connection = create_connection  # type: ignore[attr-defined]
    headers = {"Accept": "application/json", "User-Agent": "wireloom-agent"}
    if body is not None:
        headers["Content-Type"] = "application/json"
    try:
        connection.request(method, address.path + path, body, headers)
        with connection.getresponse() as response:
            said = _read(response)
    except ssl.SSLCertVerificationError as error:
        raise UntrustedGatewayError(
            f"The certificate of {address.url} is not trusted: {error.verify_message}.",
            hint="If the control plane made its certificate itself, the join line needs its --ca-sha256.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"The control plane at {address.url} does not answer: {_reason(error)}.",
            hint="Check the address, and that this machine can reach it.",
        ) from error
    finally:
        connection.close()
    if response.status in {200, 201}:
        return said
    raise _refusal(address, response.status, said)


def _read(response: http.client.HTTPResponse) -> bytes:
    deadline = time.monotonic() + _TIMEOUT
    said = bytearray()
    while chunk := response.read1(65536):
        said += chunk
        if len(said) > _MAX_ANSWER or time.monotonic() > deadline:
            raise http.client.HTTPException("its answer is too long")
    return bytes(said)


def _refusal(address: Address, status: int, said: bytes) -> WireloomError:
    problem = _problem(said)
    if problem is not None:
        return WireloomError.from_problem(problem)
    if status in {502, 503, 504}:
        return UnavailableError(f"The control plane at {address.url} is not there (HTTP {status}).", hint="Try again.")
    if 300 <= status < 400:
        return InternalError(
            f"{address.url} sends this machine elsewhere (HTTP {status}).",
            hint="Give the control plane's own address: a redirect is not followed.",
        )
    return NotFoundError(
        f"What answers at {address.url} is no Wireloom control plane (HTTP {status}).",
        hint="Give the address that `wireloom token create` prints.",
    )


def _problem(said: bytes) -> dict[str, Any] | None:
    """A problem object (RFC 9457), fit to be shown to people; None if it is none."""
    try:
        problem = json.loads(said)
    except ValueError:
        return None
    if not isinstance(problem, dict) or not isinstance(problem.get("code"), str):
        return None
    return {name: _harmless(value) for name, value in problem.items() if isinstance(value, str)}


def _harmless(text: str) -> str:
    return "".join(" " if unicodedata.category(c)[0] == "C" else c for c in text[:_MAX_SAID])


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"nothing came within {_TIMEOUT:g} s"
    said = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return _harmless(said) or type(error).__name__


async def in_thread(work: Callable[[], T]) -> T:
    """What `work` returns, from a thread of its own. Unlike asyncio's threads, nobody waits for it at the program's
    end: an answer that does not come holds up nothing."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: Exception | None) -> None:
        if done.done():
            return
        if error is not None:
            done.set_exception(error)
        else:
            done.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, failure = None, None
        try:
            result = work()
        except Exception as error:
            failure = error
        with suppress(RuntimeError):  # the loop has ended meanwhile, and nobody wants to know any more
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=run, name="gateway", daemon=True).start()
    return await done
