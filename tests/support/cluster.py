"""A message bus of three servers on this machine, from the very configuration that `deploy/` ships."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from events import bus
from events.errors import UnavailableError
from events.identity import Identity
from events.subjects import (
    BGP_STREAM,
    CHECKPOINTS_STREAM,
    HISTORY_STREAM,
    LOG_STREAM,
    PATHS_STREAM,
    PLANS_STREAM,
    REACH_STREAM,
    SNAPSHOT_STREAM,
    STATE_STREAM,
)
from events.trust.permissions import Role
from services.cli.embedded import die_with_parent, find_server_binary
from services.cli.export import write_export
from tests.support.program import free_port
from tests.support.waiting import wait_until

SIZE = 3

_READERS: dict[Role, tuple[str, ...]] = {
    "topology": (
        LOG_STREAM,
        STATE_STREAM,
        REACH_STREAM,
        PATHS_STREAM,
        BGP_STREAM,
        HISTORY_STREAM,
        PLANS_STREAM,
        CHECKPOINTS_STREAM,
    ),
    "allocator": (SNAPSHOT_STREAM,),
}
_NOT_NOW = (nats.errors.Error, nats.js.errors.Error, OSError, UnavailableError)
_CONFIG = Path(__file__).parents[2] / "deploy" / "nats" / "cluster.conf"


class Cluster:
    """Three servers, `wireloom-1` to `wireloom-3`, each of which a test may kill and start again."""

    def __init__(self, folder: Path, identity: Identity | None = None) -> None:
        self.names = [f"wireloom-{number}" for number in range(1, SIZE + 1)]
        self.identity = identity
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

    def prepare(self) -> None:
        """Give each server its folder: with an identity what is exported for it, else what lets everybody in."""
        if self.identity is not None:
            write_export(self.identity, self._folder, {name: ["127.0.0.1"] for name in self.names})
        for name in self.names:
            folder = self._folder / "servers" / name
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(_CONFIG, folder)
            for included in ("security.conf", "routes.conf"):
                (folder / included).touch()

    def start(self, name: str) -> None:
        """Start a server, for the first time or again on the same data. It is ready some time later."""
        folder = self._folder / "servers" / name
        settings = {
            "NAME": name,
            "HOST": "127.0.0.1",
            "PORT": str(self._ports[name]),
            "STORE": str(folder / "store"),
            "ACCOUNTS": str(folder / "accounts"),
            "CERT": str(folder / "server.pem"),
            "KEY": str(folder / "server.key"),
            "CA": str(folder / "ca.pem"),
            "CLUSTER_HOST": "127.0.0.1",
            "CLUSTER_PORT": str(self._routes[name]),
            **{f"ROUTE_{n}": f"nats://127.0.0.1:{port}" for n, port in enumerate(self._routes.values(), 1)},
        }
        with (folder / "nats-server.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                [find_server_binary(), "--config", str(folder / _CONFIG.name)],
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
            return str((await self.streams())[stream]["cluster"].get("leader") or "")
        except (*_NOT_NOW, KeyError):
            return ""

    async def has_all_copies(self) -> bool:
        """Whether every stream has all its copies, and each is up to date."""
        try:
            streams = await self.streams()
        except _NOT_NOW:
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
                async with self._connected(url, "console") as client:
                    if len(client.discovered_servers) < SIZE - 1:
                        return False
                    await client.jetstream().account_info()
        except _NOT_NOW:
            return False
        return True

    async def streams(self) -> dict[str, dict[str, Any]]:
        """What the cluster tells about each of its streams: all that there are, or with an identity Wireloom's."""
        if self.identity is None:
            async with self._connected(self.url) as client:
                reply = await client.jetstream()._api_request("$JS.API.STREAM.LIST", b"{}", timeout=5)
                return {stream["config"]["name"]: stream for stream in reply["streams"]}
        found: dict[str, dict[str, Any]] = {}
        for role, names in _READERS.items():
            async with self._connected(self.url, role) as client:
                for name in names:
                    reply = await client.jetstream()._api_request(f"$JS.API.STREAM.INFO.{name}", b"{}", timeout=5)
                    found[name] = reply
        return found

    @asynccontextmanager
    async def _connected(self, url: str, role: Role = "console") -> AsyncIterator[Client]:
        credentials = self.identity.credentials(role) if self.identity else None
        async with asyncio.timeout(2):
            client = await bus.connect(url, "test", credentials)
        try:
            yield client
        finally:
            await client.close()

    def close(self) -> None:
        """Leave no server behind."""
        for process in self._processes.values():
            process.kill()
        for process in self._processes.values():
            process.wait()


@asynccontextmanager
async def running_cluster(folder: Path, identity: Identity | None = None) -> AsyncIterator[Cluster]:
    """Three servers that are one, for as long as the block lasts; with an identity they let in whom it knows."""
    cluster = Cluster(folder, identity)
    cluster.prepare()
    try:
        for name in cluster.names:
            cluster.start(name)
        await wait_until(cluster.is_formed, what="the three servers are one")
        yield cluster
    finally:
        cluster.close()
