"""What is kept of mappings on disk: for people to see, for the next life of the agent, and to end them with."""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from uuid import UUID

from pydantic import StringConstraints, TypeAdapter, ValidationError

from agent.port_mapping.asking import Protocol

FILE_NAME = "port-mappings.json"


@dataclass(frozen=True, slots=True)
class Note:
    """One network's mapping. Times in seconds since 1970."""

    router: str
    own: str
    """The address that the router sees this machine at."""
    port: int
    nonce: Annotated[str, StringConstraints(pattern="^(?:[0-9a-f]{2}){12}$")]
    """In hex; who shows it, made the mapping."""
    protocol: Protocol
    endpoint: str
    """The port as others see it."""
    since: float
    until: float


_NOTES = TypeAdapter(dict[UUID, Note])


class Notes:
    """A file in the state folder that only its owner can read."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME

    def read(self) -> dict[UUID, Note]:
        """What was noted, by network; nothing where that cannot be read."""
        try:
            return _NOTES.validate_json(self._path.read_bytes())
        except (OSError, ValidationError):
            return {}

    def write(self, notes: dict[UUID, Note]) -> None:
        """Keep these and no others. Raises OSError."""
        if not notes:
            self._path.unlink(missing_ok=True)
            return
        draft = self._path.with_suffix(".new")
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(_NOTES.dump_json(notes))
        draft.replace(self._path)

    def erase(self) -> None:
        """Leave nothing behind."""
        for path in (self._path, self._path.with_suffix(".new")):
            with suppress(OSError):
                path.unlink(missing_ok=True)
