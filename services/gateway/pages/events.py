"""The page of the log, and what other pages show of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import RedirectResponse, Response

from events import log
from events.errors import NotFoundError
from services.gateway import history
from services.gateway.authority import role_to_undo
from services.gateway.history import Stretch
from services.gateway.http.guard import VIEWER
from services.gateway.pages.effects import Before, effect_of
from services.gateway.pages.kinds import GROUPS, NAMES
from services.gateway.pages.lines import Line, Thing, days_of, lines_of
from services.gateway.pages.log_filters import Asked, Filters, is_plain, name_in, read, written
from services.gateway.pages.page import PageRoute, Visit, Visiting
from services.gateway.queries import find_machines, find_networks
from services.gateway.wanted import Wanted

router = APIRouter(prefix="/events", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_SUGGESTED = 20
_AROUND = 100
"""So far before and after an event the others of its command are looked for."""


async def newest(visit: Visit, limit: int, *, network: UUID | None = None, machine: UUID | None = None) -> list[Line]:
    """The newest events about a network or machine, as lines for the macro `events` of `events_part.html`. A page that
    shows them has `events` among its topics. Raises `UnavailableError`."""
    stretch = await until(visit, None, limit, Wanted(network, machine))
    return lines_of(stretch.events, visit.seen.mirror)


async def until(visit: Visit, before: int | None, limit: int, wanted: Wanted) -> Stretch:
    """The last events before a position, or the newest; none that is later than the moment that the page is of. Raises
    `UnavailableError`."""
    if visit.past is not None:
        before = min(before or visit.past.position + 1, visit.past.position + 1)
    return await visit.gateway.recent.page(visit.gateway.client, before, limit, wanted)


@router.get("", dependencies=[VIEWER])
async def list_events(visit: Visiting, asked: Annotated[Asked, Query()]) -> Response:
    """What happened, newest first. Only the newest page follows what happens."""
    mirror = visit.gateway.mirror
    filters = read(asked, mirror)
    if filters.faults:
        return _page(visit, asked, filters, Stretch([], None, visit.gateway.follower.position), status=422)
    if not is_plain(asked, visit.request.url.query):
        return RedirectResponse(filters.address(before=asked.before, after=asked.after), 303)
    wanted, client = filters.wanted(mirror), visit.gateway.client
    if asked.after is not None:
        stretch = await history.oldest_first(client, asked.after, _PAGE, wanted)
        if stretch.next is None:
            return RedirectResponse(filters.address(), 303)
        return _page(visit, asked, filters, stretch, newer=stretch.next)
    if asked.before is None:
        stretch = await visit.gateway.recent.newest(client, _PAGE, wanted)
        return _page(visit, asked, filters, stretch)
    stretch = await history.newest_first(client, asked.before, _PAGE, wanted)
    return _page(visit, asked, filters, stretch, newer=asked.before - 1)


@router.get("/suggestions/{what}", dependencies=[VIEWER])
async def suggest(visit: Visiting, what: str, network: str = "", machine: str = "") -> Response:
    """Names of networks or machines that begin to be typed."""
    mirror = visit.gateway.mirror
    if what == "networks":
        found = [mirror.name_of(item) for _, item in find_networks(mirror, "name", search=network or None)[:_SUGGESTED]]
    elif what == "machines":
        rows = find_machines(mirror, "hostname", search=machine[:200] or None)[:_SUGGESTED]
        found = [mirror.name_of(item) for _, item in rows]
    else:
        raise NotFoundError("There are no such suggestions.", hint="Ask for networks or machines.")
    return visit.page("event_suggestions.html", names=found)


@router.get("/{sequence}", dependencies=[VIEWER])
async def show_event(visit: Visiting, sequence: int) -> Response:
    """One event, and what it changed."""
    gateway = visit.gateway
    around = await log.read(gateway.client, max(0, sequence - _AROUND - 1), 2 * _AROUND + 1, sequence + _AROUND)
    here = [logged for logged in around if logged.sequence == sequence]
    if not here:
        raise NotFoundError(f"There is no event {sequence}.", hint="See the events that there are.")
    event = here[0].event
    together = [logged for logged in around if logged.event.command_id == event.command_id]
    before, everywhere = None, True
    if (search := Before(event)).is_of_use:
        found, everywhere = await history.last_before(gateway.client, sequence, search.may_match, search.matches)
        before = None if found is None else found.event
    return visit.page(
        "event.html",
        logged=here[0],
        event=event,
        line=lines_of(here, gateway.mirror)[0],
        together=lines_of(together, gateway.mirror),
        undo_role=role_to_undo(each.event for each in together),
        then=_then(lines_of(here, gateway.mirror)[0]),
        kind=NAMES[event.kind],
        effect=effect_of(event, before, everywhere, gateway.mirror),
    )


def _then(line: Line) -> list[Thing]:
    """The network that an event is about, as it was then."""
    networks = [thing for thing in line.things if thing.kind == "network"]
    return [replace(thing, href=f"/networks/{thing.id}/map?at={line.then}") for thing in networks[:1]]


def _page(
    visit: Visit, asked: Asked, filters: Filters, stretch: Stretch, *, newer: int | None = None, status: int = 200
) -> Response:
    """A page of the log. `newer` is the position after which what is newer begins."""
    upwards = asked.after is not None
    events = stretch.events[::-1] if upwards else stretch.events
    older = asked.after + 1 if asked.after is not None else stretch.next
    mirror = visit.gateway.mirror
    return visit.page(
        "events.html",
        status=status,
        days=days_of(lines_of(events, mirror), visit.gateway.now()),
        filters=filters,
        chosen=filters.chosen(mirror),
        given={
            "network": name_in(mirror, filters.network) or asked.network,
            "machine": name_in(mirror, filters.machine) or asked.machine,
            "actor": asked.actor,
            "since": written(filters.since) or asked.since,
            "until": written(filters.until) or asked.until,
        },
        groups=GROUPS,
        accounts=[account.name for account in mirror.access.accounts()][:_PAGE],
        is_newest=newer is None and not filters.faults,
        newest=filters.address(),
        newer=filters.address(after=newer) if newer is not None else None,
        older=filters.address(before=older) if older is not None else None,
        stopped=stretch if len(events) < _PAGE and stretch.next is not None else None,
        total=stretch.last_sequence,
    )
