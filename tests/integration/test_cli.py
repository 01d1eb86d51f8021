"""The client commands as real processes against a whole control plane."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.program import ControlPlane, environment, free_port, run_wireloom, running
from tests.support.waiting import wait_until_sync


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    folder = tmp_path_factory.mktemp("cli")
    with running(folder / "up", "--data-dir", str(folder / "data"), "--bus-port", str(free_port())) as plane:
        yield plane


def test_a_network_from_its_creation_to_its_end(plane: ControlPlane) -> None:
    created = plane.json("network", "create", "story", "10.1.0.0/24", "--default", "--route-reflector")
    assert (created["is_default"], created["route_reflector_mode"], created["available_ip_count"]) == (True, True, 254)
    plane.add_machines("story-1", "story-2")
    assert plane.run("machine", "assign", "story-1", "story-2", "-n", "story").code == 0
    listed = plane.run("network", "list").stdout
    assert ["story", "★", "RR", "10.1.0.0/24", "2", "252", created["uuid"]] in map(str.split, listed.splitlines())
    assert plane.run("network", "set-route-reflector", "story", "off").code == 0
    assert plane.run("network", "set-default", "--none").code == 0
    assert plane.run("network", "rename", "story", "tale").code == 0
    shown = plane.json("network", "show", created["uuid"])
    assert (shown["name"], shown["is_default"], shown["route_reflector_mode"]) == ("tale", False, False)
    assert [machine["hostname"] for machine in shown["machines"]] == ["story-1", "story-2"]
    refused = plane.run("network", "delete", "tale")
    assert refused.code == 4
    assert refused.stderr.startswith("error: 2 machines are still assigned")
    assert plane.run("network", "delete", "tale", "--force").stdout == "Deleted network tale with 2 machines.\n"
    assert plane.run("network", "show", "tale").code == 3
    told = [line.split(maxsplit=3)[3] for line in plane.run("log", "-n", created["uuid"]).stdout.splitlines()[1:]]
    assert told[0] == "created network story with 10.1.0.0/24, the default, in route reflector mode"
    assert [line.partition(" ")[0] for line in told] == ["created", "assigned", "turned", "made", "renamed", "deleted"]
    assert told[-1] == "deleted network tale with its 2 machines"


def test_a_machine_from_its_creation_to_its_end(plane: ControlPlane) -> None:
    plane.run("network", "create", "home", "10.2.0.0/24")
    plane.add_machines("guest")
    assert plane.json("machine", "assign", "guest", "-n", "home", "--address", "10.2.0.77")["total"] == 1
    listed = plane.json("machine", "list", "--network", "home", "--offline")
    assert [machine["hostname"] for machine in listed["items"]] == ["guest"]
    assert plane.json("machine", "list", "--online")["total"] == 0
    assert "10.2.0.77" in plane.run("machine", "show", "guest").stdout
    assert plane.run("machine", "unassign", "guest", "-n", "home").code == 0
    assert plane.run("machine", "rename", "guest", "host").code == 0
    assert plane.run("machine", "delete", "host").stdout == "Deleted machine host.\n"
    assert plane.run("machine", "show", "host").code == 3


def test_routes_and_the_like_from_their_creation_to_their_end(plane: ControlPlane) -> None:
    for name, cidr in (("left", "10.11.0.0/24"), ("right", "10.12.0.0/24")):
        plane.run("network", "create", name, cidr)
    plane.add_machines("gate", "spare")
    for name in ("left", "right"):
        assert plane.run("machine", "assign", "gate", "spare", "-n", name).code == 0
    assert plane.run("machine", "gateway", "gate", "left", "right").code == 0
    pinned = plane.run("network", "reflectors", "left", "gate", "spare")
    assert pinned.stdout == "The route reflectors of left are pinned to gate, spare.\n"
    said = plane.run("route", "create", "dc", "10.20.0.0/16", "--machine", "gate", "--machine", "spare")
    assert said.stdout == "Created route dc: 10.20.0.0/16 behind gate, spare.\n"
    refused = plane.run("route", "create", "mesh", "10.11.0.0/25", "--machine", "gate")
    assert (refused.code, "of the network left" in refused.stderr) == (4, True)
    vip = plane.json("vip", "create", "web", "203.0.113.10", "-m", "gate,spare", "--check", "http", "--target",
                     "/healthz", "--interval", "2")  # fmt: skip
    assert (vip["health_check_interval_seconds"], vip["health_check_timeout_seconds"]) == (2, 2)
    rule = "10 accept prefix=10.20.0.0/16 max=24 local-pref=200"
    assert plane.run("policy", "create", "edge", "-d", "import", "-n", "left", "--rule", rule).code == 0
    assert "10.20.0.0/16 to /24" in plane.run("policy", "show", "edge").stdout
    assert plane.run("machine", "delete", "gate", "--force").code == 0
    shown = plane.run("vip", "list").stdout.splitlines()[1].split()
    assert shown[:3] == ["web", "203.0.113.10", "spare"]
    assert plane.run("machine", "gateway", "gate").code == 3
    assert plane.run("route", "delete", "dc").stdout == "Deleted route dc.\n"


def test_a_twin_needs_its_uuid(plane: ControlPlane) -> None:
    twins = plane.add_machines("twin", "TWIN")
    refused = plane.run("machine", "show", "twin")
    assert refused.code == 2
    assert all(uuid in refused.stderr for uuid in twins)
    assert plane.json("machine", "show", twins[1])["uuid"] == twins[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["network", "create", "x", "10.0.0.1/8"], 2, "Did you mean 10.0.0.0/8?"),
        (["network", "create", "x"], 2, "CIDR"),
        (["network", "show", "no-such"], 3, "There is no network 'no-such'."),
        (["machine", "assign", "-n", "x"], 2, "Say which machines"),
        (["network", "list", "--url", "http://127.0.0.1:1"], 5, "Nothing answers at http://127.0.0.1:1."),
    ],
)
def test_exit_codes(plane: ControlPlane, arguments: list[str], code: int, said: str) -> None:
    ended = plane.run(*arguments)
    assert ended.code == code
    assert said in ended.stderr
    assert ended.stdout == ""
    assert "Traceback" not in ended.stderr


def test_following_the_log_goes_on_through_a_killed_gateway_until_interrupted(plane: ControlPlane) -> None:
    plane.run("network", "create", "followed", "10.3.0.0/24")
    # Whoever runs the tests may ignore SIGINT, as a shell's background jobs do, and that would be inherited.
    command = [
        "env",
        "--default-signal=INT",
        sys.executable,
        "-m",
        "services.cli",
        "log",
        "--follow",
        "--json",
        "-n",
        "followed",
    ]
    with subprocess.Popen(
        command,
        env=environment(**plane.access),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as follower:
        try:
            assert follower.stdout is not None
            kinds = [json.loads(follower.stdout.readline())["kind"]]
            plane.run("network", "set-route-reflector", "followed", "on")
            kinds.append(json.loads(follower.stdout.readline())["kind"])
            plane.kill("gateway")
            plane.wait_until_ready()
            plane.run("network", "rename", "followed", "led")
            kinds.append(json.loads(follower.stdout.readline())["kind"])
            assert kinds == ["network.created", "network.route_reflector_mode_set", "network.renamed"]
            follower.send_signal(signal.SIGINT)
            assert follower.wait(60) == 130
        finally:
            follower.kill()


def test_a_person_at_a_terminal_is_asked_before_machines_lose_their_network(plane: ControlPlane) -> None:
    plane.run("network", "create", "precious", "10.4.0.0/24")
    plane.add_machines("dear")
    plane.run("machine", "assign", "dear", "-n", "precious")
    for answer, code, left in ((b"n\n", 1, 1), (b"y\n", 0, 0)):
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "services.cli", "network", "delete", "precious", "--force"]
        asking = subprocess.Popen(command, env=environment(**plane.access), stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        try:
            heard = bytearray()
            wait_until_sync(lambda: heard.extend(os.read(ours, 1000)) or b"Go on?" in heard, what="it asks")  # noqa: B023
            assert b"takes 1 machine" in heard
            os.write(ours, answer)
            assert asking.wait(60) == code
        finally:
            asking.kill()
            asking.wait()
            os.close(ours)
        names = [network["name"] for network in plane.json("network", "list")["items"]]
        assert names.count("precious") == left


def test_status(plane: ControlPlane, tmp_path: Path) -> None:
    told = plane.json("status")
    assert all(told[part] for part in ("ready", "bus", "mirror", "allocator"))
    assert {"networks", "machines", "machines_online"} < set(told)
    nowhere = run_wireloom("status", WIRELOOM_URL=f"http://127.0.0.1:{free_port()}")
    assert nowhere.code == 5


def test_thousands_of_machines_are_assigned_at_once(plane: ControlPlane) -> None:
    plane.run("network", "create", "crowd", "10.64.0.0/16")
    plane.add_machines(*(f"crowd-{number:04}" for number in range(1_100)))
    said = plane.run("machine", "assign", "-n", "crowd", "--all").stdout
    assert "machines are in crowd, from 10.64.0.1 to 10.64." in said
    shown = plane.json("network", "show", "crowd")
    assert shown["machine_count"] == len(shown["machines"]) >= 1_100
    assert len({machine["uuid"] for machine in shown["machines"]}) == shown["machine_count"]
    events = [json.loads(line) for line in plane.run("log", "-n", "crowd", "--json").stdout.splitlines()]
    assigned = [event for event in events if event["kind"] == "network.machines_assigned"]
    assert sum(len(event["machine_uuids"]) for event in assigned) == shown["machine_count"]
    assert len({event["command_id"] for event in assigned}) == 1
