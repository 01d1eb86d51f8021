"""What the program says and refuses, without a machine to run on."""

from __future__ import annotations

import socket
from pathlib import Path
from uuid import uuid4

import pytest

from agent import backends
from agent.device import DeviceError, NoBackendError
from agent.links import Links
from agent.main import run
from agent.notify import notify
from agent.port_mapping.asking import Protocol
from agent.port_mapping.notes import Note
from agent.recording import RecordingDevices
from agent.status import read_status, render
from agent.store import DiskStore, Tunnel
from tests.support.device_contract import a_key
from tests.support.state_model import StateModel


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.strip()


@pytest.mark.parametrize("command", ["status", "leave"])
def test_without_an_agent_there_is_nothing_to_show(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([command, "--state-dir", str(tmp_path / "none")]) != 0
    assert "--state-dir" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_a_wrong_endpoint_or_hostname_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["run", "--endpoint", "example.org:1"])
    assert "--endpoint" in capsys.readouterr().err
    assert run(["run", "--nats", "nats://127.0.0.1:1", "--hostname", "not a name", "--state-dir", str(tmp_path)]) != 0
    assert "hostname" in capsys.readouterr().err


@pytest.mark.parametrize("days", ["-1", "inf", "nan", "often"])
def test_a_wrong_age_for_keys_is_refused(days: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(["run", "--key-max-age", days])
    assert "--key-max-age" in capsys.readouterr().err


def test_no_backend_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(links: Links, name: str, kind: str) -> None:
        raise DeviceError(f"Cannot create {name}: no {kind} here.")

    monkeypatch.setattr(Links, "create", refuse)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoBackendError) as raised:
        backends.choose("auto")
    assert "install wireguard-go" in raised.value.hint
    assert "wireguard-go is not installed" in raised.value.detail


def test_the_service_manager_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        notify("READY=1")
        assert manager.recv(100) == b"READY=1"
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_the_status_shows_what_the_router_maps(tmp_path: Path) -> None:
    store, model, network_id = DiskStore(tmp_path), StateModel(), uuid4()
    machine_id = store.machine_id()
    model.create_network(network_id, "office", "172.20.0.0/24")
    for entry in model.assign(network_id, machine_id, "172.20.0.1"):
        scope = ":".join(entry.subject.split(".")[1:3])
        store.put(scope, entry.subject, entry.record.revision, entry.record.model_dump_json().encode())
    note = Note("192.168.1.1", "192.168.1.2", 51820, "00" * 12, Protocol.PCP, "192.0.2.1:4000", 60.0, 3660.0)
    status = read_status(store, [RecordingDevices()], 100.0, {network_id: note})
    assert status["networks"][0]["port_mapping"] == {
        "protocol": "PCP",
        "endpoint": "192.0.2.1:4000",
        "router": "192.168.1.1",
        "since": "1970-01-01T00:01:00+00:00",
        "until": "1970-01-01T01:01:00+00:00",
    }
    line = "  mapped by the router (PCP): 192.0.2.1:4000, 1970-01-01T00:01:00Z to 1970-01-01T01:01:00Z"
    assert line in render(status).splitlines()
    later = read_status(store, [RecordingDevices()], 3700.0, {network_id: note})
    assert later["networks"][0]["port_mapping"] is None
    assert "mapped" not in render(later)
    store.close()


def test_the_status_shows_what_is_down_too(tmp_path: Path) -> None:
    store, model, network_id = DiskStore(tmp_path), StateModel(), uuid4()
    machine_id = store.machine_id()
    assert "in no network" in render(read_status(store, [RecordingDevices()], 0.0))
    said = model.create_network(network_id, "office", "172.20.0.0/24") + model.register(machine_id, "db-1")
    said += model.assign(network_id, machine_id, "172.20.0.1")
    other = uuid4()
    model.assign(network_id, other, "172.20.0.2")
    said += model.announce(network_id, other, a_key(), ())
    for entry in said:
        scope = ":".join(entry.subject.split(".")[1:3])
        store.put(scope, entry.subject, entry.record.revision, entry.record.model_dump_json().encode())
    store.set_tunnel(network_id, Tunnel("dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=", 51820))
    status = read_status(store, [RecordingDevices()], 0.0)
    assert status["hostname"] == "db-1"
    assert status["networks"][0]["public_key"] == "hSDwCYkwp1R0i33ctD73Wg2/Og0mOBr066SpjqqbTmo="
    assert [peer["address"] for peer in status["networks"][0]["peers"]] == ["172.20.0.2"]
    shown = render(status)
    assert "down" in shown
    assert "never" in shown
    store.close()
