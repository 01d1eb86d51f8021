"""No secret is where it does not belong: searched for by its own bytes, after everything that handles it has been done,
and gone wrong."""

from __future__ import annotations

import base64
import json
import os
import re
import signal
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.lab.lab import Lab
from deploy.lab.machine import LabError, Machine
from deploy.lab.mesh import AGENT, Mesh, wait_for

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

_BUS_TOKEN = re.compile(rb"eyJ[\w-]{20,}\.[\w-]{20,}\.[\w-]{20,}")
_SHORTEST = 20
_PLACES = ("events?limit=1000", "machines", "mesh-networks", "bootstrap-tokens", "tokens", "accounts", "keys")
_SERVICES = "services.cli serve"


class Secrets:
    """Everything that nobody else may know, by what it is."""

    def __init__(self) -> None:
        self.found: dict[str, bytes] = {}

    def add(self, what: str, secret: str | bytes) -> None:
        raw = secret.encode() if isinstance(secret, str) else secret
        assert len(raw) >= _SHORTEST, f"{what} is too short to search for"
        self.found[what] = raw

    def in_(self, data: bytes, *, but_for: str = "") -> list[str]:
        """Which of them stand in `data`, as they are, in base64 or in hex."""
        return [
            what for what, raw in self.found.items() if what != but_for and any(form in data for form in _forms(raw))
        ]


def _forms(raw: bytes) -> tuple[bytes, ...]:
    return raw, base64.b64encode(raw).rstrip(b"="), raw.hex().encode()


def _of_the_control_plane(mesh: Mesh, secrets: Secrets) -> None:
    identity = mesh.control.directory / "data" / "identity"
    for path in (*identity.glob("keys/*"), *identity.glob("tls/*.key")):
        lines = [line for line in path.read_text().splitlines() if "-----" not in line]
        secrets.add(path.name, max(lines, key=len))
    for path in identity.glob("creds/*.creds"):
        for line in path.read_text().splitlines():
            if len(line) > _SHORTEST and "-----" not in line:
                secrets.add(f"{path.name}: {line[:2]}", line)


def _of_a_machine(machine: Machine, secrets: Secrets) -> None:
    state = machine.directory / "state"
    identity = (state / "identity.json").read_bytes()
    seed = re.search(rb"SU[A-Z2-7]{56}", identity)
    token = _BUS_TOKEN.search(identity)
    assert seed
    assert token
    secrets.add(f"{machine.name}: identity seed", seed[0])
    secrets.add(f"{machine.name}: bus token", token[0])
    with sqlite3.connect(state / "agent.db") as database:
        for (key,) in database.execute("SELECT private_key FROM tunnel"):
            secrets.add(f"{machine.name}: WireGuard key", key)
    database.close()


def _processes() -> Iterator[tuple[str, bytes]]:
    """What every process of the machine shows of itself to others: its arguments and its environment."""
    for process in Path("/proc").glob("[0-9]*"):
        for what in ("cmdline", "environ"):
            try:
                yield f"{process.name} {what}", (process / what).read_bytes()
            except OSError:
                continue


def test_secrets_are_nowhere_but_in_their_own_files() -> None:
    secrets = Secrets()
    with Lab() as lab:
        mesh = Mesh(lab)
        mesh.start_control_plane()
        mesh.wireloom("network", "create", "mesh", "172.16.0.0/24", "--default")
        token = mesh.bootstrap_token("--uses", "3")
        secrets.add("bootstrap token", token)
        secrets.add("admin token", mesh.token)
        api = json.loads(mesh.wireloom("account", "token", "create", "--name", "canary", "--json"))["token"]
        secrets.add("API token", api)
        for name in ("m1", "m2"):
            mesh.add(name, token)
        mesh.await_all_reach_all("mesh", ["m1", "m2"])
        _of_the_control_plane(mesh, secrets)
        for machine in mesh.machines:
            _of_a_machine(machine, secrets)
        shown = {place: secrets.in_(data) for place, data in _processes() if not place.startswith(f"{os.getpid()} ")}
        assert not any(shown.values()), {place: found for place, found in shown.items() if found}

        mesh.wireloom("machine", "rotate-key", "m1")
        _misuse(mesh, token)
        mesh.wireloom("machine", "revoke", "m2", "--yes")
        mesh.wireloom("token", "revoke", json.loads(mesh.wireloom("token", "list", "--json"))["items"][0]["uuid"])
        _crash(mesh)
        mesh.await_interface_gone("m2")
        for machine in mesh.machines[:1]:
            _of_a_machine(machine, secrets)

        answers = {place: json.dumps(mesh.get(place)).encode() for place in _PLACES}
        leaks = {place: secrets.in_(answer) for place, answer in answers.items()}
        logs = {path: path.read_bytes() for path in lab.directory.glob("*/*.log")}
        logs |= {path: path.read_bytes() for path in lab.directory.rglob("nats-server.log")}
        # The first start shows the admin's token, once: here what is shown and what is logged go to one file.
        first = logs[mesh.control.directory / "control-plane.log"]
        assert first.count(mesh.token.encode()) == 1
        leaks |= {str(path): secrets.in_(log, but_for="admin token") for path, log in logs.items()}
        stored = [path for path in (mesh.control.directory / "data" / "bus" / "store").rglob("*") if path.is_file()]
        leaks |= {str(path): secrets.in_(path.read_bytes()) for path in stored}
        assert not any(leaks.values()), {place: found for place, found in leaks.items() if found}
        assert any(b"access.api_token_issued" in path.read_bytes() for path in stored), "the log was not searched"
        for path, log in logs.items():
            assert not _BUS_TOKEN.search(log), f"a token of the bus stands in {path}"


def _misuse(mesh: Mesh, token: str) -> None:
    """Secrets in the wrong places: each is refused, and must not be repeated in what is said about it."""
    machine = mesh.machines[0]
    other = ["--no-service", "--hostname", "again", "--state-dir", str(machine.directory / "other")]
    for attempt in (token[:4] + token[4:][::-1], "wla_" + token[4:], token + "x" * 10_000):
        with pytest.raises(LabError) as refusal:
            machine.run(
                [AGENT, "join", mesh.url, "--token", "-", "--ca-sha256", mesh.fingerprint(), *other], text=attempt
            )
        assert attempt not in str(refusal.value)
    with pytest.raises(LabError) as refusal:
        mesh.wireloom("login", mesh.url, "--ca-sha256", mesh.fingerprint(), "--token-stdin", text=token)
    assert token not in str(refusal.value)


def _crash(mesh: Mesh) -> None:
    """Have every service of the control plane, and an agent, end as by a fault, and wait until all is back."""

    def services() -> set[str]:
        return set(mesh.control.run(["pgrep", "-f", _SERVICES], check=False).split())

    before = services()
    mesh.control.run(["kill", "-ABRT", *before])
    wait_for(lambda: len(after := services()) == len(before) and not after & before, "the services to be started")
    wait_for(mesh.is_ready, "the control plane to be back")
    agent = mesh.agents["m1"]
    agent.signal(signal.SIGABRT)
    agent.wait()
    mesh.start_agent(mesh.lab.machines["m1"])
