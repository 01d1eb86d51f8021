"""`wireloom up` as real processes: it comes up, stays up whatever dies, and goes down leaving nothing."""

from __future__ import annotations

import json
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from services.cli.serve import Service
from services.cli.up import service_process
from tests.support.program import SERVICES, ControlPlane, environment, free_port, run_wireloom, running
from tests.support.waiting import wait_until, wait_until_sync


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def plane(tmp_path: Path, data: Path) -> Iterator[ControlPlane]:
    options = ("--no-auth", "--data-dir", str(data), "--bus-port", str(free_port()))
    with running(tmp_path / "up", *options) as plane:
        yield plane


def test_it_says_where_things_are_and_stops_leaving_nothing(plane: ControlPlane, data: Path) -> None:
    assert plane.url in plane.said
    assert str(data) in plane.said
    assert f"export WIRELOOM_URL={plane.url}\n  wireloom network create office 172.16.0.0/24" in plane.said
    assert stat.S_IMODE(data.stat().st_mode) == 0o700
    assert set(plane.children()) == {"bus", *SERVICES}
    children = plane.children().values()
    assert plane.stop() == 0
    assert not any(child.is_running() for child in children)
    assert "Traceback" not in plane.logged


def test_whatever_is_killed_comes_back_and_nothing_is_lost(plane: ControlPlane) -> None:
    plane.run("network", "create", "office", "172.16.0.0/24")
    for number, name in enumerate((*SERVICES, "bus"), start=1):
        plane.kill(name)
        plane.wait_until_ready()
        hostname = f"after-{name}"
        plane.add_machines(hostname)
        ended = plane.run("machine", "assign", hostname, "--network", "office")
        assert ended.stdout == f"{hostname} is in office as 172.16.0.{number}.\n", ended.stderr
    shown = plane.json("network", "show", "office")
    assert [machine["hostname"] for machine in shown["machines"]] == [f"after-{name}" for name in (*SERVICES, "bus")]
    restarts = [json.loads(line) for line in plane.logged.splitlines() if "starting it again" in line]
    assert [restart["part"] for restart in restarts if "SIGKILL" in restart["event"]] == [*SERVICES, "message bus"]


def test_a_command_given_while_everything_is_down_waits_for_it(plane: ControlPlane) -> None:
    plane.run("network", "create", "office", "172.16.0.0/24")
    children = plane.children()
    children["allocator"].kill()
    ended = plane.run("network", "rename", "office", "hq")
    assert (ended.code, ended.stdout) == (0, "Network office is now hq.\n"), ended.stderr


def test_the_kernel_ends_the_children_of_a_killed_supervisor(plane: ControlPlane) -> None:
    plane.run("network", "create", "office", "172.16.0.0/24")
    children = list(plane.children().values())
    assert len(children) == 4
    plane.process.kill()
    plane.process.wait()
    assert psutil.wait_procs(children, timeout=30)[1] == []
    plane.again()
    plane.wait_until_up()
    assert plane.json("network", "list")["items"][0]["name"] == "office"


def test_a_second_one_is_refused(plane: ControlPlane, data: Path, tmp_path: Path) -> None:
    same_data = run_wireloom("up", "--no-auth", "--data-dir", str(data), "--http-port", str(free_port()))
    assert same_data.code == 5
    assert f"Another `wireloom up` (process {plane.process.pid}) uses the data directory {data}." in same_data.stderr
    same_port = run_wireloom(
        "up", "--no-auth", "--data-dir", str(tmp_path / "other"), "--http-port", str(plane.http_port)
    )
    assert same_port.code == 5
    assert f"Port {plane.http_port} on 127.0.0.1 is not free" in same_port.stderr
    elsewhere = ("--http-host", "192.0.2.77", f"--data-dir={tmp_path / 'other'}", f"--http-port={free_port()}")
    foreign = run_wireloom("up", *elsewhere)
    assert foreign.code == 2
    assert "192.0.2.77 is no address of this machine" in foreign.stderr
    bus_port = plane.arguments[plane.arguments.index("--bus-port") + 1]
    same_bus = run_wireloom(
        "up", "--no-auth", f"--data-dir={tmp_path / 'other'}", f"--http-port={free_port()}", f"--bus-port={bus_port}"
    )
    assert same_bus.code == 5
    assert f"Port {bus_port} on 127.0.0.1 is taken" in same_bus.stderr
    assert not any("Traceback" in ended.stderr for ended in (same_data, same_port, same_bus))
    assert plane.run("status").code == 0


def test_interrupted_before_it_is_ready_it_stops_too(tmp_path: Path, data: Path) -> None:
    plane = ControlPlane(tmp_path / "up", "--no-auth", "--data-dir", str(data), "--bus-port", str(free_port()))
    try:
        wait_until_sync(lambda: "bus" in plane.children(), what="the bus is started")
        children = list(plane.children().values())
        plane.process.send_signal(signal.SIGINT)
        assert plane.process.wait(30) == 0, plane.logged
        assert not any(child.is_running() for child in children)
    finally:
        plane.close()


def test_without_authorisation_nothing_listens_beyond_loopback(data: Path) -> None:
    for option, host in (("--bus-host", "0.0.0.0"), ("--http-host", "0.0.0.0"), ("--http-host", "192.0.2.1")):
        refused = run_wireloom("up", "--no-auth", "--data-dir", str(data), option, host)
        assert refused.code == 2
        assert f"With --no-auth nothing may listen on {host}" in refused.stderr
    assert not data.exists()


def test_no_bus_at_the_url_given(tmp_path: Path) -> None:
    url = f"nats://127.0.0.1:{free_port()}"
    ended = run_wireloom("up", "--no-auth", "--nats-url", url, "--http-port", str(free_port()))
    assert ended.code == 5
    assert f"No message bus answers at {url}." in ended.stderr


def test_one_server_keeps_no_copies(data: Path) -> None:
    refused = run_wireloom("up", "--data-dir", str(data), "--replicas", "3")
    assert refused.code == 2
    assert "cannot keep 3 copies" in refused.stderr
    assert "--nats-url" in refused.stderr
    assert not data.exists()


def test_a_service_with_a_wrong_setting_says_which() -> None:
    ended = run_wireloom("serve", "allocator", WIRELOOM_REPLICAS="nine")
    assert ended.code == 2
    assert "The setting WIRELOOM_REPLICAS cannot be 'nine'" in ended.stderr
    ended = run_wireloom("serve", "gateway", WIRELOOM_HTTP_HOST=socket.gethostname())
    assert ended.code == 2
    assert "error:" in ended.stderr


@pytest.mark.parametrize("service", list(Service))
async def test_a_service_that_waits_for_the_bus_ends_when_told(
    service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    nowhere = f"nats://127.0.0.1:{free_port()}"
    child = service_process(service, environment(NATS_URL=nowhere, WIRELOOM_HTTP_PORT=str(free_port())))
    await child.start()
    try:
        await wait_until(lambda: "bus error" in capfd.readouterr().err, what="it finds no bus")
    finally:
        await child.stop()
    assert await child.wait() == 0
