"""The access list: who may do what, and with which keys and tokens; and how events change it. Pure, immutable.

Of tokens it holds the hashes, of keys the public halves. Nothing that ever had an id is forgotten, so that no id is
used twice; of an API token that was revoked, and of an account that was deleted, only the id stays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from rpds import HashTrieMap, HashTrieSet

from events.domain import (
    GENESIS_HASH,
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    DomainEvent,
    MachineEnrolled,
    MachineRevoked,
)
from events.fields import AccountRole, TokenUse


@dataclass(frozen=True, slots=True)
class BootstrapToken:
    """A token that lets machines in; kept when it lets in nobody any more."""

    token_id: UUID
    secret_hash: str
    expires_at: datetime
    uses: int | None
    network_id: UUID | None
    used: int = 0
    revoked: bool = False

    @property
    def is_used_up(self) -> bool:
        """Whether it has let in as many machines as it may."""
        return self.uses is not None and self.used >= self.uses


@dataclass(frozen=True, slots=True)
class Identity:
    """A machine that enrolled, and its key; kept for good, so that neither is ever used otherwise."""

    machine_id: UUID
    identity_key: str
    revoked: bool = False


@dataclass(frozen=True, slots=True)
class ApiToken:
    """A token that speaks for an account."""

    token_id: UUID
    account_id: UUID
    name: str
    role: AccountRole
    use: TokenUse
    secret_hash: str
    expires_at: datetime | None
    begun_with: UUID | None = None
    """Of a session: the token that it ends with."""

    def is_expired(self, now: datetime) -> bool:
        """Whether it speaks for nobody any more by now."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True)
class Account:
    """A person or program, and its API tokens."""

    account_id: UUID
    name: str
    role: AccountRole
    token_ids: HashTrieSet[UUID] = field(default_factory=HashTrieSet)


@dataclass(frozen=True, slots=True)
class Access:
    """The access list."""

    id: UUID
    version: int = 0
    last_hash: str = GENESIS_HASH
    bootstrap_tokens: HashTrieMap[UUID, BootstrapToken] = field(default_factory=HashTrieMap)
    identities: HashTrieMap[UUID, Identity] = field(default_factory=HashTrieMap)
    """By machine."""
    accounts: HashTrieMap[UUID, Account] = field(default_factory=HashTrieMap)
    api_tokens: HashTrieMap[UUID, ApiToken] = field(default_factory=HashTrieMap)
    revoked_api_tokens: HashTrieSet[UUID] = field(default_factory=HashTrieSet)
    deleted_accounts: HashTrieSet[UUID] = field(default_factory=HashTrieSet)
    machine_of_key: HashTrieMap[str, UUID] = field(default_factory=HashTrieMap)
    """Whose identity key it is."""
    account_names: HashTrieMap[str, UUID] = field(default_factory=HashTrieMap)
    """Account ids by name, in lower case: names that differ in case only count as the same."""
    secrets: HashTrieMap[str, UUID] = field(default_factory=HashTrieMap)
    """Token ids, of both kinds, by the hash of their secret."""

    @property
    def size(self) -> int:
        """How many items there are."""
        items = (self.bootstrap_tokens, self.identities, self.accounts, self.api_tokens, self.revoked_api_tokens)
        return sum(map(len, items))

    def is_revoked(self, machine_id: UUID) -> bool:
        """Whether a machine was revoked. One that never enrolled was not."""
        identity = self.identities.get(machine_id)
        return identity is not None and identity.revoked

    def is_used(self, item_id: UUID) -> bool:
        """Whether a token or account has this id, or had it."""
        return (
            item_id in self.bootstrap_tokens
            or item_id in self.api_tokens
            or item_id in self.accounts
            or item_id in self.revoked_api_tokens
            or item_id in self.deleted_accounts
        )

    def bootstrap_token(self, secret_hash: str) -> BootstrapToken | None:
        """The bootstrap token whose secret has this hash."""
        token_id = self.secrets.get(secret_hash)
        return None if token_id is None else self.bootstrap_tokens.get(token_id)

    def is_last_admin(self, account: Account) -> bool:
        """Whether nobody else is admin."""
        return account.role == "admin" and not any(
            other.role == "admin" and other.account_id != account.account_id for other in self.accounts.values()
        )

    def tokens_of(self, account: Account) -> list[ApiToken]:
        """An account's API tokens, expired ones too; in the order of their ids."""
        return [self.api_tokens[token_id] for token_id in sorted(account.token_ids)]


def _bootstrap_token_created(access: Access, event: BootstrapTokenCreated) -> Access:
    token = BootstrapToken(event.token_id, event.secret_hash, event.expires_at, event.uses, event.network_id)
    return replace(
        access,
        bootstrap_tokens=access.bootstrap_tokens.insert(event.token_id, token),
        secrets=access.secrets.insert(event.secret_hash, event.token_id),
    )


def _bootstrap_token_revoked(access: Access, event: BootstrapTokenRevoked) -> Access:
    token = replace(access.bootstrap_tokens[event.token_id], revoked=True)
    return replace(access, bootstrap_tokens=access.bootstrap_tokens.insert(event.token_id, token))


def _machine_enrolled(access: Access, event: MachineEnrolled) -> Access:
    token = access.bootstrap_tokens[event.token_id]
    return replace(
        access,
        bootstrap_tokens=access.bootstrap_tokens.insert(event.token_id, replace(token, used=token.used + 1)),
        identities=access.identities.insert(event.machine_id, Identity(event.machine_id, event.identity_key)),
        machine_of_key=access.machine_of_key.insert(event.identity_key, event.machine_id),
    )


def _machine_revoked(access: Access, event: MachineRevoked) -> Access:
    identity = replace(access.identities[event.machine_id], revoked=True)
    return replace(access, identities=access.identities.insert(event.machine_id, identity))


def _account_created(access: Access, event: AccountCreated) -> Access:
    account = Account(event.account_id, event.name, event.role)
    return replace(
        access,
        accounts=access.accounts.insert(event.account_id, account),
        account_names=access.account_names.insert(event.name.lower(), event.account_id),
    )


def _account_role_set(access: Access, event: AccountRoleSet) -> Access:
    account = replace(access.accounts[event.account_id], role=event.role)
    return replace(access, accounts=access.accounts.insert(event.account_id, account))


def _account_deleted(access: Access, event: AccountDeleted) -> Access:
    for token in access.tokens_of(access.accounts[event.account_id]):
        access = _without_token(access, token)
    return replace(
        access,
        accounts=access.accounts.remove(event.account_id),
        account_names=access.account_names.remove(event.name.lower()),
        deleted_accounts=access.deleted_accounts.insert(event.account_id),
    )


def _api_token_issued(access: Access, event: ApiTokenIssued) -> Access:
    token = ApiToken(
        event.token_id,
        event.account_id,
        event.name,
        event.role,
        event.use,
        event.secret_hash,
        event.expires_at,
        event.begun_with,
    )
    account = access.accounts[event.account_id]
    account = replace(account, token_ids=account.token_ids.insert(event.token_id))
    return replace(
        access,
        accounts=access.accounts.insert(event.account_id, account),
        api_tokens=access.api_tokens.insert(event.token_id, token),
        secrets=access.secrets.insert(event.secret_hash, event.token_id),
    )


def _api_token_revoked(access: Access, event: ApiTokenRevoked) -> Access:
    for token in access.tokens_of(access.accounts[event.account_id]):
        if event.token_id in (token.token_id, token.begun_with):
            access = _without_token(access, token)
    return access


def _without_token(access: Access, token: ApiToken) -> Access:
    account = access.accounts[token.account_id]
    account = replace(account, token_ids=account.token_ids.discard(token.token_id))
    return replace(
        access,
        accounts=access.accounts.insert(token.account_id, account),
        api_tokens=access.api_tokens.remove(token.token_id),
        secrets=access.secrets.remove(token.secret_hash),
        revoked_api_tokens=access.revoked_api_tokens.insert(token.token_id),
    )


CHANGES: dict[type[DomainEvent], Callable[[Any, Any], Access]] = {
    BootstrapTokenCreated: _bootstrap_token_created,
    BootstrapTokenRevoked: _bootstrap_token_revoked,
    MachineEnrolled: _machine_enrolled,
    MachineRevoked: _machine_revoked,
    AccountCreated: _account_created,
    AccountRoleSet: _account_role_set,
    AccountDeleted: _account_deleted,
    ApiTokenIssued: _api_token_issued,
    ApiTokenRevoked: _api_token_revoked,
}
"""How each of its events changes the access list."""
