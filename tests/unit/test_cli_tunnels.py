"""`wireloom machine tunnels` against a gateway that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from typer.testing import CliRunner, Result

from events.errors import AgentSilentError
from services.cli import main
from services.cli.session import Surroundings
from services.cli.tunnel_tables import handshake, traffic

READ_AT = "2026-03-01T10:05:00.000000Z"
OFFICE, MACHINE = str(uuid4()), str(uuid4())

Run = Callable[..., Result]


def peer(hostname: str, number: int, **fields: Any) -> dict[str, Any]:
    return {
        "machine_uuid": str(uuid4()),
        "hostname": hostname,
        "wg_ip_address": f"172.16.0.{number}",
        "is_online": True,
        "endpoint": f"192.0.2.{number}:51820",
        "last_handshake_at": "2026-03-01T10:04:48.400000Z",
        "rx_bytes": 1_234_567,
        "tx_bytes": 999,
    } | fields


def tunnel(*peers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {
        "mesh_network_uuid": OFFICE,
        "mesh_network_name": "office",
        "wg_ip_address": "172.16.0.1",
        "interface": "wl-01234567",
        "backend": "kernel",
        "state": "up",
        "listen_port": 51820,
        "mtu": 1420,
        "peers": peers,
    } | fields


WEB = peer("web-1", 2)
NAS = peer("nas-1", 3, is_online=False, endpoint=None, last_handshake_at=None, rx_bytes=0, tx_bytes=5 << 40)
FAR = peer("far-1", 4, endpoint="[2001:db8::4]:51820", last_handshake_at="2026-03-01T07:04:48Z")


class Gateway:
    """Knows a machine and what its agent tells."""

    def __init__(self) -> None:
        self.tunnels = [tunnel(WEB, NAS, FAR)]
        self.left_out = 0
        self.silence: AgentSilentError | None = None

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        where = request.url.path.removeprefix("/api/v1")
        if where == "/machines":
            items = [{"uuid": MACHINE, "hostname": "db-1"}]
            return httpx2.Response(200, json={"items": items, "total": 1, "next": None})
        if where == "/mesh-networks":
            return httpx2.Response(200, json={"items": [{"uuid": OFFICE, "name": "office"}], "total": 1, "next": None})
        assert where == f"/machines/{MACHINE}/tunnels"
        if self.silence is not None:
            return httpx2.Response(409, json=self.silence.to_problem())
        only = request.url.params.get("mesh_network_uuid")
        found = [each for each in self.tunnels if only in {None, each["mesh_network_uuid"]}]
        told = {"machine_uuid": MACHINE, "hostname": "db-1", "read_at": READ_AT, "left_out": self.left_out}
        return httpx2.Response(200, json=told | {"tunnels": found})


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def wireloom(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    for name in ("WIRELOOM_URL", "WIRELOOM_TOKEN", "WIRELOOM_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "100")
    return lambda *arguments: CliRunner().invoke(
        main.app, arguments, obj=Surroundings(httpx2.MockTransport(gateway), lambda _: None)
    )


def test_handshakes_and_traffic_are_shown(wireloom: Run, gateway: Gateway) -> None:
    empty = tunnel(mesh_network_name="lab", interface="wl-89abcdef", backend="wireguard-go")
    gone = tunnel(mesh_network_name="new", backend="", state="missing", listen_port=None, mtu=None)
    gateway.tunnels += [empty, gone]
    assert wireloom("machine", "tunnels", "db-1").stdout.splitlines() == [
        "office  wl-01234567, 172.16.0.1, UDP port 51820, MTU 1420, kernel WireGuard, up",
        "Peer   Address     Status   Endpoint             Handshake  Received    Sent",
        "web-1  172.16.0.2  online   192.0.2.2:51820      11 s ago     1.2 MB   999 B",
        "nas-1  172.16.0.3  offline                       never           0 B  5.5 TB",
        "far-1  172.16.0.4  online   [2001:db8::4]:51820  3 h ago      1.2 MB   999 B",
        "",
        "lab  wl-89abcdef, 172.16.0.1, UDP port 51820, MTU 1420, wireguard-go, up",
        "It has no peers.",
        "",
        "new  wl-01234567, 172.16.0.1, there is no such interface (yet)",
        "",
        "As of 2026-03-01 10:05:00.",
    ]


def test_what_there_is_to_say_otherwise(wireloom: Run, gateway: Gateway) -> None:
    gateway.left_out = 1200
    assert "1,200 more tunnels and peers are left out" in wireloom("machine", "tunnels", "db-1").stdout
    gateway.tunnels = []
    assert wireloom("machine", "tunnels", "db-1").stdout.startswith("db-1 is in no network.")
    assert wireloom("machine", "tunnels", "db-1", "-n", "office").stdout == "db-1 has no tunnel in office.\n"
    gateway.silence = AgentSilentError("db-1 does not answer: it was last seen at noon.", hint="Look there.")
    result = wireloom("machine", "tunnels", "db-1")
    assert result.exit_code != 0
    assert result.exception is not None
    assert "last seen at noon" in str(result.exception)


def test_for_programs_it_is_json(wireloom: Run) -> None:
    said = json.loads(wireloom("machine", "tunnels", "db-1", "--json").stdout)
    assert (said["hostname"], said["read_at"]) == ("db-1", READ_AT)
    assert [each["hostname"] for each in said["tunnels"][0]["peers"]] == ["web-1", "nas-1", "far-1"]


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nb", "\u202eabc"])
def test_a_hostile_machine_does_not_steer_the_terminal(wireloom: Run, gateway: Gateway, text: str) -> None:
    gateway.tunnels = [tunnel(peer("web-1", 2, endpoint=text), backend=text)]
    said = wireloom("machine", "tunnels", "db-1").stdout
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert len(said.splitlines()) == 5


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (99_949, "99.9 kB"), (99_950, "100 kB"), (999_499, "999 kB"),
     (999_500, "1.0 MB"), (5 << 40, "5.5 TB"), ((1 << 63) - 1, "9.2 EB")],
)  # fmt: skip
def test_traffic_reads_well(count: int, text: str) -> None:
    assert traffic(count) == text


@pytest.mark.parametrize(
    ("at", "text"),
    [(None, "never"), ("2026-03-01T10:05:01Z", "0 s ago"), ("2026-03-01T10:04:01Z", "59 s ago"),
     ("2026-03-01T10:03:01Z", "1 min ago"), ("2026-02-27T10:03:01Z", "2 d ago")],
)  # fmt: skip
def test_handshakes_read_well(at: str | None, text: str) -> None:
    assert handshake(at, READ_AT).plain == text
