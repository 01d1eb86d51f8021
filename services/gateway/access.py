"""The access list as the gateway sees it: which tokens, identities and accounts count. Pure: the time is an argument.

It follows from the records below `state.access.` alone. A bootstrap token and an identity stay when they are revoked;
an account and an API token are gone then.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from events.errors import NotFoundError
from events.fields import AccountRole
from events.records import (
    AccountRecord,
    ApiTokenRecord,
    BootstrapTokenRecord,
    FormerTokenRecord,
    IdentityRecord,
    Record,
)
from services.gateway.authority import lower

_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Speaker:
    """Who speaks: an account, through one of its API tokens."""

    token: ApiTokenRecord
    account: AccountRecord

    @property
    def role(self) -> AccountRole:
        """The lower of the token's role and the account's."""
        return lower(self.token.role, self.account.role)

    @property
    def actor(self) -> str:
        """How the log names the speaker: `account:<account's name>/<token's name>`."""
        return f"account:{self.account.name}/{self.token.name}"


class AccessView:
    """The newest records of the access list. Records come in the order of the STATE stream, each once."""

    def __init__(self) -> None:
        self._bootstraps: dict[UUID, BootstrapTokenRecord] = {}
        self._identities: dict[UUID, IdentityRecord] = {}
        self._accounts: dict[UUID, AccountRecord] = {}
        self._api_tokens: dict[UUID, ApiTokenRecord] = {}
        self._by_hash: dict[str, UUID] = {}
        self._names: dict[UUID, str] = {}
        self._owners: dict[UUID, UUID] = {}

    def apply(self, subject: str, record: Record) -> None:
        """Take in the record that stands under `state.access.<part>.<id>`."""
        _, _, part, text = subject.split(".")
        item = UUID(text)
        match record.body:
            case BootstrapTokenRecord():
                self._bootstraps[item] = record.body
            case IdentityRecord():
                self._identities[item] = record.body
            case AccountRecord():
                self._accounts[item] = record.body
                self._names[item] = record.body.name
            case ApiTokenRecord():
                self._api_tokens[item] = record.body
                self._names[item] = record.body.name
                self._by_hash[record.body.secret_hash] = item
            case FormerTokenRecord(account_id=UUID() as owner):
                self._owners[item] = owner
                self._drop_token(item)
            case _:
                self._drop(part, item)

    def bootstrap(self, token_id: UUID) -> BootstrapTokenRecord:
        """A bootstrap token. Raises `NotFoundError`."""
        return _found(self._bootstraps, token_id, "bootstrap token")

    def bootstraps(self) -> list[BootstrapTokenRecord]:
        """All bootstrap tokens, the oldest first."""
        return sorted(self._bootstraps.values(), key=lambda record: (record.created_at, record.token_id))

    def identity(self, machine_id: UUID) -> IdentityRecord | None:
        """By which key a machine is known; None if it has not enrolled."""
        return self._identities.get(machine_id)

    def identities(self) -> Iterable[IdentityRecord]:
        """Of every machine that ever enrolled."""
        return self._identities.values()

    def account(self, account_id: UUID) -> AccountRecord:
        """An account. Raises `NotFoundError`."""
        return _found(self._accounts, account_id, "account")

    def accounts(self) -> list[AccountRecord]:
        """All accounts, the oldest first."""
        return sorted(self._accounts.values(), key=lambda record: (record.created_at, record.account_id))

    def api_token(self, token_id: UUID) -> ApiTokenRecord:
        """An API token. Raises `NotFoundError`."""
        return _found(self._api_tokens, token_id, "API token")

    def former_owner(self, token_id: UUID) -> UUID | None:
        """The account that an API token spoke for that was revoked; None where that is not known."""
        return self._owners.get(token_id)

    def api_tokens(self, now: datetime) -> list[ApiTokenRecord]:
        """All API tokens that count, browsers' sessions too, the oldest first."""
        counting = [token for token in self._api_tokens.values() if token.expires_at is None or token.expires_at > now]
        return sorted(counting, key=lambda record: (record.created_at, record.token_id))

    def speaker(self, secret_hash: str, now: datetime) -> Speaker | None:
        """Who speaks with the API token that has this hash; None for an unknown or expired one."""
        token_id = self._by_hash.get(secret_hash)
        return None if token_id is None else self.principal(token_id, now)

    def principal(self, token_id: UUID, now: datetime) -> Speaker | None:
        """Who speaks with the API token that has this id; None for an unknown or expired one."""
        token = self._api_tokens.get(token_id)
        if token is None or (token.expires_at is not None and token.expires_at <= now):
            return None
        account = self._accounts.get(token.account_id)
        return None if account is None else Speaker(token, account)

    def name_of(self, item: UUID) -> str | None:
        """The name of an account or API token, also of one that went while we listened."""
        return self._names.get(item)

    def _drop(self, part: str, item: UUID) -> None:
        match part:
            case "bootstrap":
                self._bootstraps.pop(item, None)
            case "identity":
                self._identities.pop(item, None)
            case "account":
                self._accounts.pop(item, None)
                for token in [token for token in self._api_tokens.values() if token.account_id == item]:
                    self._drop_token(token.token_id)
            case "token":
                self._drop_token(item)

    def _drop_token(self, token_id: UUID) -> None:
        token = self._api_tokens.pop(token_id, None)
        if token is not None:
            self._by_hash.pop(token.secret_hash, None)


def _found(known: dict[UUID, _R], item: UUID, what: str) -> _R:
    if item not in known:
        raise NotFoundError(f"There is no {what} {item}.", hint=f"List the {what}s there are.")
    return known[item]
