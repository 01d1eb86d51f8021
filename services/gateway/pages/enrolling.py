"""The dialog that lets a machine in: a token, the line to paste, and the machine as it arrives; and the tokens that
still count.

A token's secret is in one answer alone, to the form that made it: in no address, and in nothing that is fetched again.
"""

from __future__ import annotations

import shlex
from dataclasses import replace
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError
from starlette.responses import RedirectResponse, Response

from events.commands import LIFETIMES, MAX_USES, Lifetime, RevokeBootstrapToken
from events.errors import InvalidInputError, UnavailableError, WireloomError
from events.records import BootstrapTokenRecord
from services.gateway.http.access_schemas import BootstrapTokenCreate
from services.gateway.http.access_views import bootstrap_state, bootstrap_view
from services.gateway.http.bootstrap_tokens import make_token
from services.gateway.http.changes import Gateway, admission_of
from services.gateway.http.guard import OPERATOR, speaker_of
from services.gateway.http.schemas import Machine
from services.gateway.http.views import machine_view
from services.gateway.mirror import sortable
from services.gateway.pages.page import Fault, PageRoute, Visit, Visiting, address, fault_of
from services.gateway.queries import networks_by_name, take

router = APIRouter(prefix="/machines/add", route_class=PageRoute, include_in_schema=False)

LIST = "/machines"
TOKENS = f"{LIST}/add/tokens"
_PAGE = 50
_SHOWN = 20
"""How many of the machines that came with one token are shown, the newest first."""

_FOR: dict[Lifetime, str] = {
    "10m": "10 minutes",
    "1d": "1 day",
    "7d": "7 days",
    "30d": "30 days",
    "90d": "90 days",
    "365d": "1 year",
}


class Wish(BaseModel):
    """What the form asks for, as it was typed."""

    model_config = ConfigDict(frozen=True)

    command_id: UUID
    lifetime: str = "10m"
    uses: str = "1"
    unlimited: bool = False
    network: Annotated[UUID | None, BeforeValidator(lambda value: value or None)] = None

    def body(self) -> BootstrapTokenCreate:
        """The token to be. Raises `InvalidInputError` and `ValidationError`."""
        fields: dict[str, Any] = {"lifetime": self.lifetime, "mesh_network_uuid": self.network}
        return BootstrapTokenCreate(**fields, uses=None if self.unlimited else _number(self.uses))


@router.get("", dependencies=[OPERATOR])
async def ask(visit: Visiting, network: UUID | None = None) -> Response:
    """The dialog; for a browser that comes by itself, the page that it opens on."""
    if "hx-request" not in visit.request.headers:
        return RedirectResponse(LIST, 303)
    if visit.gateway.admission is None:
        return visit.page("enrol.html", step="enrol_open.html", bus=_bus(visit.gateway))
    return _form(visit, {"lifetime": "10m", "uses": "1", "unlimited": False, "network": network})


@router.post("", dependencies=[OPERATOR])
async def make(visit: Visiting, form: Annotated[Wish, Form()]) -> Response:
    """Make a token, show the line to paste, and wait for who comes with it."""
    gateway = visit.gateway
    speaker = speaker_of(visit.caller)
    try:
        body = form.body()
        outcome, made = await make_token(visit.change(form.command_id), admission_of(gateway).mint, speaker, body)
    except (WireloomError, ValidationError) as error:
        return _form(visit, form.model_dump(), _on_form(fault_of(error)))
    if not await visit.done(outcome):
        raise UnavailableError("The token does not show yet.", hint="Look among the bootstrap tokens in a moment.")
    return visit.page("enrol_token.html", token=made(), **_arrivals(gateway, made.token_id))


@router.get("/tokens", dependencies=[OPERATOR])
async def list_tokens(visit: Visiting, after: Annotated[str | None, Query(max_length=1000)] = None) -> Response:
    """The bootstrap tokens that still count, the newest first."""
    admission_of(visit.gateway)
    gateway, now = visit.gateway, visit.gateway.now()
    access = gateway.mirror.access
    rows = [(sortable(each.created_at), each.token_id) for each in usable_tokens(gateway)]
    page = take(rows, "-created_at", _PAGE, after)
    return visit.page(
        "enrol_tokens.html",
        tokens=[bootstrap_view(access.bootstrap(each), now) for each in page.ids],
        name_of=gateway.mirror.name_of,
        default=_default(gateway),
        total=page.total,
        first=TOKENS if after else None,
        next=address(TOKENS, after=page.next) if page.next else None,
    )


@router.get("/tokens/{uuid}/arrivals", dependencies=[OPERATOR])
async def show_arrivals(visit: Visiting, uuid: UUID) -> Response:
    """Who has come with a token so far; the dialog asks again whenever something happens."""
    return visit.page("enrol_arrivals.html", **_arrivals(visit.gateway, uuid))


@router.get("/tokens/{uuid}/revoke", dependencies=[OPERATOR])
async def ask_revoke(visit: Visiting, uuid: UUID) -> Response:
    """The dialog that has a token let nobody in any more."""
    record = visit.gateway.mirror.access.bootstrap(uuid)
    return visit.page("enrol_revoke.html", token=bootstrap_view(record, visit.gateway.now()))


@router.post("/tokens/{uuid}/revoke", dependencies=[OPERATOR])
async def revoke(visit: Visiting, uuid: UUID, command_id: Annotated[UUID, Form()]) -> Response:
    """Have a token let nobody in any more."""
    change = visit.change(command_id)
    await visit.give(RevokeBootstrapToken(command_id=change.command_id, actor=change.actor, token_id=uuid))
    return visit.stay("The token is revoked: it lets nobody in any more.")


def usable_tokens(gateway: Gateway) -> list[BootstrapTokenRecord]:
    """The bootstrap tokens that still count, the oldest first."""
    now = gateway.now()
    return [each for each in gateway.mirror.access.bootstraps() if bootstrap_state(each, now) == "usable"]


def _form(visit: Visit, given: dict[str, Any], fault: Fault | None = None) -> Response:
    return visit.page(
        "enrol.html",
        status=fault.status if fault else 200,
        step="enrol_form.html",
        given=given,
        fault=fault,
        lifetimes=[(lifetime, _FOR[lifetime]) for lifetime in LIFETIMES],
        networks=networks_by_name(visit.gateway.mirror),
        default=_default(visit.gateway),
        max_uses=MAX_USES,
    )


def _arrivals(gateway: Gateway, token_id: UUID) -> dict[str, Any]:
    """What the dialog shows while it waits. Raises `NotFoundError`."""
    now, mirror = gateway.now(), gateway.mirror
    record = mirror.access.bootstrap(token_id)
    came = [each for each in mirror.access.identities() if each.token_id == token_id]
    came.sort(key=lambda identity: identity.enrolled_at, reverse=True)
    machines: list[Machine] = [
        machine_view(mirror, gateway.presence, each.machine_id, now)
        for each in came
        if mirror.has_machine(each.machine_id)
    ][:_SHOWN]
    return {"state": bootstrap_view(record, now), "machines": machines, "came": len(came)}


def _default(gateway: Gateway) -> str | None:
    """The name of the default network."""
    return next((each.name for each in networks_by_name(gateway.mirror) if each.is_default), None)


def _bus(gateway: Gateway) -> str:
    """Where agents find a message bus that asks nobody who he is, for a shell; without whatever secret it may hold."""
    return next((shlex.quote(url) for url in gateway.bus_urls if "@" not in url), "nats://…")


def _number(text: str) -> int:
    """How many machines a token is to let in, as people type it. Raises `InvalidInputError`."""
    digits = text.strip().replace(",", "")
    if digits.isascii() and digits.isdigit() and 1 <= int(digits[:20]) <= MAX_USES:
        return int(digits)
    raise InvalidInputError(f"Give a number from 1 to {MAX_USES:,}, or tick “any number”.", field="uses")


def _on_form(fault: Fault) -> Fault:
    """A fault whose field is named as in the form."""
    return replace(fault, field="network") if fault.field == "mesh_network_uuid" else fault
