"""The machines of one mesh network: who is in it and how each reaches the others; assigning and unassigning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from ipaddress import IPv4Address
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Form, Query
from pydantic import BaseModel, Field, ValidationError
from starlette.responses import Response

from events.commands import AssignMachine, AssignMachines, Outcome, UnassignMachine
from events.errors import InvalidInputError, NotFoundError, WireloomError
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.naming import count, listed, machine_name
from services.gateway.pages.looking import Looking
from services.gateway.pages.network import form_status, head_of
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address, fault_of
from services.gateway.queries import find_machines, take
from services.gateway.tally import Summary, summary

router = APIRouter(prefix="/networks/{uuid}", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_WAYS = 50_000
"""For one page at most so many paths are looked at."""
_LEAST = 10
"""So many machines a page has at least; where that takes more paths, none are looked at."""
CANDIDATES = 25
"""So many machines are offered at once."""
_CHOSEN = 500
"""So many machines at most are assigned or unassigned at once."""
_SORT = "hostname"

State = Literal["", "online", "offline"]
Chosen = Annotated[tuple[UUID, ...], Form(max_length=_CHOSEN)]
Search = Annotated[str, Form(max_length=200)]


class AssignForm(BaseModel):
    """Machines to assign, and what else stands in the dialog."""

    command_id: UUID
    chosen: Annotated[tuple[UUID, ...], Field(max_length=_CHOSEN)] = ()
    address: Annotated[str, Field(max_length=100)] = ""
    search: Annotated[str, Field(max_length=200)] = ""


@dataclass(frozen=True, slots=True)
class Member:
    """A machine as the lists of a network show it."""

    uuid: UUID
    hostname: str
    address: IPv4Address | None
    is_online: bool | None
    """None where it is not recorded."""
    last_seen: datetime | None
    has_key: bool = True
    paths: Summary | None = None
    through: tuple[tuple[str, int], ...] = ()
    """Through whom it reaches how many others."""
    others: str = ""
    """The other networks that it is in."""


@router.get("/machines", dependencies=[VIEWER])
async def list_members(
    visit: Looking, uuid: UUID, search: str = "", state: State = "", after: str | None = None
) -> Response:
    """The machines of a network."""
    seen, path = visit.seen, f"/networks/{uuid}/machines"
    head = head_of(visit, uuid, "machines")
    members = seen.mirror.network(uuid)[0].members
    online = seen.presence.online(seen.now()) & members.keys()
    state = state if seen.presence.is_recorded else ""
    searched = find_machines(seen.mirror, _SORT, network_id=uuid, search=search.strip() or None)
    rows = [row for row in searched if not state or (row[1] in online) == (state == "online")]
    page = take(rows, _SORT, max(_LEAST, min(_PAGE, _WAYS // max(1, len(members)))), after)
    counted = len(page.ids) * len(members) <= _WAYS
    return visit.page(
        "network_machines.html",
        **head,
        members=[member_of(visit, uuid, each, with_paths=counted) for each in page.ids],
        counted=counted,
        reflectors=seen.tracks.plan(uuid).reflectors,
        search=search,
        state=state,
        total=page.total,
        states=[
            ("All", address(path, search=search), len(searched), ""),
            ("Online", address(path, search=search, state="online"), _count(searched, online), "online"),
            (
                "Offline",
                address(path, search=search, state="offline"),
                _count(searched, online, inside=False),
                "offline",
            ),
        ],
        first=address(path, search=search, state=state) if after else None,
        next=address(path, search=search, state=state, after=page.next) if page.next else None,
    )


@router.get("/unassign", dependencies=[OPERATOR])
async def ask_unassign(
    visit: Visiting, uuid: UUID, chosen: Annotated[list[UUID], Query(min_length=1, max_length=_CHOSEN)]
) -> Response:
    """The question before machines are unassigned."""
    present = visit.gateway.mirror.network(uuid)[0].members
    machines = [member_of(visit, uuid, each) for each in dict.fromkeys(chosen) if each in present]
    if not machines:
        raise NotFoundError("These machines are not in the network any more.")
    reflectors = visit.gateway.tracks.plan(uuid).reflectors
    return visit.page(
        "network_unassign.html",
        **head_of(visit, uuid, "machines"),
        machines=machines,
        reflectors=listed([each.hostname for each in machines if each.uuid in reflectors]),
    )


@router.post("/unassign", dependencies=[OPERATOR])
async def unassign(visit: Visiting, uuid: UUID, command_id: Annotated[UUID, Form()], chosen: Chosen) -> Response:
    """Take machines out of a network, one after the other. Those that are not in it any more are passed over."""
    change, name_of = visit.change(command_id), visit.gateway.mirror.name_of
    network = visit.gateway.mirror.network(uuid)[1].name
    gone: list[UUID] = []
    last: Outcome | None = None
    for machine_id in dict.fromkeys(chosen):
        each = change.another_id(f"unassign {machine_id}")
        try:
            last = await change.give(
                UnassignMachine(command_id=each, actor=change.actor, network_id=uuid, machine_id=machine_id)
            )
        except NotFoundError:
            continue
        gone.append(machine_id)
    if last is not None:
        await visit.done(last)
    who = machine_name(gone[0], name_of) if len(gone) == 1 else count(len(gone), "machine")
    return visit.stay(f"Unassigned {who} from {network}." if gone else f"They were not in {network} any more.")


@router.get("/assign", dependencies=[OPERATOR])
async def ask_assign(visit: Visiting, uuid: UUID) -> Response:
    """The dialog that assigns machines."""
    return _assign_page(visit, uuid, "network_assign.html")


@router.post("/assign/candidates", dependencies=[OPERATOR])
async def candidates(visit: Visiting, uuid: UUID, chosen: Chosen = (), search: Search = "") -> Response:
    """The machines to choose from: those that are chosen already, and those with `search` in their name."""
    return _assign_page(visit, uuid, "network_candidates.html", chosen=chosen, search=search)


@router.post("/assign", dependencies=[OPERATOR])
async def assign(visit: Visiting, uuid: UUID, form: Annotated[AssignForm, Form()]) -> Response:
    """Assign machines: one at the address given, or all at the lowest free ones."""
    try:
        outcome = await _assign(visit, uuid, form)
    except (WireloomError, ValidationError) as error:
        fault = fault_of(error)
        return _assign_page(
            visit,
            uuid,
            "network_assign.html",
            chosen=form.chosen,
            search=form.search,
            given=form.address,
            fault=fault,
            status=form_status(fault.status),
        )
    made, network = outcome.assignments, visit.gateway.mirror.network(uuid)[1].name
    if len(made) == 1:
        hostname = machine_name(made[0].machine_id, visit.gateway.mirror.name_of)
        return visit.stay(f"Assigned {hostname} to {network} at {made[0].address}.")
    return visit.stay(f"Assigned {count(len(made), 'machine')} to {network}.")


async def _assign(visit: Visit, network_id: UUID, form: AssignForm) -> Outcome:
    change, chosen, given = visit.change(form.command_id), tuple(dict.fromkeys(form.chosen)), form.address.strip()
    fields = {"command_id": change.command_id, "actor": change.actor, "network_id": network_id}
    if not chosen:
        raise InvalidInputError("No machine is chosen.", hint="Choose one at least.", field="machine_ids")
    if not given:
        return await visit.give(AssignMachines.model_validate({**fields, "machine_ids": chosen}))
    if len(chosen) > 1:
        raise InvalidInputError(
            f"{given} is for one machine, and {len(chosen)} are chosen.",
            hint="Leave it out: each gets the lowest free address.",
            field="address",
        )
    return await visit.give(AssignMachine.model_validate({**fields, "machine_id": chosen[0], "address": given}))


def _assign_page(
    visit: Visit,
    uuid: UUID,
    template: str,
    *,
    chosen: Sequence[UUID] = (),
    search: str = "",
    given: str = "",
    fault: Fault | None = None,
    status: int = 200,
) -> Response:
    mirror, access = visit.gateway.mirror, visit.gateway.mirror.access
    members = mirror.network(uuid)[0].members

    def may_join(machine_id: UUID) -> bool:
        identity = access.identity(machine_id)
        return machine_id not in members and (identity is None or identity.revoked_at is None)

    picked = [each for each in dict.fromkeys(chosen) if mirror.has_machine(each) and may_join(each)]
    rows = find_machines(mirror, _SORT, search=search.strip() or None, keep=may_join)
    shown = [row[1] for row in rows[: CANDIDATES + len(picked)] if row[1] not in picked][:CANDIDATES]
    return visit.page(
        template,
        status=status,
        **head_of(visit, uuid, "machines"),
        picked=[member_of(visit, uuid, each) for each in picked],
        offered=[member_of(visit, uuid, each) for each in shown],
        more=max(0, len([row for row in rows if row[1] not in picked]) - len(shown)),
        among_members=False,
        search=search,
        given=given,
        fault=fault,
    )


def member_of(visit: Visit, network_id: UUID, machine_id: UUID, *, with_paths: bool = False) -> Member:
    """A machine as the lists of a network show it, also one that is not in it."""
    seen = visit.seen
    network, _ = seen.mirror.network(network_id)
    machine, record = seen.mirror.machine(machine_id)
    name_of, mine = seen.mirror.name_of, network.members.get(machine_id)
    paths = None
    if with_paths:
        kinds = seen.tracks.kinds(network_id, machine_id, network.members)
        paths = summary(kinds, partial(seen.tracks.way, network_id, machine_id))
    return Member(
        uuid=machine_id,
        hostname=record.hostname,
        address=mine.address if mine is not None else None,
        is_online=seen.presence.told(machine_id, seen.now()),
        last_seen=seen.presence.last_seen_at(machine_id),
        has_key=machine_id in network.peers,
        paths=paths,
        through=tuple(
            (" and ".join(machine_name(hop, name_of) for hop in way), peers)
            for way, peers in (paths.through if paths is not None else ())
        ),
        others=listed([name_of(each) or "" for each in machine.networks if each != network_id]),
    )


def _count(rows: Sequence[tuple[object, UUID]], online: frozenset[UUID], *, inside: bool = True) -> int:
    return sum((row[1] in online) == inside for row in rows)
