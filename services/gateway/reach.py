"""What the machines reported of their links, and which reports may be believed. Pure.

Each machine counts its reports, from its agent's start on. A report that is not newer than the last of the same start,
or that comes from an earlier start, is old: somebody repeats it, or it was overtaken on its way.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from events.errors import ConflictError, NotFoundError, RateLimitedError
from events.records import LinkState, ReachEvent, ReachRequest
from services.gateway.mirror import Mirror

BOOTS_KEPT = 8
"""So many earlier starts of a machine's agent are known, so that their reports are refused."""

REPORTS = 20
PERIOD = 10.0
"""So many reports of a machine are taken in so many seconds."""


class StaleReportError(ConflictError):
    """Raised when a report is not newer than what the machine reported before."""

    code = "stale-report"
    title = "The report is old"


@dataclass(slots=True)
class _Reporter:
    """One machine as it reports: the start that counts, the newest count, and starts that are over."""

    boot_id: UUID
    counter: int
    former: OrderedDict[UUID, None] = field(default_factory=OrderedDict)


@dataclass(frozen=True, slots=True)
class Reported:
    """The newest report of a link, and where it stands in REACH."""

    sequence: int
    event: ReachEvent


class Reach:
    """The newest report of every link, as REACH has it."""

    def __init__(self) -> None:
        self._links: dict[tuple[UUID, UUID], dict[UUID, Reported]] = {}
        self._reporters: dict[UUID, _Reporter] = {}
        self._recent: dict[UUID, deque[float]] = {}

    def take(self, sequence: int, event: ReachEvent) -> None:
        """A report that stands in REACH."""
        self._links.setdefault((event.network_id, event.machine_id), {})[event.link.peer_id] = Reported(sequence, event)
        self._note(event.machine_id, event.boot_id, event.counter)

    def link(self, network_id: UUID, machine_id: UUID, peer_id: UUID) -> Reported | None:
        """What a machine last reported of its link to a peer."""
        return self._links.get((network_id, machine_id), {}).get(peer_id)

    def accept(self, machine_id: UUID, request: ReachRequest, mirror: Mirror, now: datetime) -> tuple[ReachEvent, ...]:
        """What has to be written for a request: the links that differ from what stands in REACH, and where it tells of
        all links, the end of those that it does not name.

        Raises `NotFoundError` where the machine is not in the network, `StaleReportError`, `RateLimitedError`. Then
        nothing has changed here.
        """
        network, _ = mirror.network(request.network_id)
        if machine_id not in network.members:
            raise NotFoundError(f"The machine {machine_id} is not in the network.", hint="Report what it is in.")
        self._require_new(machine_id, request)
        self._require_rate(machine_id, now.timestamp())
        self._note(machine_id, request.boot_id, request.counter)
        held = self._links.get((request.network_id, machine_id), {})
        links = [link for link in request.links if link.peer_id in network.members and link.peer_id != machine_id]
        changed = [link for link in links if link.peer_id not in held or held[link.peer_id].event.link != link]
        if request.whole:
            changed += _ended(held, {link.peer_id for link in request.links})
        return tuple(
            ReachEvent(
                network_id=request.network_id,
                machine_id=machine_id,
                boot_id=request.boot_id,
                counter=request.counter,
                time=now,
                link=link,
            )
            for link in changed
        )

    def _require_new(self, machine_id: UUID, request: ReachRequest) -> None:
        known = self._reporters.get(machine_id)
        if known is None:
            return
        is_repeated = request.boot_id == known.boot_id and request.counter <= known.counter
        if is_repeated or request.boot_id in known.former:
            raise StaleReportError(
                f"Report {request.counter} of the machine {machine_id} is not newer than what it reported before.",
                hint="Count reports upwards, with a new boot id after each start.",
            )

    def _require_rate(self, machine_id: UUID, now: float) -> None:
        recent = self._recent.setdefault(machine_id, deque())
        while recent and recent[0] <= now - PERIOD:
            recent.popleft()
        if len(recent) >= REPORTS:
            raise RateLimitedError(
                f"The machine {machine_id} reports more than {REPORTS} times in {PERIOD:g} s.",
                hint="Report several links at once.",
            )
        recent.append(now)

    def _note(self, machine_id: UUID, boot_id: UUID, counter: int) -> None:
        known = self._reporters.get(machine_id)
        if known is None:
            self._reporters[machine_id] = _Reporter(boot_id, counter)
        elif known.boot_id == boot_id:
            known.counter = max(known.counter, counter)
        elif boot_id not in known.former:
            known.former[known.boot_id] = None
            if len(known.former) > BOOTS_KEPT:
                known.former.popitem(last=False)
            known.boot_id, known.counter = boot_id, counter


def _ended(held: dict[UUID, Reported], named: set[UUID]) -> Iterator[LinkState]:
    for peer_id, reported in held.items():
        if peer_id not in named and reported.event.link.state != "unreachable":
            yield LinkState(peer_id=peer_id, state="unreachable")
