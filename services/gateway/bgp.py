"""What the machines reported of their BGP speakers, and which reports may be believed. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TypeVar
from uuid import UUID

from events.errors import InvalidInputError, NotFoundError
from events.peering import Peering
from events.records import BgpEvent, BgpRequest, RibRoute, RibState, SessionState, SpeakerState
from events.routing import SessionKind
from events.subjects import bgp_rib, bgp_session, bgp_speaker
from services.gateway.mirror import Mirror
from services.gateway.reporters import Reporters

REPORTS = 60
"""So many reports of a machine, of all its networks, are taken in `PERIOD` seconds."""

REPEATED_AFTER = timedelta(days=5)
"""What is reported again is written again after so long: reports leave BGP after 30 days, and each is reported again
within a week."""

OTHER_END: dict[SessionKind, SessionKind] = {"mesh": "mesh", "client": "reflector", "reflector": "client"}
"""What a session is for at the other end."""

_MAX_COMMUNITY = 40
_LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)
"""Nothing that machines tell of is older."""

_State = TypeVar("_State", SpeakerState, SessionState, RibState)
_Place = tuple[UUID, UUID]
"""A network and a machine."""


@dataclass(frozen=True, slots=True)
class Heard:
    """The newest report of something, and where it stands in BGP."""

    sequence: int
    event: BgpEvent


class Bgp:
    """The speakers, their sessions and routes, as BGP tells of them."""

    def __init__(self) -> None:
        self._heard: dict[str, Heard] = {}
        """By subject."""
        self._sessions: dict[_Place, dict[Peering, SessionState]] = {}
        """But for those that are not meant to be any more."""
        self._newest_session: dict[_Place, int] = {}
        self._established: dict[_Place, Counter[SessionKind]] = {}
        """How many of them are established, as both ends find."""
        self._ribs: dict[_Place, Heard] = {}
        """The newest part."""
        self._reporters = Reporters(REPORTS)
        self._doubted: set[str] = set()
        """Subjects under which a report may be written, or may still come to be, that is not known of here."""

    def written(self, sequence: int, event: BgpEvent) -> None:
        """A report that was written, after all that was written of the same before."""
        self._doubted.discard(subject_of(event))
        self.take(sequence, event)

    def doubt(self, event: BgpEvent) -> None:
        """It is not known whether a report was written, or will be: the next one of the same must be."""
        self._doubted.add(subject_of(event))

    def take(self, sequence: int, event: BgpEvent) -> None:
        """A report that stands in BGP, where it is newer than what is known."""
        place, state = (event.network_id, event.machine_id), event.state
        self._reporters.note((event.machine_id, event.network_id), event.boot_id, event.counter)
        subject = subject_of(event)
        known = self._heard.get(subject)
        if known is not None and known.sequence >= sequence:
            return
        self._heard[subject] = heard = Heard(sequence, event)
        if isinstance(state, SessionState):
            self._newest_session[place] = max(sequence, self._newest_session.get(place, 0))
            self._take_session(place, state)
        if isinstance(state, RibState) and ((newest := self._ribs.get(place)) is None or newest.sequence < sequence):
            self._ribs[place] = heard

    def _take_session(self, place: _Place, state: SessionState) -> None:
        network_id, machine_id = place
        ends = ((place, state.purpose), ((network_id, state.peer_id), OTHER_END[state.purpose]))
        was_up = self._is_up(*place, state.peer_id, state.purpose)
        sessions = self._sessions.setdefault(place, {})
        sessions.pop((state.peer_id, state.purpose), None)
        if state.state != "gone":
            sessions[state.peer_id, state.purpose] = state
        change = self._is_up(network_id, machine_id, state.peer_id, state.purpose) - was_up
        for end, purpose in ends:
            self._established.setdefault(end, Counter())[purpose] += change

    def _is_up(self, network_id: UUID, machine_id: UUID, peer_id: UUID, purpose: SessionKind) -> bool:
        mine = self.sessions(network_id, machine_id).get((peer_id, purpose))
        theirs = self.other_end(network_id, machine_id, peer_id, purpose)
        return all(end is not None and end.state == "established" for end in (mine, theirs))

    def other_end(self, network_id: UUID, machine_id: UUID, peer_id: UUID, purpose: SessionKind) -> SessionState | None:
        """What the peer last reported of a machine's session with it."""
        return self.sessions(network_id, peer_id).get((machine_id, OTHER_END[purpose]))

    def established(self, network_id: UUID, members: Collection[UUID]) -> int:
        """How many sessions the members of a network have with each other, each counted once, as both ends find: one
        may have died without a word. What stands of machines that left does not count."""
        counts: Counter[SessionKind] = Counter()
        for machine_id in members:
            counts.update(self._established.get((network_id, machine_id), Counter()))
        for (network, machine_id), sessions in self._sessions.items():
            if network == network_id and machine_id not in members:
                counts.subtract(
                    OTHER_END[purpose]
                    for peer_id, purpose in sessions
                    if peer_id in members and self._is_up(network, machine_id, peer_id, purpose)
                )
        return counts["mesh"] // 2 + counts["client"]

    def heard(self, subject: str) -> Heard | None:
        """The newest report that stands under a subject of BGP."""
        return self._heard.get(subject)

    def speaker(self, network_id: UUID, machine_id: UUID) -> SpeakerState | None:
        """What a machine last reported of its speaker."""
        return self._state(bgp_speaker(network_id, machine_id), SpeakerState)

    def sessions(self, network_id: UUID, machine_id: UUID) -> dict[Peering, SessionState]:
        """What a machine last reported of its sessions."""
        return self._sessions.get((network_id, machine_id), {})

    def newest_session(self, network_id: UUID, machine_id: UUID) -> int:
        """Where a machine's newest report of any session stands in BGP; 0 for none. Of two moments that have the same,
        both know the same of its sessions."""
        return self._newest_session.get((network_id, machine_id), 0)

    def routes(self, network_id: UUID, machine_id: UUID) -> tuple[tuple[RibRoute, ...], int]:
        """The routes that a machine last reported, in the order of their prefixes, and how many there are in all. What
        several reflectors tell alike is one route."""
        newest = self._ribs.get((network_id, machine_id))
        if newest is None or not isinstance(newest.event.state, RibState):
            return (), 0
        parts = (
            self._state(bgp_rib(network_id, machine_id, part), RibState) for part in range(newest.event.state.parts)
        )
        said = [route for part in parts if part is not None for route in part.routes]
        said.sort(key=lambda route: route.best)
        routes = {(route.prefix, route.next_hop): route for route in said}
        ordered = sorted(routes.values(), key=lambda route: (route.prefix, not route.best, int(route.next_hop or 0)))
        return tuple(ordered), newest.event.state.total - len(said) + len(ordered)

    def accept(self, machine_id: UUID, request: BgpRequest, mirror: Mirror, now: datetime) -> tuple[BgpEvent, ...]:
        """What has to be written for a request: what differs from what stands in BGP, and where it tells of all
        sessions, the end of those that it does not name. Sessions with machines that are not in the network are left
        out.

        Raises `NotFoundError` where the machine is not in the network, `InvalidInputError`, `StaleReportError`,
        `RateLimitedError`. Then nothing has changed here.
        """
        network, _ = mirror.network(request.network_id)
        if machine_id not in network.members:
            raise NotFoundError(f"The machine {machine_id} is not in the network.", hint="Report what it is in.")
        states = [_sensible(state, now) for state in request.states]
        key = (machine_id, request.network_id)
        self._reporters.require_new(key, machine_id, request.boot_id, request.counter)
        self._reporters.require_rate(machine_id, now.timestamp())
        self._reporters.note(key, request.boot_id, request.counter)
        others = network.members.keys() - {machine_id}
        named = [state for state in states if not isinstance(state, SessionState) or state.peer_id in others]
        if request.whole:
            named += self._ended(machine_id, request, now)
        found = {
            subject_of(event): event
            for event in (
                BgpEvent(
                    network_id=request.network_id,
                    machine_id=machine_id,
                    boot_id=request.boot_id,
                    counter=request.counter,
                    time=now,
                    state=state,
                )
                for state in named
            )
        }
        return tuple(event for subject, event in found.items() if self._is_news(subject, event, now))

    def _ended(self, machine_id: UUID, request: BgpRequest, now: datetime) -> Iterator[SessionState]:
        named = {(state.peer_id, state.purpose) for state in request.states if isinstance(state, SessionState)}
        for peer_id, purpose in self.sessions(request.network_id, machine_id).keys() - named:
            yield SessionState(peer_id=peer_id, purpose=purpose, state="gone", since=now)

    def _is_news(self, subject: str, event: BgpEvent, now: datetime) -> bool:
        held = self._heard.get(subject)
        return (
            held is None
            or subject in self._doubted
            or held.event.state != event.state
            or held.event.time <= now - REPEATED_AFTER
        )

    def _state(self, subject: str, kind: type[_State]) -> _State | None:
        heard = self._heard.get(subject)
        return heard.event.state if heard is not None and isinstance(heard.event.state, kind) else None


def subject_of(event: BgpEvent) -> str:
    """Where a report stands in BGP."""
    state = event.state
    if isinstance(state, SpeakerState):
        return bgp_speaker(event.network_id, event.machine_id)
    if isinstance(state, SessionState):
        return bgp_session(event.network_id, event.machine_id, state.peer_id, state.purpose)
    return bgp_rib(event.network_id, event.machine_id, state.part)


def tells_of_members(machine_id: UUID, request: BgpRequest, mirror: Mirror) -> bool:
    """Whether all that a machine's report names is in the network. If not, the mirror may be behind."""
    network = mirror.networks.get(request.network_id)
    named = {machine_id, *(state.peer_id for state in request.states if isinstance(state, SessionState))}
    return network is not None and network.record is not None and named <= network.members.keys()


def _sensible(state: SpeakerState | SessionState | RibState, now: datetime) -> SpeakerState | SessionState | RibState:
    """What a machine says, as it can be shown to people: it gets no control characters, no times to come,
    and none that no clock of its can have shown."""
    if isinstance(state, SpeakerState):
        vips = tuple(
            vip.model_copy(update={"reason": _plain(vip.reason), "since": _past(vip.since, now)}) for vip in state.vips
        )
        update = {"reason": _plain(state.reason), "version": _plain(state.version), "vips": vips}
        return state.model_copy(update={**update, "since": _past(state.since, now)})
    if isinstance(state, SessionState):
        return state.model_copy(update={"error": _plain(state.error), "since": _past(state.since, now)})
    if state.part >= state.parts:
        raise InvalidInputError(
            "A part's number is lower than the number of parts.", hint="Count from 0.", field="part"
        )
    for text in (community for route in state.routes for community in route.communities):
        if len(text) > _MAX_COMMUNITY or not text.isprintable():
            raise InvalidInputError("A community cannot be shown.", hint="Write it as 65000:100.", field="communities")
    routes = tuple(route.model_copy(update={"since": _past(route.since, now)}) for route in state.routes)
    return state.model_copy(update={"routes": routes})


def _past(moment: datetime, now: datetime) -> datetime:
    return max(_LONG_AGO, min(moment, now))


def _plain(text: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in text)
