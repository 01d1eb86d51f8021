"""What takes back the events of the access list: accounts and tokens that came to be. Pure."""

from __future__ import annotations

from events.commands import DeleteAccount, RevokeApiToken, RevokeBootstrapToken, SetAccountRole
from events.domain import (
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
)
from events.errors import CannotUndoError
from services.allocator import accounts, enrolment
from services.allocator.access import Account
from services.allocator.desk import Placed
from services.allocator.undo_case import Case, is_about


def account_created(case: Case, placed: Placed, event: AccountCreated) -> None:
    """The account goes again, if nothing was made of it yet."""
    account = _account(case, placed, event)
    if account.role != event.role:
        raise _role_changed(case, placed, event)
    if any(not token.is_expired(case.desk.now()) for token in case.desk.access.tokens_of(account)):
        issued = is_about(ApiTokenIssued, account_id=account.account_id)
        raise case.changed(placed, f"The account {account.name} got an API token or signed in", issued)
    accounts.delete_account(case.desk, DeleteAccount(account_id=account.account_id, **case.given))


def role_set(case: Case, placed: Placed, event: AccountRoleSet) -> None:
    """The role before, as long as an admin remains."""
    account = _account(case, placed, event)
    if account.role != event.role:
        raise _role_changed(case, placed, event)
    command = SetAccountRole(account_id=account.account_id, role=event.previous_role, **case.given)
    accounts.set_account_role(case.desk, command)


def api_token_issued(case: Case, placed: Placed, event: ApiTokenIssued) -> None:
    """The token is revoked, and with it the sessions that were begun with it."""
    if event.token_id not in case.desk.access.api_tokens:
        gone = is_about(ApiTokenRevoked, AccountDeleted, token_id=event.token_id, account_id=event.account_id)
        raise case.changed(placed, f"The API token {event.name} was revoked", gone)
    accounts.revoke_api_token(case.desk, RevokeApiToken(token_id=event.token_id, **case.given))


def api_token_revoked(case: Case, placed: Placed, event: ApiTokenRevoked) -> None:
    """Nothing to do where an expired token was swept up for a new one. Raises `CannotUndoError` else."""
    if not any(isinstance(other.event, ApiTokenIssued) for other in case.events):
        raise CannotUndoError(
            f"Event {placed.position} revoked an API token: a token that was revoked never speaks again.",
            hint="Issue another token.",
        )


def bootstrap_token_created(case: Case, placed: Placed, event: BootstrapTokenCreated) -> None:
    """The token is revoked; whoever it has let in stays."""
    if case.desk.access.bootstrap_tokens[event.token_id].revoked:
        revoked = is_about(BootstrapTokenRevoked, token_id=event.token_id)
        raise case.changed(placed, "The bootstrap token was revoked", revoked)
    command = RevokeBootstrapToken(token_id=event.token_id, **case.given)
    enrolment.revoke_bootstrap_token(case.desk, command)


def _account(case: Case, placed: Placed, event: AccountCreated | AccountRoleSet) -> Account:
    account = case.desk.access.accounts.get(event.account_id)
    if account is None:
        raise case.changed(placed, "The account was deleted", is_about(AccountDeleted, account_id=event.account_id))
    return account


def _role_changed(case: Case, placed: Placed, event: AccountCreated | AccountRoleSet) -> CannotUndoError:
    changed = is_about(AccountRoleSet, account_id=event.account_id)
    return case.changed(placed, "The account's role was changed", changed)
