"""A message bus of three servers on this machine, from the very configuration that `deploy/` ships."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors

from services.cli.embedded import die_with_parent, find_server_binary
from tests.support.program import free_port
from tests.support.waiting import wait_until

SIZE = 3

_CONFIG = Path(__file__).parents[2] / "deploy" / "nats" / "cluster.conf"


class Cluster:
    """Three servers, `wireloom-1` to `wireloom-3`, each of which a test may kill and start again."""

    def __init__(self, folder: Path) -> None:
        self.names = [f"wireloom-{number}" for number in range(1, SIZE + 1)]
        self._folder = folder
        self._ports = {name: free_port() for name in self.names}
        self._routes = {name: free_port() for name in self.names}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> list[str]:
        """The address of each server."""
        return [f"nats://127.0.0.1:{port}" for port in self._ports.values()]

    @property
    def url(self) -> str:
        """The addresses of all three."""
        return ",".join(self.urls)

    def start(self, name: str) -> None:
        """Start a server, for the first time or again on the same data. It is ready some time later."""
        folder = self._folder / name
        folder.mkdir(parents=True, exist_ok=True)
        settings = {
            "NAME": name,
            "HOST": "127.0.0.1",
            "PORT": str(self._ports[name]),
            "STORE": str(folder),
            "CLUSTER_HOST": "127.0.0.1",
            "CLUSTER_PORT": str(self._routes[name]),
            **{f"ROUTE_{n}": f"nats://127.0.0.1:{port}" for n, port in enumerate(self._routes.values(), 1)},
        }
        with (folder / "nats-server.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [find_server_binary(), "--config", str(_CONFIG)],
                env={**os.environ, **{f"WIRELOOM_NATS_{key}": value for key, value in settings.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - as in services.cli.embedded
            )

    def kill(self, name: str) -> None:
        """End a server as a crash would."""
        self._processes[name].kill()
        self._processes[name].wait()

    async def leader(self, stream: str) -> str:
        """The name of the server that leads a stream; empty while none does."""
        try:
            return str((await self._streams())[stream]["cluster"].get("leader") or "")
        except (nats.errors.Error, nats.js.errors.Error, OSError, KeyError):
            return ""

    async def has_all_copies(self) -> bool:
        """Whether every stream has all its copies, and each is up to date."""
        try:
            streams = await self._streams()
        except (nats.errors.Error, nats.js.errors.Error, OSError):
            return False
        copies = [stream["cluster"].get("replicas") or [] for stream in streams.values()]
        return all(
            len(others) == SIZE - 1 and all(each.get("current") and not each.get("offline") for each in others)
            for others in copies
        )

    async def is_formed(self) -> bool:
        """Whether all three servers are one and keep streams threefold."""
        try:
            for url in self.urls:
                client = await nats.connect(url, allow_reconnect=False, connect_timeout=2)
                try:
                    if len(client.discovered_servers) < SIZE - 1:
                        return False
                    await client.jetstream().account_info()
                finally:
                    await client.close()
        except (nats.errors.Error, nats.js.errors.Error, OSError):
            return False
        return True

    def close(self) -> None:
        """Leave no server behind."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()

    async def _streams(self) -> dict[str, dict[str, Any]]:
        client = await nats.connect(self.urls, allow_reconnect=False, connect_timeout=2)
        try:
            reply = await client.jetstream()._api_request("$JS.API.STREAM.LIST", b"{}", timeout=5)
            return {stream["config"]["name"]: stream for stream in reply["streams"]}
        finally:
            await client.close()


@asynccontextmanager
async def running_cluster(folder: Path) -> AsyncIterator[Cluster]:
    """Three servers that are one, for as long as the block lasts."""
    cluster = Cluster(folder)
    try:
        for name in cluster.names:
            cluster.start(name)
        await wait_until(cluster.is_formed, timeout=60, what="the three servers are one")
        yield cluster
    finally:
        cluster.close()
