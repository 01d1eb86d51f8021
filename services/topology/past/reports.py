"""What machines had reported by a time, as it stands in REACH and BGP. A shell, but for `newest_by`.

Reports stand there in the order in which they were written, each with the time of the gateway that wrote it. Gateways'
clocks differ a little, so those around the time are looked at one by one. For each subject the last that was written
counts, of those that are not from after the time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import orjson
from nats.aio.client import Client

from events.client import Entry
from events.direct import direct_get, newest_until, next_at
from events.errors import UnavailableError
from events.feed import jetstream, last_sequence
from events.subjects import BGP_STREAM, REACH_STREAM

CLOCKS_APART = timedelta(minutes=1)
"""So far the clocks of two gateways may be apart."""

REPORTED_AGAIN = timedelta(days=7)
"""Whatever does not change is reported again within this time."""

_PAGE = 1000
_TRIES = 3
_LONG_AGO = datetime.min.replace(tzinfo=UTC)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
"""Times at the calendar's ends cannot be moved; how long they are from this can."""


async def reports_by(
    client: Client, stream: str, stem: str, members: Iterable[UUID], time: datetime | None
) -> list[Entry]:
    """Of each subject below `stem` in a stream, the newest report that was made by a time (None for now), ordered by
    sequence. `members` are the machines whose reports count where there are very many. Raises `UnavailableError`."""
    end = await last_sequence(client, stream)
    if time is None:
        return await _newest(client, stream, stem, members, end)
    moment = time - _EPOCH
    sure = await _first_after(client, stream, moment - CLOCKS_APART, 1, end) - 1
    possible = await _first_after(client, stream, moment + CLOCKS_APART, sure + 1, end) - 1
    before = await _newest(client, stream, stem, members, sure)
    return newest_by(time, before, await _between(client, stream, f"{stem}.>", sure, possible))


def newest_by(time: datetime, before: Iterable[Entry], around: Iterable[Entry]) -> list[Entry]:
    """Of each subject the last report that is not from after a time: of those that are surely from `before` it, and
    those from `around` it, which came later."""
    found = {entry.subject: entry for entry in before}
    found |= {entry.subject: entry for entry in around if time_of(entry) <= time}
    return sorted(found.values())


def time_of(entry: Entry) -> datetime:
    """When a report was made; long ago where nobody can read that."""
    try:
        return datetime.fromisoformat(orjson.loads(entry.data)["time"])
    except (ValueError, KeyError, TypeError):
        return _LONG_AGO


async def complete_since(client: Client) -> datetime:
    """Since when all reports are known: those from before may have been removed, by age or with their stream. (Of what
    is reported more often than a stream keeps, the oldest go too.) Raises `UnavailableError`."""
    return max([await _complete_since(client, stream) for stream in (REACH_STREAM, BGP_STREAM)])


async def _complete_since(client: Client, stream: str) -> datetime:
    info = await jetstream(client, f"STREAM.INFO.{stream}", {})
    made, held = datetime.fromisoformat(info["created"]), info["state"]
    if held["first_seq"] <= 1:
        return made
    # Something was removed. What is the newest of its subject and was removed is reported again.
    oldest = datetime.fromisoformat(held["first_ts"]) if held["messages"] else datetime.now(UTC)
    return max(made, oldest + REPORTED_AGAIN)


async def _newest(client: Client, stream: str, stem: str, members: Iterable[UUID], last: int) -> list[Entry]:
    together = await newest_until(client, stream, f"{stem}.>", last)
    if together is not None:
        return together
    found: list[Entry] = []
    for machine_id in members:
        found += await newest_until(client, stream, f"{stem}.{machine_id}.>", last) or []
        await asyncio.sleep(0)
    return sorted(found)


async def _first_after(client: Client, stream: str, moment: timedelta, low: int, end: int) -> int:
    """The sequence of the first report, at `low` or later, that is from after a moment (since `_EPOCH`); after `end`
    where there is none."""
    high = end + 1
    while low < high:
        middle = (low + high) // 2
        entry = await next_at(client, stream, ">", middle)
        if entry is None or entry.sequence > end or time_of(entry) - _EPOCH > moment:
            high = middle
        else:
            low = entry.sequence + 1
    return low


async def _between(client: Client, stream: str, subjects: str, after: int, until: int) -> list[Entry]:
    """The messages under `subjects` after a sequence up to another."""
    found: list[Entry] = []
    tries = 0
    while after < until:
        request = {"seq": after + 1, "next_by_subj": subjects, "batch": _PAGE}
        page = await direct_get(client, stream, request)
        entries = [entry for entry in sorted(page.entries) if entry.sequence <= until]
        found += entries
        if page.status and len(entries) < _PAGE:
            return found
        if not page.status and not entries:
            tries += 1
            if tries == _TRIES:
                raise UnavailableError(f"The stream {stream} does not answer.", hint="Ask again.")
        if entries:
            after, tries = entries[-1].sequence, 0
    return found
