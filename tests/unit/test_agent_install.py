"""The systemd unit that joining installs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from agent import install
from agent.install import UNIT, Service, ServiceError, check_seen, own_program, rendered, shipped
from events.errors import InvalidInputError
from tests.support.systemd import Systemd

DEPLOY = Path(__file__).parents[2] / "deploy" / "systemd" / UNIT


@pytest.fixture
def systemd(tmp_path: Path) -> Systemd:
    return Systemd(tmp_path)


def test_the_shipped_unit_is_the_one_in_deploy() -> None:
    assert shipped() == DEPLOY.read_text()


def test_only_the_program_differs() -> None:
    program = "/srv/wire loom/100%/bin/wireloom-agent"
    lines = [
        (was, now)
        for was, now in zip(shipped().splitlines(), rendered(program).splitlines(), strict=True)
        if was != now
    ]
    assert lines == [
        ("ExecStart=/opt/wireloom/bin/wireloom-agent run", 'ExecStart="/srv/wire loom/100%%/bin/wireloom-agent" run')
    ]
    assert "ExecStart=/srv/bin/wireloom-agent run\n" in rendered("/srv/bin/wireloom-agent")


def test_systemd_accepts_a_unit_with_an_odd_path(tmp_path: Path) -> None:
    program = tmp_path / "wire loom 100%" / "wireloom-agent"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / UNIT).write_text(rendered(str(program)))
    checked = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / UNIT)], capture_output=True, text=True, check=False
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_it_is_installed_once_and_removed(systemd: Systemd) -> None:
    assert systemd.service.is_possible
    assert not systemd.service.is_running
    systemd.service.install("/opt/wireloom/bin/wireloom-agent")
    assert systemd.unit.read_text() == shipped()
    assert systemd.unit.stat().st_mode & 0o777 == 0o644
    assert systemd.calls[1:] == ["daemon-reload", f"enable --now {UNIT}"]
    assert systemd.service.is_running
    assert len(systemd.said) == 2
    systemd.service.install("/opt/wireloom/bin/wireloom-agent")
    assert sum("wrote" in step for step in systemd.said) == 1
    systemd.service.remove()
    assert not systemd.unit.exists()
    assert systemd.calls[-2:] == [f"disable --now {UNIT}", "daemon-reload"]
    assert not systemd.service.is_running
    before = systemd.calls
    systemd.service.remove()
    assert systemd.calls == before, "there is nothing to remove any more"


def test_a_refusal_says_which_step_and_why(systemd: Systemd) -> None:
    systemd.refuses.touch()
    with pytest.raises(ServiceError, match=r"daemon-reload.*Access denied"):
        systemd.service.install("/opt/wireloom/bin/wireloom-agent")
    assert not any("enabled" in step for step in systemd.said)


def test_without_systemctl_nothing_runs(systemd: Systemd, tmp_path: Path) -> None:
    service = Service(systemd.said.append, unit_folder=tmp_path, running=tmp_path, systemctl=str(tmp_path / "none"))
    assert not service.is_running
    with pytest.raises(ServiceError, match="none"):
        service.start()


@pytest.mark.parametrize("place", ["/home", "/root", "/tmp"])
def test_what_the_unit_cannot_see_is_refused(place: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        check_seen(Path(place) / "ada" / "wireloom-agent")
    assert "--no-service" in raised.value.hint
    check_seen(Path("/opt/wireloom/bin/wireloom-agent"))


def test_a_program_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(install.sys, "prefix", str(tmp_path))
    with pytest.raises(InvalidInputError, match="no program"):
        own_program()
