"""What the machines reported of their links, and which reports may be believed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from events.errors import InvalidInputError, NotFoundError
from events.records import LinkState, ReachEvent, ReachRequest
from events.transit import RTT_STEPS
from services.gateway.mirror import Mirror
from services.gateway.reporters import Reporters

REPORTS = 20
"""So many reports of a machine are taken in `PERIOD` seconds."""

REPEATED_AFTER = timedelta(days=4)
"""What is reported again is written again after so long: reports leave REACH after 30 days, and agents report all links
again after five."""

_MAX_TRIED = 64
_MAX_TEXT = 100


@dataclass(frozen=True, slots=True)
class Reported:
    """The newest report of a link, and where it stands in REACH."""

    sequence: int
    event: ReachEvent


@dataclass(frozen=True, slots=True)
class Link:
    """What a machine reported of its link to a peer, and how that came about."""

    newest: Reported
    began: Reported
    """The first report since when it says what the newest says: direct, or unreachable."""
    before: Reported | None = None
    """The last report that said otherwise."""

    @property
    def is_direct(self) -> bool:
        """Whether it works."""
        return self.newest.event.link.state == "direct"

    @property
    def since(self) -> datetime:
        """Since when the machine reports what it reports, also where that report has left REACH."""
        return self.newest.event.since or self.began.event.time

    def then(self, reported: Reported) -> Link:
        """As it is after one more report."""
        if reported.event.link.state == self.newest.event.link.state:
            return Link(reported, self.began, self.before)
        return Link(reported, reported, self.newest)


class Reach:
    """The links, as REACH tells of them."""

    def __init__(self) -> None:
        self._links: dict[tuple[UUID, UUID], dict[UUID, Link]] = {}
        self._newest: dict[tuple[UUID, UUID], int] = {}
        self._reporters = Reporters(REPORTS)
        self._doubted: set[tuple[UUID, UUID, UUID]] = set()
        """Links of which a report may be written, or may still come to be, that is not known of here."""

    def take(self, sequence: int, event: ReachEvent) -> None:
        """A report that stands in REACH, where it is newer than what is known of its link."""
        place = event.network_id, event.machine_id
        links = self._links.setdefault(place, {})
        self._newest[place] = max(sequence, self._newest.get(place, 0))
        known, reported = links.get(event.link.peer_id), Reported(sequence, event)
        if known is None:
            links[event.link.peer_id] = Link(reported, reported)
        elif known.newest.sequence < sequence:
            links[event.link.peer_id] = known.then(reported)
        self._reporters.note(event.machine_id, event.boot_id, event.counter)

    def written(self, sequence: int, event: ReachEvent) -> None:
        """A report that was written, after all that was written of its link before."""
        self._doubted.discard(_place(event))
        self.take(sequence, event)

    def doubt(self, event: ReachEvent) -> None:
        """It is not known whether a report was written, or will be: the next one of its link must be."""
        self._doubted.add(_place(event))

    def links(self, network_id: UUID, machine_id: UUID) -> Mapping[UUID, Link]:
        """What a machine reported of all its links, by peer."""
        return self._links.get((network_id, machine_id), {})

    def newest(self, network_id: UUID, machine_id: UUID) -> int:
        """Where a machine's newest report of any link stands in REACH; 0 for none. Of two moments that have the same,
        both know the same of its links."""
        return self._newest.get((network_id, machine_id), 0)

    def link(self, network_id: UUID, machine_id: UUID, peer_id: UUID) -> Link | None:
        """What a machine reported of its link to a peer."""
        return self._links.get((network_id, machine_id), {}).get(peer_id)

    def accept(self, machine_id: UUID, request: ReachRequest, mirror: Mirror, now: datetime) -> tuple[ReachEvent, ...]:
        """What has to be written for a request: the links that differ from what stands in REACH, and where it tells of
        all links, the end of those that it does not name. Links to machines that are not in the network are left out.

        Raises `NotFoundError` where the machine is not in the network, `InvalidInputError`, `StaleReportError`,
        `RateLimitedError`. Then nothing has changed here.
        """
        network, _ = mirror.network(request.network_id)
        if machine_id not in network.members:
            raise NotFoundError(f"The machine {machine_id} is not in the network.", hint="Report what it is in.")
        for link in request.links:
            _require_sensible(link)
        self._reporters.require_new(machine_id, machine_id, request.boot_id, request.counter)
        self._reporters.require_rate(machine_id, now.timestamp())
        self._reporters.note(machine_id, request.boot_id, request.counter)
        held = self._links.get((request.network_id, machine_id), {})
        named = {link.peer_id: link for link in request.links if link.peer_id in network.members}
        named.pop(machine_id, None)
        changed = [
            link
            for link in named.values()
            if _is_news(held.get(link.peer_id), link, now)
            or (request.network_id, machine_id, link.peer_id) in self._doubted
        ]
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
                since=_since(held.get(link.peer_id), link, now),
            )
            for link in changed
        )


def is_about_members(machine_id: UUID, request: ReachRequest, mirror: Mirror) -> bool:
    """Whether all that a machine's report names is in the network. If not, the mirror may be behind."""
    network = mirror.networks.get(request.network_id)
    named = {machine_id, *(link.peer_id for link in request.links)}
    return network is not None and network.record is not None and named <= network.members.keys()


def _require_sensible(link: LinkState) -> None:
    """What a machine says is shown to people: it gets no texts and numbers of any kind and size."""
    texts = [link.endpoint, *(text for tried in link.tried for text in tried)]
    are_short = len(link.tried) <= _MAX_TRIED and all(len(text) <= _MAX_TEXT for text in texts)
    if not are_short or not all(text.isascii() and text.isprintable() for text in texts):
        raise InvalidInputError(
            f"The report of the link to {link.peer_id} is too long, or holds what cannot be shown.",
            hint=f"Name up to {_MAX_TRIED} candidates, each in up to {_MAX_TEXT} printable ASCII characters.",
            field="links",
        )
    if link.state == "unreachable" and (link.rtt is not None or link.endpoint):
        raise InvalidInputError(
            f"The report says that {link.peer_id} is unreachable, and how it is reached.",
            hint="Report a round trip and an endpoint of direct links only.",
            field="links",
        )
    if link.rtt is not None and link.rtt not in RTT_STEPS:
        raise InvalidInputError(
            f"A round trip of {link.rtt} is none of the steps.",
            hint=f"Report one of {', '.join(map(str, RTT_STEPS))} ms.",
            field="links",
        )


def _place(event: ReachEvent) -> tuple[UUID, UUID, UUID]:
    return event.network_id, event.machine_id, event.link.peer_id


def _since(held: Link | None, link: LinkState, now: datetime) -> datetime:
    return held.since if held is not None and held.newest.event.link.state == link.state else now


def _is_news(held: Link | None, link: LinkState, now: datetime) -> bool:
    return held is None or held.newest.event.link != link or held.newest.event.time <= now - REPEATED_AFTER


def _ended(held: dict[UUID, Link], named: set[UUID]) -> Iterator[LinkState]:
    for peer_id, known in held.items():
        if peer_id not in named and known.newest.event.link.state != "unreachable":
            yield LinkState(peer_id=peer_id, state="unreachable")
