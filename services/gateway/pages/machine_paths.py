"""Tabs of a machine's page: where it may be reached, and how it reaches its peers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.http.guard import VIEWER
from services.gateway.http.path_views import PathViews
from services.gateway.pages.handshakes import handshakes_of
from services.gateway.pages.looking import Looking
from services.gateway.pages.machine import some_networks, tab_page
from services.gateway.pages.page import PageRoute, Visit, address
from services.gateway.pairs import LOOKED_AT, Pair, page, pairs_of
from services.gateway.sightings import Candidate, candidates_of
from services.gateway.ways import Kind

router = APIRouter(prefix="/machines/{uuid}", route_class=PageRoute, include_in_schema=False)

_PEERS = 50
_NAMED = 5
"""So many of those who reach an endpoint are named beside it."""
_SEEING = 100
"""So many of them on a page of their own."""
_KINDS: tuple[Kind, ...] = ("direct", "transit", "none", "unknown")

Search = Annotated[str, Query(max_length=200)]


@router.get("/endpoints", dependencies=[VIEWER])
async def show_endpoints(visit: Looking, uuid: UUID, start: int = 0) -> Response:
    """Where it may be reached, and who says so."""
    seen = visit.seen
    network_ids, paging = await some_networks(visit, uuid, "endpoints", start)
    places = []
    for network_id in network_ids:
        network, record = seen.mirror.network(network_id)
        candidates = candidates_of(seen.mirror, seen.tracks.reach, network_id, uuid)
        places.append(
            {
                "id": network_id,
                "name": record.name,
                "has_key": uuid in network.peers,
                "peers": len(network.members) - 1,
                "candidates": [_shown(visit, candidate) for candidate in candidates],
            }
        )
    return tab_page(visit, uuid, "endpoints", "network", "paths", places=places, named=_NAMED, **paging)


@router.get("/endpoints/{network_uuid}/seen", dependencies=[VIEWER])
async def show_seen(visit: Looking, uuid: UUID, network_uuid: UUID, endpoint: str, start: int = 0) -> Response:
    """Everybody who reaches it at an endpoint, in a dialog."""
    seen, start = visit.seen, max(0, start)
    await seen.look_into([network_uuid])
    machine = seen.mirror.machine(uuid)[1]
    found = candidates_of(seen.mirror, seen.tracks.reach, network_uuid, uuid)
    candidate = next((each for each in found if each.endpoint == endpoint), None)
    seen_by = candidate.seen_by if candidate is not None else ()
    failed_for = candidate.failed_for if candidate is not None else ()
    here = f"/machines/{uuid}/endpoints/{network_uuid}/seen"
    more = start + _SEEING < max(len(seen_by), len(failed_for))
    return visit.page(
        "machine_seen.html",
        machine=machine,
        endpoint=endpoint,
        seen=[(seen.mirror.name_of(each.peer_id), each) for each in seen_by[start : start + _SEEING]],
        failed=[(seen.mirror.name_of(each.peer_id), each) for each in failed_for[start : start + _SEEING]],
        seen_total=len(seen_by),
        failed_total=len(failed_for),
        first=address(here, endpoint=endpoint) if start else None,
        next=address(here, endpoint=endpoint, start=start + _SEEING) if more else None,
    )


@router.get("/peers", dependencies=[VIEWER])
async def show_peers(
    visit: Looking,
    uuid: UUID,
    *,
    search: Search = "",
    kind: str = "",
    network: str = "",
    after: str | None = None,
) -> Response:
    """How it reaches each of its peers."""
    seen = visit.seen
    mirror, network_ids = seen.mirror, seen.mirror.networks_of(uuid)
    mirror.machine(uuid)
    chosen = [item for item in network_ids if network in ("", str(item))]
    await seen.look_into(chosen)
    wanted = next((each for each in _KINDS if each == kind), None)
    text = search.strip().lower()
    found = page(_matching(visit, pairs_of(mirror, chosen, uuid, after), text), seen.tracks.way, wanted, _PEERS)
    views = PathViews(mirror, seen.presence, seen.now())
    here, query = f"/machines/{uuid}/peers", {"search": search.strip(), "kind": wanted, "network": network}
    return tab_page(
        visit,
        uuid,
        "peers",
        "network",
        "paths",
        paths=[views.path(way) for way in found.ways],
        counts=_counts(visit, uuid, chosen, text),
        given=query,
        tunnels=await handshakes_of(visit, uuid),
        is_filtered=any(query.values()),
        networks=[(item, mirror.network(item)[1].name) for item in network_ids],
        first=address(here, **query) if after else None,
        next=address(here, **query, after=found.next) if found.next else None,
    )


def _matching(visit: Visit, pairs: Iterator[Pair], search: str) -> Iterator[Pair]:
    """The pairs whose other machine has `search` in its hostname or mesh address."""
    mirror = visit.seen.mirror
    for pair in pairs:
        if search:
            peer_id = pair.other[1]
            member = mirror.networks[pair.network_id].members.get(peer_id)
            if search not in f"{mirror.name_of(peer_id)} {member.address if member else ''}".lower():
                continue
        yield pair


def _counts(visit: Visit, uuid: UUID, network_ids: list[UUID], search: str) -> dict[str, int] | None:
    """How many of the peers that are looked for are reached in which way; None where there are too many to count."""
    seen = visit.seen
    if sum(len(seen.mirror.network(item)[0].members) for item in network_ids) > LOOKED_AT:
        return None
    pairs = _matching(visit, pairs_of(seen.mirror, network_ids, uuid, None), search)
    counted = Counter(seen.tracks.kind(pair.network_id, uuid, pair.other[1]) for pair in pairs)
    return {"total": counted.total()} | {kind: counted[kind] for kind in _KINDS}


def _shown(visit: Visit, candidate: Candidate) -> dict[str, Any]:
    name_of = visit.seen.mirror.name_of
    return {
        "endpoint": candidate.endpoint,
        "kind": candidate.kind,
        "announced": candidate.announced,
        "count": len(candidate.seen_by),
        "seen_by": [(name_of(each.peer_id), each) for each in candidate.seen_by[:_NAMED]],
        "failures": len(candidate.failed_for),
        "last_failure": candidate.failed_for[0] if candidate.failed_for else None,
        "failed_name": name_of(candidate.failed_for[0].peer_id) if candidate.failed_for else None,
    }
