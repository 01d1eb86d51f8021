"""A message bus of three servers on this machine, from the very configuration that `deploy/` ships."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from events import bus
from events.errors import UnavailableError, WireloomError
from events.subjects import LOG
from services.cli.embedded import die_with_parent, find_server_binary
from tests.support.plane import free_port
from tests.support.waiting import wait_until

SIZE = 3

_CONFIG = Path(__file__).parents[2] / "deploy" / "nats" / "cluster.conf"


class Cluster:
    """Three servers, `wireloom-0` to `wireloom-2`, each of which a test may kill and start again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = [free_port() for _ in range(SIZE)]
        self._routes = [free_port() for _ in range(SIZE)]
        self._processes: dict[int, subprocess.Popen[bytes]] = {}

    @property
    def urls(self) -> list[str]:
        """The address of each server."""
        return [f"nats://127.0.0.1:{port}" for port in self._ports]

    @property
    def url(self) -> str:
        """The addresses of all three."""
        return ",".join(self.urls)

    def start(self, number: int) -> None:
        """Start a server. It is ready, and knows the others, some time later."""
        directory = self._directory / str(number)
        directory.mkdir(parents=True, exist_ok=True)
        settings = {
            "NAME": f"wireloom-{number}",
            "HOST": "127.0.0.1",
            "PORT": str(self._ports[number]),
            "STORE": str(directory),
            "CLUSTER_HOST": "127.0.0.1",
            "CLUSTER_PORT": str(self._routes[number]),
            **{f"ROUTE_{n}": f"nats://127.0.0.1:{port}" for n, port in enumerate(self._routes, 1)},
        }
        with (directory / "nats-server.log").open("ab") as log:
            self._processes[number] = subprocess.Popen(
                [find_server_binary(), "--config", str(_CONFIG)],
                env={**os.environ, **{f"WIRELOOM_NATS_{key}": value for key, value in settings.items()}},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - as in services.cli.embedded
            )

    def kill(self, number: int) -> None:
        """End a server as a crash would."""
        self._processes[number].kill()
        self._processes[number].wait()


@asynccontextmanager
async def running_cluster(directory: Path) -> AsyncIterator[Cluster]:
    """Three servers, ready, for as long as the block lasts."""
    cluster = Cluster(directory)
    try:
        for number in range(SIZE):
            cluster.start(number)
        await wait_until(lambda: _takes_streams(cluster.url), timeout=60, what="the three servers are one")
        yield cluster
    finally:
        for process in cluster._processes.values():
            process.kill()
            process.wait()


async def _takes_streams(url: str) -> bool:
    try:
        client = await bus.connect(url, "test")
    except UnavailableError:
        return False
    try:
        await bus.ensure_streams(client, [LOG], SIZE)
    except WireloomError:
        return False
    finally:
        await client.close()
    return True
