"""Moments as people say them: a position of the log, a time, or how long ago. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import NamedTuple

from events.errors import InvalidInputError
from events.fields import shown

FORMS = "a position of the log such as 1204, a time such as 2026-05-03T14:02, or how long ago, such as '2 hours ago'"

_AGO = re.compile(r"(\d{1,6})\s*([a-z]+)\s+ago", re.IGNORECASE)
_UNITS = {
    "s": 1,
    "sec": 1,
    "second": 1,
    "m": 60,
    "min": 60,
    "minute": 60,
    "h": 3600,
    "hour": 3600,
    "d": 86_400,
    "day": 86_400,
    "w": 604_800,
    "week": 604_800,
}
_MOST = 2**53
_DIGITS = 16


class Instant(NamedTuple):
    """One moment: right after the event at a position of the log, or at a time. One of the two is None."""

    position: int | None = None
    time: datetime | None = None


def parse_instant(text: str, now: datetime, zone: tzinfo = UTC) -> Instant:
    """The moment that `text` says, which is one of `FORMS` or `now`. A time without a zone is one of `zone`; a date
    alone is its beginning.

    Raises `InvalidInputError`, also for a time that has not come yet.
    """
    said = text.strip()
    if len(said) <= _DIGITS and said.isascii() and said.isdigit() and int(said) < _MOST:
        return Instant(position=int(said))
    time = _time(said, now, zone)
    if time is None:
        raise InvalidInputError(f"{shown(text)} is no moment.", hint=f"Give {FORMS}.", field="at")
    if time > now:
        raise InvalidInputError(
            f"{time:%Y-%m-%d %H:%M:%S %Z} has not come yet.", hint="Give a moment of the past.", field="at"
        )
    return Instant(time=time)


def _time(said: str, now: datetime, zone: tzinfo) -> datetime | None:
    if said.lower() == "now":
        return now
    if found := _AGO.fullmatch(said):
        unit = found[2].lower()
        seconds = _UNITS.get(unit) or _UNITS.get(unit.removesuffix("s"))
        return None if seconds is None else _before(now, timedelta(seconds=int(found[1]) * seconds))
    try:
        time = datetime.fromisoformat(said)
        return (time.replace(tzinfo=zone) if time.tzinfo is None else time).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _before(now: datetime, ago: timedelta) -> datetime:
    """So long ago; where the calendar does not go back so far, its beginning."""
    try:
        return now - ago
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
