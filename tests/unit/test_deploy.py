"""What `deploy/` ships is well formed, as far as that can be seen without installing it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from services.cli.embedded import find_server_binary
from services.cli.export import ALL_READ, SERVICES, write_export
from services.cli.identity import create

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


def environment_file(path: Path) -> dict[str, str]:
    lines = (line for line in path.read_text().splitlines() if line and not line.startswith("#"))
    return dict(line.split("=", 1) for line in lines)


@pytest.mark.parametrize("name", ["single", "cluster"])
def test_the_server_accepts_the_configuration_with_its_example_environment(name: str, tmp_path: Path) -> None:
    example = environment_file(DEPLOY / "nats" / f"{name}.env")
    folder = tmp_path / "out" / "servers" / example["WIRELOOM_NATS_NAME"]
    identity = create(tmp_path / "identity", ["192.0.2.1"])
    write_export(identity, tmp_path / "out", {folder.name: ["192.0.2.1"]})
    shutil.copy(DEPLOY / "nats" / f"{name}.conf", folder)
    here = {key: value.replace("/var/lib/wireloom-nats", str(folder)) for key, value in example.items()}
    command = [find_server_binary(), "--config", str(folder / f"{name}.conf"), "-t"]
    checked = subprocess.run(command, env=os.environ | here, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    read = [folder / f"{name}.conf", folder / "security.conf", *([folder / "routes.conf"] * (name == "cluster"))]
    assert set().union(*(re.findall(r"\$(\w+)", path.read_text()) for path in read)) == set(example)


@pytest.mark.parametrize("name", ["single", "cluster"])
def test_what_is_acknowledged_is_on_the_disk_and_big_commands_fit(name: str) -> None:
    settings = (DEPLOY / "nats" / f"{name}.conf").read_text()
    assert "sync_interval: always" in settings
    assert "max_payload: 8MB" in settings


def test_each_service_is_given_the_files_that_it_reads() -> None:
    manifests = (DEPLOY / "container" / "kubernetes.yaml").read_text().split("\n---\n")
    for service, files in SERVICES.items():
        manifest = next(text for text in manifests if f"args: [serve, {service}]" in text)
        given = re.findall(r"- \{key: (\S+), path: (\S+)\}", manifest)
        assert given == [(path.replace("/", "_"), path) for path in (*ALL_READ, *files)]


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    assert len(UNITS) == 3
    for unit in UNITS:
        runnable = re.sub(r"/opt/wireloom/bin/\S+", "/bin/true", unit.read_text())
        (tmp_path / unit.name).write_text(runnable)
    command = ["systemd-analyze", "verify", *(str(tmp_path / unit.name) for unit in UNITS)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_agents_tunnels_outlive_it() -> None:
    unit = (DEPLOY / "systemd" / "wireloom-agent.service").read_text()
    assert "KillMode=process" in unit
    assert "RuntimeDirectoryPreserve=yes" in unit
