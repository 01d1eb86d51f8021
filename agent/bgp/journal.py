"""What BIRD writes into its log, read as it grows."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

_LINE = re.compile(r"\S+ \S+ <(\w+)> (.*)")
_MOST = 65_536
"""Bytes that are read at a time; what is more is passed over."""
Level = Literal["debug", "info", "warning", "error"]
_LEVELS: dict[str, Level] = {"INFO": "info", "WARN": "warning", "ERR": "error", "FATAL": "error", "BUG": "error"}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the log."""

    level: Level
    text: str


class Journal:
    """The log of a BIRD. What it held before the first look is left out."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at: tuple[int, int] | None = None
        """The file's number and how far it was read."""

    def skip(self) -> None:
        """Begin at the end."""
        try:
            found = self._path.stat()
        except OSError:
            self._at = None
        else:
            self._at = found.st_ino, found.st_size

    def news(self) -> list[Entry]:
        """What has come since. BIRD begins another file where one has become too large; the end of the one before may
        be missed then."""
        try:
            with self._path.open("rb") as file:
                found = os.fstat(file.fileno())
                start = self._at[1] if self._at is not None and self._at[0] == found.st_ino else 0
                if found.st_size < start:
                    start = 0
                file.seek(max(start, found.st_size - _MOST))
                data = file.read(_MOST)
                whole = data.rfind(b"\n") + 1
                self._at = found.st_ino, file.tell() - (len(data) - whole)
        except OSError:
            return []
        return list(_entries(data[:whole].decode(errors="replace")))


def _entries(text: str) -> Iterator[Entry]:
    for line in text.splitlines():
        if found := _LINE.fullmatch(line):
            yield Entry(_LEVELS.get(found[1], "debug"), found[2])
