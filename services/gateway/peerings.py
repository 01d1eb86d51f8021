"""The BGP sessions and routes of a query, in order, page by page. Pure.

A network in full mesh has very many sessions, so no list of them is made: a page is looked for from where the last one
ended, and only among so many.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from uuid import UUID

import orjson

from events.errors import InvalidInputError, NotFoundError
from events.records import RibRoute, SessionState
from services.gateway.bgp import Bgp
from services.gateway.mirror import Mirror
from services.gateway.ordered import Row

LOOKED_AT = 20_000
"""Among so many sessions a page is looked for."""


class Found(NamedTuple):
    """A session, and its place in the order."""

    place: tuple[int, UUID, int, UUID, str]
    """The address and id of the machine and of its peer, and the purpose."""
    state: SessionState


def find_sessions(
    mirror: Mirror,
    bgp: Bgp,
    network_id: UUID,
    machine_id: UUID | None,
    state: str | None,
    *,
    limit: int,
    after: str | None,
) -> tuple[list[Found], str | None]:
    """The first `limit` sessions after the cursor `after`, and the cursor of the next page: a machine's, as it reports
    them; or each once, of the full mesh as the machine with the lower address reports it, of others as the client does,
    unless that says it is established and the other end does not: then as that reports it.

    Raises `InvalidInputError` for a cursor that no such list made, and `NotFoundError` where the machine is not in the
    network.
    """
    begin = _read_session(after) if after is not None else None
    page: list[Found] = []
    last: Found | None = None
    for number, found in enumerate(_sessions(mirror, bgp, network_id, machine_id, begin), 1):
        if len(page) == limit or number > LOOKED_AT:
            assert last is not None
            return page, _write(last.place)
        if state in (None, found.state.state):
            page.append(found)
        last = found
    return page, None


def page_of_routes(routes: Sequence[RibRoute], limit: int, after: str | None) -> tuple[Sequence[RibRoute], str | None]:
    """The first `limit` routes after the cursor `after`, and the cursor of the next page. Raises `InvalidInputError`
    for a cursor that no such list made."""
    start = 0
    if after is not None:
        place = _read(after)
        if [type(part) for part in place] != [int, int, int, int]:
            raise _bad_cursor()
        start = next((index for index, route in enumerate(routes) if _place_of(route) > place), len(routes))
    page = routes[start : start + limit]
    return page, _write(_place_of(page[-1])) if start + limit < len(routes) else None


def _sessions(
    mirror: Mirror, bgp: Bgp, network_id: UUID, machine_id: UUID | None, begin: tuple[Any, ...] | None
) -> Iterator[Found]:
    network, record = mirror.network(network_id)
    rows: Sequence[Row] = network.by_address.rows
    if machine_id is not None:
        member = network.members.get(machine_id)
        if member is None:
            raise NotFoundError(f"The machine {machine_id} is not in {record.name}.", hint="Assign it first.")
        rows = [(int(member.address), machine_id)]
    first = bisect_left(rows, begin[:2]) if begin is not None else 0
    for one in rows[first:]:
        found = []
        for (peer_id, purpose), state in bgp.sessions(network_id, one[1]).items():
            peer = network.members.get(peer_id)
            is_meant = machine_id is not None or purpose == "client"
            if peer is not None and (is_meant or (purpose == "mesh" and (int(peer.address), peer_id) > one)):
                said = state if machine_id is not None else _as_both_find(bgp, network_id, one[1], state)
                found.append(Found((int(one[0]), one[1], int(peer.address), peer_id, purpose), said))
        yield from sorted(each for each in found if begin is None or each.place > begin)


def _as_both_find(bgp: Bgp, network_id: UUID, machine_id: UUID, state: SessionState) -> SessionState:
    other = bgp.other_end(network_id, machine_id, state.peer_id, state.purpose)
    if state.state != "established" or other is None or other.state == "established":
        return state
    return state.model_copy(update={"state": other.state, "since": other.since, "error": other.error})


def _place_of(route: RibRoute) -> list[int]:
    """Where a route stands; as `Bgp.routes` orders them."""
    prefix = route.prefix
    return [int(prefix.network_address), prefix.prefixlen, int(not route.best), int(route.next_hop or 0)]


def _read_session(cursor: str) -> tuple[int, UUID, int, UUID, str]:
    place = _read(cursor)
    try:
        one, first, other, second, purpose = place
        if type(one) is not int or type(other) is not int or type(purpose) is not str:
            raise _bad_cursor()
        return one, UUID(first), other, UUID(second), purpose
    except (ValueError, TypeError, AttributeError) as error:
        raise _bad_cursor() from error


def _write(place: Sequence[Any]) -> str:
    return base64.urlsafe_b64encode(orjson.dumps(list(place))).decode().rstrip("=")


def _read(cursor: str) -> list[Any]:
    try:
        place = orjson.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
    except (binascii.Error, ValueError) as error:
        raise _bad_cursor() from error
    if not isinstance(place, list):
        raise _bad_cursor()
    return place


def _bad_cursor() -> InvalidInputError:
    return InvalidInputError(
        "The cursor in `after` does not belong to this list.",
        hint="Give `next` of the page before; leave it out for the first page.",
        field="after",
    )
