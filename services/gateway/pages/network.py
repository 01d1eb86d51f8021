"""The page of one mesh network: how it is, what happened in it, and its settings."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import Response

from events.cidr import capacity
from events.commands import RenameNetwork, SetDefaultNetwork, SetRouteReflectorMode
from events.errors import WireloomError
from services.gateway.http.bgp_views import BgpViews
from services.gateway.http.changes import Gateway
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.views import network_view
from services.gateway.mirror import Network
from services.gateway.naming import listed, machine_name
from services.gateway.network_status import NetworkStatus, status_of
from services.gateway.pages.events import newest, until
from services.gateway.pages.lines import lines_of
from services.gateway.pages.looking import Looking
from services.gateway.pages.page import PageRoute, Visit, Visiting, address, fault_of
from services.gateway.seen import Seen
from services.gateway.tally import Concern, concerns, tally
from services.gateway.wanted import Wanted

router = APIRouter(prefix="/networks/{uuid}", route_class=PageRoute, include_in_schema=False)

_RECENT = 6
_CONCERNS = 6
_EVENTS = 50
_FORM_STATUS = (409, 422)
"""With these our script puts the answer into the page."""


@dataclass(frozen=True, slots=True)
class Troubled:
    """A machine that needs a look, for people."""

    uuid: UUID
    hostname: str
    address: IPv4Address | None
    concern: Concern
    peers: str
    """The machines that it does not reach, in words."""
    last_seen: datetime | None


@router.get("", dependencies=[VIEWER])
async def overview(visit: Looking, uuid: UUID) -> Response:
    """How a network is."""
    seen, head = visit.seen, head_of(visit, uuid, "overview")
    network, record = seen.mirror.network(uuid)
    members = [machine_id for _, machine_id in network.by_address.rows]
    online = _online(seen, network)
    paths = tally(members, online, partial(seen.tracks.kind, uuid))
    worries = concerns(members, online, network.peers, paths, partial(_bgp_failure, seen, uuid))
    return visit.page(
        "network_overview.html",
        **head,
        paths=paths,
        online_count=len(online),
        standing=None if visit.is_past else status_now(visit.gateway, uuid),
        capacity=capacity(record.network_cidr),
        bgp=bgp_views(seen).network(uuid, seen.tracks.plan(uuid)),
        troubled=[_troubled(seen, uuid, each) for each in worries[:_CONCERNS]],
        troubled_count=len(worries),
        lines=await newest(visit, _RECENT, network=uuid),
    )


@router.get("/events", dependencies=[VIEWER])
async def list_events(visit: Looking, uuid: UUID, before: int | None = None) -> Response:
    """What happened in a network, newest first."""
    path = f"/networks/{uuid}/events"
    stretch = await until(visit, before, _EVENTS, Wanted(network=uuid))
    return visit.page(
        "network_events.html",
        **head_of(visit, uuid, "events"),
        lines=lines_of(stretch.events, visit.seen.mirror),
        first=path if before is not None else None,
        next=address(path, before=stretch.next) if stretch.next else None,
    )


@router.get("/settings", dependencies=[VIEWER])
async def settings(visit: Visiting, uuid: UUID) -> Response:
    """A network's settings."""
    return _settings(visit, uuid)


@router.post("/settings/name", dependencies=[OPERATOR])
async def rename(
    visit: Visiting, uuid: UUID, command_id: Annotated[UUID, Form()], name: Annotated[str, Form()] = ""
) -> Response:
    """Give a network another name."""
    change = visit.change(command_id)
    try:
        await visit.give(
            RenameNetwork(command_id=change.command_id, actor=change.actor, network_id=uuid, name=name.strip())
        )
    except (WireloomError, ValidationError) as error:
        fault = fault_of(error)
        return _settings(visit, uuid, status=form_status(fault.status), name=name, fault=fault)
    return visit.go(f"/networks/{uuid}/settings", f"It is called {name.strip()} now.")


@router.post("/settings/default", dependencies=[OPERATOR])
async def set_default(
    visit: Visiting, uuid: UUID, command_id: Annotated[UUID, Form()], on: Annotated[bool, Form()]
) -> Response:
    """Make a network the default one, or no more."""
    change, name = visit.change(command_id), visit.gateway.mirror.network(uuid)[1].name
    target, only_if = (uuid, None) if on else (None, uuid)
    await visit.give(
        SetDefaultNetwork(command_id=change.command_id, actor=change.actor, network_id=target, only_if_default=only_if)
    )
    return visit.stay(f"{name} is the default network now." if on else "No network is the default one now.")


@router.post("/settings/reflectors", dependencies=[OPERATOR])
async def set_reflector_mode(
    visit: Visiting, uuid: UUID, command_id: Annotated[UUID, Form()], on: Annotated[bool, Form()]
) -> Response:
    """Turn a network's route reflector mode on or off."""
    change = visit.change(command_id)
    await visit.give(
        SetRouteReflectorMode(command_id=change.command_id, actor=change.actor, network_id=uuid, enabled=on)
    )
    return visit.stay(f"Route reflector mode is {'on' if on else 'off'}. The machines change over without a break.")


def head_of(visit: Visit, network_id: UUID, tab: str) -> dict[str, Any]:
    """What `network_head.html` needs. Raises `NotFoundError`."""
    seen = visit.seen
    return {"network": network_view(seen.mirror, network_id, seen.tracks.plan(network_id)), "tab": tab}


def status_now(gateway: Gateway, network_id: UUID) -> NetworkStatus:
    """How far a network's machines have applied what was decided. Raises `NotFoundError`."""
    return status_of(gateway.mirror, gateway.presence, gateway.convergences, network_id, gateway.now())


def bgp_views(seen: Seen) -> BgpViews:
    """How BGP is, or was."""
    return BgpViews(seen.mirror, seen.tracks.bgp, seen.presence, seen.now())


def form_status(status: int) -> int:
    """The status with which a form comes back that was refused: one of those that our script puts into the page."""
    return status if status in _FORM_STATUS else _FORM_STATUS[0]


def _settings(visit: Visit, uuid: UUID, *, status: int = 200, name: str | None = None, fault: Any = None) -> Response:
    gateway, head = visit.gateway, head_of(visit, uuid, "settings")
    return visit.page(
        "network_settings.html",
        status=status,
        **head,
        given=head["network"].name if name is None else name,
        fault=fault,
        default=next((each.record for each in gateway.mirror.networks.values() if _is_default(each.record)), None),
        bgp=bgp_views(gateway).network(uuid, gateway.tracks.plan(uuid)),
    )


def _is_default(record: Any) -> bool:
    return record is not None and record.is_default


def _online(seen: Seen, network: Network) -> frozenset[UUID]:
    """Its machines that are online; of the past, where that is not recorded, all: nobody is then called offline."""
    if not seen.presence.is_recorded:
        return frozenset(network.members)
    return seen.presence.online(seen.now()) & network.members.keys()


def _bgp_failure(seen: Seen, network_id: UUID, machine_id: UUID) -> str | None:
    said = seen.tracks.bgp.speaker(network_id, machine_id)
    return said.reason if said is not None and said.state == "failed" else None


def _troubled(seen: Seen, network_id: UUID, concern: Concern) -> Troubled:
    member = seen.mirror.network(network_id)[0].members.get(concern.machine_id)
    name_of = seen.mirror.name_of
    return Troubled(
        uuid=concern.machine_id,
        hostname=machine_name(concern.machine_id, name_of),
        address=member.address if member is not None else None,
        concern=concern,
        peers=listed([machine_name(peer, name_of) for peer in concern.peers]),
        last_seen=seen.presence.last_seen_at(concern.machine_id),
    )
