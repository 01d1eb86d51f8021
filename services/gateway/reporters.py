"""Which reports may be believed: new ones, and not too many. Pure.

Each machine counts its reports, from its agent's start on. A report that is not newer than the last of the same start,
or that comes from an earlier start, is old: somebody repeats it, or it was overtaken on its way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass, field
from uuid import UUID

from events.errors import ConflictError, RateLimitedError

BOOTS_KEPT = 8
"""So many earlier starts of a machine's agent are known, so that their reports are refused."""

PERIOD = 10.0
"""In so many seconds a number of reports is taken of each machine."""


class StaleReportError(ConflictError):
    """Raised when a report is not newer than what the machine reported before."""

    code = "stale-report"
    title = "The report is old"


@dataclass(slots=True)
class _Reporter:
    """Who counts, as far as he came: the start that counts, the newest count, and starts that are over."""

    boot_id: UUID
    counter: int
    former: OrderedDict[UUID, None] = field(default_factory=OrderedDict)


class Reporters:
    """All who report. What a machine counts for itself has a `key`, which begins with the machine or is it."""

    def __init__(self, reports: int) -> None:
        """So many `reports` of a machine are taken in `PERIOD` seconds."""
        self._most = reports
        self._reporters: dict[Hashable, _Reporter] = {}
        self._recent: dict[UUID, deque[float]] = {}

    def require_new(self, key: Hashable, machine_id: UUID, boot_id: UUID, counter: int) -> None:
        """Raises `StaleReportError`."""
        known = self._reporters.get(key)
        if known is None:
            return
        is_repeated = boot_id == known.boot_id and counter <= known.counter
        if is_repeated or boot_id in known.former:
            raise StaleReportError(
                f"Report {counter} of the machine {machine_id} is not newer than what it reported before.",
                hint="Count reports upwards, with a new boot id after each start.",
            )

    def require_rate(self, machine_id: UUID, now: float) -> None:
        """Count one more report. Raises `RateLimitedError`."""
        recent = self._recent.setdefault(machine_id, deque())
        while recent and not now - PERIOD < recent[0] <= now:  # the clock may have been set back
            recent.popleft()
        if len(recent) >= self._most:
            raise RateLimitedError(
                f"The machine {machine_id} reports more than {self._most} times in {PERIOD:g} s.",
                hint="Report several things at once.",
            )
        recent.append(now)

    def note(self, key: Hashable, boot_id: UUID, counter: int) -> None:
        """A report counts: no older one does any more."""
        known = self._reporters.get(key)
        if known is None:
            self._reporters[key] = _Reporter(boot_id, counter)
        elif known.boot_id == boot_id:
            known.counter = max(known.counter, counter)
        elif boot_id not in known.former:
            known.former[known.boot_id] = None
            if len(known.former) > BOOTS_KEPT:
                known.former.popitem(last=False)
            known.boot_id, known.counter = boot_id, counter
