"""What there is to tell of a machine's BGP speaker in one network, and how much of it goes into one report. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import islice
from uuid import UUID

from agent.bgp.intent import NetworkIntent
from agent.bgp.observed import Observation
from events.records import RibRoute, RibState, SessionState, SpeakerState, VipHealth

State = SpeakerState | SessionState | RibState

MAX_STATES = 300
"""So many states go into one report, at most."""
MAX_BYTES = 44 * 1024
"""So large is a report, at most: the bus takes 64 KiB from a machine."""

_ROUTES_IN_PART = 100
_BYTES_IN_PART = MAX_BYTES - 2 * 1024
"""Routes may carry so much that fewer go into a part: no machine is to fill the reports of another."""
_MAX_PARTS = 20
_MAX_ANNOUNCED = 500
_MAX_VIPS = 200
_MAX_REASONS = 12_000
"""Characters that the reasons why virtual IPs are not healthy have together, at most."""


def states_of(
    network: NetworkIntent, seen: Observation, vips: tuple[VipHealth, ...], hindrance: str = ""
) -> Iterator[State]:
    """All that there is to tell of a network. `hindrance` is why the speaker does less than it should."""
    is_running = seen.speaker.state == "running"
    yield seen.speaker.model_copy(
        update={
            "announced": tuple(each.prefix for each in network.announced)[:_MAX_ANNOUNCED] if is_running else (),
            "vips": tuple(_shortened(vips[:_MAX_VIPS])),
            "reason": seen.speaker.reason or hindrance,
        }
    )
    observed = seen.networks.get(network.network_id)
    if observed is None:
        return
    yield from observed.sessions
    shown = list(islice(_parts(observed.rib), _MAX_PARTS)) or [()]
    for number, routes in enumerate(shown):
        yield RibState(part=number, parts=len(shown), total=len(observed.rib), routes=routes)


def _shortened(vips: tuple[VipHealth, ...]) -> Iterator[VipHealth]:
    for vip in vips:
        yield vip.model_copy(update={"reason": vip.reason[: _MAX_REASONS // len(vips)]})


def _parts(routes: Iterable[RibRoute]) -> Iterator[tuple[RibRoute, ...]]:
    part: list[RibRoute] = []
    size = 0
    for route in routes:
        length = len(route.model_dump_json()) + 1
        if part and (len(part) == _ROUTES_IN_PART or size + length > _BYTES_IN_PART):
            yield tuple(part)
            part, size = [], 0
        part.append(route)
        size += length
    if part:
        yield tuple(part)


def key_of(state: State) -> Hashable:
    """What takes the place of what: states of the same key do."""
    match state:
        case SessionState():
            return state.peer_id, state.purpose
        case RibState():
            return state.part
        case SpeakerState():
            return "speaker"


def gone(state: State) -> State | None:
    """What to tell once a state is no more: only of a session. That there are fewer parts, each part says."""
    return state.model_copy(update={"state": "gone"}) if isinstance(state, SessionState) else None


def packed(due: Mapping[Hashable, State], *, is_whole: bool) -> tuple[dict[Hashable, State], bool]:
    """As many states as go into one report, and whether it is whole: that all sessions are in it."""
    chosen: dict[Hashable, State] = {}
    size = 0
    # Sessions first, so that a report that begins with everything has all of them, if that can be.
    for key, state in sorted(due.items(), key=lambda item: not isinstance(item[1], SessionState)):
        size += len(state.model_dump_json())
        if chosen and (size > MAX_BYTES or len(chosen) == MAX_STATES):
            break
        chosen[key] = state
    sessions = {key for key, state in due.items() if isinstance(state, SessionState)}
    return chosen, is_whole and sessions <= chosen.keys()


def established(network_id: UUID, seen: Observation) -> int:
    """How many sessions a network has that work. Two reflectors, each the other's client, may have two: for one."""
    observed = seen.networks.get(network_id)
    sessions = observed.sessions if observed is not None else ()
    return len({(each.peer_id, each.purpose == "mesh") for each in sessions if each.state == "established"})
