"""`/api/v1/mesh-networks/…/paths` and `/api/v1/machines/…/peers`: how machines reach each other."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from services.gateway.http.changes import json_response
from services.gateway.http.documents import viewing
from services.gateway.http.guard import VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.path_schemas import PathExplanation, PathPage, PathQuery, PeerQuery
from services.gateway.http.path_views import PathViews
from services.gateway.pairs import page, pairs_of, require_pair
from services.gateway.seen import Seen

router = APIRouter(prefix="/api/v1", tags=["paths"], route_class=GuardedRoute)


@router.get("/mesh-networks/{uuid}/paths", response_model=PathPage, responses=viewing(), dependencies=[VIEWER])
async def list_paths(seen: Viewed, uuid: UUID, query: Annotated[PathQuery, Query()]) -> Response:
    """List how the machines of a mesh network reach each other: each pair once, or one machine's paths to all others.

    With `kind` a page may be short, or even empty, and not be the last: `next` alone says whether there is more.
    """
    seen.mirror.network(uuid)
    return await _page(seen, [uuid], query.machine, query)


@router.get(
    "/mesh-networks/{uuid}/paths/{machine_uuid}/{peer_uuid}",
    response_model=PathExplanation,
    responses=viewing(),
    dependencies=[VIEWER, PLAIN_AT],
)
async def explain_path(seen: Viewed, uuid: UUID, machine_uuid: UUID, peer_uuid: UUID) -> Response:
    """Explain how a machine reaches another in a mesh network: what both tried, and what led to it."""
    require_pair(seen.mirror, uuid, machine_uuid, peer_uuid)
    await seen.look_into([uuid])
    return json_response(_views(seen).explanation(seen.tracks.way(uuid, machine_uuid, peer_uuid)))


@router.get("/machines/{uuid}/peers", response_model=PathPage, responses=viewing(), dependencies=[VIEWER])
async def list_peers(seen: Viewed, uuid: UUID, query: Annotated[PeerQuery, Query()]) -> Response:
    """List a machine's peers in all its networks, and how it reaches each.

    With `kind` a page may be short, or even empty, and not be the last: `next` alone says whether there is more.
    """
    seen.mirror.machine(uuid)
    network_ids: Iterable[UUID] = seen.mirror.networks_of(uuid)
    if query.mesh_network_uuid is not None:
        seen.mirror.network(query.mesh_network_uuid)
        network_ids = [query.mesh_network_uuid]
    return await _page(seen, network_ids, uuid, query)


async def _page(
    seen: Seen, network_ids: Iterable[UUID], machine_id: UUID | None, query: PathQuery | PeerQuery
) -> Response:
    await seen.look_into(network_ids)
    pairs = pairs_of(seen.mirror, network_ids, machine_id, query.after)
    found = page(pairs, seen.tracks.way, query.kind, query.limit)
    return json_response(PathPage(items=tuple(map(_views(seen).path, found.ways)), next=found.next))


def _views(seen: Seen) -> PathViews:
    return PathViews(seen.mirror, seen.presence, seen.now())
