"""Why a path, a peer or an address is as it is, or was: from what is seen down to the commands and who gave them."""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Address
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from starlette.responses import Response

from services.gateway.http.guard import VIEWER
from services.gateway.naming import machine_name
from services.gateway.pages.looking import Looking
from services.gateway.pages.page import PageRoute, Visit
from services.gateway.why.address import address_chains
from services.gateway.why.finding import explained
from services.gateway.why.known import Known
from services.gateway.why.pair import PATH, PEER, Question, pair_chains
from services.gateway.why.steps import Step
from services.gateway.why.teller import Teller

router = APIRouter(prefix="/networks/{uuid}/why", route_class=PageRoute, include_in_schema=False)


@router.get("/paths/{machine_uuid}/{peer_uuid}", dependencies=[VIEWER])
async def why_path(visit: Looking, uuid: UUID, machine_uuid: UUID, peer_uuid: UUID) -> Response:
    """Why a machine reaches another as it does."""
    return await _pair(visit, uuid, machine_uuid, peer_uuid, PATH)


@router.get("/peers/{machine_uuid}/{peer_uuid}", dependencies=[VIEWER])
async def why_peer(visit: Looking, uuid: UUID, machine_uuid: UUID, peer_uuid: UUID) -> Response:
    """Why a machine is another's peer, with this key and these endpoints."""
    return await _pair(visit, uuid, machine_uuid, peer_uuid, PEER)


@router.get("/addresses/{address}", dependencies=[VIEWER])
async def why_address(visit: Looking, uuid: UUID, address: IPv4Address) -> Response:
    """Why an address is whose it is."""
    return await _page(
        visit, uuid, lambda tell: address_chains(tell, address, uuid), about=str(address), pair=None, asked=""
    )


async def _pair(visit: Visit, uuid: UUID, machine_id: UUID, peer_id: UUID, question: Question) -> Response:
    name_of = visit.seen.mirror.name_of
    return await _page(
        visit,
        uuid,
        lambda tell: pair_chains(tell, question, machine_id, peer_id, uuid),
        about=f"{machine_name(machine_id, name_of)} ↔ {machine_name(peer_id, name_of)}",
        pair=(machine_id, peer_id),
        asked="peers" if question is PEER else "paths",
    )


async def _page(visit: Visit, uuid: UUID, chains: Callable[[Teller], list[Step]], **context: Any) -> Response:
    def build(known: Known) -> list[Step]:
        return chains(Teller(visit.seen, known))

    return visit.page(
        "why.html",
        uuid=uuid,
        name=visit.seen.mirror.network(uuid)[1].name,
        steps=await explained(visit.gateway.client, build),
        **context,
    )
