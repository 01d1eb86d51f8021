"""`wireloom route`, `vip`, `policy`, `machine gateway`, `network reflectors` against a gateway that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from typer.testing import CliRunner, Result

from events.errors import InvalidInputError, NotFoundError
from services.cli import main
from services.cli.crossings import gateway_text
from services.cli.rules import parse_rule, read_rules
from services.cli.session import Surroundings
from tests.unit.test_cli_commands import LAB, OFFICE, TIME, Gateway, ok, page

LAN, WEB, EDGE = (str(uuid4()) for _ in range(3))
RULE = {
    "sequence": 10,
    "enabled": True,
    "description": "ours",
    "action": "accept",
    "match_type": "prefix_list",
    "match_prefixes": ["10.0.0.0/8"],
    "match_prefix_len_min": None,
    "match_prefix_len_max": 24,
    "match_communities": [],
    "match_as_path": "",
    "set_local_pref": 200,
    "set_med": None,
    "set_communities": None,
    "add_communities": ["65000:1"],
    "remove_communities": [],
    "prepend_as_count": 2,
}
NEW = {"created_at": TIME, "updated_at": TIME}


class RoutingGateway(Gateway):
    """The same gateway, with a route, a virtual IP and a route policy."""

    def __init__(self) -> None:
        super().__init__()
        db, web = (machine["uuid"] for machine in self.machines)
        self.collections: dict[str, list[dict[str, Any]]] = {
            "/routes": [
                {"uuid": LAN, "name": "lan", "enabled": True, "prefixes": ["10.20.0.0/16", "203.0.113.0/24"],
                 "machine_uuids": [web, db], "machine_count": 2, **NEW},
            ],
            "/vips": [
                {"uuid": WEB, "name": "web", "enabled": False, "address": "203.0.113.10",
                 "health_check_type": "http", "health_check_target": "/healthz", "health_check_interval_seconds": 2,
                 "health_check_timeout_seconds": 1, "health_check_healthy_threshold": 2,
                 "health_check_unhealthy_threshold": 3, "health_check_holdoff_seconds": 0,
                 "machine_uuids": [web], "machine_count": 1, **NEW},
            ],
            "/route-policies": [
                {"uuid": EDGE, "name": "edge", "description": "", "direction": "import", "default_action": "reject",
                 "local_pref": None, "rules": [RULE, RULE | {"sequence": 20, "enabled": False}],
                 "network_uuids": [OFFICE], "machine_uuids": [db], **NEW},
            ],
        }  # fmt: skip
        self.sent: list[tuple[str, str, Any]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        path = request.url.path.removeprefix("/api/v1")
        if request.method != "GET":
            self.sent.append((request.method, path, json.loads(request.content) if request.content else None))
        if path.endswith(("/gateway", "/reflectors")):
            empty: dict[str, Any] = {"network_uuids": []} if path.endswith("/gateway") else {"machine_uuids": []}
            return ok(empty if request.method == "GET" else self.sent[-1][2])
        for start, items in self.collections.items():
            if path == start and request.method == "GET":
                name = request.url.params.get("name")
                return page([item for item in items if name in (None, item["name"])])
            for item in items:
                if path == f"{start}/{item['uuid']}":
                    return httpx2.Response(204) if request.method == "DELETE" else ok(item)
            if path == start:
                return ok(items[0])
        return super().__call__(request)


@pytest.fixture
def gateway() -> RoutingGateway:
    return RoutingGateway()


@pytest.fixture
def wireloom(gateway: RoutingGateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    for name in ("WIRELOOM_URL", "WIRELOOM_TOKEN", "WIRELOOM_CA", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "dumb")

    def run(*arguments: str, typed: str | None = None) -> Result:
        surroundings = Surroundings(httpx2.MockTransport(gateway), lambda _: None, lambda: typed is not None)
        return CliRunner().invoke(main.app, arguments, obj=surroundings, input=typed)

    return run


def rows(result: Result) -> list[list[str]]:
    assert result.exit_code == 0, result.exception
    return [line.split() for line in result.stdout.splitlines()]


def test_creating_a_route(wireloom: Callable[..., Result], gateway: RoutingGateway) -> None:
    said = wireloom("route", "create", "dc", "10.30.0.0/16", "10.31.0.0/16", "--machine", "web-1,db-1", "--disabled")
    assert said.stdout == "Created route dc: 10.30.0.0/16, 10.31.0.0/16 behind web-1, db-1.\n"
    db, web = (machine["uuid"] for machine in gateway.machines)
    body = {"name": "dc", "enabled": False, "prefixes": ["10.30.0.0/16", "10.31.0.0/16"], "machine_uuids": [web, db]}
    assert gateway.sent == [("POST", "/routes", body)]
    assert json.loads(wireloom("route", "create", "x", "10.9.0.0/16", "--json").stdout)["uuid"] == LAN


def test_routes_are_listed_and_shown_with_hostnames(wireloom: Callable[..., Result]) -> None:
    assert rows(wireloom("route", "list"))[1:] == [
        ["lan", "10.20.0.0/16,", "203.0.113.0/24", "web-1,", "db-1", "yes", LAN]
    ]
    shown = wireloom("route", "show", "LAN").stdout
    assert "203.0.113.0/24" in shown
    assert "web-1" in shown
    assert isinstance(wireloom("route", "show", "lam").exception, NotFoundError)


def test_only_what_is_named_changes(wireloom: Callable[..., Result], gateway: RoutingGateway) -> None:
    assert isinstance(wireloom("route", "update", "lan").exception, InvalidInputError)
    both = wireloom("route", "update", "lan", "--machine", "db-1", "--no-machines")
    assert isinstance(both.exception, InvalidInputError)
    assert wireloom("route", "update", "lan", "--disable").exit_code == 0
    assert wireloom("route", "update", LAN, "--name", "b", "--prefix", "10.1.0.0/16", "--no-machines").exit_code == 0
    assert gateway.sent == [
        ("PATCH", f"/routes/{LAN}", {"enabled": False}),
        ("PATCH", f"/routes/{LAN}", {"name": "b", "prefixes": ["10.1.0.0/16"], "machine_uuids": []}),
    ]


def test_deleting_what_is_in_use_is_asked_about(wireloom: Callable[..., Result], gateway: RoutingGateway) -> None:
    asked = wireloom("route", "delete", "lan", typed="n\n")
    assert asked.exit_code == 1
    assert "10.20.0.0/16, 203.0.113.0/24" in asked.stderr
    assert gateway.sent == []
    assert wireloom("route", "delete", "lan", "--yes").stdout == "Deleted route lan.\n"
    assert wireloom("vip", "delete", "web", typed="").stdout == "Deleted virtual IP web.\n"
    assert wireloom("policy", "delete", "edge").stdout == "Deleted route policy edge.\n"
    assert [sent[1] for sent in gateway.sent] == [f"/routes/{LAN}", f"/vips/{WEB}", f"/route-policies/{EDGE}"]


def test_a_vip_and_its_health_check(wireloom: Callable[..., Result], gateway: RoutingGateway) -> None:
    checked = ("--check", "http", "--target", "/healthz", "--interval", "2", "--timeout", "1", "--holdoff", "0")
    said = wireloom("vip", "create", "web", "203.0.113.10", "-m", "db-1", "-m", "web-1", *checked)
    assert said.stdout == "Created virtual IP web: 203.0.113.10 on db-1, then web-1.\n"
    assert wireloom("vip", "update", "web", "--check", "none", "--enable", "--unhealthy", "5").exit_code == 0
    (_, _, made), (_, _, changed) = gateway.sent
    assert {name: value for name, value in made.items() if name.startswith("health_check_")} == {
        "health_check_type": "http",
        "health_check_target": "/healthz",
        "health_check_interval_seconds": 2,
        "health_check_timeout_seconds": 1,
        "health_check_holdoff_seconds": 0,
    }
    assert changed == {"enabled": True, "health_check_type": "none", "health_check_unhealthy_threshold": 5}
    assert rows(wireloom("vip", "list"))[1] == ["web", "203.0.113.10", "web-1", "http", "/healthz", "no", WEB]
    shown = wireloom("vip", "show", "web").stdout
    assert "1. web-1" in shown
    assert "every 2 s, each within 1 s" in shown


def test_a_policy_shows_its_rules_as_a_table(wireloom: Callable[..., Result]) -> None:
    lines = wireloom("policy", "show", "edge").stdout.splitlines()
    assert "For                 network office" in lines
    assert "                    machine db-1" in lines
    table = [line.split("  ") for line in lines[lines.index("") + 1 :]]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in table]
    assert cells[0] == ["Rule", "Match", "Action", "Changes", "Description"]
    assert cells[1] == [
        "10",
        "10.0.0.0/8 to /24",
        "accept",
        "local preference 200, +65000:1, prepend 2",
        "ours",
    ]
    assert cells[2][2] == "accept (disabled)"
    assert rows(wireloom("policy", "list"))[1] == [
        "edge", "import", "network", "office,", "machine", "db-1", "reject", "2", EDGE,
    ]  # fmt: skip


def test_a_policy_is_made_of_flags_or_a_file(
    wireloom: Callable[..., Result], gateway: RoutingGateway, tmp_path: Path
) -> None:
    rule = ("--rule", "10 reject community=65000:1", "--rule", "20 accept")
    assert wireloom("policy", "create", "x", "-d", "import", *rule, "-n", "office,lab").exit_code == 0
    file = tmp_path / "rules.json"
    file.write_text(wireloom("policy", "show", "edge", "--json").stdout)
    assert wireloom("policy", "update", "edge", "--rules", str(file), "--no-local-pref").exit_code == 0
    assert wireloom("policy", "update", "edge", "--no-rules", "--no-networks", "--default", "accept").exit_code == 0
    assert [sent[2] for sent in gateway.sent] == [
        {
            "name": "x",
            "direction": "import",
            "rules": [
                {"sequence": 10, "action": "reject", "match_type": "community", "match_communities": ["65000:1"]},
                {"sequence": 20, "action": "accept"},
            ],
            "network_uuids": [OFFICE, LAB],
        },
        {"local_pref": None, "rules": [RULE, RULE | {"sequence": 20, "enabled": False}]},
        {"rules": [], "network_uuids": [], "default_action": "accept"},
    ]
    both = wireloom("policy", "update", "edge", "--rules", str(file), *rule)
    assert isinstance(both.exception, InvalidInputError)


def test_a_gateway_between_networks(wireloom: Callable[..., Result], gateway: RoutingGateway) -> None:
    said = wireloom("machine", "gateway", "web-1", "office", "lab")
    assert said.stdout == "web-1 is a gateway between office and lab.\n"
    assert wireloom("machine", "gateway", "web-1", "--none").stdout == "web-1 is no gateway.\n"
    assert wireloom("machine", "gateway", "web-1").stdout == "web-1 is no gateway.\n"
    web = gateway.machines[1]["uuid"]
    assert gateway.sent == [
        ("PUT", f"/machines/{web}/gateway", {"network_uuids": [OFFICE, LAB]}),
        ("PUT", f"/machines/{web}/gateway", {"network_uuids": []}),
    ]
    assert isinstance(wireloom("machine", "gateway", "web-1", "lab", "--none").exception, InvalidInputError)


def test_pinned_reflectors(wireloom: Callable[..., Result], gateway: RoutingGateway) -> None:
    said = wireloom("network", "reflectors", "office", "web-1", "db-1")
    assert said.stdout == "The route reflectors of office are pinned to web-1, db-1.\n"
    assert "chosen" in wireloom("network", "reflectors", "office", "--auto").stdout
    assert "chosen" in wireloom("network", "reflectors", "office").stdout
    db, web = (machine["uuid"] for machine in gateway.machines)
    assert [sent[2] for sent in gateway.sent] == [{"machine_uuids": [web, db]}, {"machine_uuids": []}]
    assert isinstance(wireloom("network", "reflectors", "office", "db-1", "--auto").exception, InvalidInputError)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("1 accept", {}),
        ("1 accept disabled", {"enabled": False}),
        ("1 accept prefix=10.0.0.0/8,192.0.2.0/24 min=16 max=24",
         {"match_type": "prefix_list", "match_prefixes": ["10.0.0.0/8", "192.0.2.0/24"], "match_prefix_len_min": 16,
          "match_prefix_len_max": 24}),
        ("1 accept as-path='* 4200000001 *' med=7",
         {"match_type": "as_path", "match_as_path": "* 4200000001 *", "set_med": 7}),
        ("1 accept set= remove=1:2 add=1:3 prepend=2 local-pref=9 description='to the lab'",
         {"set_communities": [], "remove_communities": ["1:2"], "add_communities": ["1:3"], "prepend_as_count": 2,
          "set_local_pref": 9, "description": "to the lab"}),
    ],
)  # fmt: skip
def test_a_rule_in_words(text: str, fields: dict[str, Any]) -> None:
    assert parse_rule(text) == {"sequence": 1, "action": "accept", **fields}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "begins with"),
        ("accept 1", "begins with"),
        ("1 allow", "begins with"),
        ("1 accept med=x", "med takes a number"),
        ("1 accept colour=red", "it has no 'colour'"),
        ("1 accept prefix", "it has no 'prefix'"),
        ("1 accept prefix=10.0.0.0/8 community=1:2", "it matches one of"),
        ("1 accept as-path='*", "no closing quotation"),
    ],
)
def test_a_rule_that_cannot_be_read_says_why(text: str, why: str) -> None:
    with pytest.raises(InvalidInputError) as refusal:
        parse_rule(text)
    assert why in refusal.value.detail


@pytest.mark.parametrize("content", [None, b"{", b"{}", b"7"])
def test_a_file_without_rules_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "rules.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(InvalidInputError, match=r"rules\.json"):
        read_rules(file)


def test_a_gateway_between_networks_that_are_gone_says_so() -> None:
    assert gateway_text("m4", ["a", "b"], []) == "m4 is a gateway between a and b."
    assert gateway_text("m4", ["a", "b"], ["b"]) == "m4 is a gateway between a and b, but it is not in b now."
    assert "nothing crosses" in gateway_text("m4", ["a"], [])
    assert gateway_text("m4", [], []) == "m4 is no gateway."
