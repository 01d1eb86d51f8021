"""BGP in one mesh network: how its machines peer, through which reflectors, and with which route policies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, get_args
from uuid import UUID

from fastapi import APIRouter, Form
from pydantic import ValidationError
from starlette.responses import Response

from events.commands import PinReflectors
from events.errors import InvalidInputError, WireloomError
from events.routing import MAX_REFLECTORS, MIN_REFLECTORS
from services.gateway.http.bgp_schemas import SessionStatus
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.policy_schemas import RoutePolicy
from services.gateway.http.route_views import policy_view
from services.gateway.mirror import Mirror
from services.gateway.naming import listed, machine_name
from services.gateway.pages.looking import Looking
from services.gateway.pages.members import CANDIDATES, Chosen, Search, member_of
from services.gateway.pages.network import bgp_views, form_status, head_of
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address, fault_of
from services.gateway.peerings import find_sessions
from services.gateway.queries import find_machines

router = APIRouter(prefix="/networks/{uuid}", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_STATES: tuple[SessionStatus, ...] = get_args(SessionStatus)
_SORT = "hostname"


@dataclass(frozen=True, slots=True)
class Applied:
    """A route policy, and whom it is for in a network."""

    policy: RoutePolicy
    machines: str
    """The machines that have it in place of the network's, in words; empty where it is the network's own."""


@router.get("/bgp", dependencies=[VIEWER])
async def show(visit: Looking, uuid: UUID, state: str = "", after: str | None = None) -> Response:
    """How a network's machines speak BGP."""
    seen, path, head = visit.seen, f"/networks/{uuid}/bgp", head_of(visit, uuid, "bgp")
    if state and state not in _STATES:
        raise InvalidInputError(f"A session is never {state}.", hint=f"States are {', '.join(_STATES)}.", field="state")
    mirror, bgp = seen.mirror, seen.tracks.bgp
    found, following = find_sessions(mirror, bgp, uuid, None, state or None, limit=_PAGE, after=after)
    views, plan = bgp_views(seen), seen.tracks.plan(uuid)
    pinned = mirror.network(uuid)[1].reflectors
    return visit.page(
        "network_bgp.html",
        **head,
        bgp=views.network(uuid, plan),
        sessions=[views.session(uuid, each) for each in found],
        states=_STATES,
        state=state,
        pinned=pinned,
        waiting=[machine_name(each, mirror.name_of) for each in pinned if each not in plan.reflectors],
        policies=_policies(mirror, uuid),
        first=address(path, state=state) if after else None,
        next=address(path, state=state, after=following) if following else None,
    )


@router.get("/reflectors", dependencies=[OPERATOR])
async def ask_reflectors(visit: Visiting, uuid: UUID) -> Response:
    """The dialog that pins reflectors, with those that are pinned, or else in use, chosen."""
    record = visit.gateway.mirror.network(uuid)[1]
    chosen = record.reflectors or tuple(sorted(visit.gateway.tracks.plan(uuid).reflectors))
    return _pin_page(visit, uuid, "network_reflectors.html", chosen)


@router.post("/reflectors/candidates", dependencies=[OPERATOR])
async def candidates(visit: Visiting, uuid: UUID, chosen: Chosen = (), search: Search = "") -> Response:
    """The machines to choose from: those that are chosen already, and those with `search` in their name."""
    return _pin_page(visit, uuid, "network_candidates.html", chosen, search=search)


@router.post("/reflectors", dependencies=[OPERATOR])
async def pin(
    visit: Visiting,
    uuid: UUID,
    command_id: Annotated[UUID, Form()],
    chosen: Chosen = (),
    search: Search = "",
) -> Response:
    """Pin machines as reflectors; with none, they are chosen."""
    change, machine_ids = visit.change(command_id), tuple(dict.fromkeys(chosen))
    try:
        if len(machine_ids) > MAX_REFLECTORS:
            raise InvalidInputError(
                f"{len(machine_ids)} machines are chosen.",
                hint=f"A network has {MAX_REFLECTORS} route reflectors at most.",
                field="machine_ids",
            )
        await visit.give(
            PinReflectors(command_id=change.command_id, actor=change.actor, network_id=uuid, machine_ids=machine_ids)
        )
    except (WireloomError, ValidationError) as error:
        fault = fault_of(error)
        status = form_status(fault.status)
        return _pin_page(visit, uuid, "network_reflectors.html", chosen, search=search, fault=fault, status=status)
    names = listed([machine_name(each, visit.gateway.mirror.name_of) for each in machine_ids])
    return visit.stay(f"Pinned {names}." if names else "Reflectors are chosen by the control plane now.")


def _pin_page(
    visit: Visit,
    uuid: UUID,
    template: str,
    chosen: Sequence[UUID],
    *,
    search: str = "",
    fault: Fault | None = None,
    status: int = 200,
) -> Response:
    members = visit.gateway.mirror.network(uuid)[0].members
    picked = [each for each in dict.fromkeys(chosen) if each in members]
    rows = find_machines(visit.gateway.mirror, _SORT, network_id=uuid, search=search.strip() or None)
    offered = [row[1] for row in rows if row[1] not in picked]
    return visit.page(
        template,
        status=status,
        **head_of(visit, uuid, "bgp"),
        picked=[member_of(visit, uuid, each) for each in picked],
        offered=[member_of(visit, uuid, each) for each in offered[:CANDIDATES]],
        more=max(0, len(offered) - CANDIDATES),
        among_members=True,
        search=search,
        fault=fault,
        least=MIN_REFLECTORS,
        most=MAX_REFLECTORS,
    )


def _policies(mirror: Mirror, network_id: UUID) -> list[Applied]:
    members = mirror.network(network_id)[0].members
    found = []
    for record in sorted(mirror.routing.policies.values(), key=lambda record: record.name.lower()):
        own = [machine_name(each, mirror.name_of) for each in record.machine_ids if each in members]
        if network_id in record.network_ids:
            found.append(Applied(policy_view(record), ""))
        elif own:
            found.append(Applied(policy_view(record), listed(own)))
    return found
