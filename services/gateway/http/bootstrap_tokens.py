"""`/api/v1/bootstrap-tokens`: what lets machines in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import CreateBootstrapToken, Outcome, RevokeBootstrapToken
from events.trust.tokens import hashed
from services.gateway.access import Speaker
from services.gateway.http.access_schemas import (
    BootstrapToken,
    BootstrapTokenCreate,
    BootstrapTokenPage,
    BootstrapTokenQuery,
    NewBootstrapToken,
)
from services.gateway.http.access_views import bootstrap_state, bootstrap_view, join_command
from services.gateway.http.changes import PLAIN, Admitting, Change, Changing, Gateway, Served, json_response
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import OPERATOR, GuardedRoute, Speaking
from services.gateway.http.secrets import new_token
from services.gateway.mirror import sortable
from services.gateway.queries import take

PATH = "/api/v1/bootstrap-tokens"
router = APIRouter(prefix=PATH, tags=["bootstrap tokens"], route_class=GuardedRoute)


@router.get("", response_model=BootstrapTokenPage, responses=reading(409), dependencies=[OPERATOR])
async def list_bootstrap_tokens(
    gateway: Served, _: Admitting, query: Annotated[BootstrapTokenQuery, Query()]
) -> Response:
    """List the bootstrap tokens, also those that count no more."""
    access, now = gateway.mirror.access, gateway.now()
    rows = [
        (sortable(record.created_at), record.token_id)
        for record in access.bootstraps()
        if query.state is None or bootstrap_state(record, now) == query.state
    ]
    page = take(rows, "created_at", query.limit, query.after)
    items = tuple(bootstrap_view(access.bootstrap(token_id), now) for token_id in page.ids)
    return json_response(BootstrapTokenPage(items=items, total=page.total, next=page.next))


@router.post(
    "",
    status_code=201,
    response_model=NewBootstrapToken,
    responses=changing(201, located=True),
    dependencies=[OPERATOR, PLAIN],
)
async def create_bootstrap_token(
    change: Changing, admission: Admitting, speaker: Speaking, body: BootstrapTokenCreate
) -> Response:
    """Make a token that lets machines in. It is shown only here."""
    outcome, view = await make_token(change, admission.mint, speaker, body)
    return await change.answer(outcome, 201, f"{PATH}/{view.token_id}", view)


@router.get("/{uuid}", response_model=BootstrapToken, responses=reading(404, 409), dependencies=[OPERATOR, PLAIN])
async def show_bootstrap_token(gateway: Served, _: Admitting, uuid: UUID) -> Response:
    """Show a bootstrap token, without its secret."""
    return json_response(bootstrap_view(gateway.mirror.access.bootstrap(uuid), gateway.now()))


@router.delete(
    "/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[OPERATOR, PLAIN]
)
async def revoke_bootstrap_token(change: Changing, _: Admitting, uuid: UUID) -> Response:
    """Have a bootstrap token let nobody in any more."""
    outcome = await change.give(RevokeBootstrapToken(command_id=change.command_id, actor=change.actor, token_id=uuid))
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


@dataclass(frozen=True)
class Made:
    """A token that was made. Called once it shows, gives it with its secret."""

    gateway: Gateway
    token_id: UUID
    secret: str = field(repr=False)

    def __call__(self) -> NewBootstrapToken:
        """The token, and what to paste on a machine. Raises `NotFoundError` while the token does not show yet."""
        gateway = self.gateway
        made = bootstrap_view(gateway.mirror.access.bootstrap(self.token_id), gateway.now())
        join = join_command(gateway.public_url, self.secret, gateway.ca)
        return NewBootstrapToken(**dict(made), token=self.secret, join_command=join)


async def make_token(change: Change, mint: bytes, speaker: Speaker, body: BootstrapTokenCreate) -> tuple[Outcome, Made]:
    """Have a token made that lets machines in. Raises what that was refused with."""
    token_id, secret = new_token(change, mint, "bootstrap", str(speaker.account.account_id))
    outcome = await change.give(
        CreateBootstrapToken(
            command_id=change.command_id,
            actor=change.actor,
            token_id=token_id,
            secret_hash=hashed(secret),
            lifetime=body.lifetime,
            uses=body.uses,
            network_id=body.mesh_network_uuid,
        )
    )
    return outcome, Made(change.gateway, token_id, secret)
