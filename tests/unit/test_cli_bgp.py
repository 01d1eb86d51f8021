"""`wireloom bgp`, and what `wireloom network` says of it, against a gateway that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from typer.testing import CliRunner, Result

from services.cli import main
from services.cli.bgp_tables import age, network_bgp_table, speaker_text
from services.cli.session import Surroundings

TIME = "2026-03-01T10:00:00.000000Z"
OFFICE, DB, WEB = (str(uuid4()) for _ in range(3))
ADVICE = "Turn on route reflector mode: in full mesh 250 machines keep 31,125 BGP sessions, with 3 reflectors 747."

Run = Callable[..., Result]


def end(uuid: str, hostname: str, number: int) -> dict[str, Any]:
    return {"uuid": uuid, "hostname": hostname, "wg_ip_address": f"172.16.0.{number}", "is_online": True}


def bgp_session(one: dict[str, Any], other: dict[str, Any], **fields: Any) -> dict[str, Any]:
    said = {"purpose": "mesh", "state": "established", "since": TIME, "imported": 3, "exported": 2, "error": ""}
    return {"machine": one, "peer": other} | said | fields


def route(prefix: str, **fields: Any) -> dict[str, Any]:
    return {
        "prefix": prefix,
        "next_hop": "172.16.0.2",
        "machine": {"uuid": WEB, "hostname": "web-1"},
        "best": True,
        "local_pref": 100,
        "med": None,
        "as_path": [],
        "communities": [],
        "since": TIME,
        "age_seconds": 3_725,
    } | fields


NETWORK = {
    "uuid": OFFICE,
    "name": "office",
    "network_cidr": "172.16.0.0/16",
    "is_default": False,
    "route_reflector_mode": False,
    "available_ip_count": 65_284,
    "machine_count": 250,
    "created_at": TIME,
    "updated_at": TIME,
    "bgp_stage": "switching",
    "recommendation": ADVICE,
}
STATUS = {
    "mesh_network_uuid": OFFICE,
    "mesh_network_name": "office",
    "asn": 4_200_000_001,
    "route_reflector_mode": True,
    "stage": "reflectors",
    "reflectors": [end(DB, "db-1", 1) | {"reason": "pinned", "speaker": "running"}],
    "sessions": {"established": 740, "planned": 747, "in_full_mesh": 31_125, "with_reflectors": 747},
    "speakers": {"running": 248, "off": 2, "failed": 0, "unknown": 0},
    "recommendation": None,
}
SPEAKER = {
    "mesh_network_uuid": OFFICE,
    "mesh_network_name": "office",
    "asn": 4_200_000_001,
    "state": "off",
    "reason": "BIRD is not installed: apt install bird2",
    "version": "",
    "since": TIME,
    "is_reflector": False,
    "announced": ["10.20.0.0/16"],
    "vips": [
        {"uuid": DB, "name": "web", "address": "203.0.113.10", "healthy": False, "since": TIME, "reason": "refused"}
    ],
    "sessions_established": 0,
    "sessions_planned": 3,
}


class Gateway:
    """Knows a network and its machines' BGP."""

    def __init__(self) -> None:
        self.asked: list[httpx2.Request] = []
        self.sessions = [
            bgp_session(end(DB, "db-1", 1), end(WEB, "web-1", 2)),
            bgp_session(end(WEB, "web-1", 2), end(DB, "db-1", 1), purpose="client", state="active", error="Hold timer"),
        ]
        self.routes = [
            route("10.20.0.0/16", communities=["65000:100"], as_path=[4_200_000_002]),
            route("10.20.0.0/16", best=False, next_hop="172.16.0.9", machine=None),
            route("203.0.113.10/32", next_hop=None, machine=None, local_pref=200, age_seconds=5),
        ]

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.asked.append(request)
        member = {"mesh_network_uuid": OFFICE, "mesh_network_name": "office", "wg_ip_address": "172.16.0.1"}
        answers: dict[str, Any] = {
            "/mesh-networks": self._page([NETWORK]),
            "/machines": self._page([end(DB, "db-1", 1) | {"memberships": [member]}]),
            f"/mesh-networks/{OFFICE}/machines": self._page([]),
            f"/mesh-networks/{OFFICE}/bgp": STATUS,
            f"/mesh-networks/{OFFICE}/bgp/sessions": self._page(self.sessions),
            f"/machines/{DB}/bgp": self._page([SPEAKER]),
            f"/machines/{DB}/mesh-networks/{OFFICE}/rib": self._page(self.routes) | {"total": 9},
        }
        return httpx2.Response(200, json=answers[request.url.path.removeprefix("/api/v1")])

    def _page(self, items: list[Any]) -> dict[str, Any]:
        return {"items": items, "total": len(items), "next": None}


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def wireloom(gateway: Gateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    for name in ("WIRELOOM_TOKEN", "WIRELOOM_URL", "WIRELOOM_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    surroundings = Surroundings(transport=httpx2.MockTransport(gateway))

    def run(*args: str, width: int = 80) -> Result:
        result = CliRunner().invoke(main.app, args, obj=surroundings, env={"COLUMNS": str(width)})
        assert result.exit_code == 0, result.output
        return result

    return run


def _rows(result: Result) -> list[list[str]]:
    return [line.split() for line in result.stdout.splitlines()]


def test_the_status_says_how_many_sessions_there_are_and_would_be(wireloom: Run) -> None:
    shown = wireloom("bgp", "status", "office").stdout
    for text in ("4200000001", "740 of 747", "31,125", "248 running, 2 off", "route reflectors", "pinned"):
        assert text in shown
    assert json.loads(wireloom("bgp", "status", "office", "--json").stdout) == STATUS


def test_sessions_are_listed_and_those_of_one_machine_asked_for(wireloom: Run, gateway: Gateway) -> None:
    rows = _rows(wireloom("bgp", "sessions", "office"))
    assert rows[1][:5] == ["db-1", "web-1", "full", "mesh", "established"]
    assert rows[2][:6] == ["web-1", "db-1", "with", "its", "reflector", "active"]
    assert "Hold timer" in wireloom("bgp", "sessions", "office", "-m", "db-1", "--state", "active", width=160).stdout
    assert dict(gateway.asked[-1].url.params).items() >= {"machine": DB, "state": "active"}.items()
    cut = wireloom("bgp", "sessions", "office", "--limit", "1")
    assert "There are more." in cut.stdout
    told = json.loads(wireloom("bgp", "sessions", "office", "--limit", "1", "--json").stdout)
    assert (len(told["items"]), told["is_complete"]) == (1, False)
    gateway.sessions = []
    assert "There are no such sessions" in wireloom("bgp", "sessions", "office").stdout


def test_the_rib_names_the_machine_behind_each_next_hop(wireloom: Run) -> None:
    result = wireloom("bgp", "rib", "db-1")
    assert "office: 9 routes, of which the machine reports 3" in result.stdout
    rows = _rows(result)[2:]
    assert rows[0] == ["10.20.0.0/16", "★", "web-1", "(172.16.0.2)", "100", "1", "h", "2", "min"]
    assert rows[1][:3] == ["10.20.0.0/16", "172.16.0.9", "100"]
    assert rows[2][:5] == ["203.0.113.10/32", "★", "this", "machine", "200"]
    wide = wireloom("bgp", "rib", "db-1", "--network", "office", width=160).stdout
    assert "65000:100" in wide
    assert "4200000002" in wide
    assert json.loads(wireloom("bgp", "rib", "db-1", "--json").stdout)["items"][0]["total"] == 9


def test_a_speaker_that_is_off_says_why(wireloom: Run) -> None:
    shown = wireloom("bgp", "speaker", "db-1").stdout
    assert "office: off, 0 of 3 sessions established. BIRD is not installed: apt install bird2" in shown
    assert "announces 10.20.0.0/16" in shown
    assert "virtual IP web is not healthy: refused" in shown


def test_networks_tell_their_stage_and_what_is_recommended(wireloom: Run) -> None:
    listed = wireloom("network", "list", width=160).stdout
    assert "office ⇄" in listed
    assert f"office: {ADVICE}" in listed
    shown = wireloom("network", "show", "office", width=160).stdout
    assert "being switched" in shown
    assert ADVICE in shown


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59, "59 s"), (60, "1 min"), (3_725, "1 h 2 min"), (86_400, "1 d"), (90_061, "1 d 1 h")],
)
def test_an_age_is_told_in_two_units(seconds: int, text: str) -> None:
    assert age(seconds) == text


def test_sessions_that_are_to_end_are_told_apart() -> None:
    sessions = {"established": 12, "planned": 8, "in_full_mesh": 10, "with_reflectors": 8}
    table = network_bgp_table(STATUS | {"sessions": sessions})
    assert "12 (8 to stay)" in list(table.columns[1].cells)
    told = speaker_text(SPEAKER | {"sessions_established": 7, "sessions_planned": 3}).plain
    assert "7 sessions (3 to stay) established" in told
