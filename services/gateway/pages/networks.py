"""The pages of mesh networks: the list, and making one."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import Response

from events.commands import CreateNetwork
from events.errors import WireloomError
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.views import network_view
from services.gateway.pages.page import PageRoute, Visiting, address, fault_of
from services.gateway.queries import find_networks, take

router = APIRouter(prefix="/networks", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_SORT = "name"


@router.get("", dependencies=[VIEWER])
async def list_networks(visit: Visiting, search: str = "", after: str | None = None) -> Response:
    """All mesh networks."""
    mirror = visit.gateway.mirror
    page = take(find_networks(mirror, _SORT, search=search.strip() or None), _SORT, _PAGE, after)
    return visit.page(
        "networks.html",
        networks=[network_view(mirror, each, visit.gateway.tracks.plan(each)) for each in page.ids],
        search=search,
        total=page.total,
        first=address("/networks", search=search) if after else None,
        next=address("/networks", search=search, after=page.next) if page.next else None,
    )


@router.get("/new", dependencies=[OPERATOR])
async def ask(visit: Visiting) -> Response:
    """The form for a new network."""
    return visit.page("network_new.html", given={}, fault=None)


@router.post("/new", dependencies=[OPERATOR])
async def create(
    visit: Visiting,
    command_id: Annotated[UUID, Form()],
    name: Annotated[str, Form()] = "",
    network_cidr: Annotated[str, Form()] = "",
    is_default: Annotated[bool, Form()] = False,
    route_reflector_mode: Annotated[bool, Form()] = False,
) -> Response:
    """Create a network."""
    change = visit.change(command_id)
    network_id = change.another_id("network")
    try:
        await visit.give(
            CreateNetwork(
                command_id=change.command_id,
                actor=change.actor,
                network_id=network_id,
                name=name.strip(),
                network_cidr=network_cidr.strip(),
                is_default=is_default,
                route_reflector_mode=route_reflector_mode,
            )
        )
    except (WireloomError, ValidationError) as error:
        given = {
            "name": name,
            "network_cidr": network_cidr,
            "is_default": is_default,
            "route_reflector_mode": route_reflector_mode,
        }
        fault = fault_of(error)
        return visit.page("network_new.html", status=fault.status, given=given, fault=fault)
    return visit.go(f"/networks/{network_id}", f"Created {name.strip()}.")
