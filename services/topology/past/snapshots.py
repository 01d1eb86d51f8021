"""What STATE held at a position of the log, as it stands in HISTORY. Pure.

A snapshot is a *head*, which says what it is of, and *parts*, which are what STATE held, compressed. Nothing but the
head and a checksum makes it count, so that one of which a part is missing, damaged or from another hand is as none.
The same log always gives the same snapshots at the same positions: whoever writes one a second time changes nothing.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping, Sequence

from events.fields import Tolerant
from events.subjects import HISTORY_PREFIX

LEAST_BETWEEN = 5_000
"""At least so many events lie between two snapshots."""

PART_BYTES = 800_000
"""So many bytes a part has at most: the bus takes messages of 1 MB."""

DERIVATION = 1
"""Which derivation a snapshot was made with. To be raised when the same events come to other records: those that were
made before count no more, and are made anew."""

_LEVEL = 6


class Head(Tolerant):
    """What a snapshot is of."""

    position: int
    """The position of the log."""
    last: int
    """The sequence of the newest event there; the log may have none at the position itself."""
    digest: str
    """The digest of that event, by which one sees that it is the same log."""
    following: int
    """The position of the snapshot after this one."""
    parts: int
    checksum: str
    """The SHA-256 of all parts together, in hex."""
    derivation: int


def following(position: int, records: int, least: int = LEAST_BETWEEN) -> int:
    """The position of the snapshot after one that holds so many records.

    There are at most three times as many records as events between two. A record takes 40 to 80 bytes here, and an
    event 600 in the log: so all snapshots together take two fifths of the log's room at most, mostly a quarter.
    To write one takes less time than what lies before it took to derive, and no moment is further from one than to read
    it takes.
    """
    return position + max(least, records // 3)


def pack(contents: Mapping[str, bytes]) -> list[bytes]:
    """What STATE held as the parts of a snapshot; the order is kept."""
    packing, packed = zlib.compressobj(_LEVEL), bytearray()
    for subject, payload in contents.items():
        packed += packing.compress(b"%s %s\n" % (subject.encode(), payload))
    packed += packing.flush()
    return [bytes(packed[start : start + PART_BYTES]) for start in range(0, len(packed), PART_BYTES)]


def checksum(parts: Sequence[bytes]) -> str:
    """The checksum of a snapshot."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(part)
    return whole.hexdigest()


def unpack(head: Head, parts: Sequence[bytes]) -> dict[str, bytes] | None:
    """What STATE held; None where these are not the parts that the head speaks of."""
    if len(parts) != head.parts or checksum(parts) != head.checksum:
        return None
    lines = zlib.decompress(b"".join(parts)).split(b"\n")
    split = (line.split(b" ", 1) for line in lines[:-1])
    return {subject.decode(): payload for subject, payload in split}


def head_subject(position: int) -> str:
    """Where the head of the snapshot at a position stands."""
    return part_subject(position, 0)


def part_subject(position: int, number: int) -> str:
    """Where a part of a snapshot stands; the first has the number 1."""
    return f"{HISTORY_PREFIX}.{position}.{number}"
