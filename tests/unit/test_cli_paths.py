"""`wireloom path`, and the peers that `wireloom machine show` lists, against a gateway that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from typer.testing import CliRunner, Result

from events.errors import NotFoundError
from services.cli import main
from services.cli.session import Surroundings

TIME, LATER = "2026-03-01T10:00:00.000000Z", "2026-03-01T10:05:00.000000Z"
OFFICE, LAB = str(uuid4()), str(uuid4())

Run = Callable[..., Result]


def end(hostname: str, number: int, is_online: bool = True) -> dict[str, Any]:
    return {
        "uuid": str(uuid4()),
        "hostname": hostname,
        "wg_ip_address": f"172.16.0.{number}",
        "is_online": is_online,
    }


DB, WEB, EDGE, SPARE, NAS = (
    end("db-1", 1), end("web-1", 2), end("edge-1", 3), end("edge-2", 4), end("nas-1", 5, is_online=False)
)  # fmt: skip


def path(peer: dict[str, Any], kind: str, **fields: Any) -> dict[str, Any]:
    return {
        "mesh_network_uuid": OFFICE,
        "mesh_network_name": "office",
        "machine": DB,
        "peer": peer,
        "kind": kind,
        "via": [],
        "standby": [],
        "rtt_ms": None,
        "since": LATER,
        "reports": [],
        "events": [],
    } | fields


def said(one: dict[str, Any], other: dict[str, Any], state: str, **fields: Any) -> dict[str, Any]:
    ends = {"machine_uuid": one["uuid"], "peer_uuid": other["uuid"], "state": state}
    return ends | {"rtt_ms": None, "endpoint": None, "tried": [], "time": LATER, "since": LATER, "sequence": 4} | fields


TRANSIT = path(
    WEB,
    "transit",
    via=[EDGE],
    standby=[SPARE, EDGE],
    rtt_ms=1030,
    reports=[
        said(
            DB,
            WEB,
            "unreachable",
            tried=[
                {"endpoint": "198.51.100.23:51820", "result": "no answer"},
                {"endpoint": "[2001:db8:1234:5678:5054:ff:fe12:3456]:51820", "result": "no answer"},
            ],
        ),
        said(WEB, DB, "direct", endpoint="203.0.113.9:41012", rtt_ms=20),
    ],
    events=[
        {"time": TIME, "kind": "report", "sequence": 3, "text": "db-1 reported that it reaches web-1 directly"},
        {"time": LATER, "kind": "choice", "sequence": 4, "text": "chose the way through edge-1"},
    ],
)


class Gateway:
    """Knows machines and their paths, and remembers the changes it was asked for."""

    def __init__(self) -> None:
        self.shared = [(OFFICE, "office")]
        self.found = TRANSIT
        self.changes: list[tuple[str, Any]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        where = request.url.path.removeprefix("/api/v1")
        if request.method == "PATCH":
            self.changes.append((where, json.loads(request.content)))
            return httpx2.Response(200, json=self.machine(DB) | json.loads(request.content))
        if where == "/machines":
            items = [
                self.machine(each) for each in (DB, WEB, NAS) if each["hostname"] == request.url.params["hostname"]
            ]
            return httpx2.Response(200, json={"items": items, "total": len(items), "next": None})
        if where == "/mesh-networks":
            return httpx2.Response(200, json={"items": [{"uuid": LAB, "name": "lab"}], "total": 1, "next": None})
        if where == f"/machines/{DB['uuid']}/peers":
            lab = path(SPARE, "none", mesh_network_name="lab")
            items = [lab, TRANSIT, path(EDGE, "direct", rtt_ms=10), path(NAS, "unknown", since=None)]
            return httpx2.Response(200, json={"items": items, "next": None})
        _, _, network, _, one, _ = where.split("/")
        assert one == DB["uuid"]
        return httpx2.Response(200, json=self.found | {"mesh_network_uuid": network})

    def machine(self, each: dict[str, Any]) -> dict[str, Any]:
        memberships = [
            {
                "mesh_network_uuid": uuid,
                "mesh_network_name": name,
                "wg_ip_address": each["wg_ip_address"],
                "public_key": None,
                "endpoints": [],
            }
            for uuid, name in (self.shared if each is not DB else {**dict(self.shared), LAB: "lab"}.items())
        ]
        return {
            "uuid": each["uuid"],
            "hostname": each["hostname"],
            "is_online": each["is_online"],
            "last_seen_at": TIME,
            "agent_version": "0.1.0",
            "transit": "auto",
            "memberships": memberships,
            "created_at": TIME,
            "updated_at": TIME,
        }


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
    monkeypatch.setenv("COLUMNS", "80")
    return lambda *arguments: CliRunner().invoke(
        main.app, arguments, obj=Surroundings(httpx2.MockTransport(gateway), lambda _: None)
    )


def test_a_path_through_others_is_explained(wireloom: Run) -> None:
    assert wireloom("path", "db-1", "web-1").stdout.splitlines() == [
        "db-1 (172.16.0.1) to web-1 (172.16.0.2) in office",
        "Through edge-1, 1,030 ms round trip, since 2026-03-01 10:05:00. If that fails: through edge-2, then edge-1. "
        "It is encrypted from end to end.",
        "",
        "From   Direct  At                                            Result",
        "db-1   no      198.51.100.23:51820                           no answer",
        "               [2001:db8:1234:5678:5054:ff:fe12:3456]:51820  no answer",
        "web-1  yes     203.0.113.9:41012                             20 ms",
        "",
        "Time                 What led to it",
        "2026-03-01 10:00:00  db-1 reported that it reaches web-1 directly",
        "2026-03-01 10:05:00  the control plane chose the way through edge-1",
    ]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (path(EDGE, "direct", rtt_ms=10), "Directly, 10 ms round trip, since 2026-03-01 10:05:00."),
        (path(EDGE, "direct", since=None), "Directly."),
        (
            path(EDGE, "none"),
            "Not at all, since 2026-03-01 10:05:00: there is no direct path, and no way through another machine was "
            "chosen yet.",
        ),
        (
            path(EDGE, "none", events=[{"time": LATER, "kind": "choice", "sequence": 4, "text": "found no way"}]),
            "Not at all, since 2026-03-01 10:05:00: there is no direct path, and no way through another machine.",
        ),
        (path(NAS, "none", rtt_ms=None), "Not at all, since 2026-03-01 10:05:00: nas-1 is offline."),
        (
            path(EDGE, "transit", via=[SPARE], standby=[NAS]),
            "Through edge-2, since 2026-03-01 10:05:00. If that fails: through nas-1 (offline).",
        ),
        (path(EDGE, "unknown", since=None), "Not known: neither has reported yet."),
        (path(NAS, "unknown", since=None), "Not known: nas-1 is offline."),
    ],
)
def test_every_other_kind_is_a_sentence(wireloom: Run, gateway: Gateway, found: dict[str, Any], told: str) -> None:
    gateway.found = found
    assert wireloom("path", "db-1", "web-1").stdout.splitlines()[1].startswith(told)


def test_who_tried_nothing_is_shown_so(wireloom: Run, gateway: Gateway) -> None:
    gateway.found = path(WEB, "none", reports=[said(DB, WEB, "unreachable")])
    told = wireloom("path", "db-1", "web-1").stdout.splitlines()[-1].split(maxsplit=2)
    assert told == ["db-1", "no", "knows no address to try"]


def test_what_an_offline_machine_reported_is_marked(wireloom: Run, gateway: Gateway) -> None:
    gateway.found = path(NAS, "none", reports=[said(NAS, DB, "direct", endpoint="203.0.113.9:41012", rtt_ms=20)])
    told = wireloom("path", "db-1", "web-1").stdout.splitlines()[-1].split()
    assert told == ["nas-1", "(offline)", "yes", "203.0.113.9:41012", "20", "ms"]


def test_each_network_that_both_are_in(wireloom: Run, gateway: Gateway) -> None:
    document = json.loads(wireloom("path", "db-1", "web-1", "--json").stdout)
    assert document == {"items": [TRANSIT], "total": 1}
    gateway.shared = [(OFFICE, "office"), (LAB, "lab")]
    document = json.loads(wireloom("path", "db-1", "web-1", "--json").stdout)
    assert [item["mesh_network_uuid"] for item in document["items"]] == [OFFICE, LAB]
    document = json.loads(wireloom("path", "db-1", "web-1", "--network", "lab", "--json").stdout)
    assert [item["mesh_network_uuid"] for item in document["items"]] == [LAB]
    gateway.shared = []
    refused = wireloom("path", "db-1", "web-1").exception
    assert isinstance(refused, NotFoundError)
    assert "no network in common" in str(refused)


def test_what_machines_reported_is_harmless_on_a_terminal(wireloom: Run, gateway: Gateway) -> None:
    hostile = "\x1b[2J\x07no\nway"
    gateway.found = path(
        WEB,
        "none",
        reports=[said(DB, WEB, "unreachable", tried=[{"endpoint": hostile, "result": hostile}])],
        events=[{"time": TIME, "kind": "report", "sequence": 3, "text": hostile}],
    )
    shown = wireloom("path", "db-1", "web-1").stdout
    assert shown.replace("\n", "").isprintable()
    assert len(shown.splitlines()) == 8


def test_a_machines_peers_are_listed_by_network(wireloom: Run) -> None:
    lines = wireloom("machine", "show", "db-1").stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("Peer"))
    assert [" ".join(line.split()) for line in lines[start:]] == [
        "Peer Network Address Status Path Round trip",
        "edge-2 lab 172.16.0.4 online no way",
        "web-1 office 172.16.0.2 online through edge-1 1,030 ms",
        "edge-1 office 172.16.0.3 online direct 10 ms",
        "nas-1 office 172.16.0.5 offline unknown",
    ]
    assert max(map(len, lines)) <= 80
    assert len(json.loads(wireloom("machine", "show", "db-1", "--json").stdout)["peers"]) == 4


def test_a_machine_is_made_a_transit_or_not(wireloom: Run, gateway: Gateway) -> None:
    told = wireloom("machine", "transit", "db-1", "never").stdout
    assert told == "Transit through db-1 is now never: no others' traffic goes through it.\n"
    assert gateway.changes == [(f"/machines/{DB['uuid']}", {"transit": "never"})]
    assert wireloom("machine", "transit", "db-1", "perhaps").exit_code == 2
