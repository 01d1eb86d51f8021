"""The pages of mesh networks: the list, making one, deleting one."""

from __future__ import annotations

from typing import Annotated, Literal
from uuid import UUID, uuid5

from fastapi import APIRouter, Form
from pydantic import BaseModel, StringConstraints, ValidationError
from starlette.responses import Response

from events.commands import CreateNetwork, DeleteNetwork
from events.errors import ConflictError, InvalidInputError, InvalidNameError, NotFoundError, WireloomError
from events.fields import check_network_name
from services.gateway.http.guard import OPERATOR, VIEWER
from services.gateway.http.views import network_view
from services.gateway.mirror import Mirror
from services.gateway.naming import count
from services.gateway.pages import cidr_hints
from services.gateway.pages.cidr_hints import CidrHint
from services.gateway.pages.looking import Looking
from services.gateway.pages.network_ends import End, end_of
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address, fault_of, shown_at
from services.gateway.queries import find_networks, take

router = APIRouter(prefix="/networks", route_class=PageRoute, include_in_schema=False)

_PAGE = 50
_LIST = "/networks"
_FORM_AGAIN = (InvalidInputError.status, ConflictError.status)
"""What a form can be corrected for. For anything else it stays as it is, beside a notice."""

Sort = Literal["name", "-name", "network_cidr", "-network_cidr", "machine_count", "-machine_count"]
Typed = Annotated[str, StringConstraints(strip_whitespace=True)]


class NewNetwork(BaseModel):
    """What the form for a new network holds."""

    command_id: UUID
    name: Typed = ""
    network_cidr: Typed = ""
    is_default: bool = False
    route_reflector_mode: bool = False

    @property
    def means(self) -> UUID:
        """The command's id: another one once the form, which a browser may bring back, says something else."""
        return uuid5(self.command_id, self.model_dump_json())


class Deletion(BaseModel):
    """What the dialog holds that deletes a network: what it was told to be, and what was typed to confirm."""

    command_id: UUID
    name: str = ""
    machine_count: int = 0
    confirmation: Typed = ""


@router.get("", dependencies=[VIEWER])
async def list_networks(visit: Looking, search: str = "", sort: Sort = "name", after: str | None = None) -> Response:
    """All mesh networks."""
    mirror = visit.seen.mirror
    page = take(find_networks(mirror, sort, search=search.strip() or None), sort, _PAGE, after)
    shown = {"search": search, "sort": None if sort == "name" else sort}
    return visit.page(
        "networks.html",
        networks=[network_view(mirror, each, visit.seen.tracks.plan(each)) for each in page.ids],
        search=search,
        sort=sort,
        sorted_by={column: _sorted_by(column, sort, search) for column in ("name", "network_cidr", "machine_count")},
        total=page.total,
        first=address(_LIST, **shown) if after else None,
        next=address(_LIST, **shown, after=page.next) if page.next else None,
    )


@router.get("/new", dependencies=[OPERATOR])
async def ask(visit: Visiting) -> Response:
    """The form for a new network."""
    return _form(visit, None)


@router.get("/new/name", dependencies=[OPERATOR])
async def hint_at_name(visit: Visiting, name: Typed = "", finished: bool = False) -> Response:
    """What there is to say about a name that somebody is typing."""
    fault = _name_fault(visit.gateway.mirror, name, finished=finished)
    return visit.page("network_cidr_hint.html", about="name", name_fault=fault)


@router.get("/new/cidr", dependencies=[OPERATOR])
async def hint_at_cidr(visit: Visiting, network_cidr: Typed = "", finished: bool = False) -> Response:
    """What there is to say about a network CIDR that somebody is typing."""
    hint = cidr_hints.hint(network_cidr, cidr_hints.claims_of(visit.gateway.mirror), finished=finished)
    return visit.page("network_cidr_hint.html", about="network_cidr", hint=hint)


@router.post("/new", dependencies=[OPERATOR])
async def create(visit: Visiting, form: Annotated[NewNetwork, Form()]) -> Response:
    """Create a network."""
    change = visit.change(form.means)
    network_id = change.another_id("network")
    try:
        outcome = await visit.give(
            CreateNetwork(
                command_id=change.command_id,
                actor=change.actor,
                network_id=network_id,
                **form.model_dump(exclude={"command_id"}),
            )
        )
    except (WireloomError, ValidationError) as error:
        fault = fault_of(error)
        if fault.status not in _FORM_AGAIN:
            raise
        return _form(visit, form, fault)
    if outcome.sequence <= visit.gateway.mirror.position and network_id not in visit.gateway.mirror.networks:
        gone = ConflictError("This form was sent before, and its network was deleted since.", hint="Create it again.")
        return _form(visit, form, fault_of(gone))
    return visit.go(f"{_LIST}/{network_id}", f"Created {form.name}.")


@router.get("/{uuid}/delete", dependencies=[OPERATOR])
async def ask_before_deletion(visit: Visiting, uuid: UUID) -> Response:
    """The dialog that says what deleting a network would do."""
    end = end_of(visit.gateway.mirror, uuid, visit.gateway.now())
    return visit.page("network_delete.html", uuid=uuid, end=end, typed="", fault=None)


@router.post("/{uuid}/delete", dependencies=[OPERATOR])
async def delete(visit: Visiting, uuid: UUID, form: Annotated[Deletion, Form()]) -> Response:
    """Delete a network; one with machines only if its name was typed."""
    change = visit.change(form.command_id)
    mirror = visit.gateway.mirror
    try:
        if uuid in mirror.networks:
            _require_as_told(form, end_of(mirror, uuid, visit.gateway.now()))
        force = form.machine_count > 0
        await visit.give(DeleteNetwork(command_id=change.command_id, actor=change.actor, network_id=uuid, force=force))
    except NotFoundError:
        return _gone(visit, f"{form.name or 'This network'} was deleted already, by somebody else.", error=True)
    except (InvalidInputError, ConflictError) as error:
        end = end_of(mirror, uuid, visit.gateway.now())
        fault = fault_of(error)
        return visit.page(
            "network_delete.html", status=fault.status, uuid=uuid, end=end, typed=form.confirmation, fault=fault
        )
    freed = f" {count(form.machine_count, 'machine')} left it." if form.machine_count else ""
    return _gone(visit, f"Deleted {form.name}.{freed}")


def _form(visit: Visit, given: NewNetwork | None, fault: Fault | None = None) -> Response:
    """The form, with what was typed so far and what is wrong with it: all of that at once, where it can be told."""
    mirror = visit.gateway.mirror
    claims = cidr_hints.claims_of(mirror)
    records = (network.record for network in mirror.networks.values())
    name_fault = hint = None
    if given is not None:
        name_fault = _name_fault(mirror, given.name, finished=True)
        hint = cidr_hints.hint(given.network_cidr, claims, finished=True)
    if fault is not None and fault.field == "name":
        name_fault = name_fault or fault
    if fault is not None and fault.field == "network_cidr" and (hint is None or hint.kind == "good"):
        hint = CidrHint("wrong", fault.detail, fault.hint)
    return visit.page(
        "network_new.html",
        status=fault.status if fault else 200,
        given=given,
        fault=fault,
        name_fault=name_fault,
        hint=hint,
        free=cidr_hints.suggestions(each.prefix for each in claims),
        default=next((record.name for record in records if record is not None and record.is_default), None),
    )


def _sorted_by(column: str, sort: str, search: str) -> tuple[str, str | None]:
    """Where a click on the head of a column leads, and how the list is sorted by it now, as ARIA says it."""
    now = {column: "ascending", f"-{column}": "descending"}.get(sort)
    wanted = f"-{column}" if now == "ascending" else column
    return address(_LIST, search=search, sort=None if wanted == "name" else wanted), now


def _name_fault(mirror: Mirror, name: str, *, finished: bool) -> Fault | None:
    """What is wrong with a network's name; as long as it is being typed, only what more letters cannot mend."""
    if not name:
        return Fault("The network needs a name.", field="name") if finished else None
    try:
        check_network_name(name if finished else name.rstrip("._-") or "a")
    except InvalidNameError as error:
        return fault_of(error)
    records = (network.record for network in mirror.networks.values())
    taken = next((each.name for each in records if each is not None and each.name.lower() == name.lower()), None)
    if taken is None:
        return None
    return Fault(f"There is a network named {taken} already.", "Choose another name.", "name")


def _require_as_told(form: Deletion, end: End) -> None:
    """That the network still is what the dialog said, and that its name was typed if that takes it."""
    if form.name != end.name:
        raise ConflictError(
            f"{form.name} was renamed to {end.name} in the meantime.", hint="Look again whether it is the one you mean."
        )
    if end.machine_count > form.machine_count:
        more = count(end.machine_count - form.machine_count, "more machine")
        raise ConflictError(
            f"{more} joined {end.name} in the meantime.", hint="Look again at what deleting it would do."
        )
    if form.machine_count and form.confirmation != end.name:
        raise InvalidInputError(
            "This is not the network's name.", hint=f"Type {end.name} to confirm.", field="confirmation"
        )


def _gone(visit: Visit, notice: str, *, error: bool = False) -> Response:
    """Back to the list; who is there already stays where he is in it."""
    if error or shown_at(visit.request).partition("?")[0] == _LIST:
        return visit.stay(notice, error=error)
    return visit.go(_LIST, notice)
