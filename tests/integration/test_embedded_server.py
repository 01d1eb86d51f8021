"""The embedded server: it comes up, says clearly why it cannot, keeps its data, and never outlives its parent."""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import nats
import psutil
import pytest

from events.bus import connect, ensure_streams
from events.errors import UnavailableError
from events.identity import Identity
from events.subjects import LOG
from events.trust.certificates import certificate_fingerprint
from services.cli.certificates import certificate_hosts
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create, due_certificates
from services.cli.renewal import keep_renewing
from tests.support.waiting import wait_until

PARENT = """
import asyncio, sys
from pathlib import Path
from services.cli.embedded import EmbeddedServer

async def main():
    server = EmbeddedServer(Path(sys.argv[1]), port=0)
    await server.start()
    print("pid", server.pid, flush=True)
    await server.wait()

asyncio.run(main())
"""


async def test_it_comes_up_with_jetstream_that_syncs_and_a_private_directory(bus_server: EmbeddedServer) -> None:
    client = await nats.connect(bus_server.url)
    await client.jetstream().account_info()
    assert client.max_payload == 8 * 1024 * 1024
    await client.close()
    assert stat.S_IMODE(bus_server.data_dir.stat().st_mode) == 0o700
    assert "sync_interval: always" in (bus_server.data_dir / "nats-server.conf").read_text()
    assert "Server is ready" in bus_server.log_path.read_text()
    listening = {c.laddr.port for c in psutil.Process(bus_server.pid).net_connections() if c.status == "LISTEN"}
    assert listening == {int(bus_server.url.rsplit(":", 1)[1])}


async def test_killed_and_started_again_it_has_its_streams(bus_server: EmbeddedServer) -> None:
    client = await connect(bus_server.url, "test")
    await ensure_streams(client, [LOG], 1)
    ack = await client.jetstream().publish("log.a", b"kept")
    await client.close()
    bus_server.kill()
    assert await bus_server.wait() == -signal.SIGKILL
    client = await connect(await bus_server.start(), "test")
    assert (await client.jetstream().get_msg("LOG", ack.seq)).data == b"kept"
    await client.close()


async def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = EmbeddedServer(tmp_path / "bus", port=port)
        with pytest.raises(UnavailableError, match=f"Port {port} on 127.0.0.1 is taken"):
            await server.start()
    await server.start()
    assert server.url == f"nats://127.0.0.1:{port}"
    await server.stop()


async def test_a_directory_has_one_server(bus_server: EmbeddedServer) -> None:
    second = EmbeddedServer(bus_server.data_dir, port=0)
    with pytest.raises(UnavailableError, match="Another message bus is using the data directory"):
        await second.start()
    await bus_server.stop()
    await second.start()
    await second.stop()


async def test_certificates_are_renewed_while_it_runs(tmp_path: Path) -> None:
    identity = create(tmp_path / "identity", ["127.0.0.1"])
    server = EmbeddedServer(tmp_path / "bus", port=0, identity=identity)
    url, lost, reloaded = await server.start(), asyncio.Event(), asyncio.Event()

    async def reload() -> None:
        server.reload()
        reloaded.set()

    client = await connect(url, "test", identity.credentials("console"), on_disconnect=lost.set)
    renewing = asyncio.create_task(keep_renewing(identity, ["127.0.0.1", "new.example.org"], reload, every=0.01))
    try:
        await asyncio.wait_for(reloaded.wait(), 10)
        pem = (tmp_path / "identity/tls/bus.pem").read_text()
        assert certificate_hosts(pem) == ["new.example.org", "127.0.0.1"]
        await wait_until(lambda: _shows(url, identity, pem), what="the server shows its new certificate")
        assert not lost.is_set()
        assert due_certificates(identity, ["127.0.0.1", "new.example.org"]) == []
    finally:
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        await client.close()
        await server.stop()


async def _shows(url: str, identity: Identity, pem: str) -> bool:
    client = await connect(url, "looking", identity.credentials("console"))
    try:
        shown = client._transport._io_writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        await client.close()
    return hashlib.sha256(shown).hexdigest() == certificate_fingerprint(pem)


async def test_it_dies_with_its_parent(tmp_path: Path) -> None:
    with subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-c", PARENT, str(tmp_path / "bus")], stdout=subprocess.PIPE, text=True
    ) as parent:
        try:
            assert parent.stdout is not None
            told = next(line for line in parent.stdout if line.startswith("pid "))
            server = psutil.Process(int(told.removeprefix("pid ")))
            assert server.name() == "nats-server"
        finally:
            os.kill(parent.pid, signal.SIGKILL)
    await wait_until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE, what="its end")
