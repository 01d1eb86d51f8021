"""One machine of the lab: its own network, mounts, processes and host name, held together by its first process."""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

PATIENCE = 60.0
"""So many seconds anything is waited for in the lab that takes far less: the machine it runs on may be busy."""

_CLONE_NEWNET = 0x40000000
_FIRST_PROCESS = """
mount -t tmpfs tmpfs /run && mkdir -p /run/wireguard && mount -t sysfs sysfs /sys &&
    echo "$0" >/proc/sys/kernel/hostname && ip link set lo up || exit
# No waiting for duplicates of IPv6 addresses that nobody else can have.
for conf in /proc/sys/net/ipv6/conf/*/accept_dad; do [ ! -e "$conf" ] || echo 0 >"$conf"; done
# To ignore SIGCHLD is to have whatever is left without a parent here reaped.
echo ready && exec env --ignore-signal=CHLD sleep infinity
"""


class LabError(Exception):
    """Raised when the lab cannot be made, or something in it does not do what it must."""


class Machine:
    """A machine made of namespaces.

    They have no names and live exactly as long as the machine's first process: when that dies, by `close` or with us,
    the kernel ends every other process of the machine and takes its network away.
    """

    def __init__(self, name: str, directory: Path, *, outlive: bool = False) -> None:
        """Starts it. `directory` is for logs and state; with `outlive` the machine stays when we end, else it goes
        with the *thread* that made it.

        Raises `LabError` where namespaces cannot be made.
        """
        self.name = name
        self.directory = directory / name
        self.directory.mkdir(parents=True)
        self.address = ""
        """The IPv4 address that the router sees it at, if any; set when it is joined."""
        self.address6 = ""
        """Likewise its IPv6 address."""
        self._programs: list[subprocess.Popen[bytes]] = []
        unshare = ["unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"]
        tied = [] if outlive else ["setpriv", "--pdeathsig", "KILL"]
        self._anchor = subprocess.Popen(
            [*tied, *unshare, "sh", "-c", _FIRST_PROCESS, name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            text=True,
        )
        assert self._anchor.stdout
        assert self._anchor.stderr
        if self._anchor.stdout.readline() != "ready\n":
            why = self._anchor.stderr.read().strip()
            self.close()
            raise LabError(f"Machine {name} cannot be made: {why}. The lab needs root and network namespaces.")
        self.pid = _only_child(self._anchor.pid)
        """The machine's first process."""

    def inside(self, command: Sequence[str | Path], *, only_network: bool = False) -> list[str]:
        """The command line that runs `command` on the machine, or on this one but in the machine's network."""
        spaces = ["--net"] if only_network else ["--net", "--mount", "--uts", "--pid"]
        return ["nsenter", f"--target={self.pid}", *spaces, "--", *map(str, command)]

    def run(
        self,
        command: Sequence[str | Path],
        *,
        check: bool = True,
        timeout: float = PATIENCE,
        text: str = "",
        environment: Mapping[str, str] | None = None,
        only_network: bool = False,
    ) -> str:
        """What a command that reads `text` prints on the machine. Raises `LabError` if it fails, where to `check`."""
        finished = subprocess.run(
            self.inside(command, only_network=only_network),
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
            check=False,
        )
        if check and finished.returncode:
            shown = " ".join(map(str, command))
            raise LabError(f"On {self.name}, `{shown}` ended with {finished.returncode}: {finished.stderr.strip()}")
        return finished.stdout

    def start(self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> Program:
        """Start a program that stays; what it prints goes to `NAME.log` in the machine's directory."""
        log = self.directory / f"{name}.log"
        with log.open("ab") as output:
            popen = subprocess.Popen(
                self.inside(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self._programs.append(popen)
        return Program(popen, log)

    def ping(self, address: str, timeout: float = 1.0) -> float | None:
        """The round trip to an address in milliseconds, or None where no answer comes within `timeout` seconds."""
        answer = self.run(["ping", "-n", "-c", "1", "-W", f"{timeout:g}", address], check=False)
        match = re.search(r"time=([\d.]+) ms", answer)
        return float(match[1]) if match else None

    @contextmanager
    def network(self) -> Iterator[None]:
        """In this block, and this thread, new sockets belong to the machine's network."""
        libc = ctypes.CDLL(None, use_errno=True)
        with Path("/proc/thread-self/ns/net").open() as ours, Path(f"/proc/{self.pid}/ns/net").open() as theirs:
            _set_namespace(libc, theirs.fileno())
            try:
                yield
            finally:
                _set_namespace(libc, ours.fileno())

    def close(self) -> None:
        """End every process of the machine and take its network away. Idempotent."""
        self._anchor.kill()
        self._anchor.wait()
        for popen in self._programs:
            popen.wait()
        for pipe in (self._anchor.stdout, self._anchor.stderr):
            if pipe:
                pipe.close()

    @property
    def anchor(self) -> int:
        """The process of ours that the machine hangs on."""
        return self._anchor.pid


class Program:
    """A program that runs on a machine."""

    def __init__(self, popen: subprocess.Popen[bytes], log: Path) -> None:
        self._popen = popen
        self.log = log
        self.pid = _only_child(popen.pid)
        """The program itself, as this side sees it."""

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, if it runs."""
        if self.running:
            with suppress(ProcessLookupError):  # it has just ended, and what started it has not noticed yet
                os.kill(self.pid, number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """Its exit status; minus the signal's number if one ended it. Raises `LabError` if it goes on."""
        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{self.log.stem} has not ended within {timeout:g} s; see {self.log}.") from error

    def stop(self, timeout: float = PATIENCE) -> int:
        """Ask it to end and wait for that."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        self.wait()

    def last_lines(self, count: int = 20) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-count:])


def _set_namespace(libc: ctypes.CDLL, descriptor: int) -> None:
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise LabError(f"The machine's network cannot be entered: {os.strerror(number)}.")


def _only_child(pid: int) -> int:
    """The process that `pid` forked to step into its process namespace."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except (FileNotFoundError, ProcessLookupError):
            break
        if children:
            return int(children[0])
        time.sleep(0.001)
    raise LabError(f"Process {pid} ended at once.")
