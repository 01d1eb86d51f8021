"""The decisions about people and programs: accounts, and the API tokens that speak for them. Pure."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from events.commands import (
    LIFETIMES,
    SESSION_LIFETIME,
    CreateAccount,
    CreateFirstAccount,
    DeleteAccount,
    IssueApiToken,
    RevokeApiToken,
    SetAccountRole,
)
from events.domain import (
    ACCESS_ID,
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
)
from events.errors import (
    ForbiddenError,
    IdTakenError,
    InvalidInputError,
    LastAdminError,
    NameTakenError,
    NotFoundError,
    UnauthenticatedError,
)
from events.fields import AccountRole, check_label
from services.allocator.access import Account, ApiToken
from services.allocator.desk import Desk
from services.allocator.enrolment import require_new_token
from services.allocator.lookups import require_free_id

FIRST_TOKEN_NAME = "first"  # noqa: S105 - its name, not its secret
"""What the first account's first token is called."""

SWEPT_AT_ONCE = 20
"""So many expired tokens of an account at most are swept up when it gets a new one."""

_RANKS: dict[AccountRole, int] = {"viewer": 0, "operator": 1, "admin": 2}


def create_account(desk: Desk, command: CreateAccount) -> None:
    """A new account with a name of its own."""
    _record_account(desk, command.account_id, command.name, command.role)


def create_first_account(desk: Desk, command: CreateFirstAccount) -> None:
    """An admin with a token, where there is no account at all; else nothing happens."""
    if desk.access.accounts:
        return
    require_new_token(desk, command.token_id, command.secret_hash)
    if command.token_id == command.account_id:
        raise IdTakenError("The account and its token cannot have one id.", hint="Choose two.", field="token_id")
    _record_account(desk, command.account_id, command.name, "admin")
    desk.record(
        ApiTokenIssued,
        ACCESS_ID,
        token_id=command.token_id,
        account_id=command.account_id,
        name=FIRST_TOKEN_NAME,
        role="admin",
        use="api",
        secret_hash=command.secret_hash,
        expires_at=None,
    )


def set_account_role(desk: Desk, command: SetAccountRole) -> None:
    """Another role, as long as an admin remains. The account's tokens count for no more than it from now on."""
    account = _account(desk, command.account_id)
    if command.role == account.role:
        return
    _require_another_admin(desk, account)
    desk.record(
        AccountRoleSet,
        ACCESS_ID,
        account_id=account.account_id,
        role=command.role,
        previous_role=account.role,
    )


def delete_account(desk: Desk, command: DeleteAccount) -> None:
    """The account and its tokens go, as long as an admin remains."""
    account = _account(desk, command.account_id)
    _require_another_admin(desk, account)
    desk.record(AccountDeleted, ACCESS_ID, account_id=account.account_id, name=account.name)


def issue_api_token(desk: Desk, command: IssueApiToken) -> None:
    """A new token, of at most the account's role; some that have expired are swept up."""
    account = _account(desk, command.account_id)
    name = check_label(command.name, "an API token")
    require_new_token(desk, command.token_id, command.secret_hash)
    if _RANKS[command.role] > _RANKS[account.role]:
        raise ForbiddenError(
            f"The account {account.name} is {account.role}: its tokens cannot be {command.role}.",
            hint=f"Ask for a token with the role {account.role} or less, or have an admin change the account's role.",
            field="role",
        )
    now = desk.now()
    began = _beginning(desk, account, command, now)
    if command.use == "api":
        _require_free_token_name(desk, account, name, now)
    expired = [token.token_id for token in desk.access.tokens_of(account) if token.is_expired(now)]
    desk.record(
        ApiTokenIssued,
        ACCESS_ID,
        token_id=command.token_id,
        account_id=account.account_id,
        name=name,
        role=command.role,
        use=command.use,
        secret_hash=command.secret_hash,
        expires_at=_expiry(command, now, began),
        begun_with=command.begun_with,
    )
    for token_id in expired[:SWEPT_AT_ONCE]:
        if token_id in desk.access.api_tokens:  # it may have gone with the token that it was begun with
            desk.record(ApiTokenRevoked, ACCESS_ID, token_id=token_id, account_id=account.account_id)


def revoke_api_token(desk: Desk, command: RevokeApiToken) -> None:
    """The token speaks for nobody any more, nor do the sessions that were begun with it; nothing happens where it was
    revoked already."""
    if command.token_id in desk.access.revoked_api_tokens:
        return
    token = desk.access.api_tokens.get(command.token_id)
    if token is None:
        raise NotFoundError(
            f"There is no API token with the id {command.token_id}.",
            hint="List the API tokens to find its id.",
            field="token_id",
        )
    desk.record(ApiTokenRevoked, ACCESS_ID, token_id=token.token_id, account_id=token.account_id)


def _account(desk: Desk, account_id: UUID) -> Account:
    account = desk.access.accounts.get(account_id)
    if account is None:
        raise NotFoundError(
            f"There is no account with the id {account_id}.",
            hint="List the accounts to find its id; it may have been deleted.",
            field="account_id",
        )
    return account


def _record_account(desk: Desk, account_id: UUID, name: str, role: AccountRole) -> None:
    name = check_label(name, "an account")
    require_free_id(desk, account_id)
    holder = desk.access.account_names.get(name.lower())
    if holder is not None:
        raise NameTakenError(
            f"There is an account named {desk.access.accounts[holder].name} already.",
            hint="Choose another name; names that differ only in case count as the same.",
            field="name",
        )
    desk.record(AccountCreated, ACCESS_ID, account_id=account_id, name=name, role=role)


def _require_another_admin(desk: Desk, account: Account) -> None:
    if desk.access.is_last_admin(account):
        raise LastAdminError(
            f"The account {account.name} is the only admin.",
            hint="Make another account admin first.",
            field="account_id",
        )


def _require_free_token_name(desk: Desk, account: Account, name: str, now: datetime) -> None:
    if any(
        token.use == "api" and token.name.lower() == name.lower() and not token.is_expired(now)
        for token in desk.access.tokens_of(account)
    ):
        raise NameTakenError(
            f"The account {account.name} has an API token named {name} already.",
            hint="Choose another name, or revoke that one first.",
            field="name",
        )


def _beginning(desk: Desk, account: Account, command: IssueApiToken, now: datetime) -> ApiToken | None:
    """The token that a session is begun with, if that is told. Raises where it does not count."""
    if command.begun_with is None:
        return None
    if command.use != "session":
        raise InvalidInputError(
            "Only a session is begun with a token.", hint="Leave out `begun_with`.", field="begun_with"
        )
    began = desk.access.api_tokens.get(command.begun_with)
    counts = began is not None and began.use == "api" and not began.is_expired(now)
    if began is None or not counts or began.account_id != account.account_id:
        raise UnauthenticatedError(
            "The token is unknown, expired or revoked.", hint="Sign in again with a token that counts."
        )
    return began


def _expiry(command: IssueApiToken, now: datetime, began: ApiToken | None) -> datetime | None:
    if command.use == "session":
        end = now + SESSION_LIFETIME
        return end if began is None or began.expires_at is None else min(end, began.expires_at)
    return None if command.lifetime is None else now + LIFETIMES[command.lifetime]
