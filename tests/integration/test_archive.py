"""Export, wipe, import, verify: a control plane comes back from one file, and with it all that follows from its log."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from click.testing import Result
from typer.testing import CliRunner

from events import bus, log, state
from events.archive.format import Writer
from events.domain import NetworkCreated
from events.errors import ConflictError, InvalidInputError, UnavailableError
from events.subjects import CHECKPOINTS_STREAM, LOG_STREAM
from services.cli import archive
from services.cli.archive import opened_file
from services.cli.embedded import told_url
from services.cli.identity import create
from services.cli.main import app
from tests.support.program import ControlPlane, free_port, running
from tests.support.waiting import wait_until

NETWORKS = "/api/v1/mesh-networks"


class Exported:
    """A control plane that is stopped, its log, what followed from it, and the file that it was exported to."""

    def __init__(self, plane: ControlPlane, file: Path) -> None:
        self.plane = plane
        self.file = file
        self.data = plane.data_dir
        with plane.client() as http:
            _history(http, plane.add_machines("db-1", "db-2", "annas-phone"))
        self.before = whole(plane)
        self.said = told(plane, "log", "export", str(file))
        self.refused = offline("log", "import", str(file), "--data-dir", str(self.data))
        assert plane.stop() == 0
        self.wipe()

    def wipe(self) -> None:
        """There is no log any more."""
        shutil.rmtree(self.data / "bus", ignore_errors=True)

    @contextmanager
    def up(self) -> Iterator[ControlPlane]:
        """The control plane, started again."""
        self.plane.again()
        self.plane.wait_until_up()
        yield self.plane
        assert self.plane.stop() == 0


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, own_logging: None) -> Iterator[Exported]:
    folder = tmp_path_factory.mktemp("exported")
    options = ("--data-dir", str(folder / "data"), "--bus-port", str(free_port()))
    with running(folder / "up", *options) as plane:
        yield Exported(plane, folder / "all.log.gz")


@pytest.fixture(autouse=True)
def nothing(exported: Exported) -> None:
    """Each test begins without a log."""
    exported.wipe()


@pytest.fixture(autouse=True, scope="module")
def own_logging() -> Iterator[None]:
    """The program logs to its own stderr, which here ends with each command: that of this process stays as it is."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(archive, "configure_logging", lambda *_, **__: None)
        yield


def _history(http: httpx2.Client, machines: list[str]) -> None:
    network = http.post(NETWORKS, json={"name": "office", "network_cidr": "172.16.0.0/24"}).raise_for_status().json()
    place = f"{NETWORKS}/{network['uuid']}"
    http.post(f"{place}/machines/batch", json={"machine_uuids": machines}).raise_for_status()
    http.patch(place, json={"name": "bureau"}).raise_for_status()
    anna = http.post("/api/v1/accounts", json={"name": "anna", "role": "operator"}).raise_for_status().json()
    http.delete(f"/api/v1/accounts/{anna['uuid']}").raise_for_status()
    http.delete(f"/api/v1/machines/{machines[2]}", params={"force": "true"}).raise_for_status()


async def held(plane: ControlPlane) -> tuple[list[log.LoggedEvent], dict[str, bytes]]:
    """The whole log, and what STATE holds at its end."""
    url, credentials = told_url(plane.data_dir / "bus") or "", plane.identity.credentials("topology")
    client = await bus.connect(url, "test", credentials)
    try:
        end = await log.last_sequence(client)

        async def shows() -> bool:
            last = await state.last_message(client)
            return last is not None and last.position >= end

        await wait_until(shows, what="STATE shows the log's end")
        return await log.read(client, 0, 10_000), dict((await state.load(client)).entries)
    finally:
        await client.close()


def told(plane: ControlPlane, *arguments: str) -> str:
    """What a command says that succeeds."""
    ended = plane.run(*arguments)
    assert ended.code == 0, ended.stderr
    return ended.stdout


def whole(plane: ControlPlane) -> tuple[list[log.LoggedEvent], dict[str, bytes]]:
    return asyncio.run(held(plane))


def offline(*arguments: str) -> Result:
    """A command on the control plane's own machine, run to its end."""
    return CliRunner().invoke(app, arguments)


def imported(exported: Exported, file: Path) -> Result:
    result = offline("log", "import", str(file), "--data-dir", str(exported.data))
    assert result.exception is None, result.exception
    return result


def verified(plane: ControlPlane) -> Any:
    return json.loads(told(plane, "log", "verify", "--json").splitlines()[-1])


def test_export_wipe_import_verify(exported: Exported) -> None:
    count = len(exported.before[0])
    assert f"Exported {count} events" in exported.said
    assert f"signed checkpoints vouch for it up to position {count}" in " ".join(exported.said.split())
    assert exported.file.stat().st_mode & 0o077 == 0
    assert isinstance(exported.refused.exception, UnavailableError), "the control plane ran"
    result = imported(exported, exported.file)
    assert "Imported " in result.stdout
    again = offline("log", "import", str(exported.file), "--data-dir", str(exported.data))
    assert isinstance(again.exception, ConflictError)
    with exported.up() as plane:
        assert whole(plane) == exported.before
        assert verified(plane)["in_order"]
        assert json.loads(told(plane, "network", "show", "bureau", "--json"))["machine_count"] == 2
        first = next(logged for logged in exported.before[0] if isinstance(logged.event, NetworkCreated))
        then = told(plane, "--at", str(first.sequence), "network", "list", "--json")
        assert json.loads(then)["items"][0]["name"] == "office"
        told(plane, "network", "rename", "bureau", "office")


def test_what_is_damaged_or_of_another_control_plane_changes_nothing(exported: Exported, tmp_path: Path) -> None:
    file, data = exported.file, exported.data
    lines = gzip.decompress(file.read_bytes()).splitlines(keepends=True)
    damages = {
        "cut": file.read_bytes()[:-200],
        "cut after a line": gzip.compress(b"".join(lines[:-1])),
        "without an event": gzip.compress(b"".join(lines[:6] + lines[7:])),
        "changed": gzip.compress(b"".join(lines).replace(b"bureau", b"buerau")),
        "no export": b"hello",
        "empty": b"",
    }
    for what, content in damages.items():
        damaged = tmp_path / "damaged"
        damaged.write_bytes(content)
        refused = offline("log", "import", str(damaged), "--data-dir", str(data))
        assert isinstance(refused.exception, InvalidInputError), (what, refused.exception)
    other = tmp_path / "other"
    create(other / "identity", ["127.0.0.1"])
    refused = offline("log", "import", str(file), "--data-dir", str(other))
    assert isinstance(refused.exception, ConflictError)
    assert "another root key" in refused.exception.detail
    assert not list(data.glob("bus*"))


def test_it_is_told_where_nobody_vouches_for_the_end(exported: Exported, tmp_path: Path) -> None:
    bare = tmp_path / "bare.log.gz"
    with opened_file(exported.file) as reader:
        writer, count = Writer(), 0
        lines = [writer.header(reader.header)]
        for message in reader.messages():
            if message.stream != CHECKPOINTS_STREAM:
                lines.append(writer.message(message))
                count += message.stream == LOG_STREAM
    bare.write_bytes(gzip.compress(b"".join([*lines, writer.footer()])))
    assert f"No signed checkpoint vouches for {count} events" in imported(exported, bare).stderr


def test_personal_data_is_removed_and_the_log_verifies(exported: Exported, tmp_path: Path) -> None:
    clean, data = tmp_path / "clean.log.gz", exported.data
    forget = ("log", "forget", str(exported.file), str(clean), "--data-dir", str(data))
    refused = offline(*forget, "--machine", "db-1")
    assert isinstance(refused.exception, ConflictError)
    assert not clean.exists()
    assert offline(*forget, "--account", "anna", "--machine", "annas-phone").exit_code == 0
    assert b"anna" in gzip.decompress(exported.file.read_bytes())
    assert b"anna" not in gzip.decompress(clean.read_bytes())
    imported(exported, clean)
    with exported.up() as plane:
        assert len(whole(plane)[0]) == len(exported.before[0])
        assert "Personal data was removed from" in told(plane, "log", "verify")
    stored = [path for path in (data / "bus").rglob("*") if path.is_file()]
    assert not any(b"anna" in path.read_bytes() for path in stored)
