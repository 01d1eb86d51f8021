"""The page of one machine: a tab for each side of it. Here what all tabs share, and those of networks and events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import ValidationError
from starlette.responses import Response

from events.commands import Command
from events.errors import WireloomError
from events.interfaces import interface_name
from events.records import MembershipRecord, NetworkRecord, PeerRecord
from services.gateway.http.guard import VIEWER
from services.gateway.http.views import machine_view
from services.gateway.key_ages import KeyAge
from services.gateway.pages.events import until
from services.gateway.pages.lines import lines_of
from services.gateway.pages.looking import Looking
from services.gateway.pages.page import Fault, PageRoute, Visit, address, fault_of
from services.gateway.receipts import revocation_of
from services.gateway.wanted import Wanted

router = APIRouter(prefix="/machines/{uuid}", route_class=PageRoute, include_in_schema=False)

TABS = (
    ("network", "Network"),
    ("endpoints", "Endpoints"),
    ("peers", "Peers"),
    ("routing", "Routing"),
    ("routes", "Routes"),
    ("vips", "VIPs"),
    ("events", "Events"),
)
NETWORKS = 20
"""So many networks are shown at once."""
_EVENTS = 50
_DEBTORS = 5
_TOPICS = 60
"""A page listens to so many topics at most, which leaves some to its dialogs; with more it looks again by the clock."""


@dataclass(frozen=True)
class Place:
    """A machine's place in one network."""

    network: NetworkRecord
    member: MembershipRecord
    peer: PeerRecord | None
    """None until it has announced a key."""
    interface: str
    key_age: KeyAge | None = None


def tab_page(visit: Visit, uuid: UUID, tab: str, *follows: str, **context: Any) -> Response:
    """A tab of the machine's page. `follows` are kinds of topics of its networks, or whole topics. Raises
    `NotFoundError`."""
    seen = visit.seen
    network_ids = seen.mirror.networks_of(uuid)
    followed = (f"{kind}:{item}" for item in network_ids for kind in follows if kind in ("network", "paths", "bgp"))
    plain = (topic for topic in follows if topic not in ("network", "paths", "bgp"))
    topics = [f"machine:{uuid}", *plain, *followed]
    return visit.page(
        f"machine_{tab}.html",
        machine=machine_view(seen.mirror, seen.presence, uuid, seen.now()),
        revocation=_revocation(visit, uuid),
        tab=tab,
        tabs=TABS,
        topics=" ".join(topics[:_TOPICS]),
        fades=len(topics) > _TOPICS and not visit.is_past,
        **context,
    )


async def change_or_ask(
    visit: Visit, make: Callable[[], Command], done: Callable[[], Response], ask: Callable[[Fault], Response]
) -> Response:
    """Give the command that `make` makes, and answer with `done`; where what the form says is refused, ask once more.
    Raises what is not the form's fault."""
    try:
        await visit.give(make())
    except (WireloomError, ValidationError) as error:
        fault = fault_of(error)
        if fault.status not in (409, 422):
            raise
        return ask(fault)
    return done()


async def some_networks(visit: Visit, uuid: UUID, tab: str, start: int) -> tuple[tuple[UUID, ...], dict[str, Any]]:
    """Some of the networks that a machine is in, and what a tab needs to page through all. Raises `NotFoundError`."""
    visit.seen.mirror.machine(uuid)
    network_ids = visit.seen.mirror.networks_of(uuid)
    start = start if 0 < start < len(network_ids) else 0
    page, here = network_ids[start : start + NETWORKS], f"/machines/{uuid}/{tab}"
    more = start + NETWORKS < len(network_ids)
    paging = {
        "total": len(network_ids),
        "first": here if start else None,
        "next": address(here, start=start + NETWORKS) if more else None,
    }
    await visit.seen.look_into(page)
    return page, paging


@router.get("", dependencies=[VIEWER])
@router.get("/network", dependencies=[VIEWER])
async def show_networks(visit: Looking, uuid: UUID, start: int = 0) -> Response:
    """Its place in each of its networks."""
    gateway = visit.gateway
    network_ids, paging = await some_networks(visit, uuid, "network", start)
    found = []
    for network_id in network_ids:
        network, record = visit.seen.mirror.network(network_id)
        found.append(Place(record, network.members[uuid], network.peers.get(uuid), interface_name(network_id)))
    keys = {place.network.network_id: place.peer.public_key for place in found if place.peer is not None}
    ages = {} if visit.is_past else await gateway.key_ages.of(gateway.client, uuid, keys)
    places = [replace(place, key_age=ages.get(place.network.network_id)) for place in found]
    return tab_page(visit, uuid, "network", "network", places=places, **paging)


@router.get("/events", dependencies=[VIEWER])
async def show_events(visit: Looking, uuid: UUID, before: int | None = None) -> Response:
    """What happened to it."""
    visit.seen.mirror.machine(uuid)
    stretch = await until(visit, before, _EVENTS, Wanted(machine=uuid))
    here = f"/machines/{uuid}/events"
    return tab_page(
        visit,
        uuid,
        "events",
        "events",
        lines=lines_of(stretch.events, visit.seen.mirror),
        first=here if before is not None else None,
        next=address(here, before=stretch.next) if stretch.next is not None else None,
    )


def _revocation(visit: Visit, uuid: UUID) -> dict[str, Any] | None:
    """How far its revocation has come, with few of those who have not said yet that they dropped its keys; of the past
    that is not recorded."""
    gateway = visit.gateway
    identity = visit.seen.mirror.access.identity(uuid)
    if identity is None or identity.revoked_at is None:
        return None
    if visit.is_past:
        return {"at": identity.revoked_at, "networks": []}
    found = revocation_of(gateway.mirror, gateway.presence, uuid, gateway.now())
    networks = [
        {
            "name": each.name,
            "pending": [debtor.hostname for debtor in each.pending[:_DEBTORS]],
            "pending_count": len(each.pending),
        }
        for each in found.networks
    ]
    return {"at": found.revoked_at, "networks": networks}
