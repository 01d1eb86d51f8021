"""What a chain is made of: a tree of steps, each with those that it follows from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

What = Literal["thing", "record", "event", "report", "command", "actor"]


@dataclass(frozen=True, slots=True)
class Step:
    """Something that is, was written, happened or was said, and what it follows from."""

    what: What
    text: str
    """In words."""
    follows_from: tuple[Step, ...] = ()
    time: datetime | None = None
    subject: str = ""
    """Under which a record stands."""
    revision: int | None = None
    """A record's, in its scope."""
    stream: str = ""
    position: int | None = None
    """Of an event, in the log; of a report, in its stream; of a record, that of the event or report it follows from."""
    uuids: tuple[UUID, ...] = ()
    """What it is about; a command's id; the account and token of who gave it."""

    def walk(self) -> Iterator[Step]:
        """This step and all that it follows from."""
        yield self
        for step in self.follows_from:
            yield from step.walk()


def thing(text: str, *follows_from: Step, time: datetime | None = None, uuids: tuple[UUID, ...] = ()) -> Step:
    """Something that is so."""
    return Step("thing", text, follows_from, time=time, uuids=uuids)
