"""`/api/v1/routes`: what lies behind machines."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import CreateRoute, DeleteRoute, Outcome, UpdateRoute
from services.gateway.http.changes import PLAIN, Change, Changing, json_response
from services.gateway.http.documents import changing, viewing
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.route_schemas import Route, RouteChange, RouteCreate, RoutePage, RoutingQuery
from services.gateway.http.route_views import route_view
from services.gateway.queries import take
from services.gateway.routed import find_item, find_items
from services.gateway.seen import Seen

PATH = "/api/v1/routes"
router = APIRouter(prefix=PATH, tags=["routes"], route_class=GuardedRoute)


@router.get("", response_model=RoutePage, responses=viewing(), dependencies=[VIEWER])
async def list_routes(seen: Viewed, query: Annotated[RoutingQuery, Query()]) -> Response:
    """List the routes."""
    known = seen.mirror.routing.routes
    rows = find_items(known, query.sort, name=query.name, search=query.search, machine_id=query.machine_uuid)
    page = take(rows, query.sort, query.limit, query.after)
    items = tuple(route_view(known[route_id]) for route_id in page.ids)
    return json_response(RoutePage(items=items, total=page.total, next=page.next))


@router.post(
    "", status_code=201, response_model=Route, responses=changing(201, located=True), dependencies=[OPERATOR, PLAIN]
)
async def create_route(change: Changing, body: RouteCreate) -> Response:
    """Create a route: its machines announce its prefixes in every network that they are in."""
    command = route_creation(change, body)
    return await _answer(change, await change.give(command), command.route_id, 201)


@router.get("/{uuid}", response_model=Route, responses=viewing(), dependencies=[VIEWER, PLAIN_AT])
async def show_route(seen: Viewed, uuid: UUID) -> Response:
    """Show a route."""
    return json_response(_view(seen, uuid))


@router.patch("/{uuid}", response_model=Route, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def change_route(change: Changing, uuid: UUID, body: RouteChange) -> Response:
    """Change a route."""
    return await _answer(change, await change.give(route_update(change, uuid, body)), uuid, 200)


@router.delete(
    "/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[OPERATOR, PLAIN]
)
async def delete_route(change: Changing, uuid: UUID) -> Response:
    """Delete a route."""
    outcome = await change.give(DeleteRoute(command_id=change.command_id, actor=change.actor, route_id=uuid))
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


def route_creation(change: Change, body: RouteCreate) -> CreateRoute:
    """The command that makes a route."""
    return CreateRoute(
        command_id=change.command_id,
        actor=change.actor,
        route_id=change.another_id("route"),
        name=body.name,
        enabled=body.enabled,
        prefixes=tuple(body.prefixes),
        machine_ids=tuple(body.machine_uuids),
    )


def route_update(change: Change, route_id: UUID, body: RouteChange) -> UpdateRoute:
    """The command that changes a route as the body says."""
    given = body.model_fields_set
    return UpdateRoute(
        command_id=change.command_id,
        actor=change.actor,
        route_id=route_id,
        name=body.name if "name" in given else None,
        enabled=body.enabled if "enabled" in given else None,
        prefixes=tuple(body.prefixes) if "prefixes" in given else None,
        machine_ids=tuple(body.machine_uuids) if "machine_uuids" in given else None,
    )


async def _answer(change: Change, outcome: Outcome, route_id: UUID, status: int) -> Response:
    return await change.answer(outcome, status, f"{PATH}/{route_id}", lambda: _view(change.gateway, route_id))


def _view(seen: Seen, route_id: UUID) -> Route:
    return route_view(find_item(seen.mirror.routing.routes, route_id, "route"))
