"""`wireloom up` as it is by default: its identity, the first token, what is kept, and what is shown to nobody."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from events import bus, log, state
from events.domain import AccountCreated, ApiTokenIssued
from events.identity import IdentityError
from events.trust import tokens
from events.trust.signing import Ring
from services.cli.certificates import certificate_hosts
from services.cli.datadir import kept_accounts
from services.cli.embedded import told_url
from services.cli.identity import create
from tests.support.enrolled import BOOTSTRAP_TOKENS, enrol, is_let_in
from tests.support.program import ControlPlane, free_port, run_wireloom, running
from tests.support.waiting import wait_until_sync


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def plane(tmp_path: Path, data: Path) -> Iterator[ControlPlane]:
    with running(tmp_path / "up", "--data-dir", str(data), "--bus-port", str(free_port())) as plane:
        yield plane


def kill_everything(plane: ControlPlane) -> None:
    """Kill everything at once, as a power failure would."""
    everything = [*plane.children().values(), psutil.Process(plane.process.pid)]
    for process in everything:
        process.send_signal(signal.SIGKILL)
    plane.process.wait()
    assert psutil.wait_procs(everything, timeout=30)[1] == []


async def events(plane: ControlPlane) -> list[log.LoggedEvent]:
    """The whole log."""
    client = await bus.connect(told_url(plane.data_dir / "bus") or "", "test", plane.identity.credentials("topology"))
    try:
        return await log.read(client, 0, 1000)
    finally:
        await client.close()


async def derived(plane: ControlPlane) -> int:
    """From how much of the log STATE was derived."""
    client = await bus.connect(told_url(plane.data_dir / "bus") or "", "test", plane.identity.credentials("topology"))
    try:
        last = await state.last_message(client)
        return last.position if last is not None else 0
    finally:
        await client.close()


def files(folder: Path) -> Iterator[Path]:
    yield from (path for path in folder.rglob("*") if path.is_file())


def secrets(plane: ControlPlane) -> dict[str, str]:
    """Everything that nobody may see: the token, and what the identity keeps private."""
    folder = plane.identity.folder
    found = {str(path.relative_to(folder)): path.read_text() for path in files(folder / "keys")}
    for path in files(folder / "creds"):
        seed = re.search(r"-----BEGIN USER NKEY SEED-----\n(\S+)\n", path.read_text())
        assert seed
        found[path.name] = seed[1]
    for path in (folder / "tls").glob("*.key"):
        found[path.name] = path.read_text().splitlines()[1]
    return found | {"token": plane.tokens[0]}


def test_the_first_start_shows_a_token_once_and_the_second_none(plane: ControlPlane, data: Path) -> None:
    token, pin = plane.tokens[0], re.search(r"--ca-sha256 ([0-9a-f]{64})", plane.said)
    assert plane.tokens == [token]
    assert pin
    assert f"  wireloom login {plane.url} --ca-sha256 {pin[1]}\n" in plane.said
    assert "wireloom token create" in plane.said
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in files(data / "identity")} == {0o600}
    folders = [data / "identity", *(path for path in (data / "identity").iterdir() if path.is_dir())]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folders} == {0o700}
    assert plane.stop() == 0
    plane.again()
    plane.wait_until_up()
    assert plane.tokens == [token]
    assert "lost your token? `wireloom account recover" in plane.said
    with plane.client() as http:
        assert http.get("/api/v1/session").json()["role"] == "admin"


def test_the_first_token_is_shown_when_it_is_known(tmp_path: Path, data: Path) -> None:
    plane = ControlPlane(tmp_path / "up", "--data-dir", str(data), "--bus-port", str(free_port()))

    def is_ready() -> bool:
        try:
            return httpx2.get(f"{plane.url}/readyz", verify=plane.identity.tls(), trust_env=False).is_success
        except (httpx2.TransportError, IdentityError):
            return False

    try:
        wait_until_sync(is_ready, what="the control plane is ready")
        topology = plane.children()["topology"]
        topology.suspend()
        try:
            wait_until_sync(lambda: asyncio.run(events(plane)), what="the first account is in the log")
            assert plane.tokens == [] or asyncio.run(derived(plane)) > 0
        finally:
            topology.resume()
        plane.wait_until_up()
        with plane.client() as http:
            assert http.get("/api/v1/session").json()["role"] == "admin"
    finally:
        plane.close()


def test_nobody_sees_a_secret(plane: ControlPlane, data: Path) -> None:
    hidden = secrets(plane)
    assert len(hidden) == 9 + 5 + 3 + 1
    running_ones = [psutil.Process(plane.process.pid), *plane.children().values()]
    assert len(running_ones) == 5
    seen = {f"cmdline of {process.name()}": " ".join(process.cmdline()) for process in running_ones}
    seen |= {f"environment of {process.pid}": str(process.environ()) for process in running_ones}
    seen |= {str(path): path.read_bytes().decode("latin-1") for path in files(data / "bus")}
    seen["log"] = plane.logged
    seen["events"] = " ".join(str(logged.event) for logged in asyncio.run(events(plane)))
    found = [(name, where) for name, secret in hidden.items() for where, text in seen.items() if secret in text]
    assert found == []
    assert plane.said.count(hidden["token"]) == 1


def test_what_the_first_start_writes(plane: ControlPlane) -> None:
    made, issued = (logged.event for logged in asyncio.run(events(plane)))
    assert isinstance(made, AccountCreated)
    assert isinstance(issued, ApiTokenIssued)
    assert (made.name, made.role, issued.role, issued.expires_at) == ("admin", "admin", "admin", None)
    assert issued.secret_hash == tokens.hashed(plane.tokens[0])
    assert made.actor == issued.actor
    assert made.actor.startswith("console:")


async def test_everything_killed_at_once_comes_back_as_it_was(plane: ControlPlane) -> None:
    identity = {path: path.read_bytes() for path in files(plane.identity.folder)}
    async with plane.async_client() as http:
        await asyncio.to_thread(plane.run, "network", "create", "office", "172.16.0.0/24", "--default")
        token = (await http.post(BOOTSTRAP_TOKENS, json={"uses": 2})).raise_for_status().json()["token"]
        machine, other = await enrol(http, "revoked", token), await enrol(http, "other", token)
        url, closed = machine.access.bus[0], asyncio.Event()
        client = await bus.connect(url, "revoked", machine.credentials, on_closed=closed.set)
        (await http.post(f"/api/v1/machines/{machine.machine_id}/revoke")).raise_for_status()
        await asyncio.wait_for(closed.wait(), 10)
        await client.close()
    before = await events(plane)
    kill_everything(plane)
    plane.again()
    await asyncio.to_thread(plane.wait_until_up)
    assert {path: path.read_bytes() for path in files(plane.identity.folder)} == identity
    assert await events(plane) == before
    assert not await is_let_in(url, machine.credentials)
    assert await is_let_in(url, other.credentials)
    shown = await asyncio.to_thread(plane.json, "network", "show", "office")
    assert [member["hostname"] for member in shown["machines"]] == ["other"]
    assert len(plane.tokens) == 1


def test_strangers_hear_and_see_nothing(plane: ControlPlane) -> None:
    url = told_url(plane.data_dir / "bus") or ""

    other = create(plane.data_dir / "other", ["127.0.0.1"])
    assert asyncio.run(is_let_in(url, plane.identity.credentials("console")))
    assert not asyncio.run(is_let_in(url, None))
    stolen = other.credentials("console")
    forged = bus.Credentials(stolen.token, stolen.sign, stolen.inbox, plane.identity.tls())
    assert not asyncio.run(is_let_in(url, forged))
    with plane.client() as http:
        del http.headers["Authorization"]
        assert http.get("/readyz").status_code == 200
        assert http.get("/api/v1/machines").status_code == 401
        assert http.post("/api/v1/machines", json={"hostname": "intruder"}).status_code == 401
    assert plane.json("machine", "list")["items"] == []


def test_a_lost_token_is_replaced_on_the_machine_itself(plane: ControlPlane, data: Path, tmp_path: Path) -> None:
    ended = run_wireloom("account", "recover", "--data-dir", str(data))
    assert ended.code == 0, ended.stderr
    token = re.search(r"wla_[a-z2-7]{52}", ended.stdout)
    assert token
    assert token[0] != plane.tokens[0]
    with plane.client() as http:
        http.headers["Authorization"] = f"Bearer {token[0]}"
        assert http.get("/api/v1/session").json()["account"]["name"] == "admin"
    issued = asyncio.run(events(plane))[-1].event
    assert isinstance(issued, ApiTokenIssued)
    assert issued.actor.startswith("console:")
    assert token[0] not in plane.logged
    refused = run_wireloom("account", "recover", "--data-dir", str(tmp_path / "elsewhere"))
    assert refused.code == 2
    assert "identity.json cannot be read" in refused.stderr


def test_a_token_that_was_accepted_and_never_shown(tmp_path: Path, data: Path) -> None:
    """What a crash between the two leaves: `recover` helps. The journal of systemd, too, is no place for a token."""
    output = tmp_path / "up" / "out"
    output.parent.mkdir()
    output.touch()
    journal = f"{output.stat().st_dev}:{output.stat().st_ino}"
    options = ("--data-dir", str(data), "--bus-port", str(free_port()))
    with running(tmp_path / "up", *options, variables={"JOURNAL_STREAM": journal}) as plane:
        assert plane.tokens == []
        assert f"wireloom account recover --data-dir {data}" in plane.said
        first = run_wireloom("account", "recover", "--data-dir", str(data))
        assert re.search(r"wla_[a-z2-7]{52}", first.stdout), first.stderr
        assert len(asyncio.run(events(plane))) == 2


def test_a_directory_stays_in_its_mode(plane: ControlPlane, data: Path, tmp_path: Path) -> None:
    assert plane.stop() == 0
    before = sorted(files(data / "bus" / "store"))
    refused = run_wireloom("up", "--no-auth", f"--data-dir={data}", f"--http-port={free_port()}")
    assert refused.code == 4
    assert "was made with authorisation; with --no-auth it would not be seen" in refused.stderr
    shutil.move(data / "identity", tmp_path / "identity")
    refused = run_wireloom("up", f"--data-dir={data}", f"--http-port={free_port()}")
    assert refused.code == 4
    assert "belongs to another identity" in refused.stderr
    assert not (data / "identity").exists()
    assert sorted(files(data / "bus" / "store")) == before


def test_a_directory_of_the_open_mode_is_not_taken_over(tmp_path: Path, data: Path) -> None:
    options = ("--data-dir", str(data), "--bus-port", str(free_port()))
    with running(tmp_path / "up", "--no-auth", *options) as plane:
        assert plane.stop() == 0
    refused = run_wireloom("up", *options, f"--http-port={free_port()}")
    assert refused.code == 4
    assert "was made with --no-auth, and cannot be used with authorisation" in refused.stderr
    assert not (data / "identity").exists()
    assert kept_accounts(data / "bus" / "store") == {"$G"}


def test_beyond_loopback_with_names_of_its_own(tmp_path: Path, data: Path) -> None:
    port = str(free_port())
    options = ["--data-dir", str(data), "--bus-host", "0.0.0.0", "--bus-port", port, "--http-host", "0.0.0.0"]
    with running(tmp_path / "up", *options, "--public-host", "cp.example.org") as plane:
        assert f"wireloom login https://cp.example.org:{plane.http_port}" in plane.said
        assert f"nats://cp.example.org:{port}" in plane.said
        hosts = certificate_hosts((data / "identity/tls/https.pem").read_text())
        assert {"127.0.0.1", "::1", "localhost", "cp.example.org", os.uname().nodename} == set(hosts)
        old = (data / "identity/tls/bus.pem").read_text()
        assert plane.stop() == 0
        plane.arguments[-1] = "other.example.org"
        plane.again()
        plane.wait_until_up()
        new = (data / "identity/tls/bus.pem").read_text()
        assert "other.example.org" in certificate_hosts(new)
        assert old != new
        assert "certificates renewed" in plane.logged


def test_a_certificate_that_is_given(tmp_path: Path, data: Path) -> None:
    given = create(tmp_path / "given", ["cp.example.org"]).folder / "tls"
    chosen = ("--tls-cert", str(given / "https.pem"), "--tls-key", str(given / "https.key"))
    options = ("--data-dir", str(data), "--bus-port", str(free_port()), *chosen)
    refused = run_wireloom("up", *options, f"--http-port={free_port()}")
    assert refused.code == 2
    assert "is for cp.example.org, not for 127.0.0.1" in refused.stderr
    mismatched = run_wireloom("up", *options[:-1], str(given / "bus.key"), "--public-host", "cp.example.org")
    assert mismatched.code == 2
    assert "cannot be used" in mismatched.stderr
    assert not data.exists()
    with running(tmp_path / "up", *options, "--public-host", "cp.example.org") as plane:
        assert f"wireloom login https://cp.example.org:{plane.http_port}\n" in plane.said
        assert "--ca-sha256" not in plane.said


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--no-auth", "--identity", "x"], "An identity is of no use with --no-auth."),
        (["--http-host", "example.org"], "--http-host example.org is no address of this machine."),
        (["--public-host", "https://example.org"], "'https://example.org' is no host's name or address."),
        (["--tls-cert", "x"], "A certificate needs its key"),
        (["--nats-url", "nats://127.0.0.1:1"], "There is no identity in"),
    ],
)
def test_what_cannot_be_is_refused(options: list[str], said: str, data: Path) -> None:
    refused = run_wireloom("up", "--data-dir", str(data), *options)
    assert refused.code == 2, refused.stderr
    assert said in refused.stderr
    assert not data.exists()


def key_report(data: Path) -> Any:
    ended = run_wireloom("key", "show", "--json", "--data-dir", str(data))
    assert ended.code == 0, ended.stderr
    return json.loads(ended.stdout)


def test_keys_rotate_and_retire(plane: ControlPlane, data: Path) -> None:
    assert plane.run("network", "create", "office", "172.16.0.0/24").code == 0
    old = plane.identity.signer().fingerprint
    wait_until_sync(lambda: set(key_report(data)["records"]) == {old}, what="all is signed")
    assert run_wireloom("key", "rotate", "--data-dir", str(data)).code == 0
    new = plane.identity.signer().fingerprint
    assert new != old
    assert key_report(data)["keys"] == [new, old]
    wait_until_sync(lambda: set(key_report(data)["records"]) == {new}, what="all is signed anew")
    assert "`wireloom key retire` ends the others" in run_wireloom("key", "show", "--data-dir", str(data)).stdout
    assert run_wireloom("key", "retire", "--data-dir", str(data)).code == 0
    report = key_report(data)
    assert (report["ring_version"], report["keys"], report["signing"]) == (3, [new], new)
    assert run_wireloom("key", "retire", "--data-dir", str(data)).stdout == f"Key {new} is the only one already.\n"


def test_a_key_that_signed_records_is_not_retired(plane: ControlPlane, data: Path) -> None:
    """The topology service does not run, so nothing is signed anew."""
    assert plane.run("network", "create", "office", "172.16.0.0/24").code == 0
    topology = plane.children()["topology"]
    topology.suspend()
    try:
        old, seed = plane.identity.ring(), plane.identity.key("records").seed
        assert run_wireloom("key", "rotate", "--data-dir", str(data)).code == 0
        refused = run_wireloom("key", "retire", "--data-dir", str(data))
        assert refused.code == 4
        assert "machines would refuse them" in refused.stderr
        assert plane.identity.ring().version == 2
        # What a crash between the two steps of a rotation leaves: the new ring, and the old key that signs.
        (plane.identity.folder / "keys/records.seed").write_text(seed)
        shown = run_wireloom("key", "show", "--data-dir", str(data))
        assert "A rotation was interrupted" in shown.stdout
        assert Ring.model_validate(old).keys[0] in plane.identity.ring().keys
        assert run_wireloom("key", "rotate", "--data-dir", str(data)).code == 0
        assert len(plane.identity.ring().keys) == 3
    finally:
        topology.resume()
