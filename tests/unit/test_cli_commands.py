"""The client commands against a gateway that is a function."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from typer.testing import CliRunner, Result

from events.errors import (
    ConflictError,
    InUseError,
    InvalidCidrError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    WireloomError,
)
from services.cli import main
from services.cli.session import Surroundings, actor

TIME = "2026-03-01T10:00:00.000000Z"
OFFICE, LAB = str(uuid4()), str(uuid4())


def network(uuid: str, name: str, **fields: Any) -> dict[str, Any]:
    return {
        "uuid": uuid,
        "name": name,
        "network_cidr": "172.16.0.0/24",
        "is_default": False,
        "route_reflector_mode": False,
        "bgp_stage": "mesh",
        "recommendation": None,
        "available_ip_count": 254,
        "machine_count": 0,
        "created_at": TIME,
        "updated_at": TIME,
    } | fields


def machine(hostname: str, *places: tuple[str, str, str], **fields: Any) -> dict[str, Any]:
    return {
        "uuid": str(uuid4()),
        "hostname": hostname,
        "is_online": True,
        "last_seen_at": TIME,
        "agent_version": "0.1.0",
        "memberships": [
            {
                "mesh_network_uuid": uuid,
                "mesh_network_name": name,
                "wg_ip_address": address,
                "public_key": None,
                "endpoints": [],
            }
            for uuid, name, address in places
        ],
        "created_at": TIME,
        "updated_at": TIME,
    } | fields


class Gateway:
    """A gateway with fixed contents that remembers what it was asked."""

    def __init__(self) -> None:
        self.networks = [
            network(OFFICE, "office", is_default=True, machine_count=2, available_ip_count=252),
            network(LAB, "lab", network_cidr="10.0.0.0/16", route_reflector_mode=True, available_ip_count=65_534),
        ]
        self.machines = [
            machine("db-1", (OFFICE, "office", "172.16.0.1")),
            machine("web-1", (OFFICE, "office", "172.16.0.2"), (LAB, "lab", "10.0.0.1"), is_online=False),
        ]
        self.events = [
            {
                "sequence": 7 + n,
                "time": TIME,
                "kind": "network.created",
                "actor": who,
                "command_id": str(uuid4()),
                "text": text,
            }
            for n, (who, text) in enumerate(
                [("cli:alice", "created network office"), (f"machine:{uuid4()}", "registered db-1")]
            )
        ]
        self.requests: list[httpx2.Request] = []
        self.answers: list[Callable[[], httpx2.Response]] = []
        """What the next changes are answered, first to last; after that each succeeds."""
        self.batches: list[list[str]] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        if request.url.scheme == "https":
            raise httpx2.ConnectError("wrong version number")
        self.requests.append(request)
        path, query = request.url.path.removeprefix("/api/v1"), request.url.params
        if request.method != "GET":
            return self.answers.pop(0)() if self.answers else self.change(request, path)
        if path == "/mesh-networks":
            return page([n for n in self.networks if query.get("name", n["name"]) == n["name"]])
        if path == "/machines":
            return self.page_of_machines(query)
        if path == "/events":
            newest_first = self.events if "after" in query else self.events[::-1]
            return ok({"items": newest_first[: int(query["limit"])], "next": None, "last_sequence": 8})
        if path.endswith("/machines"):
            return page(self.machines)
        if path.endswith("/peers"):
            return page([])
        for item in (*self.networks, *self.machines):
            if path.endswith(item["uuid"]):
                return ok(item)
        return problem(NotFoundError(f"There is nothing at {path}."))

    def page_of_machines(self, query: httpx2.QueryParams) -> httpx2.Response:
        chosen = [m for m in self.machines if query.get("hostname", m["hostname"]).lower() == m["hostname"].lower()]
        start, size = int(query.get("after", 0)), int(query.get("limit", 100))
        following = str(start + size) if start + size < len(chosen) else None
        return ok({"items": chosen[start : start + size], "total": len(chosen), "next": following})

    def change(self, request: httpx2.Request, path: str) -> httpx2.Response:
        body = json.loads(request.content) if request.content else {}
        if path.endswith("/batch"):
            self.batches.append(body["machine_uuids"])
            items = [
                {"mesh_network_uuid": LAB, "machine_uuid": uuid, "wg_ip_address": f"10.0.{n // 250}.{n % 250 + 1}"}
                for n, uuid in enumerate(body["machine_uuids"])
            ]
            return ok({"items": items, "total": len(items)})
        if path.endswith("/machines"):
            return ok(body | {"mesh_network_uuid": LAB, "wg_ip_address": body.get("wg_ip_address", "10.0.0.1")})
        return httpx2.Response(204) if request.method == "DELETE" else ok(self.networks[0] | body)


def ok(body: dict[str, Any]) -> httpx2.Response:
    return httpx2.Response(200, json=body)


def page(items: list[dict[str, Any]]) -> httpx2.Response:
    return ok({"items": items, "total": len(items), "next": None})


def problem(error: WireloomError) -> httpx2.Response:
    return httpx2.Response(error.status, json=error.to_problem())


@pytest.fixture
def gateway() -> Gateway:
    return Gateway()


@pytest.fixture
def wireloom(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    for name in ("WIRELOOM_URL", "WIRELOOM_TOKEN", "WIRELOOM_CA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("COLUMNS", raising=False)

    def run(*arguments: str, typed: str | None = None) -> Result:
        surroundings = Surroundings(httpx2.MockTransport(gateway), lambda _: None, lambda: typed is not None)
        return CliRunner().invoke(main.app, arguments, obj=surroundings, input=typed)

    return run


def test_the_list_shows_name_star_badge_cidr_and_machines(wireloom: Callable[..., Result]) -> None:
    lines = wireloom("network", "list").stdout.splitlines()
    assert lines[0].split() == ["Name", "Network", "CIDR", "Machines", "Free", "UUID"]
    assert lines[1].split() == ["office", "★", "172.16.0.0/24", "2", "252", OFFICE]
    assert lines[2].split() == ["lab", "RR", "10.0.0.0/16", "0", "65,534", LAB]


def test_a_pipe_gets_one_line_for_each_row_whatever_its_length(
    wireloom: Callable[..., Result], gateway: Gateway
) -> None:
    gateway.machines = [machine("a" * 60 + "." + "b" * 60, *((LAB, f"network-{n}", f"10.0.{n}.1") for n in range(9)))]
    lines = wireloom("machine", "list").stdout.splitlines()
    assert len(lines) == 2
    assert "network-0 10.0.0.1, network-1 10.0.1.1" in lines[1]
    assert not any(line.endswith(" ") for line in lines)


def test_at_80_columns_nothing_is_wider_and_nothing_is_lost(
    wireloom: Callable[..., Result], gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for command in (("network", "list"), ("machine", "list"), ("network", "show", "office"), ("log",)):
        lines = wireloom(*command).stdout.splitlines()
        assert max(map(len, lines)) <= 80
    assert "web-1" in wireloom("machine", "list").stdout


@pytest.mark.parametrize(
    "command", [("network", "list"), ("machine", "list", "--offline"), ("machine", "show", "db-1")]
)
def test_json_is_one_document_as_the_api_gives_it(
    wireloom: Callable[..., Result], gateway: Gateway, command: tuple[str, ...]
) -> None:
    document = json.loads(wireloom(*command, "--json").stdout)
    if command == ("network", "list"):
        assert document == {"items": gateway.networks, "total": 2}
    if command[1] == "show":
        assert document == gateway.machines[0] | {"peers": []}


def test_a_network_is_shown_with_its_machines(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    shown = wireloom("network", "show", "office").stdout
    assert "172.16.0.0/24" in shown
    assert "2, room for 252 more" in shown
    assert ["db-1", "172.16.0.1", "online", gateway.machines[0]["uuid"]] in [
        line.split() for line in shown.splitlines()
    ]
    document = json.loads(wireloom("network", "show", OFFICE, "--json").stdout)
    assert document == gateway.networks[0] | {"machines": gateway.machines}


def test_a_change_says_who_asks_and_has_a_key_of_its_own(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    for name in ("one", "two"):
        assert wireloom("network", "create", name, "10.1.0.0/16", "--default", "--route-reflector").exit_code == 0
    posted = [request for request in gateway.requests if request.method == "POST"]
    assert json.loads(posted[0].content) == {
        "name": "one",
        "network_cidr": "10.1.0.0/16",
        "is_default": True,
        "route_reflector_mode": True,
    }
    keys = {UUID(request.headers["Idempotency-Key"]) for request in posted}
    assert len(keys) == 2
    assert all(request.headers["X-Wireloom-Actor"].startswith("cli:") for request in posted)


def broken() -> httpx2.Response:
    raise httpx2.ReadError("reset by peer")


def unavailable() -> httpx2.Response:
    return problem(UnavailableError("The allocator does not answer.", hint="Check that it runs."))


@pytest.mark.parametrize("failure", [broken, unavailable])
def test_a_change_is_sent_again_once_with_the_same_key(
    wireloom: Callable[..., Result], gateway: Gateway, failure: Callable[[], httpx2.Response]
) -> None:
    gateway.answers = [failure]
    assert wireloom("network", "rename", "office", "hq").exit_code == 0
    patched = [request for request in gateway.requests if request.method == "PATCH"]
    assert len(patched) == 2
    assert len({request.headers["Idempotency-Key"] for request in patched}) == 1
    gateway.answers = [failure, failure]
    assert isinstance(wireloom("network", "rename", "office", "hq").exception, UnavailableError)


def test_a_change_that_does_not_show_yet_is_no_failure(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    late = httpx2.Response(202, json={"command_id": str(uuid4()), "sequence": 9})
    gateway.answers = [lambda: late, lambda: late]
    assert "Created network one" in wireloom("network", "create", "one", "10.1.0.0/16").stdout
    assert "does not show all of it yet" in wireloom("machine", "assign", "db-1", "--network", "lab").stdout


def test_setting_the_default(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    assert "lab is the default" in wireloom("network", "set-default", "lab").stdout
    assert "it was office" in wireloom("network", "set-default", "--none").stdout
    patched = [request for request in gateway.requests if request.method == "PATCH"]
    assert [(r.url.path.rpartition("/")[2], json.loads(r.content)) for r in patched] == [
        (LAB, {"is_default": True}),
        (OFFICE, {"is_default": False}),
    ]
    assert wireloom("network", "set-default").exception is not None
    assert wireloom("network", "set-default", "lab", "--none").exception is not None


def test_route_reflector_mode_is_on_or_off(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    assert wireloom("network", "set-route-reflector", "office", "on").exit_code == 0
    assert json.loads(gateway.requests[-1].content) == {"route_reflector_mode": True}
    assert wireloom("network", "set-route-reflector", "office", "perhaps").exit_code == 2


def test_deleting_by_force_asks_only_where_somebody_can_answer(
    wireloom: Callable[..., Result], gateway: Gateway
) -> None:
    refused = wireloom("network", "delete", "office", "--force", typed="n\n")
    assert refused.exit_code == 1
    assert "takes 2 machines out of it" in refused.stderr
    assert all(request.method == "GET" for request in gateway.requests)
    assert wireloom("network", "delete", "office", "--force", typed="y\n").exit_code == 0
    assert gateway.requests[-1].url.params["force"] == "true"
    for arguments in (["network", "delete", "office", "--force"], ["network", "delete", "lab"]):
        assert wireloom(*arguments).exit_code == 0
    assert wireloom("network", "delete", "office", "--force", "--yes", typed="").exit_code == 0
    refused = wireloom("machine", "delete", "web-1", "--force", typed="n\n")
    assert "office 172.16.0.2, lab 10.0.0.1" in refused.stderr


def test_assigning_one_machine_at_an_address(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    said = wireloom("machine", "assign", "DB-1", "--network", "lab", "--address", "10.0.0.9").stdout
    assert said == "db-1 is in lab as 10.0.0.9.\n"
    assert json.loads(gateway.requests[-1].content) == {
        "machine_uuid": gateway.machines[0]["uuid"],
        "wg_ip_address": "10.0.0.9",
    }


def test_thousands_are_assigned_in_as_few_requests_as_the_gateway_takes(
    wireloom: Callable[..., Result], gateway: Gateway
) -> None:
    gateway.machines = [machine(f"node-{n}") for n in range(12_000)]
    said = wireloom("machine", "assign", "--all", "-n", "lab").stdout
    assert said.startswith("12,000 machines are in lab, from 10.0.0.1 to ")
    assert [len(batch) for batch in gateway.batches] == [10_000, 2_000]
    gateway.batches.clear()
    answer = wireloom("machine", "assign", *(f"node-{n}" for n in range(20)), "-n", "lab", "--json").stdout
    assert json.loads(answer)["total"] == 20
    assert gateway.batches == [[m["uuid"] for m in gateway.machines[:20]]]


def test_unassigning_and_renaming(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    assert wireloom("machine", "unassign", "web-1", "-n", "office").stdout == "Took web-1 out of office.\n"
    assert gateway.requests[-1].url.path.endswith(f"/{OFFICE}/machines/{gateway.machines[1]['uuid']}")
    assert wireloom("machine", "rename", "web-1", "www").stdout == "Machine web-1 is now www.\n"


def test_the_log_says_when_who_and_what_oldest_first(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    lines = wireloom("log").stdout.splitlines()
    assert lines[0].split() == ["Time", "Who", "What"]
    assert lines[1].split(maxsplit=3)[2:] == ["cli:alice", "created network office"]
    assert lines[2].split()[2].startswith("machine:")
    assert len(lines[2].split()[2]) == len("machine:") + 8
    records = [json.loads(line) for line in wireloom("log", "--json", "--limit", "1").stdout.splitlines()]
    assert [record["sequence"] for record in records] == [8]


def test_the_log_of_what_was_deleted_is_found_by_uuid(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    gone = str(uuid4())
    assert wireloom("log", "--network", gone).exit_code == 0
    assert gateway.requests[-1].url.params["network"] == gone


def test_the_log_is_filtered_by_actor_kind_and_time(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    kinds = ("-k", "network.created", "--kind", "network.deleted")
    assert wireloom("log", "--actor", "alice", *kinds, "--since", "2026-05-04T08:30Z").exit_code == 0
    asked = gateway.requests[-1].url.params
    assert asked.get_list("kind") == ["network.created", "network.deleted"]
    assert (asked["actor"], "until" in asked) == ("alice", False)
    assert datetime.fromisoformat(asked["since"]) == datetime(2026, 5, 4, 8, 30, tzinfo=UTC)


def test_the_log_takes_times_as_at_does_and_those_to_come(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    assert wireloom("log", "--since", "2 hours ago", "--until", "2099-01-01").exit_code == 0
    asked = gateway.requests[-1].url.params
    since, until = (datetime.fromisoformat(asked[name]) for name in ("since", "until"))
    assert timedelta(hours=2) <= datetime.now(UTC) - since < timedelta(hours=3)
    assert until.year in (2098, 2099)
    for nonsense in ("12", "some day"):
        error = wireloom("log", "--since", nonsense).exception
        assert isinstance(error, InvalidInputError)
        assert "how long ago" in error.hint


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InvalidCidrError("no"), 2),
        (NotFoundError("no"), 3),
        (InUseError("no"), 4),
        (ConflictError("no"), 4),
    ],
)
def test_a_refusal_becomes_its_exit_code_and_says_what_to_do(
    wireloom: Callable[..., Result],
    gateway: Gateway,
    error: WireloomError,
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    error.hint = "Do [this] instead."
    gateway.answers = [lambda: problem(error)]
    raised = wireloom("network", "create", "office", "10.0.0.0/8").exception
    assert isinstance(raised, type(error))

    def failing() -> None:
        raise raised

    monkeypatch.setattr(main, "app", failing)
    with pytest.raises(SystemExit) as ended:
        main.run()
    assert ended.value.code == code
    assert capsys.readouterr().err == "error: no\nDo [this] instead.\n"


def test_hostile_names_are_harmless_on_a_terminal(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    hostile = "db\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e\u200b\x00-1"
    gateway.machines = [machine(hostile, (OFFICE, hostile, "172.16.0.1"))]
    gateway.events[0]["text"] = f"registered {hostile}\n2026-01-01 00:00:00  cli:root  deleted everything"
    listed, told = wireloom("machine", "list"), wireloom("log")
    for text in (listed.stdout, wireloom("machine", "show", gateway.machines[0]["uuid"]).stdout, told.stdout):
        assert text.replace("\n", "").isprintable()
    assert "db]0;owned[2J31m-1" in listed.stdout
    assert len(told.stdout.splitlines()) == 3
    listed, told = wireloom("machine", "list", "--json"), wireloom("log", "--json")
    assert json.loads(listed.stdout)["items"] == gateway.machines
    assert json.loads(told.stdout.splitlines()[0])["text"] == gateway.events[0]["text"]
    for text in (listed.stdout, told.stdout):
        assert text.replace("\n", "").isprintable()


def test_a_gateway_that_is_not_there_or_is_something_else(
    wireloom: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("refused")

    for transport, said in ((refuse, "Nothing answers at"), (lambda _: httpx2.Response(200, text="<p>"), "is not a")):
        surroundings = Surroundings(httpx2.MockTransport(transport), lambda _: None)
        result = CliRunner().invoke(main.app, ["network", "list", "--url", "http://192.0.2.1:80"], obj=surroundings)
        assert isinstance(result.exception, UnavailableError)
        assert said in str(result.exception)
    assert "is not the address" in str(wireloom("network", "list", "--url", "nats://here").exception)


def test_the_actor_is_printable_without_spaces() -> None:
    assert actor("alice") == "cli:alice"
    assert actor("Zoë Müller") == "cli:Zo__M_ller"


def test_the_version_is_told(wireloom: Callable[..., Result]) -> None:
    assert wireloom("version").stdout.startswith("wireloom ")
    assert set(json.loads(wireloom("version", "--json").stdout)) == {"version"}
