"""The map of one mesh network, and why a path is as it is."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from starlette.responses import Response

from services.gateway.http.guard import VIEWER
from services.gateway.http.path_schemas import PathMachine
from services.gateway.http.path_views import PathViews
from services.gateway.http.views import network_view
from services.gateway.pages import path_words
from services.gateway.pages.arrangement import arranged, kept, written
from services.gateway.pages.looking import Looking
from services.gateway.pages.map import KINDS, WHOLE, WORDS, Picture, Sights, counted, whole
from services.gateway.pages.page import PageRoute, Visit, address
from services.gateway.pages.star import sectors, star
from services.gateway.pairs import page, pairs_of, require_pair
from services.gateway.queries import find_machines
from services.gateway.ways import Kind, Way

router = APIRouter(prefix="/networks/{uuid}", route_class=PageRoute, include_in_schema=False)

_PAGE = 25
_FOUND = 12
"""So many machines are named that a search found."""

_REMEMBERED = "x-remembered"
"""What a page had our script remember."""


@dataclass(frozen=True)
class Seen:
    """What a map is made of. Of a network that is not shown whole, `ways` are the chosen machine's."""

    network_id: UUID
    members: Sequence[UUID]
    addresses: Mapping[UUID, int]
    reflectors: Collection[UUID]
    views: PathViews
    is_whole: bool
    chosen: UUID | None
    ways: Sequence[Way]
    found: Sequence[UUID]

    @property
    def mine(self) -> list[Way]:
        """The chosen machine's ways."""
        return [way for way in self.ways if self.chosen in (way.machine_id, way.peer_id)]

    def sights(self, machine_ids: Iterable[UUID], ways: Sequence[Way], kind: Kind | None) -> Sights:
        """What is to be drawn of some machines and ways."""
        machines = {each: self.views.machine(self.network_id, each) for each in machine_ids}
        return Sights(machines, ways, self.reflectors, self.chosen, kind, self.found)


@dataclass(frozen=True, slots=True)
class Hop:
    """A machine on a way, and the round trip to the next."""

    machine: PathMachine
    rtt: int | None = None


class Wanted(BaseModel):
    """Which part of a map."""

    machine: UUID | None = None
    kind: Kind | None = None
    search: str = Field("", max_length=200)
    after: str | None = None


@router.get("/map", dependencies=[VIEWER])
async def show_map(visit: Looking, uuid: UUID, wanted: Annotated[Wanted, Query()]) -> Response:
    """The machines and paths of a network, or one machine's paths, as a picture and a table."""
    mirror, tracks, kind = visit.seen.mirror, visit.seen.tracks, wanted.kind
    seen = _see(visit, uuid, wanted)
    table = page(pairs_of(mirror, [uuid], seen.chosen, wanted.after), tracks.way, kind, _PAGE)
    at = partial(address, f"/networks/{uuid}/map")
    kept_query = {"machine": wanted.machine, "kind": kind}
    picture, order = _drawn(seen, kind, visit.request.headers.get(_REMEMBERED, ""))
    return visit.page(
        "map.html",
        tab="map",
        network=network_view(mirror, uuid, tracks.plan(uuid)),
        seen=seen,
        picture=picture,
        order=order,
        chosen=seen.views.machine(uuid, seen.chosen) if seen.chosen is not None else None,
        counts=counted(seen.ways if seen.chosen is None else seen.mine),
        kinds=KINDS,
        words=WORDS,
        wanted=wanted,
        found=[seen.views.machine(uuid, each) for each in seen.found[:_FOUND]],
        paths=[seen.views.path(way) for way in table.ways],
        at=at,
        first=at(**kept_query) if wanted.after else None,
        next=at(**kept_query, after=table.next) if table.next else None,
    )


@router.get("/paths/{machine_uuid}/{peer_uuid}", dependencies=[VIEWER])
async def explain(visit: Looking, uuid: UUID, machine_uuid: UUID, peer_uuid: UUID, *, part: bool = False) -> Response:
    """Why a path is as it is: a page, a dialog where our script wants one, or what changes in that."""
    shown = visit.seen
    require_pair(shown.mirror, uuid, machine_uuid, peer_uuid)
    way = shown.tracks.way(uuid, machine_uuid, peer_uuid)
    views = PathViews(shown.mirror, shown.presence, shown.now())
    path = views.explanation(way)
    peers = shown.mirror.network(uuid)[0].peers
    ports = {each: peers[each].listen_port for each in (machine_uuid, peer_uuid) if each in peers}
    is_dialog = visit.request.headers.get("hx-target") == "dialogs"
    return visit.page(
        "path_part.html" if part else "path_dialog.html" if is_dialog else "path.html",
        part_only=part,
        network=network_view(shown.mirror, uuid, shown.tracks.plan(uuid)),
        path=path,
        hops=[_hops(visit, views, way, each) for each in (way.ways or ((),))] if way.kind != "none" else [],
        words=path_words,
        last_seen=shown.presence.last_seen_at,
        better=() if visit.is_past else path_words.better(path, ports),
        kind_words=WORDS,
    )


def _see(visit: Visit, network_id: UUID, wanted: Wanted) -> Seen:
    mirror, shown = visit.seen.mirror, visit.seen
    network, _ = mirror.network(network_id)
    rows = tuple(each for _, each in network.by_address.rows)
    is_whole = len(rows) <= WHOLE
    chosen = wanted.machine if wanted.machine in network.members else None
    if chosen is None and not is_whole:
        online = shown.presence.online(shown.now())
        chosen = next((each for each in rows if each in online), rows[0])
    pairs = pairs_of(mirror, [network_id], None if is_whole else chosen, None)
    search = wanted.search.strip()
    found = find_machines(mirror, "hostname", network_id=network_id, search=search) if search else ()
    return Seen(
        network_id=network_id,
        members=rows,
        addresses={each: int(member.address) for each, member in network.members.items()},
        reflectors=shown.tracks.plan(network_id).reflectors,
        views=PathViews(mirror, shown.presence, shown.now()),
        is_whole=is_whole,
        chosen=chosen,
        ways=[shown.tracks.way(network_id, pair.one[1], pair.other[1]) for pair in pairs],
        found=[each for _, each in found],
    )


def _drawn(seen: Seen, kind: Kind | None, remembered: str) -> tuple[Picture | None, str]:
    """The picture, and the order that browsers are to remember."""
    if len(seen.members) < 2:
        return None, ""
    if seen.is_whole:
        groups = kept(remembered, seen.addresses) or arranged(seen.members, seen.ways)
        sights = seen.sights(seen.members, seen.ways, kind)
        return whole(sights, groups), written(groups, seen.addresses)
    assert seen.chosen is not None
    shown = sectors(seen.chosen, seen.ways)
    named = {seen.chosen, *(each for sector in shown for each in sector.peers)}
    named |= {each.via for each in shown if each.via is not None and each.via in seen.addresses}
    sights = seen.sights(named, [way for way in seen.ways if way.peer_id in named], kind)
    return star(sights, seen.chosen, shown), ""


def _hops(visit: Visit, views: PathViews, way: Way, via: Iterable[UUID]) -> list[Hop]:
    """The machines of a way, with the round trips between them, where those are known."""
    stops = [way.machine_id, *via, way.peer_id]
    links = [visit.seen.tracks.way(way.network_id, one, other) for one, other in pairwise(stops)]
    trips = [link.rtt if link.kind == "direct" else None for link in links]
    return [Hop(views.machine(way.network_id, each), rtt) for each, rtt in zip(stops, [*trips, None], strict=True)]
