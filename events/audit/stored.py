"""Reading the CHECKPOINTS stream. A shell."""

from __future__ import annotations

from contextlib import aclosing

from nats.aio.client import Client

from events import feed
from events.audit.checkpoints import SignedCheckpoint
from events.client import Entry, header
from events.direct import entry_of
from events.subjects import CHECKPOINTS_PREFIX, CHECKPOINTS_STREAM
from events.trust.signing import SIGNATURE_HEADER

_NO_MESSAGE_FOUND = 10037
_SIGNATURE = SIGNATURE_HEADER.encode()

Stored = tuple[str, SignedCheckpoint]
"""A subject, and what stands there."""


async def newest(client: Client) -> tuple[int, SignedCheckpoint] | None:
    """The newest checkpoint with its sequence; None if there is none. Raises `UnavailableError`."""
    entry = await _entry(client, {"last_by_subj": f"{CHECKPOINTS_PREFIX}.>"})
    return None if entry is None else (entry.sequence, _signed(entry))


async def load(client: Client, after: int, last: int) -> list[Stored]:
    """The checkpoints from the sequence `after` on, up to and including `last`. Raises `UnavailableError`."""
    found: list[Stored] = []
    if after >= last:
        return found
    async with aclosing(feed.entries(client, CHECKPOINTS_STREAM, after)) as batches:
        async for batch in batches:
            found += [(entry.subject, _signed(entry)) for entry in batch if entry.sequence <= last]
            if batch[-1].sequence >= last:
                break
    return found


async def before(client: Client, position: int, last: int) -> int:
    """The sequence of the last checkpoint of a smaller position, up to `last`; 0 for none. Raises `UnavailableError`.

    Positions rise with the sequences, so a few are looked at.
    """
    low, high = 0, last
    while low < high:
        middle = (low + high + 1) // 2
        entry = await _entry(client, {"seq": middle})
        if entry is None or _position(entry.subject) >= position:
            high = middle - 1
        else:
            low = middle
    return low


async def _entry(client: Client, request: dict[str, object]) -> Entry | None:
    answer = await feed.jetstream(client, f"STREAM.MSG.GET.{CHECKPOINTS_STREAM}", request, _NO_MESSAGE_FOUND)
    return None if "error" in answer else entry_of(answer["message"])


def _position(subject: str) -> int:
    number = subject.rpartition(".")[2]
    return int(number) if number.isascii() and number.isdigit() else 0


def _signed(entry: Entry) -> SignedCheckpoint:
    signature = (header(entry.headers, _SIGNATURE) or b"").decode("ascii", "replace")
    return SignedCheckpoint(checkpoint=entry.data.decode("utf-8", "replace"), signature=signature)
