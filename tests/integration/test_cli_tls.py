"""Whom the client believes, over real TLS: every way in which a certificate can be wrong, and nothing sent to it."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from events.errors import NotFoundError, UnauthenticatedError, UnavailableError
from events.trust.certificates import certificate_fingerprint
from services.cli import certificates, trust
from services.cli.api import Api
from services.cli.certificates import Authority, server_certificate

TOKEN = "wla_" + "a" * 52
Serve = Callable[..., str]


class Server(ThreadingHTTPServer):
    """Answers everything with an empty object, and remembers the tokens that it was shown."""

    daemon_threads = True

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ca = ""
        self.tls = tls
        self.shown: list[str | None] = []

    def finish_request(self, request: Any, client_address: Any) -> None:
        with self.tls.wrap_socket(request, server_side=True) if self.tls else nullcontext(request) as connection:
            super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is what is tested here."""


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.shown.append(self.headers.get("Authorization"))
        authority = self.server.ca.encode() if self.path == "/api/v1/ca" else b""
        body = authority or b"{}"
        self.send_response(404 if self.path == "/api/v1/ca" and not authority else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Nobody reads it."""


@contextmanager
def listening(server: Server) -> Iterator[str]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"{'https' if server.tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority.made()


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[Server], str]]:
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(listening(server))


def secured(folder: Path, authority: Authority, *hosts: str) -> Server:
    """A server with a certificate that `authority` signed for these hosts."""
    certificate, key = server_certificate(authority, hosts)
    (folder / "cert.pem").write_text(certificate)
    (folder / "key.pem").write_text(key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return Server(context)


def ask(url: str, ca: str = "") -> None:
    with Api(url, "cli:test", pause=lambda _: None, token=TOKEN, ca=ca) as api:
        assert api.get("/api/v1/session") == {}


def test_the_right_authority_is_believed(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    server = secured(tmp_path, authority, "127.0.0.1")
    ask(serve(server), authority.certificate)
    assert server.shown == [f"Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("host", "ca", "days", "said"),
    [
        ("127.0.0.1", "none", 30, "signed by nobody that is believed here"),
        ("127.0.0.1", "another", 30, "signed by nobody that is believed here"),
        ("127.0.0.2", "right", 30, "for another name or address"),
        ("wireloom.example.org", "right", 30, "for another name or address"),
        ("127.0.0.1", "right", -0.1, "has expired"),
    ],
)
def test_a_wrong_certificate_is_sent_nothing(
    serve: Serve,
    authority: Authority,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    host: str,
    ca: str,
    days: float,
    said: str,
) -> None:
    monkeypatch.setattr(certificates, "SERVER_DAYS", days)
    server = secured(tmp_path, authority, host)
    given = {"none": "", "right": authority.certificate, "another": Authority.made().certificate}[ca]
    with pytest.raises(trust.CertificateError, match=said) as refusal:
        ask(serve(server), given)
    assert refusal.value.unknown_issuer is (ca != "right")
    assert server.shown == []


def test_one_that_does_not_count_yet(
    serve: Serve, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "_BACKDATED", timedelta(days=-1))
    server = secured(tmp_path, authority, "127.0.0.1")
    with pytest.raises(trust.CertificateError, match="does not count yet"):
        ask(serve(server), authority.certificate)
    assert server.shown == []


def test_https_where_http_is_spoken(serve: Serve) -> None:
    server = Server(None)
    with pytest.raises(UnavailableError, match="does not speak TLS"):
        ask(serve(server).replace("http:", "https:"))
    assert server.shown == []


def test_http_where_https_is_spoken(serve: Serve, authority: Authority, tmp_path: Path) -> None:
    server = secured(tmp_path, authority, "127.0.0.1")
    url = serve(server)
    with pytest.raises(UnauthenticatedError, match="speaks HTTPS only") as refusal:
        ask(url.replace("https:", "http:"))
    assert refusal.value.hint == f"Sign in first: wireloom login {url}"
    assert set(server.shown) <= {None}


def test_the_authority_to_compare_is_fetched_without_a_token(
    serve: Serve, authority: Authority, tmp_path: Path
) -> None:
    server = secured(tmp_path, authority, "127.0.0.1")
    server.ca = authority.certificate + Authority.made().certificate
    url = serve(server)
    found = trust.fetch_authority(url, None)
    assert certificate_fingerprint(found) == certificate_fingerprint(authority.certificate)
    assert found.count("BEGIN") == 1
    ask(url, found)
    server.ca = ""
    with pytest.raises(NotFoundError):
        trust.fetch_authority(url, None)
    server.ca = "-----BEGIN CERTIFICATE-----\nno!\n-----END CERTIFICATE-----\n"
    with pytest.raises(UnavailableError, match="not a Wireloom gateway"):
        trust.fetch_authority(url, None)
    assert server.shown == [None, f"Bearer {TOKEN}", None, None]


def test_nobody_is_there(serve: Serve) -> None:
    with pytest.raises(UnavailableError, match="Nothing answers"):
        trust.fetch_authority("https://127.0.0.1:1", None)
