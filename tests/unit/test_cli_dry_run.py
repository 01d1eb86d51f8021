"""Every command that changes something can be tried, and then asks for nothing but that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import httpx2
import pytest
import typer
from typer.testing import Result

from services.cli import main
from tests.unit.test_cli_commands import OFFICE, Gateway, gateway, ok, wireloom

__all__ = ["gateway", "wireloom"]

LOOKING = {
    "account list",
    "account token list",
    "bgp rib",
    "bgp sessions",
    "bgp speaker",
    "bgp status",
    "diff",
    "key show",
    "ledger",
    "log",
    "machine list",
    "machine show",
    "machine tunnels",
    "network list",
    "network show",
    "network status",
    "path",
    "policy list",
    "policy show",
    "route list",
    "route show",
    "status",
    "token list",
    "version",
    "vip list",
    "vip show",
    "whoami",
    "why",
    "why address",
    "why path",
    "why peer",
    "why route",
}
"""What changes nothing."""

AT_HOME = {
    "account recover",
    "identity create",
    "identity export",
    "key retire",
    "key rotate",
    "log checkpoint",
    "log export",
    "log forget",
    "log import",
    "log verify",
    "login",
    "logout",
    "serve",
    "up",
}
"""What works on files, programs and logins, not by commands that the allocator decides."""


def commands(group: Any, *path: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something itself, by how it is called."""
    for name, found in getattr(group, "commands", {}).items():
        yield from commands(found, *path, name)
    if path and (not hasattr(group, "commands") or group.invoke_without_command):
        yield " ".join(path), group


ALL = dict(commands(typer.main.get_command(main.app)))
TRYABLE = sorted(name for name, found in ALL.items() if any(option.name == "dry_run" for option in found.params))


def test_every_command_that_changes_something_can_be_tried() -> None:
    assert set(TRYABLE) == set(ALL) - LOOKING - AT_HOME
    assert len(TRYABLE) >= 30


def told(*effects: tuple[str, str, str], events: int = 1, later: tuple[str, ...] = ()) -> dict[str, Any]:
    """A dry run as the gateway answers it."""
    items = [{"what": what, "kind": kind, "text": text, "count": 1, "is_lesser": False} for what, kind, text in effects]
    return {
        "position": 8,
        "commands": [],
        "events": [{"actor": "cli:alice", "text": "deleted network office"}] * events,
        "effects": {"items": items, "total": len(items), "tallies": []},
        "later": list(later),
    }


def test_what_would_be_is_shown_and_nobody_is_asked(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    effects = (("address", "removed", "db-1 has 172.16.0.1 in office no more"), ("path", "changed", "x and y …"))
    gateway.answers = [lambda: ok(told(*effects, later=("db-1 comes back.",)))]
    result = wireloom("network", "delete", "office", "--force", "--dry-run", typed="")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.splitlines() == [
        "The log would say",
        "    cli:alice deleted network office",
        "",
        "Addresses",
        "  - db-1 has 172.16.0.1 in office no more",
        "",
        "Paths",
        "  ~ x and y …",
        "",
        "Later",
        "    db-1 comes back.",
        "",
        "Nothing was changed.",
    ]
    (change,) = [request for request in gateway.requests if request.method != "GET"]
    assert change.url.params == httpx2.QueryParams({"force": "true", "dry_run": "true"})


def test_json_is_what_the_gateway_tells(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    gateway.answers = [lambda: ok(told())]
    assert json.loads(wireloom("network", "rename", "office", "a", "--dry-run", "--json").stdout) == told()
    gateway.networks[0]["is_default"] = False
    nothing = json.loads(wireloom("network", "set-default", "--none", "--dry-run", "--json").stdout)
    assert nothing.keys() == told().keys()
    assert nothing["events"] == []


def test_what_is_as_asked_already_would_change_nothing(wireloom: Callable[..., Result], gateway: Gateway) -> None:
    gateway.answers = [lambda: ok(told(events=0))]
    assert wireloom("network", "rename", "office", "office", "--dry-run").stdout == "Nothing would change.\n"
    gateway.networks[0]["is_default"] = False
    assert wireloom("network", "set-default", "--none", "--dry-run").stdout.splitlines() == [
        "There was no default network already.",
        "Nothing would change.",
    ]


@pytest.mark.parametrize("command", [("machine", "revoke"), ("machine", "rotate-key")])
def test_nothing_is_waited_for(command: tuple[str, str], wireloom: Callable[..., Result], gateway: Gateway) -> None:
    gateway.answers = [lambda: ok(told())]
    result = wireloom(*command, "db-1", "--dry-run")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Nothing was changed."
    assert [request.method for request in gateway.requests][-1] == "POST"


def test_thousands_that_would_take_several_requests_are_refused(
    wireloom: Callable[..., Result], gateway: Gateway
) -> None:
    gateway.machines = [dict(gateway.machines[0], uuid=str(uuid4()), hostname=f"m-{n}") for n in range(10_001)]
    result = wireloom("machine", "assign", "--all", "-n", OFFICE, "--dry-run")
    assert "A dry run assigns 10,000 machines at most." in str(result.exception)
    assert all(request.method == "GET" for request in gateway.requests)
