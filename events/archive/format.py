"""The file's format: lines of JSON, compressed with gzip.

The first line is the header. Then comes each message, as a list of its stream, its place there, its subject, what
stands beside it (of an event its version and topic, of a checkpoint its signature), and its payload, to the byte. The
last line is the footer: how many messages of each stream there are, and the SHA-256 of all lines before it. So a file
that was cut off, or damaged in any place, shows.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Literal, NamedTuple

import orjson
from pydantic import ValidationError

from events.errors import InvalidInputError
from events.fields import Moment, Tolerant
from events.subjects import (
    BGP_PREFIX,
    BGP_STREAM,
    CHECKPOINTS_PREFIX,
    CHECKPOINTS_STREAM,
    LOG_PREFIX,
    LOG_STREAM,
    PLANS_PREFIX,
    PLANS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
)
from events.trust.signing import Ring

VERSION = 1

STREAMS = (CHECKPOINTS_STREAM, LOG_STREAM, REACH_STREAM, BGP_STREAM, PLANS_STREAM)
"""What a file holds, in this order: all that cannot be derived."""

MAX_LINE = 1 << 26
"""So many bytes a line has at most: several times what the bus carries in a message."""

_SUBJECTS = {
    stream: re.compile(rf"{prefix}(\.[A-Za-z0-9_-]+)+", re.ASCII)
    for stream, prefix in (
        (CHECKPOINTS_STREAM, CHECKPOINTS_PREFIX),
        (LOG_STREAM, LOG_PREFIX),
        (REACH_STREAM, REACH_PREFIX),
        (BGP_STREAM, BGP_PREFIX),
        (PLANS_STREAM, PLANS_PREFIX),
    )
}
"""What may stand in each stream. A message is written to its subject when the file is imported: one with another would
become an event, a record or a command."""

_BESIDE = dict.fromkeys((LOG_STREAM, CHECKPOINTS_STREAM), re.compile(r"[\x20-\x7e]*"))
"""What may stand beside a message, where anything does: a header's value."""


class ArchiveError(InvalidInputError):
    """Raised for a file that is no whole and undamaged export of a log."""

    code = "archive"
    title = "The file is not a log that can be used"


class Header(Tolerant):
    """What a file is."""

    format: Literal["wireloom-log"] = "wireloom-log"
    version: int = VERSION
    release: str
    """Of the Wireloom that made it."""
    made_at: Moment
    root: str = ""
    """The control plane's public root key; empty where it has none."""
    ring: Ring | None = None
    """The keys that signed its checkpoints."""


class Footer(Tolerant):
    """What a file came to."""

    counts: dict[str, int]
    """How many messages of each stream it has."""
    sha256: str
    """Of all lines before this one, in hex."""


class Archived(NamedTuple):
    """A message."""

    stream: str
    sequence: int
    subject: str
    beside: str
    payload: bytes


class Writer:
    """Makes the lines of a file. They are to be written in the order in which they are made."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._counts: Counter[str] = Counter()

    def header(self, header: Header) -> bytes:
        """The first line."""
        return self._line(orjson.dumps(header.model_dump(mode="json")))

    def message(self, message: Archived) -> bytes:
        """The line of a message."""
        self._counts[message.stream] += 1
        return self._line(orjson.dumps((*message[:4], message.payload.decode())))

    def footer(self) -> bytes:
        """The last line."""
        footer = Footer(counts=dict(self._counts), sha256=self._hash.hexdigest())
        return orjson.dumps({"end": footer.model_dump(mode="json")}) + b"\n"

    def _line(self, text: bytes) -> bytes:
        line = text + b"\n"
        self._hash.update(line)
        return line


class Reader:
    """Reads the lines of a file, and checks that they are all there and as they were written."""

    def __init__(self, lines: Iterable[bytes]) -> None:
        """Reads the header. Lines may come in pieces where they are longer than `MAX_LINE`. Raises `ArchiveError`."""
        self._lines = iter(lines)
        self._hash = hashlib.sha256()
        self._number = 1
        self._counts: Counter[str] = Counter()
        first = next(self._lines, b"")
        try:
            fields = orjson.loads(first)
            self.header = Header.model_validate(fields)
        except (orjson.JSONDecodeError, ValidationError) as error:
            raise ArchiveError("This is no export of a log.", hint="Give a file from `wireloom log export`.") from error
        if self.header.version > VERSION:
            raise ArchiveError(
                f"The file has the format {self.header.version}; this program knows {VERSION}.",
                hint="Use a program at least as new as the one that made it.",
            )
        self._hash.update(first)

    def messages(self) -> Iterator[Archived]:
        """The messages. Raises `ArchiveError`, after the last one too."""
        stream, sequence = 0, 0
        for line in self._lines:
            self._number += 1
            if len(line) > MAX_LINE:
                raise self._damaged("it is longer than any message")
            if line.startswith(b'{"end"'):
                self._finish(line)
                return
            message = self._message(line)
            place = STREAMS.index(message.stream)
            if (place, message.sequence) <= (stream, sequence):
                raise self._damaged("it is not in order")
            stream, sequence = place, message.sequence
            self._counts[message.stream] += 1
            self._hash.update(line)
            yield message
        raise ArchiveError(
            f"The file is cut off after line {self._number}.", hint="Export the log again, or take another copy."
        )

    def _message(self, line: bytes) -> Archived:
        try:
            stream, sequence, subject, beside, payload = orjson.loads(line)
            if stream not in STREAMS or type(sequence) is not int or not all(map(_is_text, (subject, beside))):
                raise ValueError(stream)
            message = Archived(stream, sequence, subject, beside, payload.encode())
        except (ValueError, TypeError, AttributeError) as error:
            raise self._damaged("it is no message") from error
        if not _SUBJECTS[stream].fullmatch(subject):
            raise self._damaged(f"what stands in {stream} has no such subject")
        if not (_BESIDE[stream].fullmatch(beside) if stream in _BESIDE else not beside):
            raise self._damaged(f"what stands in {stream} has no such header")
        return message

    def _finish(self, line: bytes) -> None:
        try:
            footer = Footer.model_validate(orjson.loads(line)["end"])
        except (orjson.JSONDecodeError, ValidationError, KeyError) as error:
            raise self._damaged("it is no footer") from error
        if footer.counts != dict(self._counts) or footer.sha256 != self._hash.hexdigest():
            raise ArchiveError(
                "The file is not what was exported: it was damaged or changed.",
                hint="Export the log again, or take another copy.",
            )
        if next(self._lines, None) is not None:
            raise ArchiveError("The file goes on after its end.", hint="Take another copy.")

    def _damaged(self, why: str) -> ArchiveError:
        return ArchiveError(
            f"Line {self._number} of the file is damaged: {why}.", hint="Export the log again, or take another copy."
        )


def _is_text(value: object) -> bool:
    return isinstance(value, str)
