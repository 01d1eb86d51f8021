"""`wireloom --at`: which moment a command asks about, what it shows of it, and which commands refuse it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest
import typer
from typer.testing import CliRunner, Result

from events.errors import InvalidInputError, NotFoundError
from services.cli import main
from services.cli.moments import as_of, of_then, sent
from services.cli.session import Surroundings
from tests.unit.test_cli_commands import OFFICE, Gateway, machine, network, ok, page, problem

AT, SINCE = "X-Wireloom-At", "X-Wireloom-Reports-Since"
LOOKING_BACK = {
    "network list", "network show", "network reflectors", "machine list", "machine show", "machine gateway", "path",
    "bgp status", "bgp sessions", "bgp speaker", "bgp rib", "route list", "route show", "vip list", "vip show",
    "policy list", "policy show",
}  # fmt: skip
ARGUMENTS = {
    "network create": "lab 10.2.0.0/16",
    "network show": "bureau",
    "network rename": "bureau office",
    "network set-default": "bureau",
    "network set-route-reflector": "bureau on",
    "network delete": "bureau",
    "network status": "bureau",
    "network reflectors": "bureau",
    "machine show": "db-1",
    "machine assign": "db-1 -n bureau",
    "machine unassign": "db-1 -n bureau",
    "machine rename": "db-1 db-2",
    "machine transit": "db-1 auto",
    "machine delete": "db-1",
    "machine revoke": "db-1",
    "machine rotate-key": "db-1",
    "machine tunnels": "db-1",
    "machine gateway": "db-1",
    "path": "db-1 db-2",
    "bgp status": "bureau",
    "bgp sessions": "bureau",
    "bgp speaker": "db-1",
    "bgp rib": "db-1",
    "route create": "lan 192.168.7.0/24",
    "vip create": "web 203.0.113.10",
    "policy create": "edge -d import",
} | {f"{what} {verb}": "it" for what in ("route", "vip", "policy") for verb in ("show", "delete")}
ARGUMENTS |= {f"{what} update": "it --name other" for what in ("route", "vip", "policy")}
"""What these commands cannot do without; others refuse before they look at theirs."""

OTHERS_LOOK = ("ledger", "why", "diff")
"""Commands that have their own ways to say which moment they mean."""


class PastGateway(Gateway):
    """A gateway whose answers are of one moment, in which nobody's presence is known."""

    def __init__(self) -> None:
        super().__init__()
        self.networks = [network(OFFICE, "bureau", machine_count=1)]
        self.machines = [machine("db-1", (OFFICE, "bureau", "172.16.0.1"), is_online=None, last_seen_at=None)]
        self.headers = {AT: "1204 2026-05-03T14:02:11.000000Z"}

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        response = super().__call__(request)
        if request.url.path.endswith(("/routes", "/vips", "/route-policies", "/sessions")):
            response = page([])
        if request.url.path.endswith("/gateway"):
            response = ok({"machine_uuid": self.machines[0]["uuid"], "network_uuids": []})
        response.headers.update(self.headers)
        return response


@pytest.fixture
def gateway() -> PastGateway:
    return PastGateway()


@pytest.fixture
def wireloom(gateway: Gateway, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Result]:
    for name in ("WIRELOOM_URL", "WIRELOOM_TOKEN", "WIRELOOM_CA", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("TZ", "UTC")

    def run(*arguments: str) -> Result:
        around = Surroundings(httpx2.MockTransport(gateway), lambda _: None, lambda: False)
        return CliRunner().invoke(main.app, arguments, obj=around)

    return run


@pytest.mark.parametrize(
    "command",
    [
        ("network", "list"),
        ("network", "show", "bureau"),
        ("machine", "list", "-n", "bureau"),
        ("machine", "show", "db-1"),
        ("machine", "gateway", "db-1"),
        ("route", "list", "-m", "db-1"),
        ("vip", "list"),
        ("policy", "list", "-n", "bureau"),
        ("bgp", "sessions", "bureau"),
    ],
)
def test_every_request_is_about_the_moment_and_the_first_line_says_which(
    wireloom: Callable[..., Result], gateway: PastGateway, command: tuple[str, ...]
) -> None:
    shown = wireloom("--at", "1204", *command)
    assert shown.exit_code == 0, shown.output
    assert [request.url.params["at"] for request in gateway.requests] == ["1204"] * len(gateway.requests)
    lines = shown.stdout.splitlines()
    assert lines[0] == "As of 2026-05-03 14:02:11 (log position 1204)"
    assert shown.stdout.count("As of") == 1


def test_what_is_not_recorded_is_said_so(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    assert "not recorded" in wireloom("--at", "1204", "machine", "list").stdout
    shown = wireloom("--at", "1204", "machine", "show", "db-1").stdout
    assert [line.split()[0] for line in shown.splitlines() if "not recorded" in line] == ["Status", "Last"]
    assert "offline" not in shown
    gateway.headers[SINCE] = "2026-06-01T00:00:00.000000Z"
    assert "known since 2026-06-01 00:00:00 only" in wireloom("--at", "1204", "machine", "show", "db-1").stdout
    refused = wireloom("--at", "1204", "machine", "list", "--online")
    assert isinstance(refused.exception, InvalidInputError)


def test_json_stays_as_it_is(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    document = json.loads(wireloom("--at", "1204", "network", "list", "--json").stdout)
    assert document == {"items": gateway.networks, "total": 1}


def test_the_present_is_asked_without_a_moment(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    gateway.headers = {}
    assert "As of" not in wireloom("network", "show", "bureau").stdout
    assert all("at" not in request.url.params for request in gateway.requests)


def test_all_requests_mean_the_same_moment(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    wireloom("--at", "2 hours ago", "network", "show", "bureau")
    asked = {request.url.params["at"] for request in gateway.requests}
    assert len(gateway.requests) > 1
    (moment,) = asked
    assert moment.endswith("Z")


def test_a_name_that_was_another_then_is_not_found_and_it_says_why(
    wireloom: Callable[..., Result], gateway: PastGateway
) -> None:
    error = wireloom("--at", "1204", "network", "show", "office").exception
    assert isinstance(error, NotFoundError)
    assert "With --at, names are those of that moment" in error.hint


def test_nothing_is_advised_about_the_past(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    gateway.networks, gateway.headers = [], {AT: "0"}
    lines = wireloom("--at", "0", "network", "list").stdout.splitlines()
    assert lines == ["As of the beginning (log position 0)", "There were none then."]


@pytest.mark.parametrize("at", ["", "tomorrow", "-5", "2 fortnights ago", "2999-01-01"])
def test_what_is_no_moment_is_refused_before_anything_is_asked(
    wireloom: Callable[..., Result], gateway: PastGateway, at: str
) -> None:
    error = wireloom("--at", at, "network", "list").exception
    assert isinstance(error, InvalidInputError)
    assert error.hint
    assert not gateway.requests


def test_a_position_that_is_not_yet_is_refused(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    gateway.networks = []
    refusal = problem(NotFoundError("The log ends at 3.", hint="Give one that there is."))
    refuse: Callable[[httpx2.Request], httpx2.Response] = lambda _: refusal  # noqa: E731
    around = Surroundings(httpx2.MockTransport(refuse), lambda _: None, lambda: False)
    shown = CliRunner().invoke(main.app, ["--at", "99", "network", "list"], obj=around)
    assert isinstance(shown.exception, NotFoundError)
    assert "As of" not in shown.stdout


def commands(group: Any = None, name: str = "") -> Iterator[str]:
    """Every command there is."""
    group = group or typer.main.get_command(main.app)
    for part, command in group.commands.items():
        whole = f"{name} {part}".strip()
        if hasattr(command, "commands"):
            yield from commands(command, whole)
        else:
            yield whole


@pytest.mark.parametrize("command", [each for each in commands() if each.split()[0] not in OTHERS_LOOK])
def test_every_command_looks_back_or_refuses_to(
    wireloom: Callable[..., Result], gateway: PastGateway, command: str
) -> None:
    refused = wireloom("--at", "1204", *command.split(), *ARGUMENTS.get(command, "").split())
    if command in LOOKING_BACK:
        assert gateway.requests, refused.output
        assert "takes no --at" not in str(refused.exception)
    else:
        assert isinstance(refused.exception, InvalidInputError), (refused.exception, refused.output)
        assert "takes no --at" in str(refused.exception)
        assert not gateway.requests


@pytest.mark.parametrize(
    ("zone", "said", "asked"),
    [
        ("Europe/Zurich", "2026-07-01T12:00", "2026-07-01T10:00:00.000000Z"),
        ("Europe/Zurich", "2026-01-01T12:00", "2026-01-01T11:00:00.000000Z"),
        ("Europe/Zurich", "2026-07-01T12:00Z", "2026-07-01T12:00:00.000000Z"),
        ("America/New_York", "2026-01-01", "2026-01-01T05:00:00.000000Z"),
        ("UTC", "2 days ago", "2026-10-30T00:00:00.000000Z"),
        ("UTC", "now", "2026-11-01T00:00:00.000000Z"),
        ("Europe/Zurich", "1204", "1204"),
    ],
)
def test_a_time_without_a_zone_is_local(monkeypatch: pytest.MonkeyPatch, zone: str, said: str, asked: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert sent(said, datetime(2026, 11, 1, tzinfo=UTC)) == asked
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_moment_in_words() -> None:
    assert as_of("0") == "As of the beginning (log position 0)"
    assert as_of("7 2026-05-03T14:02:11.000000Z").endswith("(log position 7)")


def test_of_a_moment_that_is_not_yet_nothing_is_said_of_names() -> None:
    error = NotFoundError("The log ends at 3: there is no position 99 yet.", hint="Give one that there is.")
    of_then(error)
    assert error.hint == "Give one that there is."


def test_diff_takes_its_moments_behind_it(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    error = wireloom("--at", "3", "diff", "1", "2").exception
    assert isinstance(error, InvalidInputError)
    assert "wireloom diff A B" in error.hint


def test_behind_a_command_it_says_where_it_stands(wireloom: Callable[..., Result], gateway: PastGateway) -> None:
    for given in (["--at", "3"], ["--at=3"]):
        error = wireloom("network", "show", "office", *given).exception
        assert isinstance(error, InvalidInputError)
        assert "--at MOMENT network show" in error.hint
    assert not gateway.requests
