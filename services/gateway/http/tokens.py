"""`/api/v1/tokens`: what speaks for accounts. Everybody manages his own, an admin all."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import IssueApiToken, RevokeApiToken
from events.errors import NotFoundError
from events.records import ApiTokenRecord
from events.trust.tokens import hashed
from services.gateway.access import Speaker
from services.gateway.authority import includes, require
from services.gateway.http.access_schemas import ApiTokenCreate, ApiTokenPage, ApiTokenQuery, NewApiToken
from services.gateway.http.access_views import api_token_view
from services.gateway.http.changes import PLAIN, Admitting, Changing, Served, json_response
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import VIEWER, GuardedRoute, Speaking
from services.gateway.http.secrets import new_token
from services.gateway.mirror import sortable
from services.gateway.queries import take

PATH = "/api/v1/tokens"
router = APIRouter(prefix=PATH, tags=["accounts"], route_class=GuardedRoute)


@router.get("", response_model=ApiTokenPage, responses=reading(409), dependencies=[VIEWER])
async def list_tokens(gateway: Served, speaker: Speaking, query: Annotated[ApiTokenQuery, Query()]) -> Response:
    """List the API tokens that were not revoked and have not expired: an admin all, others their own."""
    access = gateway.mirror.access
    rows = [
        (sortable(record.created_at), record.token_id)
        for record in access.api_tokens(gateway.now())
        if (includes(speaker.role, "admin") or _is_own(speaker, record))
        and query.account_uuid in (None, record.account_id)
        and query.use in (None, record.use)
    ]
    page = take(rows, "created_at", query.limit, query.after)
    items = tuple(api_token_view(access, access.api_token(token_id)) for token_id in page.ids)
    return json_response(ApiTokenPage(items=items, total=page.total, next=page.next))


@router.post(
    "",
    status_code=201,
    response_model=NewApiToken,
    responses=changing(201, located=True),
    dependencies=[VIEWER, PLAIN],
)
async def issue_token(change: Changing, admission: Admitting, speaker: Speaking, body: ApiTokenCreate) -> Response:
    """Make a token that speaks for an account. It is shown only here. Nobody makes one that may do more than he."""
    access = change.gateway.mirror.access
    account_id = body.account_uuid or speaker.account.account_id
    is_own = account_id == speaker.account.account_id
    require(speaker, "viewer" if is_own else "admin")
    role = body.role or (speaker.role if is_own else access.account(account_id).role)
    require(speaker, role)
    about = (str(speaker.account.account_id), str(account_id), body.name, role)
    token_id, token = new_token(change, admission.mint, "api", *about)
    outcome = await change.give(
        IssueApiToken(
            command_id=change.command_id,
            actor=change.actor,
            token_id=token_id,
            account_id=account_id,
            name=body.name,
            role=role,
            secret_hash=hashed(token),
            lifetime=body.lifetime,
        )
    )

    def view() -> NewApiToken:
        return NewApiToken(**dict(api_token_view(access, access.api_token(token_id))), token=token)

    return await change.answer(outcome, 201, PATH, view)


@router.delete(
    "/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[VIEWER, PLAIN]
)
async def revoke_token(change: Changing, speaker: Speaking, uuid: UUID) -> Response:
    """Have an API token speak for nobody any more: one of the caller's own that may do no more than he; for an admin,
    any."""
    access = change.gateway.mirror.access
    try:
        record = access.api_token(uuid)
        require(speaker, record.role if _is_own(speaker, record) else "admin")
    except NotFoundError:
        # For an admin, the allocator knows whether this is a repetition. Others' could be another's newest token.
        if not includes(speaker.role, "admin") and access.former_owner(uuid) != speaker.account.account_id:
            raise
    outcome = await change.give(RevokeApiToken(command_id=change.command_id, actor=change.actor, token_id=uuid))
    return await change.answer(outcome, 204, PATH)


def _is_own(speaker: Speaker, record: ApiTokenRecord) -> bool:
    return record.account_id == speaker.account.account_id
