"""A small HTTPS server that lets machines in, with a control plane's real identity: for tests of what joins it."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from pydantic import BaseModel

from events.enrolment import Access, Challenge, EnrolRequest, RenewRequest
from events.errors import ForbiddenError, IdentityTakenError, NotFoundError, TokenRefusedError, WireloomError
from events.identity import Identity
from events.trust import jwt, tokens
from events.trust.certificates import certificate_fingerprint
from events.trust.permissions import network_tag
from events.trust.proof import ENROL, RENEW, is_proven
from services.cli.identity import create

Answer = tuple[int, dict[str, str], bytes]


@dataclass
class HttpsGateway:
    """What machines that enrol and renew talk to."""

    identity: Identity
    url: str = ""
    lifetime: float = 3600.0
    """Seconds that access lasts."""
    uses: Counter[str] = field(default_factory=Counter)
    """How often each token still lets in, by its hash."""
    machines: dict[UUID, str] = field(default_factory=dict)
    """The identity key of each machine that enrolled."""
    networks: dict[UUID, tuple[UUID, ...]] = field(default_factory=dict)
    hostnames: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """Paths, in the order in which they were asked for."""
    instead: Callable[[str], Answer | None] = lambda _: None
    """What to answer to a path instead of what is right: status, headers, body."""
    altered: Callable[[Access], Access] = lambda access: access
    """What becomes of access before it is given."""
    bus: tuple[str, ...] = ("tls://127.0.0.1:1",)
    _challenges: set[str] = field(default_factory=set)

    @property
    def fingerprint(self) -> str:
        """What a join line pins."""
        return certificate_fingerprint(self.identity.ca())

    def token(self, uses: int = 1) -> str:
        """A token that lets machines in."""
        token = tokens.make(self.identity.mint(), "bootstrap", uuid4())
        self.uses[tokens.hashed(token)] = uses
        return token

    def answer(self, path: str, body: bytes) -> Answer:
        """What is answered to a request."""
        self.asked.append(path)
        if (other := self.instead(path)) is not None:
            return other
        try:
            said = self._answer(path, body)
        except WireloomError as error:
            return error.status, {"Content-Type": "application/problem+json"}, error.to_json()
        if isinstance(said, str):
            return 200, {"Content-Type": "application/x-pem-file"}, said.encode()
        return 200, {"Content-Type": "application/json"}, said.model_dump_json().encode()

    def _answer(self, path: str, body: bytes) -> str | BaseModel:
        match path.rpartition("/api/v1/")[2]:
            case "ca":
                return self.identity.ca()
            case "agents/challenge":
                challenge = str(uuid4())
                self._challenges.add(challenge)
                return Challenge(challenge=challenge)
            case "agents/enrol":
                return self.altered(self._enrol(EnrolRequest.model_validate_json(body)))
            case "agents/renew":
                return self.altered(self._renew(RenewRequest.model_validate_json(body)))
        raise NotFoundError("There is no such thing.")

    def _enrol(self, request: EnrolRequest) -> Access:
        self._check(request.identity_key, ENROL, request)
        if self.uses[tokens.hashed(request.token)] < 1:
            raise TokenRefusedError(f"The token {request.token} lets nobody in.", hint="Make another.")
        if self.machines.get(request.machine_id, request.identity_key) != request.identity_key:
            raise IdentityTakenError(f"The machine {request.machine_id} has another key.")
        self.uses[tokens.hashed(request.token)] -= 1
        self.machines[request.machine_id] = request.identity_key
        self.hostnames.append(request.hostname)
        return self._access(request.machine_id)

    def _renew(self, request: RenewRequest) -> Access:
        if request.machine_id not in self.machines:
            raise ForbiddenError("Nobody knows this machine.")
        self._check(self.machines[request.machine_id], RENEW, request)
        return self._access(request.machine_id)

    def _check(self, key: str, purpose: str, request: EnrolRequest | RenewRequest) -> None:
        fresh = request.challenge in self._challenges
        self._challenges.discard(request.challenge)
        if not fresh or not is_proven(key, purpose, request.machine_id, request.challenge, request.proof):
            raise ForbiddenError("The proof does not hold.")

    def _access(self, machine_id: UUID) -> Access:
        now, networks = int(time.time()), self.networks.get(machine_id, ())
        expires_at = datetime.fromtimestamp(now, UTC) + timedelta(seconds=self.lifetime)
        token = jwt.user(
            self.identity.key("machine"),
            self.identity.public.account,
            self.machines[machine_id],
            str(machine_id),
            issued_at=now,
            expires_at=int(expires_at.timestamp()),
            tags=[network_tag(network) for network in networks],
        )
        return Access(
            machine_id=machine_id,
            token=token,
            expires_at=expires_at,
            networks=networks,
            bus=self.bus,
            bus_ca=self.identity.ca(),
            root=self.identity.public.root,
            ring=self.identity.ring(),
        )


@contextmanager
def https_gateway(folder: Path, *, host: str = "127.0.0.1") -> Iterator[HttpsGateway]:
    """A gateway on a free port, with an identity of its own in `folder`."""
    gateway = HttpsGateway(create(folder, [host]))

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            self._respond(b"")

        def do_POST(self) -> None:
            self._respond(self.rfile.read(int(self.headers["Content-Length"])))

        def _respond(self, body: bytes) -> None:
            status, headers, said = gateway.answer(self.path, body)
            self.send_response(status)
            for name, value in {"Content-Length": str(len(said)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(said)
            except OSError:  # who asked has heard enough
                self.close_connection = True

        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002 - the library's name
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Says nothing: who does not trust the certificate goes away, for example."""

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(folder / "tls" / "https.pem", folder / "tls" / "https.key")
    with Server((host, 0), Handler) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        gateway.url = f"https://{host}:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield gateway
        finally:
            server.shutdown()
            thread.join()
