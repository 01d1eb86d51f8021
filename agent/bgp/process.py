"""The process of the machine's own BIRD: found, started, watched and stopped.

It is started in a session of its own and outlives the agent; the next one finds it by its control socket. All that
belongs to it lies in one folder, which it works in: so names of files are short, whatever the folder's is.
"""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from pathlib import Path
from shutil import which

from agent.bgp.config import fading
from agent.bgp.control import Control, ControlError, connected
from events.errors import UnavailableError

PROGRAM = "bird"
_SOCKET = "bird.ctl"
_CONFIGURATION = "bird.conf"
_NEXT = "bird.conf.next"
_PID = "bird.pid"
_WORDS = "bird.err"
_PATIENCE = 10.0
"""Seconds that BIRD may take to start, to stop, or to check a configuration."""
_GLANCE = 0.02


class BirdError(UnavailableError):
    """Raised when BIRD does not start."""

    code = "bird"
    title = "BIRD does not run"


class RefusedError(BirdError):
    """Raised when BIRD refuses a configuration; the one before stays in place."""


class Bird:
    """A BIRD of its own in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.socket = folder / _SOCKET

    @staticmethod
    def is_installed() -> bool:
        """Whether there is a BIRD to start."""
        return which(PROGRAM, path=_search_path()) is not None

    @property
    def died(self) -> bool:
        """Whether the last one ended without taking its leave (or still runs)."""
        return (self.folder / _PID).exists()

    def _mute(self) -> int | None:
        """The process that the last one was, if it still is."""
        try:
            pid = int((self.folder / _PID).read_text())
            return pid if Path(f"/proc/{pid}/cwd").samefile(self.folder) else None
        except (OSError, ValueError):
            return None

    def configuration(self) -> str:
        """The configuration that is in place; empty if there is none."""
        try:
            return (self.folder / _CONFIGURATION).read_text()
        except FileNotFoundError:
            return ""

    async def find(self) -> int | None:
        """The process that runs already, if one does."""
        try:
            async with connected(self.socket) as control:
                return control.pid
        except ControlError:
            return None

    async def place(self, configuration: str) -> None:
        """Put a configuration in place, for the next start or `configure`. Raises RefusedError if BIRD finds a fault in
        it, or cannot be asked; nothing is changed then."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.folder / _NEXT).write_text(configuration)
            await self._check()
            (self.folder / _NEXT).replace(self.folder / _CONFIGURATION)
        except OSError as error:  # no room on the disk, or no BIRD any more
            raise RefusedError(f"Cannot put {_CONFIGURATION} in place: {error}.") from error

    async def _check(self) -> None:
        checking = await asyncio.create_subprocess_exec(
            PROGRAM,
            "-p",
            "-c",
            _NEXT,
            cwd=self.folder,
            env=_environment(),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(_PATIENCE):
                said, _ = await checking.communicate()
        except TimeoutError as error:
            checking.kill()
            await checking.wait()
            raise RefusedError(f"BIRD has not checked its configuration within {_PATIENCE:g} s.") from error
        if checking.returncode != 0:
            words = said.decode(errors="replace").strip()
            raise RefusedError(f"BIRD refuses its configuration: {words or checking.returncode}.")

    async def start(self, recover: bool) -> int:
        """Start it, and return its process once it answers. With `recover` it leaves the kernel's routes alone until
        its neighbours have told it theirs (graceful restart, RFC 4724). Raises BirdError."""
        if (mute := self._mute()) is not None:  # it does not answer, but has the ports
            await self.kill(mute)
        pid = self._spawn(recover)
        try:
            async with asyncio.timeout(_PATIENCE):
                while await self.find() != pid:
                    if _has_ended(pid):
                        raise BirdError(f"BIRD ended at once: {self._last_words() or 'without a word'}.")
                    await asyncio.sleep(_GLANCE)
        except TimeoutError as error:
            await self.kill(pid)
            raise BirdError(f"BIRD has not answered within {_PATIENCE:g} s of its start.") from error
        return pid

    def _spawn(self, recover: bool) -> int:
        arguments = [PROGRAM, "-f", "-c", _CONFIGURATION, "-s", _SOCKET, "-P", _PID, *(["-R"] if recover else [])]
        try:
            (self.folder / _WORDS).unlink(missing_ok=True)
            # Not a `Popen`: that wants its process to end before it does.
            return os.posix_spawnp(
                "env",
                ["env", "-C", str(self.folder), *arguments],
                _environment(),
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(self.folder / _WORDS), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
                setsid=True,
            )
        except OSError as error:
            raise BirdError(f"Cannot start {PROGRAM}: {error}.") from error

    def _last_words(self) -> str:
        try:
            return " ".join((self.folder / _WORDS).read_text(errors="replace").split("\n")[-3:]).strip()[-300:]
        except OSError:
            return ""

    async def stop(self) -> None:
        """Take its routes out of the kernel and stop it, if it runs: its neighbours are told that it goes."""
        try:
            async with connected(self.socket) as control:
                await self._say_farewell(control)
        except ControlError:
            return

    async def _say_farewell(self, control: Control) -> None:
        with suppress(RefusedError, ControlError):
            await self.place(fading(self.configuration()))
            await control.ask("configure")
        await control.ask("down")
        try:
            async with asyncio.timeout(_PATIENCE):
                await ended(control.pid)
        except TimeoutError:
            await self.kill(control.pid)
        (self.folder / _PID).unlink(missing_ok=True)

    async def kill(self, pid: int) -> None:
        """End a process that does not end by itself."""
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        await ended(pid)


async def ended(pid: int) -> None:
    """Wait until a process has ended, whether it is a child or not."""
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    loop.add_reader(handle, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(handle)
        os.close(handle)
    _has_ended(pid)


def _has_ended(pid: int) -> bool:
    """Whether a child has ended; it is no zombie then."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return False


def _search_path() -> str:
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def _environment() -> dict[str, str]:
    """Times are read as UTC."""
    return {"PATH": _search_path(), "TZ": "UTC", "LC_ALL": "C"}
