"""The pages of machines: the list, and assigning some of them to a network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from starlette.responses import Response

from events.commands import AssignMachines, Outcome
from events.errors import WireloomError
from services.gateway.http.changes import Gateway
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.views import machine_view
from services.gateway.naming import count
from services.gateway.pages.enrolling import usable_tokens
from services.gateway.pages.looking import Looking
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address, fault_of
from services.gateway.queries import find_machines, networks_by_name, take
from services.gateway.seen import Seen

router = APIRouter(prefix="/machines", route_class=PageRoute, include_in_schema=False)

PAGE = 50
_MAX_CHOSEN = 1000

Chosen = Annotated[list[UUID], Field(min_length=1, max_length=_MAX_CHOSEN)]
OrNone = BeforeValidator(lambda value: value or None)
"""Forms say nothing with an empty text."""

Sort = Literal["hostname", "-hostname", "created_at", "-created_at"]


class MachineFilter(BaseModel):
    """Which machines are shown, in which order."""

    search: Annotated[str, Field(max_length=200)] = ""
    network: Annotated[UUID | None, OrNone] = None
    status: Literal["", "online", "offline", "revoked"] = ""
    sort: Sort = "hostname"
    after: Annotated[str | None, Field(max_length=1000)] = None

    @property
    def narrows(self) -> bool:
        """Whether some machines may be left out."""
        return bool(self.search.strip() or self.network or self.status)

    def to(self, **other: object) -> str:
        """Where the list is as this filter says, but for `other`; from the first page on."""
        said = self.model_dump(exclude_defaults=True, exclude={"after"}) | other
        if said.get("sort") == "hostname":
            del said["sort"]
        return address("/machines", **said)


@router.get("", dependencies=[VIEWER])
async def list_machines(visit: Looking, query: Annotated[MachineFilter, Query()]) -> Response:
    """All machines."""
    mirror, presence, now = visit.seen.mirror, visit.seen.presence, visit.seen.now()
    search = query.search.strip() or None
    rows = find_machines(mirror, query.sort, network_id=query.network, search=search, keep=_keeping(visit.seen, query))
    page = take(rows, query.sort, PAGE, query.after)
    response = visit.page(
        "machines.html",
        machines=[machine_view(mirror, presence, each, now) for each in page.ids],
        networks=networks_by_name(mirror),
        query=query,
        found=page.total,
        known=len(mirror.by_hostname.rows),
        online=presence.online_count(now),
        tokens=len(usable_tokens(visit.gateway)),
        first=query.to() if query.after else None,
        next=query.to(after=page.next) if page.next else None,
    )
    response.headers["HX-Replace-Url"] = visit.keep(query.to(after=query.after))
    return response


@router.get("/assign", dependencies=[OPERATOR])
async def ask_network(visit: Visiting, chosen: Annotated[Chosen, Query()]) -> Response:
    """The dialog that assigns machines to a network."""
    return _assign_dialog(visit, chosen)


class Assignment(BaseModel):
    """What the dialog sends."""

    command_id: UUID
    chosen: Chosen
    network: Annotated[UUID | None, OrNone] = None


@router.post("/assign", dependencies=[OPERATOR])
async def assign(visit: Visiting, form: Annotated[Assignment, Form()]) -> Response:
    """Assign machines to a network, all or none."""
    if form.network is None:
        return _assign_dialog(visit, form.chosen, Fault("Choose a mesh network.", field="network", status=422))
    change = visit.change(form.command_id)
    try:
        outcome = await visit.give(
            AssignMachines(
                command_id=change.command_id,
                actor=change.actor,
                network_id=form.network,
                machine_ids=tuple(form.chosen),
            )
        )
    except (WireloomError, ValidationError) as error:
        return _assign_dialog(visit, form.chosen, replace(fault_of(error), field="network"), form.network)
    return visit.stay(_said(visit.gateway, form.network, outcome))


def _assign_dialog(
    visit: Visit, chosen: list[UUID], fault: Fault | None = None, network_id: UUID | None = None
) -> Response:
    mirror = visit.gateway.mirror
    networks = networks_by_name(mirror)
    lacking = [each for each in networks if not mirror.networks[each.network_id].members.keys() >= set(chosen)]
    default = next((each.network_id for each in lacking if each.is_default), None)
    return visit.page(
        "machines_assign.html",
        status=fault.status if fault else 200,
        chosen=chosen,
        hostnames=[mirror.machine(each)[1].hostname for each in chosen if mirror.has_machine(each)],
        networks=[(each, mirror.networks[each.network_id].available_ip_count) for each in lacking],
        has_networks=bool(networks),
        network_id=network_id or default,
        fault=fault,
    )


def _said(gateway: Gateway, network_id: UUID, outcome: Outcome) -> str:
    name_of = gateway.mirror.name_of
    network = name_of(network_id) or "the mesh network"
    if len(outcome.assignments) == 1:
        made = outcome.assignments[0]
        return f"{name_of(made.machine_id) or 'The machine'} is in {network} as {made.address}."
    return f"{count(len(outcome.assignments), 'machine')} are in {network}."


def _keeping(seen: Seen, query: MachineFilter) -> Callable[[UUID], bool] | None:
    """Which machines have the state that is asked for. Of the past it is not recorded who was online."""
    if query.status == "revoked":
        revoked = {each.machine_id for each in seen.mirror.access.identities() if each.revoked_at is not None}
        return revoked.__contains__
    if query.status and seen.presence.is_recorded:
        online = seen.presence.online(seen.now())
        return lambda machine_id: (machine_id in online) == (query.status == "online")
    return None
