"""Joining a control plane over real HTTPS, and what must not be believed there."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from agent import gateway as gateways
from agent import join as joining
from agent.gateway import Address, Gateway, UntrustedGatewayError, fetch_ca
from agent.identity import FILE_NAME, EnrolledDoor, Identity, OtherControlPlaneError, WrongAccessError, load
from agent.install import UNIT, Service
from agent.join import JoinedElsewhereError, Wish, join, leave
from agent.main import run
from agent.store import DiskStore, StateError, Tunnel
from events.enrolment import Access
from events.errors import (
    ForbiddenError,
    IdentityTakenError,
    InternalError,
    InvalidInputError,
    NotFoundError,
    TokenRefusedError,
    UnavailableError,
    WireloomError,
)
from events.trust import tokens
from events.trust.keys import generate
from events.trust.signing import Ring, UntrustedRingError
from services.cli.certificates import Authority
from tests.support.https_gateway import HttpsGateway, https_gateway
from tests.support.systemd import Systemd

PROGRAM = (sys.executable, "-m", "agent.main")
NETWORK = UUID(int=5)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[HttpsGateway]:
    with https_gateway(tmp_path / "identity") as gateway:
        yield gateway


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def service(tmp_path: Path) -> Service:
    """Where systemd does not run."""
    return Service(lambda _: None, unit_folder=tmp_path / "units", running=tmp_path / "nowhere")


def enrol(gateway: HttpsGateway, state: Path, token: str | None = None, **more: object) -> list[str]:
    """Join, and return what was said."""
    said: list[str] = []
    wish = Wish(
        url=gateway.url,
        token=gateway.token() if token is None else token,
        hostname="db-1",
        ca_sha256=gateway.fingerprint,
        **more,  # type: ignore[arg-type]
    )
    join(wish, state, service(state), said.append)
    return said


def identity_in(state: Path) -> Identity:
    identity = load(state)
    assert identity is not None
    return identity


@contextmanager
def nothing_changes(state: Path) -> Iterator[None]:
    before = (state / FILE_NAME).read_bytes()
    yield
    assert (state / FILE_NAME).read_bytes() == before
    assert not list(state.glob("*.new"))


class TestTheCertificate:
    def test_only_the_pinned_one_is_taken(self, gateway: HttpsGateway) -> None:
        address = Address.parse(gateway.url)
        stranger = Authority.made().certificate
        ca = gateway.identity.ca()
        gateway.instead = lambda _: (200, {}, (ca + stranger).encode())
        coloned = ":".join(gateway.fingerprint[i : i + 2] for i in range(0, 64, 2)).upper()
        for fingerprint in (gateway.fingerprint, coloned):
            assert fetch_ca(address, fingerprint) == ca, "what stands behind it is not believed"
        gateway.instead = lambda _: (200, {}, (stranger + ca).encode())
        with pytest.raises(UntrustedGatewayError, match="another certificate"):
            fetch_ca(address, gateway.fingerprint)

    @pytest.mark.parametrize(
        "said", [b"", b"no certificate", b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"]
    )
    def test_what_is_none_is_refused(self, gateway: HttpsGateway, said: bytes) -> None:
        gateway.instead = lambda _: (200, {}, said)
        with pytest.raises(UntrustedGatewayError):
            fetch_ca(Address.parse(gateway.url), gateway.fingerprint)

    def test_a_wrong_fingerprint_ends_it_before_anything_is_sent(self, gateway: HttpsGateway, state: Path) -> None:
        wish = Wish(gateway.url, gateway.token(), "db-1", ca_sha256="0" * 64)
        with pytest.raises(UntrustedGatewayError, match="Nothing was sent"):
            join(wish, state, service(state), lambda _: None)
        assert gateway.asked == ["/api/v1/ca"]
        assert not gateway.machines
        with pytest.raises(InvalidInputError, match="fingerprint"):
            fetch_ca(Address.parse(gateway.url), "abc")

    def test_who_is_not_certified_is_told_nothing(self, gateway: HttpsGateway, tmp_path: Path) -> None:
        stranger = Authority.made().certificate
        for ca in ("", stranger):
            with pytest.raises(UntrustedGatewayError, match="not trusted"):
                Gateway(Address.parse(gateway.url), ca).challenge()
        elsewhere = gateway.url.replace("127.0.0.1", "localhost")
        with pytest.raises(UntrustedGatewayError, match="not trusted"):
            Gateway(Address.parse(elsewhere), gateway.identity.ca()).challenge()
        assert not gateway.asked
        with pytest.raises(InvalidInputError):
            Gateway(Address.parse(gateway.url), "no certificate")


class TestTheAddress:
    @pytest.mark.parametrize(
        ("text", "url", "host", "port"),
        [
            ("https://wl.example.org", "https://wl.example.org", "wl.example.org", 443),
            (" https://WL.example.org:7480/ ", "https://wl.example.org:7480", "wl.example.org", 7480),
            ("https://[2001:db8::1]:7480/mesh/", "https://[2001:db8::1]:7480/mesh", "2001:db8::1", 7480),
        ],
    )
    def test_is_understood(self, text: str, url: str, host: str, port: int) -> None:
        address = Address.parse(text)
        assert (address.url, address.host, address.port) == (url, host, port)

    @pytest.mark.parametrize(
        "text",
        [
            "http://wl.example.org",
            "wl.example.org:7480",
            "nats://127.0.0.1:7422",
            "https://",
            "https://ada:secret@wl.example.org",
            "https://wl.example.org:99999",
            "https://wl.example.org/?token=secret",
        ],
    )
    def test_of_another_kind_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInputError) as raised:
            Address.parse(text)
        assert "https://" in str(raised.value)
        assert "secret" not in str(raised.value)


def page(status: int, body: bytes, **headers: str) -> Callable[[str], tuple[int, dict[str, str], bytes]]:
    return lambda _: (status, headers, body)


class TestAnswers:
    def ask(self, gateway: HttpsGateway) -> str:
        return Gateway(Address.parse(gateway.url), gateway.identity.ca()).challenge()

    @pytest.mark.parametrize(
        ("status", "body", "error", "says"),
        [
            (200, b"<html>", InternalError, "does not understand"),
            (200, b'{"other": 1}', InternalError, "does not understand"),
            (404, b"<html>", NotFoundError, "no Wireloom control plane"),
            (502, b"<html>", UnavailableError, "HTTP 502"),
            (403, b'{"code": "machine-revoked", "detail": "You were\\u001b[2J revoked."}', ForbiddenError, "You were "),
            (418, b'{"code": "unheard-of", "detail": "Tea."}', InternalError, "Tea."),
            (500, b'{"code": 7}', NotFoundError, "no Wireloom"),
            (422, b"[]", NotFoundError, "no Wireloom"),
            (400, b'{"code": "conflict", "detail": "' + b"x" * 9999 + b'"}', WireloomError, "xxx"),
        ],
    )
    def test_of_every_kind_become_an_error(
        self, gateway: HttpsGateway, status: int, body: bytes, error: type[WireloomError], says: str
    ) -> None:
        gateway.instead = page(status, body)
        with pytest.raises(error) as raised:
            self.ask(gateway)
        text = str(raised.value)
        assert says in text
        assert text.isprintable()
        assert len(text) < 1000

    def test_that_lead_elsewhere_are_not_followed(self, gateway: HttpsGateway) -> None:
        gateway.instead = page(307, b"", Location=f"{gateway.url}/elsewhere")
        with pytest.raises(InternalError, match="elsewhere"):
            self.ask(gateway)
        assert gateway.asked == ["/api/v1/agents/challenge"]

    def test_without_end_are_not_read(self, gateway: HttpsGateway) -> None:
        gateway.instead = page(200, b" " * (5 * 1024 * 1024))
        with pytest.raises(UnavailableError, match="too long"):
            self.ask(gateway)

    def test_that_do_not_come_are_not_waited_for(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(gateways, "_TIMEOUT", 0.2)
        with closing(socket.create_server(("127.0.0.1", 0))) as silent:
            url = f"https://127.0.0.1:{silent.getsockname()[1]}"
            with pytest.raises(UnavailableError, match="nothing came within"):
                Gateway(Address.parse(url)).challenge()
        with pytest.raises(UnavailableError, match="refused"):
            Gateway(Address.parse(url)).challenge()


class TestJoining:
    def test_it_is_let_in_once_and_known_ever_after(self, gateway: HttpsGateway, state: Path) -> None:
        token = gateway.token()
        said = enrol(gateway, state, token, given_hostname="db-1", endpoints=("203.0.113.9",))
        identity = identity_in(state)
        assert gateway.machines == {identity.machine_id: identity.key.public}
        assert gateway.hostnames == ["db-1"]
        assert (identity.url, identity.ca, identity.root) == (
            gateway.url,
            gateway.identity.ca(),
            gateway.identity.public.root,
        )
        assert (identity.hostname, identity.endpoints, identity.service) == ("db-1", ("203.0.113.9",), False)
        assert any("wireloom-agent run --state-dir" in step for step in said)
        assert (state / FILE_NAME).stat().st_mode & 0o777 == 0o600
        told = "\n".join(said) + repr(identity)
        for secret in (token, identity.key.seed, identity.access.token):  # type: ignore[union-attr]
            assert secret not in told
        assert token.encode() not in b"".join(path.read_bytes() for path in state.iterdir())

        with nothing_changes(state), pytest.raises(TokenRefusedError) as raised:
            enrol(gateway, state, token)
        assert token not in str(raised.value)

        enrol(gateway, state)
        again = identity_in(state)
        assert (again.machine_id, again.key.seed) == (identity.machine_id, identity.key.seed)
        assert len(gateway.machines) == 1

    def test_a_refused_attempt_leaves_the_key_for_the_next(self, gateway: HttpsGateway, state: Path) -> None:
        wrong = tokens.make(b"other", "bootstrap", uuid4())
        with pytest.raises(TokenRefusedError) as raised:
            enrol(gateway, state, wrong)
        assert wrong not in str(raised.value)
        first = identity_in(state)
        assert not first.is_enrolled
        assert not gateway.machines
        enrol(gateway, state)
        assert identity_in(state).key.seed == first.key.seed
        assert gateway.machines == {first.machine_id: first.key.public}

    def test_a_machine_that_was_there_openly_stays_the_same(self, gateway: HttpsGateway, state: Path) -> None:
        store = DiskStore(state)
        machine_id, tunnel = store.machine_id(), Tunnel("k", 51820)
        store.set_tunnel(NETWORK, tunnel)
        store.put(f"network:{NETWORK}", "state.x", 7, b"heard from anybody")
        store.close()
        enrol(gateway, state)
        assert set(gateway.machines) == {machine_id}
        store = DiskStore(state)
        assert store.tunnel(NETWORK) == tunnel
        assert store.revision(f"network:{NETWORK}") == 0, "what was heard from anybody is read again"
        store.set_revision(f"network:{NETWORK}", 9)
        store.close()
        enrol(gateway, state)
        store = DiskStore(state)
        assert store.revision(f"network:{NETWORK}") == 9
        store.close()

    def test_another_control_plane_is_refused(self, gateway: HttpsGateway, state: Path, tmp_path: Path) -> None:
        enrol(gateway, state)
        with https_gateway(tmp_path / "other") as other:
            with nothing_changes(state), pytest.raises(JoinedElsewhereError) as raised:
                enrol(other, state)
            assert "wireloom-agent leave" in raised.value.hint
            assert not other.asked
            leave(state, service(state), lambda _: None)
            assert not state.exists()
            enrol(other, state)
            assert identity_in(state).url == other.url
            assert not set(gateway.machines) & set(other.machines), "to another, it is another machine"

    def test_another_machines_id_is_refused(self, gateway: HttpsGateway, state: Path) -> None:
        store = DiskStore(state)
        gateway.machines[store.machine_id()] = known = generate("user").public
        store.close()
        with pytest.raises(IdentityTakenError):
            enrol(gateway, state)
        assert set(gateway.machines.values()) == {known}
        assert not identity_in(state).is_enrolled

    @pytest.mark.parametrize(
        "token",
        ["", "wlb_short", tokens.make(b"m", "api", uuid4()), "secret word"],
        ids=["nothing", "short", "of the API", "words"],
    )
    def test_what_is_no_token_is_not_sent(self, gateway: HttpsGateway, state: Path, token: str) -> None:
        with pytest.raises(InvalidInputError) as raised:
            enrol(gateway, state, token)
        assert not token or token not in str(raised.value)
        assert not gateway.asked
        assert not state.exists()

    def test_without_a_pin_the_system_decides(self, gateway: HttpsGateway, state: Path) -> None:
        with pytest.raises(UntrustedGatewayError) as raised:
            join(Wish(gateway.url, gateway.token(), "db-1"), state, service(state), lambda _: None)
        assert "--ca-sha256" in raised.value.hint
        assert not gateway.machines

    def test_a_pin_is_kept_when_joining_again(self, gateway: HttpsGateway, state: Path) -> None:
        enrol(gateway, state)
        join(Wish(gateway.url, gateway.token(), "db-1"), state, service(state), lambda _: None)
        assert identity_in(state).ca == gateway.identity.ca()


class TestTheService:
    PROGRAM = "/opt/wireloom/bin/wireloom-agent"

    @pytest.fixture
    def systemd(self, tmp_path: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> Systemd:
        """A machine that systemd runs, whose agent keeps its state where the unit says."""
        monkeypatch.setattr(joining, "STATE_DIR", state)
        monkeypatch.setattr(joining, "own_program", lambda: self.PROGRAM)
        return Systemd(tmp_path)

    def join(self, gateway: HttpsGateway, state: Path, systemd: Systemd, token: str = "", *, no: bool = False) -> None:
        wish = Wish(gateway.url, token or gateway.token(), "db-1", gateway.fingerprint, with_service=not no)
        join(wish, state, systemd.service, systemd.said.append)

    def test_is_installed_after_the_machine_is_let_in(
        self, gateway: HttpsGateway, state: Path, systemd: Systemd
    ) -> None:
        with pytest.raises(TokenRefusedError):
            self.join(gateway, state, systemd, tokens.make(b"other", "bootstrap", uuid4()))
        assert not systemd.unit.exists()
        systemd.starts_with(state / "lock")
        self.join(gateway, state, systemd)
        assert systemd.unit.exists()
        assert systemd.service.is_running
        assert identity_in(state).service
        assert "enabled and started" in systemd.said[-1]

        leave(state, systemd.service, systemd.said.append)
        assert not systemd.unit.exists()
        assert not systemd.active.exists()
        assert not state.exists()

    def test_runs_again_whatever_becomes_of_joining_again(
        self, gateway: HttpsGateway, state: Path, systemd: Systemd
    ) -> None:
        self.join(gateway, state, systemd)
        for joins in (
            lambda: self.join(gateway, state, systemd),
            lambda: self.join(gateway, state, systemd, no=True),
            lambda: self.join(gateway, state, systemd, tokens.make(b"other", "bootstrap", uuid4())),
        ):
            before = len(systemd.calls)
            with suppress(TokenRefusedError):
                joins()
            assert f"stop {UNIT}" in systemd.calls[before:]
            assert systemd.active.exists()
            assert identity_in(state).service

    def test_is_not_installed_where_it_is_not_wanted(
        self, gateway: HttpsGateway, state: Path, systemd: Systemd, tmp_path: Path
    ) -> None:
        self.join(gateway, state, systemd, no=True)
        assert "as wished" in systemd.said[-1]
        self.join(gateway, tmp_path / "other", systemd)
        assert "wireloom-agent run --state-dir" in systemd.said[-1]
        assert not systemd.unit.exists()
        assert not identity_in(state).service


class TestRenewing:
    async def test_it_is_kept(self, gateway: HttpsGateway, state: Path) -> None:
        enrol(gateway, state)
        door = EnrolledDoor(state, identity_in(state))
        gateway.networks[door.access.machine_id] = (NETWORK,)
        access = await door.renew((NETWORK,))
        assert access.networks == (NETWORK,)
        assert door.access == access
        assert identity_in(state).access == access
        assert door.key.seed not in repr(door.__dict__)

    async def test_a_newer_ring_is_kept_and_an_older_one_not(self, gateway: HttpsGateway, state: Path) -> None:
        enrol(gateway, state)
        door = EnrolledDoor(state, identity_in(state))
        root, first = gateway.identity.key("root"), door.access.ring
        second = Ring(version=2, keys=(generate("operator").public, *first.keys)).signed_by(root)
        door.keep(second)
        assert identity_in(state).access.ring == second  # type: ignore[union-attr]
        await door.renew(())
        assert door.access.ring == second, "the gateway has the first still"
        door.keep(first)
        assert door.access.ring == second
        with nothing_changes(state), pytest.raises(UntrustedRingError):
            door.keep(Ring(version=3, keys=second.keys).signed_by(generate("operator")))
        assert EnrolledDoor(state, identity_in(state)).access.ring == second

    @pytest.mark.parametrize(
        ("altered", "error"),
        [
            (lambda access: access.model_copy(update={"machine_id": uuid4()}), WrongAccessError),
            (lambda access: access.model_copy(update={"root": generate("operator").public}), OtherControlPlaneError),
            (
                lambda access: access.model_copy(
                    update={"ring": Ring(version=9, keys=access.ring.keys).signed_by(generate("operator"))}
                ),
                UntrustedRingError,
            ),
        ],
    )
    async def test_what_is_not_right_is_not_kept(
        self, gateway: HttpsGateway, state: Path, altered: Callable[[Access], Access], error: type[WireloomError]
    ) -> None:
        enrol(gateway, state)
        door = EnrolledDoor(state, identity_in(state))
        before = door.access
        gateway.altered = altered
        with nothing_changes(state), pytest.raises(error):
            await door.renew(())
        with nothing_changes(state), pytest.raises(error):
            enrol(gateway, state)
        assert door.access == before

    async def test_another_key_does_not_renew(self, gateway: HttpsGateway, state: Path) -> None:
        enrol(gateway, state)
        stolen = identity_in(state).model_copy(update={"key": generate("user")})
        with nothing_changes(state), pytest.raises(ForbiddenError):
            await EnrolledDoor(state, stolen).renew(())

    async def test_without_a_control_plane_it_keeps_what_it_has(self, tmp_path: Path, state: Path) -> None:
        with https_gateway(tmp_path / "identity") as gateway:
            enrol(gateway, state)
        door = EnrolledDoor(state, identity_in(state))
        with nothing_changes(state), pytest.raises(UnavailableError):
            await door.renew(())


class TestTheProgram:
    def run(self, *arguments: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PROGRAM, *arguments],
            input=stdin,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    @pytest.mark.parametrize("way", ["argument", "=", "stdin", "environment"])
    def test_the_token_is_nowhere_to_be_seen(self, gateway: HttpsGateway, state: Path, way: str) -> None:
        token = gateway.token()
        found: list[str] = []

        def look(path: str) -> None:
            for line in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    found.extend([path] * (token.encode() in line.read_bytes()))
                except OSError:  # it has ended
                    continue

        gateway.instead = look
        given = {"argument": ["--token", token], "=": [f"--token={token}"], "stdin": ["--token", "-"]}.get(way, [])
        done = self.run(
            "join",
            gateway.url,
            *given,
            *("--ca-sha256", gateway.fingerprint, "--state-dir", str(state), "--no-service", "--hostname", "db-7"),
            stdin=f"{token}\n" if way == "stdin" else "",
            **({"WIRELOOM_TOKEN": token} if way == "environment" else {}),
        )
        assert done.returncode == 0, done.stderr
        assert gateway.hostnames == ["db-7"]
        assert not found
        identity = identity_in(state)
        shown = self.run("status", "--state-dir", str(state))
        assert f"control plane {gateway.url}  access for" in shown.stdout
        as_json = self.run("status", "--json", "--state-dir", str(state))
        said = done.stdout + done.stderr + shown.stdout + as_json.stdout
        for secret in (token, identity.key.seed, identity.access.token):  # type: ignore[union-attr]
            assert secret not in said
        assert self.run("leave", "--state-dir", str(state)).returncode == 0
        assert not state.exists()

    def test_without_a_token_or_with_a_refused_one_it_says_so(self, gateway: HttpsGateway, state: Path) -> None:
        where = ("--ca-sha256", gateway.fingerprint, "--state-dir", str(state))
        none = self.run("join", gateway.url, *where)
        assert none.returncode == 2
        assert "wireloom token create" in none.stderr
        assert not gateway.asked
        wrong = tokens.make(b"other", "bootstrap", uuid4())
        refused = self.run("join", gateway.url, "--token", wrong, *where)
        assert refused.returncode == TokenRefusedError.exit_code
        assert wrong not in refused.stderr
        assert "Traceback" not in refused.stderr


def test_neither_joined_nor_told_a_bus(
    state: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NATS_URL", raising=False)
    assert run(["run", "--state-dir", str(state)]) == 2
    said = capsys.readouterr().err
    assert "wireloom token create" in said
    assert "--nats" in said


def test_a_damaged_identity_shows_nothing_and_can_be_left(
    gateway: HttpsGateway, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    enrol(gateway, state)
    seed = identity_in(state).key.seed
    whole = (state / FILE_NAME).read_text()
    for damaged in (whole.replace(seed, seed[:-1] + "!"), whole[:-20], whole.replace(gateway.url, "")[1:]):
        (state / FILE_NAME).write_text(damaged)
        with pytest.raises(StateError) as raised:
            load(state)
        assert seed[:20] not in str(raised.value) + repr(raised.value.__cause__) + repr(raised.value.__context__)
        assert run(["run", "--state-dir", str(state)]) == 1
        assert seed[:20] not in capsys.readouterr().err
    assert run(["leave", "--state-dir", str(state)]) == 0
    assert not state.exists()


def test_expired_access_is_shown_as_such(
    gateway: HttpsGateway, state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    gateway.altered = lambda access: access.model_copy(update={"expires_at": access.expires_at - timedelta(hours=2)})
    enrol(gateway, state)
    assert run(["status", "--state-dir", str(state)]) == 0
    assert "expired" in capsys.readouterr().out


def test_the_token_comes_from_standard_input(
    gateway: HttpsGateway, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"  {gateway.token()}\n"))
    where = ["--ca-sha256", gateway.fingerprint, "--state-dir", str(state), "--no-service"]
    assert run(["join", gateway.url, "--token", "-", *where]) == 0
    assert gateway.machines
