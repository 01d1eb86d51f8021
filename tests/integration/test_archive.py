"""Export, wipe, import, verify: a control plane comes back from one file, and with it all that follows from its log."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from events import bus, log, state
from events.archive.format import Writer
from events.subjects import CHECKPOINTS_STREAM, LOG_STREAM
from services.cli.archive import opened_file
from services.cli.embedded import told_url
from services.cli.identity import create
from tests.support.program import ControlPlane, free_port, run_wireloom, running
from tests.support.waiting import wait_until


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


@pytest.fixture
def plane(tmp_path: Path, data: Path) -> Iterator[ControlPlane]:
    with running(tmp_path / "up", "--data-dir", str(data), "--bus-port", str(free_port())) as plane:
        yield plane


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


def history(plane: ControlPlane) -> None:
    """Something happens."""
    told(plane, "network", "create", "office", "172.16.0.0/24", "--default")
    names = ("db-1", "db-2", "annas-phone")
    plane.add_machines(*names)
    told(plane, "machine", "assign", *names, "--network", "office")
    told(plane, "network", "rename", "office", "bureau")
    told(plane, "account", "create", "anna", "--role", "operator")


def told(plane: ControlPlane, *arguments: str) -> str:
    """What a command says that succeeds."""
    ended = plane.run(*arguments)
    assert ended.code == 0, ended.stderr
    return ended.stdout


def whole(plane: ControlPlane) -> tuple[list[log.LoggedEvent], dict[str, bytes]]:
    return asyncio.run(held(plane))


def wiped(plane: ControlPlane, data: Path) -> None:
    assert plane.stop() == 0
    shutil.rmtree(data / "bus")


def verified(plane: ControlPlane) -> Any:
    return json.loads(told(plane, "log", "verify", "--json").splitlines()[-1])


def test_export_wipe_import_verify(plane: ControlPlane, data: Path, tmp_path: Path) -> None:
    history(plane)
    before, file = whole(plane), tmp_path / "all.log.gz"
    exported = told(plane, "log", "export", str(file))
    assert f"Exported {len(before[0])} events" in exported
    assert f"signed checkpoints vouch for it up to position {len(before[0])}" in " ".join(exported.split())
    assert file.stat().st_mode & 0o077 == 0
    refused = run_wireloom("log", "import", str(file), "--data-dir", str(data))
    assert "process" in refused.stderr, "the control plane runs"
    wiped(plane, data)
    imported = run_wireloom("log", "import", str(file), "--data-dir", str(data))
    assert (imported.code, imported.stderr) == (0, "")
    assert imported.stdout.startswith("Imported ")
    again = run_wireloom("log", "import", str(file), "--data-dir", str(data))
    assert (again.code, "already" in again.stderr) == (4, True)
    plane.again()
    plane.wait_until_up()
    assert whole(plane) == before
    assert verified(plane)["in_order"]
    assert json.loads(told(plane, "network", "show", "bureau", "--json"))["machine_count"] == 3
    assert json.loads(told(plane, "--at", "3", "network", "list", "--json"))["items"][0]["name"] == "office"
    told(plane, "network", "rename", "bureau", "office")


def test_what_is_damaged_or_of_another_control_plane_changes_nothing(
    plane: ControlPlane, data: Path, tmp_path: Path
) -> None:
    history(plane)
    file = tmp_path / "all.log.gz"
    told(plane, "log", "export", str(file))
    wiped(plane, data)
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
        refused = run_wireloom("log", "import", str(damaged), "--data-dir", str(data))
        assert refused.code == 2, (what, refused.stderr)
        assert "Traceback" not in refused.stderr
    other = tmp_path / "other"
    create(other / "identity", ["127.0.0.1"])
    refused = run_wireloom("log", "import", str(file), "--data-dir", str(other))
    assert (refused.code, "another root key" in refused.stderr) == (4, True)
    assert not (data / "bus").exists()
    assert not list(data.glob("bus*"))


def test_it_is_told_where_nobody_vouches_for_the_end(plane: ControlPlane, data: Path, tmp_path: Path) -> None:
    history(plane)
    file, bare = tmp_path / "all.log.gz", tmp_path / "bare.log.gz"
    told(plane, "log", "export", str(file))
    wiped(plane, data)
    with opened_file(file) as reader:
        writer, count = Writer(), 0
        lines = [writer.header(reader.header)]
        for message in reader.messages():
            if message.stream != CHECKPOINTS_STREAM:
                lines.append(writer.message(message))
                count += message.stream == LOG_STREAM
    bare.write_bytes(gzip.compress(b"".join([*lines, writer.footer()])))
    imported = run_wireloom("log", "import", str(bare), "--data-dir", str(data))
    assert imported.code == 0
    assert f"No signed checkpoint vouches for {count} events" in imported.stderr


def test_personal_data_is_removed_and_the_log_verifies(plane: ControlPlane, data: Path, tmp_path: Path) -> None:
    history(plane)
    told(plane, "account", "delete", "anna", "--yes")
    told(plane, "machine", "delete", "annas-phone", "--force", "--yes")
    file, clean = tmp_path / "all.log.gz", tmp_path / "clean.log.gz"
    told(plane, "log", "export", str(file))
    count = len(whole(plane)[0])
    wiped(plane, data)
    forget = ("log", "forget", str(file), str(clean), "--data-dir", str(data))
    refused = run_wireloom(*forget, "--machine", "db-1")
    assert (refused.code, "not deleted" in refused.stderr, clean.exists()) == (4, True, False)
    assert run_wireloom(*forget, "--account", "anna", "--machine", "annas-phone").code == 0
    assert b"anna" in gzip.decompress(file.read_bytes())
    assert b"anna" not in gzip.decompress(clean.read_bytes())
    assert run_wireloom("log", "import", str(clean), "--data-dir", str(data)).code == 0
    plane.again()
    plane.wait_until_up()
    assert len(whole(plane)[0]) == count
    verdict = told(plane, "log", "verify")
    assert "Personal data was removed from" in verdict
    stored = [path for path in (data / "bus").rglob("*") if path.is_file()]
    assert not any(b"anna" in path.read_bytes() for path in stored)
