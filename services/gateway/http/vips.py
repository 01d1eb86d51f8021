"""`/api/v1/vips`: virtual IPs."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import ValidationError
from starlette.responses import Response

from events.commands import CreateVip, DeleteVip, Outcome, UpdateVip
from events.errors import InvalidInputError
from events.routing import HealthCheck
from services.gateway.http.changes import PLAIN, Change, Changing, json_response
from services.gateway.http.documents import changing, viewing
from services.gateway.http.guard import OPERATOR, VIEWER, GuardedRoute
from services.gateway.http.moments import PLAIN_AT, Viewed
from services.gateway.http.route_schemas import RoutingQuery, Vip, VipChange, VipCreate, VipPage
from services.gateway.http.route_views import vip_view
from services.gateway.queries import take
from services.gateway.routed import find_item, find_items
from services.gateway.seen import Seen

PATH = "/api/v1/vips"
router = APIRouter(prefix=PATH, tags=["routes"], route_class=GuardedRoute)

_CHECK = "health_check_"


@router.get("", response_model=VipPage, responses=viewing(), dependencies=[VIEWER])
async def list_vips(seen: Viewed, query: Annotated[RoutingQuery, Query()]) -> Response:
    """List the virtual IPs."""
    known = seen.mirror.routing.vips
    rows = find_items(known, query.sort, name=query.name, search=query.search, machine_id=query.machine_uuid)
    page = take(rows, query.sort, query.limit, query.after)
    items = tuple(vip_view(known[vip_id]) for vip_id in page.ids)
    return json_response(VipPage(items=items, total=page.total, next=page.next))


@router.post(
    "", status_code=201, response_model=Vip, responses=changing(201, located=True), dependencies=[OPERATOR, PLAIN]
)
async def create_vip(change: Changing, body: VipCreate) -> Response:
    """Create a virtual IP: the first of its machines that is healthy answers for it, in every network that it is in."""
    command = vip_creation(change, body)
    return await _answer(change, await change.give(command), command.vip_id, 201)


@router.get("/{uuid}", response_model=Vip, responses=viewing(), dependencies=[VIEWER, PLAIN_AT])
async def show_vip(seen: Viewed, uuid: UUID) -> Response:
    """Show a virtual IP."""
    return json_response(_view(seen, uuid))


@router.patch("/{uuid}", response_model=Vip, responses=changing(200), dependencies=[OPERATOR, PLAIN])
async def change_vip(change: Changing, uuid: UUID, body: VipChange) -> Response:
    """Change a virtual IP. Of the health check, too, what is left out stays as it is."""
    return await _answer(change, await change.give(vip_update(change, uuid, body)), uuid, 200)


@router.delete(
    "/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[OPERATOR, PLAIN]
)
async def delete_vip(change: Changing, uuid: UUID) -> Response:
    """Delete a virtual IP."""
    outcome = await change.give(DeleteVip(command_id=change.command_id, actor=change.actor, vip_id=uuid))
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


def vip_creation(change: Change, body: VipCreate) -> CreateVip:
    """The command that makes a virtual IP. Raises `InvalidInputError`."""
    return CreateVip(
        command_id=change.command_id,
        actor=change.actor,
        vip_id=change.another_id("vip"),
        name=body.name,
        enabled=body.enabled,
        address=body.address,
        health_check=_check(HealthCheck(), body) or HealthCheck(),
        machine_ids=tuple(body.machine_uuids),
    )


def vip_update(change: Change, vip_id: UUID, body: VipChange) -> UpdateVip:
    """The command that changes a virtual IP as the body says. Raises `NotFoundError`, `InvalidInputError`."""
    before = find_item(change.gateway.mirror.routing.vips, vip_id, "virtual IP")
    given = body.model_fields_set
    return UpdateVip(
        command_id=change.command_id,
        actor=change.actor,
        vip_id=vip_id,
        name=body.name if "name" in given else None,
        enabled=body.enabled if "enabled" in given else None,
        address=body.address if "address" in given else None,
        health_check=_check(before.health_check, body),
        machine_ids=tuple(body.machine_uuids) if "machine_uuids" in given else None,
    )


def _check(before: HealthCheck, body: VipCreate | VipChange) -> HealthCheck | None:
    """The health check with what the body says of it; None where it says nothing. A shorter interval shortens the
    timeout too, unless that is given. Raises `InvalidInputError`."""
    given: dict[str, Any] = {
        name.removeprefix(_CHECK): getattr(body, name) for name in body.model_fields_set if name.startswith(_CHECK)
    }
    if not given:
        return None
    if "interval_seconds" in given:
        given = {"timeout_seconds": min(before.timeout_seconds, given["interval_seconds"])} | given
    if given.get("type") in ("", "none"):
        given = {"target": ""} | given | {"type": "none"}
    try:
        return HealthCheck.model_validate(before.model_dump() | given)
    except ValidationError as error:
        why = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InvalidInputError(
            f"The health check does not fit: {why}.",
            hint="Correct the fields of the health check.",
            field=f"{_CHECK}type",
        ) from error


async def _answer(change: Change, outcome: Outcome, vip_id: UUID, status: int) -> Response:
    return await change.answer(outcome, status, f"{PATH}/{vip_id}", lambda: _view(change.gateway, vip_id))


def _view(seen: Seen, vip_id: UUID) -> Vip:
    return vip_view(find_item(seen.mirror.routing.vips, vip_id, "virtual IP"))
