"""Every changing command of the client, tried against a whole control plane: the log does not move."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from typer.testing import CliRunner, Result

from services.cli import main
from tests.support.program import ControlPlane, free_port, running
from tests.unit.test_cli_dry_run import TRYABLE

TRIALS = {
    "account create": ("bob", "--role", "viewer"),
    "account delete": ("carol", "--yes"),
    "account role": ("carol", "operator"),
    "account token create": ("--name", "laptop", "--account", "carol"),
    "account token revoke": ("{api_token}",),
    "machine assign": ("spare", "-n", "office"),
    "machine delete": ("db-1", "--force"),
    "machine gateway": ("gate", "office", "lab"),
    "machine rename": ("db-1", "db-9"),
    "machine revoke": ("gone",),
    "machine rotate-key": ("db-1",),
    "machine transit": ("db-1", "always"),
    "machine unassign": ("db-1", "-n", "office"),
    "network create": ("new", "10.9.0.0/24", "--default"),
    "network delete": ("office", "--force"),
    "network reflectors": ("office", "db-1", "gate"),
    "network rename": ("office", "bureau"),
    "network set-default": ("office",),
    "network set-route-reflector": ("office", "on"),
    "policy create": ("p", "-d", "import", "--network", "office", "--default", "reject"),
    "policy delete": ("keep",),
    "policy update": ("keep", "--name", "kept"),
    "route create": ("r", "192.168.9.0/24", "--machine", "db-1"),
    "route delete": ("dc",),
    "route update": ("dc", "--disable"),
    "token create": ("--network", "office"),
    "token revoke": ("{token}",),
    "vip create": ("v", "203.0.113.9", "--machine", "db-1"),
    "vip delete": ("www",),
    "vip update": ("www", "--disable"),
}
ELSEWHERE = {"undo", "machine revoke"}
"""What needs more than this control plane has: `undo` has tests of its own, and only a machine that has enrolled can be
revoked."""


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("dry")
    with running(folder / "up", "--data-dir", str(folder / "data"), "--bus-port", str(free_port())) as plane:
        yield plane


def wireloom(plane: ControlPlane, *arguments: str) -> Result:
    """A command in this process: many of them take less time so."""
    return CliRunner().invoke(
        main.app, arguments, env=plane.access | {"TERM": "dumb", "XDG_CONFIG_HOME": "/nonexistent"}
    )


def done(plane: ControlPlane, *arguments: str) -> Result:
    result = wireloom(plane, *arguments)
    assert result.exit_code == 0, (arguments, result.output, result.exception)
    return result


def position(plane: ControlPlane) -> int:
    with plane.client() as http:
        return int(http.get("/api/v1/events", params={"limit": 1}).json()["last_sequence"])


def prepared(plane: ControlPlane) -> dict[str, str]:
    """Something for each command to work on; what stands for the braces."""
    done(plane, "network", "create", "office", "10.1.0.0/24")
    done(plane, "network", "create", "lab", "10.2.0.0/24")
    plane.add_machines("db-1", "gate", "spare", "gone")
    for network in ("office", "lab"):
        done(plane, "machine", "assign", "db-1", "gate", "-n", network)
    done(plane, "route", "create", "dc", "192.168.1.0/24", "--machine", "db-1")
    done(plane, "vip", "create", "www", "203.0.113.1", "--machine", "db-1")
    done(plane, "policy", "create", "keep", "-d", "import", "--network", "lab")
    done(plane, "account", "create", "carol", "--role", "viewer")
    done(plane, "token", "create")
    with plane.client() as http:
        token = http.get("/api/v1/bootstrap-tokens").json()["items"][0]["uuid"]
        api_token = http.get("/api/v1/tokens").json()["items"][0]["uuid"]
    return {"token": token, "api_token": api_token}


def test_every_changing_command_is_tried(plane: ControlPlane) -> None:
    known = prepared(plane)
    assert set(TRYABLE) - ELSEWHERE == set(TRIALS) - ELSEWHERE
    before = position(plane)
    for name in sorted(set(TRIALS) - ELSEWHERE):
        arguments = (*name.split(), *(text.format(**known) for text in TRIALS[name]), "--dry-run")
        said = done(plane, *arguments).stdout
        assert said.startswith("The log would say\n"), (name, said)
        assert said.endswith("Nothing was changed.\n"), (name, said)
        assert "wla_" not in said
        assert "wlb_" not in said
        assert position(plane) == before, name
    refused = wireloom(plane, "machine", "revoke", "gone", "--dry-run")
    assert "has not enrolled" in str(refused.exception)
    assert position(plane) == before


def test_what_was_shown_is_what_then_happens(plane: ControlPlane) -> None:
    plane.add_machines("next")
    done(plane, "network", "create", "home", "10.7.0.0/24")
    shown = done(plane, "machine", "assign", "next", "-n", "home", "--dry-run").stdout
    done(plane, "machine", "assign", "next", "-n", "home")
    newest = done(plane, "log", "-n", "home").stdout.splitlines()[-1]
    assert newest.partition("assigned")[2] == shown.splitlines()[1].partition("assigned")[2]
