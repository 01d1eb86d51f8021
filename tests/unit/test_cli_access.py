"""Signing in, tokens, accounts and revocations, against a gateway that is a function and knows one token."""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from typer.testing import CliRunner, Result

from events.errors import (
    ForbiddenError,
    InvalidInputError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    WireloomError,
)
from events.trust.certificates import certificate_fingerprint
from services.cli import credentials, main, trust
from services.cli.certificates import Authority
from services.cli.credentials import Login
from services.cli.session import Surroundings

TIME, LATER = "2026-03-01T10:00:00.000000Z", "2026-03-31T10:00:00.000000Z"
URL = "https://wireloom.example.org:7480"
TOKEN, UNKNOWN, MADE = ("wla_" + letter * 52 for letter in "abc")
BOOTSTRAP = "wlb_" + "d" * 52
CA = trust.first_certificate(Authority.made().certificate)
OFFICE, LAB = str(uuid4()), str(uuid4())

Run = Callable[..., Result]


def machine(hostname: str, **fields: Any) -> dict[str, Any]:
    return {
        "uuid": str(uuid4()),
        "hostname": hostname,
        "is_online": True,
        "last_seen_at": TIME,
        "agent_version": "0.1.0",
        "state": "active",
        "enrolled_at": TIME,
        "revoked_at": None,
        "refused_records": {},
        "memberships": [
            {
                "mesh_network_uuid": uuid,
                "mesh_network_name": name,
                "wg_ip_address": f"{prefix}.1",
                "public_key": "old",
                "endpoints": [],
            }
            for uuid, name, prefix in ((OFFICE, "office", "172.16.0"), (LAB, "lab", "10.0.0"))
        ],
        "created_at": TIME,
        "updated_at": TIME,
    } | fields


def peer(hostname: str, **fields: Any) -> dict[str, Any]:
    return {"uuid": hostname, "hostname": hostname} | fields


class Secured:
    """A gateway that asks who one is. It remembers what it was asked."""

    def __init__(self) -> None:
        self.role = "admin"
        self.believed = False
        """Whether the system's authorities signed its certificate."""
        self.ca: str | None = CA
        self.machine = machine("web-1")
        self.bootstrap = [self.a_bootstrap_token(n) for n in range(2)]
        self.accounts = [
            {"uuid": str(uuid4()), "name": name, "role": role, "created_at": TIME}
            for name, role in (("admin", "admin"), ("ci", "operator"))
        ]
        self.tokens = [self.an_api_token("admin", "laptop"), self.an_api_token("ci", "runner", expires_at=None)]
        self.revocations: list[Callable[[], httpx2.Response]] = []
        """What the next questions about a revocation are answered; the last one for ever."""
        self.late = 0
        """How many creations are answered 202 first."""
        self.requests: list[httpx2.Request] = []

    def a_bootstrap_token(self, number: int) -> dict[str, Any]:
        return {
            "uuid": f"{number}{'abcdef'[number]}345678-0000-4000-8000-000000000000",
            "created_at": TIME,
            "created_by": "account:admin/laptop",
            "expires_at": LATER,
            "uses": None if number else 5,
            "used": 2,
            "mesh_network_uuid": None if number else OFFICE,
            "state": "revoked" if number else "usable",
        }

    def an_api_token(self, account: str, name: str, **fields: Any) -> dict[str, Any]:
        return {
            "uuid": str(uuid4()),
            "account_uuid": str(uuid4()),
            "account_name": account,
            "name": name,
            "role": "operator",
            "use": "api",
            "created_at": TIME,
            "expires_at": LATER,
        } | fields

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix("/api/v1")
        if path == "/readyz" and not self.believed:
            raise unbelieved(20)
        if path == "/readyz":
            return httpx2.Response(200, json={"ready": True})
        if path == "/ca":
            return httpx2.Response(200, text=self.ca) if self.ca else problem(NotFoundError("no"))
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return problem(UnauthenticatedError("The token is unknown, expired or revoked.", hint="…"))
        if self.role == "viewer" and request.method != "GET":
            return problem(ForbiddenError("A viewer may not do this."))
        return self.change(request, path) if request.method != "GET" else self.look(path)

    def look(self, path: str) -> httpx2.Response:
        if path == "/session":
            account = {"uuid": str(uuid4()), "name": "admin", "role": "admin"}
            document = {"account": account, "token_name": "laptop", "use": "api", "csrf_token": None}
            return ok(document | {"role": self.role, "expires_at": LATER})
        if path.endswith("/revocation"):
            return (self.revocations.pop(0) if len(self.revocations) > 1 else self.revocations[0])()
        if path == f"/machines/{self.machine['uuid']}":
            return ok(self.machine)
        if path.endswith("/peers"):
            return ok({"items": [], "next": None})
        networks = [{"uuid": OFFICE, "name": "office"}, {"uuid": LAB, "name": "lab"}]
        lists = {
            "/bootstrap-tokens": self.bootstrap,
            "/accounts": self.accounts,
            "/tokens": self.tokens,
            "/machines": [self.machine],
            "/mesh-networks": networks,
        }
        return ok({"items": lists[path], "total": len(lists[path]), "next": None})

    def change(self, request: httpx2.Request, path: str) -> httpx2.Response:
        body = json.loads(request.content) if request.content else {}
        if request.method == "DELETE":
            return httpx2.Response(204)
        if self.late:
            self.late -= 1
            return httpx2.Response(202, json={"command_id": str(uuid4()), "sequence": 9})
        if path == "/bootstrap-tokens":
            made = self.a_bootstrap_token(0) | {"uses": body["uses"], "token": BOOTSTRAP}
            command = f"sudo wireloom-agent join {URL} --token {BOOTSTRAP} --ca-sha256 {certificate_fingerprint(CA)}"
            return httpx2.Response(201, json=made | {"join_command": command})
        if path == "/tokens":
            made = self.an_api_token("ci", body["name"], token=MADE)
            return httpx2.Response(201, json=made | {"expires_at": LATER if body["lifetime"] else None})
        if path.startswith("/accounts"):
            return ok(self.accounts[1] | body)
        if path.endswith("/revoke"):
            self.machine |= {"state": "revoked", "revoked_at": TIME, "memberships": []}
        return ok(self.machine)

    @property
    def changes(self) -> list[httpx2.Request]:
        return [request for request in self.requests if request.method != "GET"]

    @property
    def shown(self) -> set[str]:
        """The tokens that it was shown."""
        return {request.headers["Authorization"] for request in self.requests if "Authorization" in request.headers}


def ok(body: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json=body)


def problem(error: WireloomError) -> httpx2.Response:
    return httpx2.Response(error.status, json=error.to_problem())


def unbelieved(code: int) -> httpx2.ConnectError:
    error = httpx2.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED]")
    error.__cause__ = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.__cause__.verify_code = code
    return error


@pytest.fixture
def gateway() -> Secured:
    return Secured()


@pytest.fixture
def wireloom(gateway: Secured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("WIRELOOM_URL", "WIRELOOM_TOKEN", "WIRELOOM_CA", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str, typed: str | None = None, secret: str = "", piped: str | None = None) -> Result:
        person = lambda: typed is not None, lambda _: secret
        surroundings = Surroundings(httpx2.MockTransport(gateway), lambda _: None, *person)
        return CliRunner().invoke(main.app, arguments, obj=surroundings, input=typed or piped)

    return run


@pytest.fixture
def signed_in(wireloom: Run) -> Run:
    credentials.store(Login(URL, TOKEN, CA))
    return wireloom


class TestLogin:
    def test_a_person_compares_the_fingerprint_and_types_the_token(self, wireloom: Run, gateway: Secured) -> None:
        result = wireloom("login", URL, typed="y\n", secret=TOKEN)
        assert result.exit_code == 0, result
        assert certificate_fingerprint(CA) in result.stderr
        assert "as admin with the role admin, until 2026-03-31 10:00:00" in result.stdout
        assert TOKEN not in result.output
        assert credentials.stored() == Login(URL, TOKEN, CA)
        assert gateway.shown == {f"Bearer {TOKEN}"}

    def test_another_fingerprint_means_no_token(self, wireloom: Run, gateway: Secured) -> None:
        result = wireloom("login", URL, typed="n\n", secret=TOKEN)
        assert result.exit_code == 1
        refused = wireloom("login", URL, "--ca-sha256", "0" * 64, typed="", secret=TOKEN).exception
        assert isinstance(refused, trust.CertificateError)
        assert credentials.stored() is None
        assert gateway.shown == set()

    def test_a_fingerprint_that_was_given_is_compared_without_asking(
        self, wireloom: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("WIRELOOM_TOKEN", TOKEN)
        digits = certificate_fingerprint(CA).upper()
        colons = ":".join(digits[at : at + 2] for at in range(0, 64, 2))
        for given in (digits, colons):
            assert wireloom("login", URL, "--ca-sha256", given).exit_code == 0
            assert credentials.stored() == Login(URL, TOKEN, CA)
            credentials.forget()
        assert isinstance(wireloom("login", URL, "--ca-sha256", digits[:40]).exception, InvalidInputError)

    def test_nobody_hides_a_second_authority_behind_the_first(self, wireloom: Run, gateway: Secured) -> None:
        gateway.ca = CA + Authority.made().certificate
        assert wireloom("login", URL, "--ca-sha256", certificate_fingerprint(CA), typed="", secret=TOKEN).exit_code == 0
        assert credentials.stored() == Login(URL, TOKEN, CA)

    def test_what_the_system_believes_needs_no_comparing(self, wireloom: Run, gateway: Secured) -> None:
        gateway.believed, gateway.ca = True, None
        assert wireloom("login", URL, "--token-stdin", piped=f"{TOKEN}\n").exit_code == 0
        assert credentials.stored() == Login(URL, TOKEN)
        assert isinstance(
            wireloom("login", URL, "--ca-sha256", "0" * 64, typed="", secret=TOKEN).exception, NotFoundError
        )

    def test_an_authority_in_the_environment(
        self, wireloom: Run, gateway: Secured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        (tmp_path / "ca.pem").write_text(CA)
        monkeypatch.setenv("WIRELOOM_CA", str(tmp_path / "ca.pem"))
        assert wireloom("login", URL, "--token-stdin", piped=TOKEN).exit_code == 0
        assert credentials.stored() == Login(URL, TOKEN, CA)
        assert {request.url.path for request in gateway.requests} == {"/api/v1/session"}
        refused = wireloom("login", URL, "--ca-sha256", "0" * 64, "--token-stdin", piped=TOKEN)
        assert isinstance(refused.exception, trust.CertificateError)

    def test_without_a_terminal_nobody_can_compare(self, wireloom: Run, gateway: Secured) -> None:
        refused = wireloom("login", URL, "--token-stdin", piped=f"{TOKEN}\n").exception
        assert isinstance(refused, trust.CertificateError)
        assert "--ca-sha256" in refused.hint
        gateway.believed = True
        assert "no token to sign in with" in str(wireloom("login", URL).exception)
        assert credentials.stored() is None
        assert gateway.shown == set()

    @pytest.mark.parametrize("token", [BOOTSTRAP, "hunter2", ""])
    def test_what_is_no_api_token_is_not_sent(self, wireloom: Run, gateway: Secured, token: str) -> None:
        gateway.believed = True
        result = wireloom("login", URL, "--token-stdin", piped=f"{token}\n")
        assert isinstance(result.exception, InvalidInputError)
        assert token == "" or token not in str(result.exception)
        assert gateway.shown == set()
        assert credentials.stored() is None

    def test_a_token_that_does_not_count_changes_nothing(self, signed_in: Run, gateway: Secured) -> None:
        gateway.believed = True
        refused = signed_in("login", URL, "--token-stdin", piped=UNKNOWN).exception
        assert isinstance(refused, UnauthenticatedError)
        assert refused.exit_code == 6
        assert refused.hint == f"Sign in: wireloom login {URL}"
        assert credentials.stored() == Login(URL, TOKEN, CA)

    def test_no_token_is_asked_for_where_it_would_go_in_the_clear(self, wireloom: Run, gateway: Secured) -> None:
        refused = wireloom("login", "http://192.0.2.1:7480", typed="", secret=TOKEN).exception
        assert "in the clear" in str(refused)
        assert gateway.requests == []

    @pytest.mark.parametrize(
        ("code", "said"), [(10, "has expired"), (9, "does not count yet"), (62, "another name"), (64, "another name")]
    )
    def test_a_bad_certificate_is_no_reason_to_believe_another(
        self, wireloom: Run, gateway: Secured, monkeypatch: pytest.MonkeyPatch, code: int, said: str
    ) -> None:
        def bad(request: httpx2.Request) -> httpx2.Response:
            raise unbelieved(code)

        surroundings = Surroundings(httpx2.MockTransport(bad), lambda _: None, lambda: True, lambda _: TOKEN)
        result = CliRunner().invoke(main.app, ["login", URL], obj=surroundings, input="y\n")
        assert isinstance(result.exception, trust.CertificateError)
        assert said in str(result.exception)
        assert credentials.stored() is None

    def test_an_address_without_scheme_is_https_and_none_is_the_one_before(
        self, wireloom: Run, gateway: Secured
    ) -> None:
        gateway.believed = True
        assert wireloom("login", "mesh.example.org:1", "--token-stdin", piped=TOKEN).exit_code == 0
        login = credentials.stored()
        assert login is not None
        assert login.url == "https://mesh.example.org:1"
        assert wireloom("login", "--token-stdin", piped=TOKEN).exit_code == 0
        assert credentials.stored() == login


class TestLogout:
    def test_it_forgets_and_says_that_the_token_still_counts(self, signed_in: Run, gateway: Secured) -> None:
        assert "still counts" in signed_in("logout").stdout
        assert credentials.stored() is None
        assert gateway.requests == []
        assert "not signed in" in signed_in("logout").stdout

    def test_it_revokes(self, signed_in: Run, gateway: Secured) -> None:
        assert "is revoked" in signed_in("logout", "--revoke").stdout
        assert [(r.method, r.url.path) for r in gateway.changes] == [("DELETE", "/api/v1/session")]
        assert credentials.stored() is None

    def test_a_token_that_does_not_count_is_forgotten(self, wireloom: Run) -> None:
        credentials.store(Login(URL, UNKNOWN, CA))
        assert wireloom("logout", "--revoke").exit_code == 0
        assert credentials.stored() is None

    def test_a_token_that_could_not_be_revoked_is_kept(self, signed_in: Run, gateway: Secured) -> None:
        gateway.role = "viewer"
        assert signed_in("logout", "--revoke").exit_code != 0
        assert credentials.stored() is not None


def test_who_one_is(signed_in: Run) -> None:
    rows = dict(line.split(maxsplit=1) for line in signed_in("whoami").stdout.splitlines())
    assert rows == {
        "Gateway": URL, "Account": "admin", "Role": "admin", "Token": "laptop", "Expires": "2026-03-31 10:00:00",
    }  # fmt: skip
    assert json.loads(signed_in("whoami", "--json").stdout)["account"]["name"] == "admin"


def test_a_local_gateway_that_speaks_https_only_says_how_to_get_in(wireloom: Run, gateway: Secured) -> None:
    def secured_only(request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "http":
            raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
        assert "Authorization" not in request.headers
        return httpx2.Response(200, json={})

    surroundings = Surroundings(httpx2.MockTransport(secured_only), lambda _: None)
    refused = CliRunner().invoke(main.app, ["network", "list"], obj=surroundings).exception
    assert isinstance(refused, UnauthenticatedError)
    assert refused.hint == "Sign in first: wireloom login https://127.0.0.1:7480"


class TestBootstrapTokens:
    def test_the_join_line_stands_alone_whole(
        self, signed_in: Run, gateway: Secured, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "40")
        result = signed_in("token", "create", "--lifetime", "30d", "--uses", "20", "--network", "office")
        fingerprint = certificate_fingerprint(CA)
        assert result.stdout == f"sudo wireloom-agent join {URL} --token {BOOTSTRAP} --ca-sha256 {fingerprint}\n"
        assert "lets in 20 machines to office until 2026-03-31 10:00:00" in result.stderr
        body = json.loads(gateway.changes[0].content)
        assert body == {"lifetime": "30d", "uses": 20, "mesh_network_uuid": OFFICE}

    @pytest.mark.parametrize(("uses", "sent"), [(None, 1), ("unlimited", None), ("1000000", 1_000_000)])
    def test_uses(self, signed_in: Run, gateway: Secured, uses: str | None, sent: int | None) -> None:
        document = json.loads(signed_in("token", "create", *(("--uses", uses) if uses else ()), "--json").stdout)
        assert document["token"] == BOOTSTRAP
        assert json.loads(gateway.changes[0].content) == {"lifetime": "10m", "uses": sent}

    @pytest.mark.parametrize(
        "arguments", [("--uses", "0"), ("--uses", "1000001"), ("--uses", "-1"), ("--uses", "²"), ("--lifetime", "2d")]
    )
    def test_what_cannot_be(self, signed_in: Run, gateway: Secured, arguments: tuple[str, str]) -> None:
        assert signed_in("token", "create", *arguments).exit_code != 0
        assert gateway.requests == []

    def test_one_that_does_not_show_yet_is_asked_for_again_with_the_same_key(
        self, signed_in: Run, gateway: Secured
    ) -> None:
        gateway.late = 3
        assert BOOTSTRAP in signed_in("token", "create").stdout
        assert len(gateway.changes) == 4
        assert len({request.headers["Idempotency-Key"] for request in gateway.changes}) == 1
        gateway.late = 1000
        assert isinstance(signed_in("token", "create").exception, UnavailableError)

    def test_the_list(self, signed_in: Run, gateway: Secured) -> None:
        lines = [line.split() for line in signed_in("token", "list").stdout.splitlines()]
        times = ["2026-03-31", "10:00:00", "2026-03-01", "10:00:00"]
        assert lines[1] == ["0a345678", "usable", "2", "of", "5", "office", "admin/laptop", *times]
        assert lines[2] == ["1b345678", "revoked", "2", "of", "any", "default", "admin/laptop", *times]
        assert json.loads(signed_in("token", "list", "--json").stdout) == {"items": gateway.bootstrap, "total": 2}

    def test_revoking_by_what_the_id_begins_with(self, signed_in: Run, gateway: Secured) -> None:
        assert "lets nobody in" in signed_in("token", "revoke", "0A34").stdout
        assert gateway.changes[0].url.path == f"/api/v1/bootstrap-tokens/{gateway.bootstrap[0]['uuid']}"

    @pytest.mark.parametrize(("text", "kind"), [("0a3", NotFoundError), ("ffff", NotFoundError), ("", NotFoundError)])
    def test_revoking_what_is_not_there(
        self, signed_in: Run, gateway: Secured, text: str, kind: type[WireloomError]
    ) -> None:
        assert isinstance(signed_in("token", "revoke", text).exception, kind)
        assert gateway.changes == []

    def test_an_id_that_several_begin_with_and_a_token_itself(self, signed_in: Run, gateway: Secured) -> None:
        gateway.bootstrap[1]["uuid"] = gateway.bootstrap[0]["uuid"][:-1] + "1"
        refused = signed_in("token", "revoke", "0a345678").exception
        assert isinstance(refused, InvalidInputError)
        assert gateway.bootstrap[1]["uuid"] in refused.hint
        refused = signed_in("token", "revoke", BOOTSTRAP).exception
        assert isinstance(refused, InvalidInputError)
        assert BOOTSTRAP not in str(refused)
        assert gateway.changes == []


class TestAccounts:
    def test_the_lists(self, signed_in: Run, gateway: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
        assert ["ci", "operator"] in [line.split()[:2] for line in signed_in("account", "list").stdout.splitlines()]
        assert json.loads(signed_in("account", "list", "--json").stdout)["total"] == 2
        monkeypatch.setenv("COLUMNS", "80")
        lines = signed_in("account", "token", "list").stdout.splitlines()
        assert max(map(len, lines)) <= 80
        assert lines[2].split() == [gateway.tokens[1]["uuid"][:8], "ci", "runner", "operator", "api", "never"]
        monkeypatch.setenv("COLUMNS", "100")
        assert max(map(len, signed_in("token", "list").stdout.splitlines())) <= 100
        assert len(signed_in("token", "list").stdout.splitlines()) == 3

    def test_changes(self, signed_in: Run, gateway: Secured) -> None:
        assert "Created account bob" in signed_in("account", "create", "bob", "--role", "viewer").stdout
        assert "role admin; it was operator" in signed_in("account", "role", "CI", "admin").stdout
        assert "Deleted account ci" in signed_in("account", "delete", "ci", typed="y\n").stdout
        ci = f"/api/v1/accounts/{gateway.accounts[1]['uuid']}"
        assert [(r.method, r.url.path) for r in gateway.changes] == [
            ("POST", "/api/v1/accounts"),
            ("PATCH", ci),
            ("DELETE", ci),
        ]
        assert json.loads(gateway.changes[0].content) == {"name": "bob", "role": "viewer"}

    def test_what_changes_nothing(self, signed_in: Run, gateway: Secured) -> None:
        assert signed_in("account", "delete", "ci", typed="n\n").exit_code == 1
        assert signed_in("account", "create", "bob").exit_code == 2
        assert signed_in("account", "create", "bob", "--role", "god").exit_code == 2
        refused = signed_in("account", "role", "cj", "admin").exception
        assert isinstance(refused, NotFoundError)
        assert gateway.changes == []
        gateway.role = "viewer"
        refused = signed_in("account", "create", "bob", "--role", "viewer").exception
        assert isinstance(refused, ForbiddenError)
        assert refused.exit_code == 6

    def test_a_token_is_shown_once_alone(self, signed_in: Run, gateway: Secured) -> None:
        arguments = ("--account", "ci", "--name", "runner", "--role", "viewer", "--lifetime", "never")
        result = signed_in("account", "token", "create", *arguments)
        assert result.stdout == MADE + "\n"
        assert "speaks for ci with the role operator, until it is revoked" in result.stderr
        assert json.loads(gateway.changes[0].content) == {
            "name": "runner",
            "lifetime": None,
            "role": "viewer",
            "account_uuid": gateway.accounts[1]["uuid"],
        }
        signed_in("account", "token", "create")
        assert json.loads(gateway.changes[1].content) == {"name": "api", "lifetime": "90d"}

    def test_a_token_is_revoked(self, signed_in: Run, gateway: Secured) -> None:
        uuid = gateway.tokens[1]["uuid"]
        assert "speaks for nobody" in signed_in("account", "token", "revoke", uuid[:13]).stdout
        assert gateway.changes[0].url.path == f"/api/v1/tokens/{uuid}"


def revocation(*networks: tuple[str, list[str], list[tuple[str, bool]]]) -> Callable[[], httpx2.Response]:
    return lambda: ok(
        {
            "machine_uuid": "gone",
            "revoked_at": TIME,
            "complete": not any(pending for _, _, pending in networks),
            "networks": [
                {
                    "mesh_network_uuid": name,
                    "name": name,
                    "revision": 9,
                    "dropped": [peer(hostname) for hostname in dropped],
                    "pending": [
                        peer(hostname, is_online=online, last_seen_at=None if online else TIME)
                        for hostname, online in pending
                    ],
                }
                for name, dropped, pending in networks
            ],
        }
    )


class TestRevocation:
    def test_it_waits_for_the_receipts_of_all_that_are_online(self, signed_in: Run, gateway: Secured) -> None:
        gateway.revocations = [
            lambda: problem(NotFoundError("It is not revoked.")),
            revocation(("office", [], [("db-1", True), ("db-2", True), ("old", False)]), ("lab", ["gpu"], [])),
            revocation(("office", ["db-1"], [("db-2", True), ("old", False)]), ("lab", ["gpu"], [])),
            revocation(("office", ["db-1", "db-2"], [("old", False)]), ("lab", ["gpu"], [])),
        ]
        result = signed_in("machine", "revoke", "web-1", "--yes", typed="")
        assert result.exit_code == 0
        assert result.stderr.splitlines() == [
            "lab: dropped by gpu",
            "office: dropped by db-1",
            "office: dropped by db-2",
        ]
        lines = result.stdout.splitlines()
        assert lines[0] == "Revoked machine web-1."
        assert lines[2].split() == ["Network", "Dropped", "by", "Not", "yet"]
        assert lines[3].split(maxsplit=4) == ["office", "2", "of", "3", "old (offline, last seen 2026-03-01 10:00:00)"]
        assert lines[4].split() == ["lab", "1", "of", "1"]
        assert lines[6] == "Every machine that is online has dropped web-1."
        assert lines[7].startswith(
            "Not yet: old, which is offline: it drops web-1 on hearing from the control plane again"
        )
        assert [request.url.path.rpartition("/")[2] for request in gateway.changes] == ["revoke"]

    def test_those_that_are_online_and_late_are_named(self, signed_in: Run, gateway: Secured) -> None:
        gateway.revocations = [revocation(("office", [], [("db-1", True), ("old", False)]))]
        for json_too in ((), ("--json",)):
            result = signed_in("machine", "revoke", "web-1", "--yes", "--timeout", "1", *json_too)
            assert isinstance(result.exception, UnavailableError)
            assert "have not dropped web-1 yet: db-1." in str(result.exception)
        assert json.loads(result.stdout)["networks"][0]["pending"][0]["hostname"] == "db-1"
        assert len(gateway.changes) == 1  # it was revoked already the second time

    def test_all_have_or_there_was_nobody(self, signed_in: Run, gateway: Secured) -> None:
        for documents, said in (
            (revocation(("office", ["db-1"], [])), "Every machine that was in a network with web-1 has dropped it."),
            (revocation(), "web-1 was in no network with others"),
        ):
            gateway.revocations = [documents]
            result = signed_in("machine", "revoke", "web-1")
            assert result.exit_code == 0
            assert said in result.stdout

    def test_without_waiting(self, signed_in: Run, gateway: Secured) -> None:
        result = signed_in("machine", "revoke", "web-1", "--no-wait", "--json")
        assert json.loads(result.stdout)["state"] == "revoked"

    def test_no_means_no(self, signed_in: Run, gateway: Secured) -> None:
        result = signed_in("machine", "revoke", "web-1", typed="n\n")
        assert result.exit_code == 1
        assert "leaves its networks (office 172.16.0.1, lab 10.0.0.1)" in result.stderr
        assert gateway.changes == []

    def test_a_revoked_machine_is_shown_so_and_refusals_are_counted(self, signed_in: Run, gateway: Secured) -> None:
        gateway.machine |= {"state": "revoked", "revoked_at": LATER, "refused_records": {"signature": 1200, "older": 0}}
        assert "revoked" in signed_in("machine", "list").stdout
        rows = {
            line[:17].strip(): line[17:].strip() for line in signed_in("machine", "show", "web-1").stdout.splitlines()
        }
        assert rows["Revoked"] == "2026-03-31 10:00:00"
        assert rows["Enrolled"] == "2026-03-01 10:00:00"
        assert rows["Refused records"] == "1,200 signature"


class TestRotation:
    def test_it_waits_for_the_new_keys(self, signed_in: Run, gateway: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
        polls = []
        look = gateway.look

        def looked(path: str) -> httpx2.Response:
            if path.endswith(gateway.machine["uuid"]):
                polls.append(path)
                if len(polls) == 3:
                    for place in gateway.machine["memberships"]:
                        place["public_key"] = "new"
            return look(path)

        monkeypatch.setattr(gateway, "look", looked)
        result = signed_in("machine", "rotate-key", "web-1", "--network", "office")
        assert result.stdout == "Asked web-1 for new keys.\nweb-1 has new keys.\n"
        assert json.loads(gateway.changes[0].content) == {"mesh_network_uuid": OFFICE}
        assert len(polls) == 3

    def test_an_offline_machine_is_not_waited_for(self, signed_in: Run, gateway: Secured) -> None:
        gateway.machine["is_online"] = False
        assert "makes them when it is back" in signed_in("machine", "rotate-key", "web-1").stdout
        assert json.loads(gateway.changes[0].content or b"{}") == {}

    def test_one_that_does_not_in_time(self, signed_in: Run) -> None:
        refused = signed_in("machine", "rotate-key", "web-1", "--timeout", "1").exception
        assert isinstance(refused, UnavailableError)
        assert "the request stands" in str(refused)
        document = json.loads(signed_in("machine", "rotate-key", "web-1", "--no-wait", "--json").stdout)
        assert document["hostname"] == "web-1"
