"""Tab of a machine's page: the virtual IPs that name it, whether it can answer for them, and what one can do."""

from __future__ import annotations

from ipaddress import IPv4Network
from typing import Annotated, Any
from uuid import UUID, uuid4

from fastapi import APIRouter, Form
from pydantic import BaseModel
from starlette.responses import Response

from events.commands import DeleteVip, UpdateVip
from events.errors import InvalidInputError
from events.records import VipHealth, VipRecord
from events.routing import HealthCheck
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.route_schemas import VipChange, VipCreate
from services.gateway.http.route_views import vip_view
from services.gateway.http.vips import vip_creation, vip_update
from services.gateway.pages.looking import Looking
from services.gateway.pages.machine import change_or_ask, tab_page
from services.gateway.pages.machine_routes import at_field, others_of, require_as_seen
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address
from services.gateway.queries import take
from services.gateway.routed import find_item, find_items

router = APIRouter(prefix="/machines/{uuid}/vips", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_SORT = "name"
_NUMBERS = ("interval_seconds", "timeout_seconds", "healthy_threshold", "unhealthy_threshold", "holdoff_seconds")

CommandId = Annotated[UUID, Form()]


class VipForm(BaseModel):
    """The form of a virtual IP, as it was filled in."""

    command_id: UUID
    seen: str = ""
    """When it was changed last before the form was opened."""
    name: str = ""
    address: str = ""
    enabled: bool = False
    health_check_type: str = "none"
    health_check_target: str = ""
    health_check_interval_seconds: str = ""
    health_check_timeout_seconds: str = ""
    health_check_healthy_threshold: str = ""
    health_check_unhealthy_threshold: str = ""
    health_check_holdoff_seconds: str = ""

    def body(self) -> dict[str, Any]:
        """What the API would be given. Raises `InvalidInputError`."""
        checked = self.health_check_type != "none"
        numbers = {f"health_check_{name}": _number(f"health_check_{name}", self) for name in _NUMBERS if checked}
        return {
            "name": self.name.strip(),
            "address": self.address.strip(),
            "enabled": self.enabled,
            "health_check_type": self.health_check_type,
            **({"health_check_target": self.health_check_target.strip()} if checked else {}),
            **numbers,
        }


Filled = Annotated[VipForm, Form()]


@router.get("", dependencies=[VIEWER])
async def show_vips(visit: Looking, uuid: UUID, after: str | None = None) -> Response:
    """The virtual IPs that name it."""
    known = visit.seen.mirror.routing.vips
    await visit.seen.look_into(visit.seen.mirror.networks_of(uuid))
    page = take(find_items(known, _SORT, machine_id=uuid), _SORT, _PAGE, after)
    here = f"/machines/{uuid}/vips"
    health, announced = _reported(visit, uuid)
    return tab_page(
        visit,
        uuid,
        "vips",
        "routing",
        "bgp",
        vips=[
            {
                "record": known[item],
                "command_id": uuid4(),
                "place": known[item].machine_ids.index(uuid) + 1,
                "health": health.get(item),
                "announced": announced.get(IPv4Network(known[item].address), []),
                **others_of(visit, known[item], uuid),
            }
            for item in page.ids
        ],
        total=page.total,
        first=here if after else None,
        next=address(here, after=page.next) if page.next else None,
    )


@router.get("/new", dependencies=[OPERATOR])
async def ask_create(visit: Visiting, uuid: UUID) -> Response:
    """Ask for a virtual IP that it answers for."""
    check = {f"health_check_{name}": value for name, value in HealthCheck().model_dump().items()}
    return _ask(visit, uuid, None, {"enabled": True} | check)


@router.post("/new", dependencies=[OPERATOR])
async def create(visit: Visiting, uuid: UUID, form: Filled) -> Response:
    """Create a virtual IP that it answers for."""
    change = visit.change(form.command_id)
    return await change_or_ask(
        visit,
        lambda: vip_creation(change, VipCreate.model_validate(form.body() | {"machine_uuids": [uuid]})),
        lambda: visit.stay(f"Created virtual IP {form.name.strip()}."),
        lambda fault: _ask(visit, uuid, None, form.model_dump(), fault),
    )


@router.get("/{vip}/edit", dependencies=[OPERATOR])
async def ask_edit(visit: Visiting, uuid: UUID, vip: UUID) -> Response:
    """Ask what to change about a virtual IP."""
    record = _vip(visit, vip)
    return _ask(visit, uuid, record, vip_view(record).model_dump())


@router.post("/{vip}/edit", dependencies=[OPERATOR])
async def edit(visit: Visiting, uuid: UUID, vip: UUID, form: Filled) -> Response:
    """Change a virtual IP; not if somebody else has, since it was opened."""
    record, change = _vip(visit, vip), visit.change(form.command_id)
    now = vip_view(record).model_dump()

    def make() -> UpdateVip:
        body = form.body()
        is_meant = all(str(now[name]) == str(value) for name, value in body.items())
        check = record.health_check.type
        what = f"{record.address} and {'no' if check == 'none' else check} health check"
        require_as_seen(record, form.seen, what, is_meant=is_meant)
        return vip_update(change, vip, VipChange.model_validate(body))

    return await change_or_ask(
        visit,
        make,
        lambda: visit.stay(f"Changed virtual IP {form.name.strip()}."),
        lambda fault: _ask(visit, uuid, record, form.model_dump(), fault),
    )


@router.post("/{vip}/enabled", dependencies=[OPERATOR])
async def set_enabled(
    visit: Visiting, uuid: UUID, vip: UUID, command_id: CommandId, enabled: Annotated[bool, Form()] = False
) -> Response:
    """Have it announced, or not."""
    record, change = _vip(visit, vip), visit.change(command_id)
    await visit.give(UpdateVip(command_id=change.command_id, actor=change.actor, vip_id=vip, enabled=enabled))
    return visit.stay(f"Virtual IP {record.name} is {'enabled' if enabled else 'disabled'}.")


@router.get("/{vip}/delete", dependencies=[OPERATOR])
async def ask_delete(visit: Visiting, uuid: UUID, vip: UUID) -> Response:
    """Ask whether a virtual IP is to be deleted."""
    return _ask_delete(visit, uuid, _vip(visit, vip))


@router.post("/{vip}/delete", dependencies=[OPERATOR])
async def delete(visit: Visiting, uuid: UUID, vip: UUID, command_id: CommandId) -> Response:
    """Delete a virtual IP."""
    record, change = _vip(visit, vip), visit.change(command_id)
    return await change_or_ask(
        visit,
        lambda: DeleteVip(command_id=change.command_id, actor=change.actor, vip_id=vip),
        lambda: visit.stay(f"Deleted virtual IP {record.name}."),
        lambda fault: _ask_delete(visit, uuid, record, fault),
    )


def _reported(visit: Visit, uuid: UUID) -> tuple[dict[UUID, VipHealth], dict[IPv4Network, list[str]]]:
    """What the machine reports of its virtual IPs' health, and in which networks it announces what."""
    mirror, bgp = visit.seen.mirror, visit.seen.tracks.bgp
    health: dict[UUID, VipHealth] = {}
    announced: dict[IPv4Network, list[str]] = {}
    for network_id in mirror.networks_of(uuid):
        said = bgp.speaker(network_id, uuid)
        if said is None:
            continue
        for each in said.vips:
            if each.vip_id not in health or each.since > health[each.vip_id].since:
                health[each.vip_id] = each
        for prefix in said.announced:
            announced.setdefault(prefix, []).append(mirror.network(network_id)[1].name)
    return health, announced


def _vip(visit: Visit, vip_id: UUID) -> VipRecord:
    return find_item(visit.gateway.mirror.routing.vips, vip_id, "virtual IP")


def _ask(
    visit: Visit, uuid: UUID, vip: VipRecord | None, given: dict[str, Any], fault: Fault | None = None
) -> Response:
    return visit.page(
        "machine_vip.html",
        status=fault.status if fault else 200,
        uuid=uuid,
        hostname=visit.gateway.mirror.machine(uuid)[1].hostname,
        vip=vip,
        given=given,
        fault=at_field(fault),
        **(others_of(visit, vip, uuid) if vip else {"others": [], "more_others": 0}),
    )


def _ask_delete(visit: Visit, uuid: UUID, vip: VipRecord, fault: Fault | None = None) -> Response:
    return visit.page(
        "machine_vip_delete.html",
        status=fault.status if fault else 200,
        uuid=uuid,
        vip=vip,
        fault=fault,
        **others_of(visit, vip, uuid),
    )


def _number(field: str, form: VipForm) -> int:
    text = str(getattr(form, field)).strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise InvalidInputError("This is a whole number.", hint="Write digits only.", field=field)
    return int(text)
