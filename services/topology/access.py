"""The derivation of the access list: bootstrap tokens, machines' identities, accounts and their API tokens. Pure.

Bootstrap tokens and identities keep their record for good, with the time at which they were revoked. A deleted account
has a tombstone. An API token that was revoked has a record that says so, until it would have expired: were it gone
sooner, a reader that was away, or a server that brings an older record back when it crashes, would let a token that
was revoked speak again. What has expired is purged, silently, as soon as the scope has a newer record; so neither
sessions nor the ends of sessions pile up in STATE.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from events.domain import (
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
from events.records import AccountRecord, ApiTokenRecord, BootstrapTokenRecord, FormerTokenRecord, IdentityRecord
from events.subjects import access
from services.topology.derived import Draft


@dataclass(slots=True)
class Account:
    """An account and which API tokens speak for it."""

    record: AccountRecord
    token_ids: set[UUID] = field(default_factory=set)
    """Also those that have expired, until they are purged."""


class AccessList:
    """Everything about access, as it is at one position of the log."""

    def __init__(self) -> None:
        self.bootstraps: dict[UUID, BootstrapTokenRecord] = {}
        self.identities: dict[UUID, IdentityRecord] = {}
        """By machine."""
        self.accounts: dict[UUID, Account] = {}
        self.tokens: dict[UUID, ApiTokenRecord] = {}
        self._expiries: dict[UUID, datetime] = {}
        """Of the API tokens that have a record, also revoked ones: those that expire, and when."""

    def apply(self, event: DomainEvent, draft: Draft) -> None:
        """Derive from one of `EVENTS`. Raises KeyError where it speaks of what is not there."""
        _HANDLERS[type(event)](self, event, draft)

    def machine_deleted(self, machine_id: UUID, time: datetime, draft: Draft) -> None:
        """A machine was deleted: if it ever enrolled, its identity key counts no more."""
        identity = self.identities.get(machine_id)
        if identity is not None and identity.revoked_at is None:
            self._revoke_identity(identity, time, draft)

    def _bootstrap_token_created(self, event: BootstrapTokenCreated, draft: Draft) -> None:
        record = BootstrapTokenRecord(
            token_id=event.token_id,
            secret_hash=event.secret_hash,
            created_at=event.time,
            created_by=event.actor,
            expires_at=event.expires_at,
            uses=event.uses,
            used=0,
            network_id=event.network_id,
        )
        self._put_bootstrap(record, draft)

    def _bootstrap_token_revoked(self, event: BootstrapTokenRevoked, draft: Draft) -> None:
        record = self.bootstraps[event.token_id]
        self._put_bootstrap(record.model_copy(update={"revoked_at": event.time}), draft)

    def _machine_enrolled(self, event: MachineEnrolled, draft: Draft) -> None:
        token = self.bootstraps[event.token_id]
        identity = IdentityRecord(
            machine_id=event.machine_id,
            identity_key=event.identity_key,
            enrolled_at=event.time,
            token_id=event.token_id,
        )
        self.identities[event.machine_id] = identity
        draft.put(access("identity", event.machine_id), identity)
        self._put_bootstrap(token.model_copy(update={"used": token.used + 1}), draft)

    def _machine_revoked(self, event: MachineRevoked, draft: Draft) -> None:
        identity = self.identities[event.machine_id]
        self._revoke_identity(identity, identity.revoked_at or event.time, draft)

    def _account_created(self, event: AccountCreated, draft: Draft) -> None:
        record = AccountRecord(account_id=event.account_id, name=event.name, role=event.role, created_at=event.time)
        self.accounts[event.account_id] = Account(record)
        draft.put(access("account", event.account_id), record)

    def _account_role_set(self, event: AccountRoleSet, draft: Draft) -> None:
        account = self.accounts[event.account_id]
        account.record = account.record.model_copy(update={"role": event.role})
        draft.put(access("account", event.account_id), account.record)

    def _account_deleted(self, event: AccountDeleted, draft: Draft) -> None:
        draft.put(access("account", event.account_id), None)
        if token_ids := sorted(self.accounts[event.account_id].token_ids):
            self._drop_tokens(token_ids, event.time, draft)
        del self.accounts[event.account_id]

    def _api_token_issued(self, event: ApiTokenIssued, draft: Draft) -> None:
        record = ApiTokenRecord(
            token_id=event.token_id,
            account_id=event.account_id,
            name=event.name,
            role=event.role,
            use=event.use,
            secret_hash=event.secret_hash,
            created_at=event.time,
            expires_at=event.expires_at,
            begun_with=event.begun_with,
        )
        self.hold_token(record)
        draft.put(access("token", event.token_id), record)
        self._purge_expired((event.token_id,), event.time, draft)

    def _api_token_revoked(self, event: ApiTokenRevoked, draft: Draft) -> None:
        account = self.accounts[event.account_id]
        ended = [each for each in account.token_ids if event.token_id in (each, self.tokens[each].begun_with)]
        if ended:
            self._drop_tokens(sorted(ended), event.time, draft)
        else:
            # It expired and may be purged, so nothing is written under its subject any more.
            draft.put(access("account", event.account_id), account.record)

    def hold_token(self, record: ApiTokenRecord) -> None:
        """Keep an API token in mind. Raises KeyError where its account is missing."""
        self.accounts[record.account_id].token_ids.add(record.token_id)
        self.tokens[record.token_id] = record
        if record.expires_at is not None:
            self._expiries[record.token_id] = record.expires_at

    def hold_former_token(self, record: FormerTokenRecord) -> None:
        """Keep in mind when the record of a token that was revoked means nothing any more."""
        if record.expires_at is not None:
            self._expiries[record.token_id] = record.expires_at

    def _drop_tokens(self, token_ids: Collection[UUID], time: datetime, draft: Draft) -> None:
        for token_id in token_ids:
            token = self._forget_token(token_id)
            record = FormerTokenRecord(token_id=token_id, expires_at=token.expires_at, account_id=token.account_id)
            draft.put(access("token", token_id), record)
        self._purge_expired(token_ids, time, draft)

    def _purge_expired(self, written: Collection[UUID], time: datetime, draft: Draft) -> None:
        """Let go of what has expired by `time`, but for the tokens whose record has just been `written`."""
        expired = {token_id for token_id, expires_at in self._expiries.items() if expires_at <= time}
        for token_id in sorted(expired.difference(written)):
            draft.purges.append(access("token", token_id))
            del self._expiries[token_id]
            if token_id in self.tokens:
                self._forget_token(token_id)

    def _forget_token(self, token_id: UUID) -> ApiTokenRecord:
        record = self.tokens.pop(token_id)
        self.accounts[record.account_id].token_ids.remove(token_id)
        return record

    def _put_bootstrap(self, record: BootstrapTokenRecord, draft: Draft) -> None:
        self.bootstraps[record.token_id] = record
        draft.put(access("bootstrap", record.token_id), record)

    def _revoke_identity(self, identity: IdentityRecord, time: datetime, draft: Draft) -> None:
        record = identity.model_copy(update={"revoked_at": time})
        self.identities[identity.machine_id] = record
        draft.put(access("identity", identity.machine_id), record)


_HANDLERS: dict[type[DomainEvent], Callable[[AccessList, Any, Draft], None]] = {
    BootstrapTokenCreated: AccessList._bootstrap_token_created,
    BootstrapTokenRevoked: AccessList._bootstrap_token_revoked,
    MachineEnrolled: AccessList._machine_enrolled,
    MachineRevoked: AccessList._machine_revoked,
    AccountCreated: AccessList._account_created,
    AccountRoleSet: AccessList._account_role_set,
    AccountDeleted: AccessList._account_deleted,
    ApiTokenIssued: AccessList._api_token_issued,
    ApiTokenRevoked: AccessList._api_token_revoked,
}
"""Which method derives from which event."""

EVENTS = tuple(_HANDLERS)
"""The events that belong to the access list."""
