"""Pages that can be of a moment that is past: `?at=` names it, a position of the log or a time. Shell.

What a time line takes is bounded: the newest `MOST` events of a network or machine are remembered, and only new ones
read (`gateway.recent`); around an older moment as many are looked for, each time through at most `history.SCANNED`
places of the log. When paths changed, a network's own records tell, in one of up to `WHOLE` machines.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Query, Request

from events.errors import InvalidInputError, NotFoundError, WireloomError
from events.instants import FORMS, parse_instant
from events.log import LoggedEvent
from services.gateway import history
from services.gateway.history import names_in
from services.gateway.http.as_of import AT
from services.gateway.http.changes import Gateway, gateway_of
from services.gateway.http.guard import caller_of
from services.gateway.pages.lines import who
from services.gateway.pages.map import WHOLE
from services.gateway.pages.page import Visit
from services.gateway.pages.timeline import MOST, Moment, Timeline, at_of, changes_of, kind_of, moments_of, timeline_of
from services.gateway.pairs import pairs_of
from services.gateway.past import Past
from services.gateway.seen import Seen
from services.gateway.wanted import KINDS, Wanted
from services.gateway.ways import Way
from services.gateway.words import in_words

_PARTS = ("dialogs",)
"""What our script puts an answer into that is no whole page."""

_ALWAYS = "/map"
"""Such a page shows its time line in the present too."""

_LISTED = {
    "networks": frozenset(kind for kind in KINDS if kind.startswith("network.")),
    "machines": frozenset(kind for kind in KINDS if kind_of(kind) in ("machines", "members")),
}
"""The kinds of events by which the lists change."""


async def looking(
    request: Request,
    gateway: Annotated[Gateway, Depends(gateway_of)],
    at: Annotated[str, Query(max_length=100)] = "",
) -> Visit:
    """The visit of a page, as it is or as it was.

    Raises `InvalidInputError` for what is no moment, `NotFoundError` for one that has not come, and for a network or
    machine that there was not then, and `UnavailableError`.
    """
    if len(request.query_params.getlist(AT)) > 1:
        raise InvalidInputError("More than one moment was given.", hint=f"Give one: {FORMS}.", field=AT)
    visit, wanted = Visit(request, gateway, caller_of(request)), _wanted(request)
    if at.strip() and at.strip().lower() != "now":
        instant = parse_instant(at, gateway.now())
        past = await gateway.pasts.at(instant)
        visit = replace(visit, past=past, at=moment_said(past, is_position=instant.position is not None))
        if wanted.network is not None:
            await past.look_into([wanted.network])
    is_there = _is_there(visit.seen, wanted)
    if request.headers.get("hx-target") not in _PARTS:
        is_wanted = visit.is_past or request.url.path.endswith(_ALWAYS) or not is_there
        timeline = await _timeline(visit, wanted) if is_wanted else None
        visit = replace(visit, timeline=timeline if is_there or (timeline is not None and timeline.moments) else None)
    request.state.visit = visit
    if not is_there and visit.timeline is not None:
        request.state.visit = replace(visit, timeline=_until_it_went(visit.timeline))
        raise _absence(visit.timeline, "network" if wanted.network is not None else "machine")
    return visit


Looking = Annotated[Visit, Depends(looking)]


def moment_said(past: Past, *, is_position: bool) -> str:
    """A moment as addresses have it: however it was said, it stays the same one."""
    return str(past.position) if is_position else at_of(past.time)


def _wanted(request: Request) -> Wanted:
    """Whose events a page's time line shows."""
    try:
        item = UUID(request.path_params.get("uuid", ""))
    except ValueError:
        return Wanted(kinds=_LISTED["machines" if request.url.path.startswith("/machines") else "networks"])
    return Wanted(network=item) if request.url.path.startswith("/networks/") else Wanted(machine=item)


def _is_there(seen: Seen, wanted: Wanted) -> bool:
    if wanted.machine is not None:
        return seen.mirror.has_machine(wanted.machine)
    network = seen.mirror.networks.get(wanted.network) if wanted.network is not None else None
    return wanted.network is None or (network is not None and network.record is not None)


def _until_it_went(known: Timeline) -> Timeline:
    """As seen from the present, where the last moment is that of the end: one steps back to the one before."""
    if not known.is_now or len(known.moments) < 2:
        return known
    return replace(known, previous=known.moments[-2])


def _absence(known: Timeline, what: str) -> NotFoundError:
    """Since when, or until when, there was what there is not at this moment."""
    if known.here < 0:
        first = known.moments[0]
        return NotFoundError(f"There was no such {what} yet: {first.text}, {first.when}.")
    last, is_was = known.shown or known.moments[-1], "is" if known.is_now else "was"
    return NotFoundError(f"There {is_was} no such {what} any more: {last.text}, {last.when}.")


async def _timeline(visit: Visit, wanted: Wanted) -> Timeline | None:
    """The moments around the one that is shown. In the present a page goes without, where the log cannot be read."""
    gateway, past = visit.gateway, visit.past
    try:
        events, has_earlier = await _around(gateway, wanted, past)
    except WireloomError:
        if past is not None:
            raise
        return None
    known = names_in(events, lambda item: gateway.mirror.name_of(item) or visit.seen.mirror.name_of(item))

    def said(logged: LoggedEvent) -> str:
        return f"{who(logged.event.actor, gateway.mirror, known).name} {in_words(logged.event, known)}"

    def changes(seen: Seen) -> list[Moment]:
        return changes_of(_ways(seen, wanted), known)

    return timeline_of(
        moments_of(events, said),
        changes(gateway),
        None if past is None else (past.position, past.time),
        [] if past is None else changes(past),
        has_earlier=has_earlier,
    )


async def _around(gateway: Gateway, wanted: Wanted, past: Past | None) -> tuple[list[LoggedEvent], bool]:
    """The newest events, or where the moment is older those around it, the oldest first; whether there are earlier."""
    newest = await gateway.recent.newest(gateway.client, MOST, wanted)
    reached = newest.events[-1].sequence if newest.events else 0
    if past is None or newest.next is None or reached < past.position:
        return newest.events[::-1], newest.next is not None
    older = await history.newest_first(gateway.client, past.position + 1, MOST // 2, wanted)
    newer = await history.oldest_first(gateway.client, past.position, MOST // 2, wanted)
    return [*older.events[::-1], *newer.events], older.next is not None


def _ways(seen: Seen, wanted: Wanted) -> list[Way]:
    """The paths whose changes are on a time line."""
    network = seen.mirror.networks.get(wanted.network) if wanted.network is not None else None
    if network is None or network.record is None or len(network.members) > WHOLE:
        return []
    pairs = pairs_of(seen.mirror, [network.record.network_id], None, None)
    return [seen.tracks.way(pair.network_id, pair.one[1], pair.other[1]) for pair in pairs]
