"""A child process that never outlives this program. A shell around asyncio's subprocesses."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence

from events.errors import InternalError
from services.cli.embedded import die_with_parent

STOP_SECONDS = 10.0
"""How long a child has to end in good order before it is killed."""


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
            preexec_fn=die_with_parent(os.getpid()),
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
