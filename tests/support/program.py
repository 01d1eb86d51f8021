"""The `wireloom` program as real processes, for tests."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from random import SystemRandom
from typing import Any

import httpx2
import psutil

from events.identity import Identity
from tests.support.waiting import wait_until_sync

SERVICES = ("allocator", "topology", "gateway")


_PORTS = range(20_000, 32_768)
"""Below those that the kernel gives to who asks for any."""


def free_port() -> int:
    """A TCP port of loopback that was free a moment ago. Nobody is given it by chance while who has it is away."""
    while True:
        port = SystemRandom().choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def environment(**values: str) -> dict[str, str]:
    """This process's environment without what would set Wireloom up or sign in, or give it a terminal's width, and with
    `values`."""
    unwanted = ("WIRELOOM_", "NATS_", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return kept | {"TZ": "UTC", "XDG_CONFIG_HOME": "/nonexistent"} | values


@dataclass
class Ended:
    """What became of a program that ended."""

    code: int
    stdout: str
    stderr: str


class ControlPlane:
    """A running `wireloom up`, and its client: the first admin, or with `--no-auth` among the options anybody."""

    def __init__(self, folder: Path, *options: str, variables: dict[str, str] | None = None) -> None:
        self.folder = folder
        self._variables = variables or {}
        self.http_port = free_port()
        self.secured = "--no-auth" not in options
        self.url = f"{'https' if self.secured else 'http'}://127.0.0.1:{self.http_port}"
        self.arguments = ["up", "--http-port", str(self.http_port), *options]
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(exist_ok=True)
        self._ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = self.folder / "notify"
        address.unlink(missing_ok=True)
        self._ready.bind(str(address))
        with (self.folder / "out").open("ab") as out, (self.folder / "err").open("ab") as err:
            return subprocess.Popen(
                [sys.executable, "-m", "services.cli", *self.arguments],
                env=environment(NOTIFY_SOCKET=str(address), **self._variables),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def said(self) -> str:
        """What it printed for people."""
        return (self.folder / "out").read_text()

    @property
    def logged(self) -> str:
        """What it and its services logged."""
        return (self.folder / "err").read_text()

    def wait_until_up(self, timeout: float = 60) -> None:
        """Wait until it tells systemd that it is ready."""
        self._ready.settimeout(timeout)
        assert self._ready.recv(100) == b"READY=1", self.logged

    def children(self) -> dict[str, psutil.Process]:
        """Its child processes by what they do."""
        found: dict[str, psutil.Process] = {}
        for child in psutil.Process(self.process.pid).children():
            try:
                command = child.cmdline()
            except psutil.NoSuchProcess:  # it ended meanwhile, or waits to be collected
                continue
            name = "bus" if command and command[0].endswith("nats-server") else command[-1] if command else ""
            found[name] = child
        return found

    def kill(self, name: str) -> None:
        """Kill a child, and wait until another has taken its place."""
        victim = self.children()[name]
        victim.kill()
        wait_until_sync(lambda: self._replaced(name, victim.pid), what=f"{name} is started again")

    def _replaced(self, name: str, pid: int) -> bool:
        child = self.children().get(name)
        return child is not None and child.pid != pid

    def wait_until_ready(self, timeout: float = 30) -> None:
        """Wait until the gateway says that every part is ready."""
        with self.client() as http:

            def ready() -> bool:
                try:
                    return http.get("/readyz").is_success
                except httpx2.TransportError:
                    return False

            wait_until_sync(ready, timeout, "the control plane is ready")

    @property
    def data_dir(self) -> Path:
        """Where it keeps its data."""
        return Path(self.arguments[self.arguments.index("--data-dir") + 1])

    @property
    def identity(self) -> Identity:
        """Its identity: the one given, or its own."""
        given = "--identity" in self.arguments
        return Identity(
            Path(self.arguments[self.arguments.index("--identity") + 1]) if given else self.data_dir / "identity"
        )

    @property
    def tokens(self) -> list[str]:
        """The admin's tokens that it showed, over all its starts."""
        return re.findall(r"wla_[a-z2-7]{52}", self.said)

    def client(self) -> httpx2.Client:
        """A client of its HTTP API."""
        return httpx2.Client(**self._client_options())

    def async_client(self) -> httpx2.AsyncClient:
        """Another, for tests with an event loop."""
        return httpx2.AsyncClient(**self._client_options())

    def _client_options(self) -> dict[str, Any]:
        headers = {"Authorization": f"Bearer {self.tokens[0]}"} if self.secured else {}
        verify = self.identity.tls() if self.secured else True
        return {"base_url": self.url, "headers": headers, "verify": verify, "trust_env": False, "timeout": 60}

    @property
    def access(self) -> dict[str, str]:
        """What the environment of a client command must say."""
        if not self.secured:
            return {"WIRELOOM_URL": self.url}
        ca = str(self.identity.folder / "tls/ca.pem")
        return {"WIRELOOM_URL": self.url, "WIRELOOM_TOKEN": self.tokens[0], "WIRELOOM_CA": ca}

    def run(self, *arguments: str, **values: str) -> Ended:
        """Run a client command to its end."""
        return run_wireloom(*arguments, **(self.access | values))

    def json(self, *arguments: str) -> Any:
        """The JSON that a client command prints."""
        ended = self.run(*arguments, "--json")
        assert ended.code == 0, f"{ended.stderr}\n{self.logged}"
        return json.loads(ended.stdout)

    def add_machines(self, *hostnames: str) -> list[str]:
        """Register machines as their agents would, and return their uuids."""
        with self.client() as http, ThreadPoolExecutor(32) as pool:

            def register(hostname: str) -> str:
                answer = http.post("/api/v1/machines", json={"hostname": hostname}).raise_for_status()
                if answer.status_code == 202:  # done, but not shown yet: a leader is being elected, for example
                    place = answer.headers["Location"]
                    wait_until_sync(lambda: http.get(place).is_success, what=f"{place} is shown")
                    answer = http.get(place)
                return str(answer.json()["uuid"])

            return list(pool.map(register, hostnames))

    def stop(self) -> int:
        """Stop it in good order and return its exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def again(self) -> None:
        """Start it again, after it ended, on the same data."""
        self._ready.close()
        self.process = self._start()

    def close(self) -> None:
        """Leave nothing behind."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._ready.close()


@contextmanager
def running(folder: Path, *options: str, variables: dict[str, str] | None = None) -> Iterator[ControlPlane]:
    """A whole control plane for as long as the block lasts."""
    plane = ControlPlane(folder, *options, variables=variables)
    try:
        plane.wait_until_up()
        yield plane
    finally:
        plane.close()


def run_wireloom(*arguments: str, **values: str) -> Ended:
    """Run a `wireloom` command to its end."""
    ended = subprocess.run(
        [sys.executable, "-m", "services.cli", *arguments],
        env=environment(**values),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(ended.returncode, ended.stdout, ended.stderr)
