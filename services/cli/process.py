"""A child process that never outlives this program. A shell around asyncio's subprocesses."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from collections.abc import Callable, Mapping, Sequence

from events.errors import InternalError

STOP_SECONDS = 10.0
"""How long a child has to end in good order before it is killed."""

_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)


class ChildProcess:
    """One command line, run as a child: to be started, waited for, stopped, and started again."""

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self.argv = tuple(argv)
        self.environment = dict(environment)
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """The process id, or None before the first start."""
        return None if self._process is None else self._process.pid

    async def start(self) -> None:
        """Start it. In a session of its own, so that Ctrl-C in a terminal reaches only us, who stop it in order."""
        self._process = await asyncio.create_subprocess_exec(
            *self.argv,
            env=self.environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),
        )

    async def wait(self) -> int:
        """Its exit status once it has ended; negative for the signal that ended it."""
        if self._process is None:
            raise InternalError("The process was not started.")
        return await self._process.wait()

    async def stop(self) -> None:
        """Ask it to end, and kill it after `STOP_SECONDS`. Does nothing if it does not run."""
        if self._process is None or self._process.returncode is not None:
            return
        self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), STOP_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


def die_with(parent: int) -> Callable[[], None]:
    """What a child does between fork and exec: ask the kernel to kill it when `parent` dies (prctl(2)).

    The parent may be gone before the request is made; then nobody would send the signal, so the child looks itself.
    """

    def arrange() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arrange
