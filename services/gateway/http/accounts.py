"""`/api/v1/accounts`: the people and programs that may do something."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from starlette.responses import Response

from events.commands import CreateAccount, DeleteAccount, SetAccountRole
from services.gateway.http.access_schemas import Account, AccountChange, AccountCreate, AccountPage, AccountQuery
from services.gateway.http.access_views import account_view
from services.gateway.http.changes import PLAIN, Admitting, Changing, Served, json_response
from services.gateway.http.documents import changing, reading
from services.gateway.http.guard import ADMIN, GuardedRoute
from services.gateway.queries import take

PATH = "/api/v1/accounts"
router = APIRouter(prefix=PATH, tags=["accounts"], route_class=GuardedRoute)


@router.get("", response_model=AccountPage, responses=reading(409), dependencies=[ADMIN])
async def list_accounts(gateway: Served, _: Admitting, query: Annotated[AccountQuery, Query()]) -> Response:
    """List the accounts."""
    access = gateway.mirror.access
    rows = sorted(
        (record.name.lower(), record.account_id)
        for record in access.accounts()
        if query.name is None or record.name == query.name
    )
    page = take(rows, "name", query.limit, query.after)
    items = tuple(account_view(access.account(account_id)) for account_id in page.ids)
    return json_response(AccountPage(items=items, total=page.total, next=page.next))


@router.post(
    "", status_code=201, response_model=Account, responses=changing(201, located=True), dependencies=[ADMIN, PLAIN]
)
async def create_account(change: Changing, _: Admitting, body: AccountCreate) -> Response:
    """Give a person or program an account. Names are unique."""
    account_id = change.another_id("account")
    outcome = await change.give(
        CreateAccount(
            command_id=change.command_id,
            actor=change.actor,
            account_id=account_id,
            name=body.name,
            role=body.role,
        )
    )
    return await change.answer(outcome, 201, f"{PATH}/{account_id}", lambda: _view(change, account_id))


@router.get("/{uuid}", response_model=Account, responses=reading(404, 409), dependencies=[ADMIN, PLAIN])
async def show_account(gateway: Served, _: Admitting, uuid: UUID) -> Response:
    """Show an account."""
    return json_response(account_view(gateway.mirror.access.account(uuid)))


@router.patch("/{uuid}", response_model=Account, responses=changing(200), dependencies=[ADMIN, PLAIN])
async def change_account(change: Changing, _: Admitting, uuid: UUID, body: AccountChange) -> Response:
    """Give an account another role. There is always an admin."""
    outcome = await change.give(
        SetAccountRole(command_id=change.command_id, actor=change.actor, account_id=uuid, role=body.role)
    )
    return await change.answer(outcome, 200, f"{PATH}/{uuid}", lambda: _view(change, uuid))


@router.delete(
    "/{uuid}", status_code=204, response_class=Response, responses=changing(204), dependencies=[ADMIN, PLAIN]
)
async def delete_account(change: Changing, _: Admitting, uuid: UUID) -> Response:
    """Delete an account and all its tokens. There is always an admin."""
    outcome = await change.give(DeleteAccount(command_id=change.command_id, actor=change.actor, account_id=uuid))
    return await change.answer(outcome, 204, f"{PATH}/{uuid}")


def _view(change: Changing, account_id: UUID) -> Account:
    return account_view(change.gateway.mirror.access.account(account_id))
