"""Tab of a machine's page: the routes that name it, and what one can do with them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Form
from starlette.responses import Response

from events.commands import DeleteRoute, UpdateRoute
from events.errors import ConflictError
from events.records import RouteRecord, VipRecord
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.route_schemas import RouteChange, RouteCreate
from services.gateway.http.routes import route_creation, route_update
from services.gateway.pages.looking import Looking
from services.gateway.pages.machine import change_or_ask, tab_page
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address
from services.gateway.queries import take
from services.gateway.routed import find_item, find_items

router = APIRouter(prefix="/machines/{uuid}/routes", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_NAMED = 4
_SORT = "name"

CommandId = Annotated[UUID, Form()]
Text = Annotated[str, Form()]
Flag = Annotated[bool, Form()]


@router.get("", dependencies=[VIEWER])
async def show_routes(visit: Looking, uuid: UUID, after: str | None = None) -> Response:
    """The routes that name it."""
    known = visit.seen.mirror.routing.routes
    page = take(find_items(known, _SORT, machine_id=uuid), _SORT, _PAGE, after)
    here = f"/machines/{uuid}/routes"
    return tab_page(
        visit,
        uuid,
        "routes",
        "routing",
        routes=[
            {"record": known[item], "command_id": uuid4(), **others_of(visit, known[item], uuid)} for item in page.ids
        ],
        total=page.total,
        first=here if after else None,
        next=address(here, after=page.next) if page.next else None,
    )


@router.get("/new", dependencies=[OPERATOR])
async def ask_create(visit: Visiting, uuid: UUID) -> Response:
    """Ask what lies behind it."""
    return _ask(visit, uuid, None, {"enabled": True})


@router.post("/new", dependencies=[OPERATOR])
async def create(
    visit: Visiting, uuid: UUID, *, command_id: CommandId, name: Text = "", prefixes: Text = "", enabled: Flag = False
) -> Response:
    """Create a route behind it."""
    change, given = visit.change(command_id), {"name": name, "prefixes": prefixes, "enabled": enabled}
    return await change_or_ask(
        visit,
        lambda: route_creation(
            change, RouteCreate.model_validate(_body(name, prefixes, enabled=enabled) | {"machine_uuids": [uuid]})
        ),
        lambda: visit.stay(f"Created route {name.strip()}."),
        lambda fault: _ask(visit, uuid, None, given, fault),
    )


@router.get("/{route}/edit", dependencies=[OPERATOR])
async def ask_edit(visit: Visiting, uuid: UUID, route: UUID) -> Response:
    """Ask what to change about a route."""
    record = _route(visit, route)
    prefixes = "\n".join(map(str, record.prefixes))
    return _ask(visit, uuid, record, {"name": record.name, "prefixes": prefixes, "enabled": record.enabled})


@router.post("/{route}/edit", dependencies=[OPERATOR])
async def edit(
    visit: Visiting,
    uuid: UUID,
    route: UUID,
    *,
    command_id: CommandId,
    name: Text = "",
    prefixes: Text = "",
    enabled: Flag = False,
    seen: Text = "",
) -> Response:
    """Change a route; not if somebody else has, since it was opened."""
    record, change = _route(visit, route), visit.change(command_id)
    given = {"name": name, "prefixes": prefixes, "enabled": enabled}
    body, now = _body(name, prefixes, enabled=enabled), _body_of(record)

    def make() -> UpdateRoute:
        require_as_seen(record, seen, ", ".join(now["prefixes"]), is_meant=body == now)
        return route_update(change, route, RouteChange.model_validate(body))

    return await change_or_ask(
        visit,
        make,
        lambda: visit.stay(f"Changed route {name.strip()}."),
        lambda fault: _ask(visit, uuid, record, given, fault),
    )


@router.post("/{route}/enabled", dependencies=[OPERATOR])
async def set_enabled(
    visit: Visiting, uuid: UUID, route: UUID, command_id: CommandId, enabled: Flag = False
) -> Response:
    """Have it announced, or not."""
    record, change = _route(visit, route), visit.change(command_id)
    await visit.give(UpdateRoute(command_id=change.command_id, actor=change.actor, route_id=route, enabled=enabled))
    return visit.stay(f"Route {record.name} is {'enabled' if enabled else 'disabled'}.")


@router.get("/{route}/delete", dependencies=[OPERATOR])
async def ask_delete(visit: Visiting, uuid: UUID, route: UUID) -> Response:
    """Ask whether a route is to be deleted."""
    return _ask_delete(visit, uuid, _route(visit, route))


@router.post("/{route}/delete", dependencies=[OPERATOR])
async def delete(visit: Visiting, uuid: UUID, route: UUID, command_id: CommandId) -> Response:
    """Delete a route."""
    record, change = _route(visit, route), visit.change(command_id)
    return await change_or_ask(
        visit,
        lambda: DeleteRoute(command_id=change.command_id, actor=change.actor, route_id=route),
        lambda: visit.stay(f"Deleted route {record.name}."),
        lambda fault: _ask_delete(visit, uuid, record, fault),
    )


def others_of(visit: Visit, record: RouteRecord | VipRecord, uuid: UUID) -> dict[str, Any]:
    """The other machines that a route or virtual IP names: the first of them by name, and how many more there are."""
    name_of = visit.seen.mirror.name_of
    others = [item for item in record.machine_ids if item != uuid]
    named = [(item, name_of(item) or str(item)) for item in others[:_NAMED]]
    return {"others": named, "more_others": len(others) - len(named)}


def require_as_seen(record: RouteRecord | VipRecord, seen: str, now: str, *, is_meant: bool) -> None:
    """Raises `ConflictError` where a route or virtual IP is not as it was `seen`, nor as it is meant to be. `now` is
    what it holds."""
    if not seen or seen == record.updated_at.isoformat() or is_meant:
        return
    state = "enabled" if record.enabled else "disabled"
    raise ConflictError(
        f"Somebody else has changed it in the meantime: it is {record.name} with {now} now, {state}.",
        hint="Look whether what you typed still fits, and save again.",
    )


def _route(visit: Visit, route_id: UUID) -> RouteRecord:
    return find_item(visit.gateway.mirror.routing.routes, route_id, "route")


def _body(name: str, prefixes: str, *, enabled: bool) -> dict[str, Any]:
    """What the API would be given."""
    listed = [line.strip() for line in prefixes.replace(",", "\n").splitlines() if line.strip()]
    return {"name": name.strip(), "prefixes": listed, "enabled": enabled}


def _body_of(record: RouteRecord) -> dict[str, Any]:
    return _body(record.name, "\n".join(map(str, record.prefixes)), enabled=record.enabled)


def _ask(
    visit: Visit, uuid: UUID, route: RouteRecord | None, given: dict[str, Any], fault: Fault | None = None
) -> Response:
    return visit.page(
        "machine_route.html",
        status=fault.status if fault else 200,
        uuid=uuid,
        hostname=visit.gateway.mirror.machine(uuid)[1].hostname,
        route=route,
        given=given,
        fault=at_field(fault),
        **(others_of(visit, route, uuid) if route else {"others": [], "more_others": 0}),
    )


def _ask_delete(visit: Visit, uuid: UUID, route: RouteRecord, fault: Fault | None = None) -> Response:
    return visit.page(
        "machine_route_delete.html",
        status=fault.status if fault else 200,
        uuid=uuid,
        route=route,
        fault=fault,
        **others_of(visit, route, uuid),
    )


def at_field(fault: Fault | None) -> Fault | None:
    """A fault at the form's field: of a list that is one text, whichever of its lines is wrong."""
    if fault is None:
        return None
    field = fault.field.partition(".")[0]
    detail = fault.detail.removeprefix(f"{fault.field}: ")
    detail = detail[:1].upper() + detail[1:]
    return Fault(detail, fault.hint, "address" if field == "wg_ip_address" else field, fault.status, fault.title)
