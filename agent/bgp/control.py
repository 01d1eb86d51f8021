"""BIRD's control socket: its line protocol, spoken as a client.

A reply is lines of `code text`; `-` in place of the space says that more follow, and a line that begins with a space
has the code of the line before. Lines that begin with `+` are messages for a person who watches, and no part of it.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from events.errors import UnavailableError

PATIENCE = 10.0
"""Seconds that BIRD may take for an answer."""
_LONGEST_LINE = 1 << 20
_FIRST_ERROR = 8000
_FINAL = b" "


class ControlError(UnavailableError):
    """Raised when BIRD does not answer, or not as it should."""

    code = "bird"
    title = "BIRD does not answer"


class CommandError(ControlError):
    """Raised when BIRD refuses a command."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a reply, without its code."""

    code: int
    text: str


class Control:
    """A connection to a BIRD. Give it one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, pid: int) -> None:
        self.pid = pid
        """Of the process that listens there."""
        self.version = ""
        self._reader = reader
        self._writer = writer

    async def greet(self) -> None:
        """Read the greeting that comes first: `BIRD 2.0.12 ready.`"""
        (line, *_) = await self._reply()
        words = line.text.split()
        self.version = words[1] if len(words) > 1 else ""

    async def ask(self, command: str) -> list[Line]:
        """Give a command and return the reply. Raises ControlError."""
        try:
            async with asyncio.timeout(PATIENCE):
                self._writer.write(command.encode() + b"\n")
                await self._writer.drain()
                lines = await self._reply()
        except OSError as error:
            raise ControlError(f"BIRD has gone: {error}.") from error
        if lines[-1].code >= _FIRST_ERROR:
            raise CommandError(f"BIRD refuses {command!r}: {lines[-1].text}")
        return lines

    async def _reply(self) -> list[Line]:
        lines: list[Line] = []
        while True:
            raw = await self._read_line()
            if raw[:1] == b"+":
                continue
            if raw[:1] == b" " and lines:
                lines.append(Line(lines[-1].code, raw[1:].decode(errors="replace")))
                continue
            if not raw[:4].isdigit():
                raise ControlError(f"BIRD says what is no reply: {raw[:80].decode(errors='replace')!r}.")
            lines.append(Line(int(raw[:4]), raw[5:].decode(errors="replace")))
            if raw[4:5] == _FINAL:
                return lines

    async def _read_line(self) -> bytes:
        try:
            line = await self._reader.readuntil(b"\n")
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ConnectionError) as error:
            raise ControlError(f"BIRD broke off its reply: {error}.") from error
        return line[:-1]


@asynccontextmanager
async def connected(path: Path) -> AsyncIterator[Control]:
    """A connection to the BIRD that listens at `path`. Raises ControlError if none does."""
    try:
        async with asyncio.timeout(PATIENCE):
            reader, writer = await _open(path)
    except OSError as error:
        raise ControlError(f"No BIRD answers at {path}: {error}.") from error
    try:
        control = Control(reader, writer, _listener(writer))
        async with asyncio.timeout(PATIENCE):
            await control.greet()
        yield control
    except TimeoutError as error:
        raise ControlError(f"BIRD has not answered within {PATIENCE:g} s.") from error
    finally:
        writer.transport.abort()


async def _open(path: Path) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A socket's name has 107 bytes at most, and a folder's may be longer: it is named by an open file."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return await asyncio.open_unix_connection(f"/proc/self/fd/{folder}/{path.name}", limit=_LONGEST_LINE)
    finally:
        os.close(folder)


def _listener(writer: asyncio.StreamWriter) -> int:
    peer: socket.socket = writer.get_extra_info("socket")
    pid, _, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")))
    return int(pid)
