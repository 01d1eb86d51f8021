"""Who may give which command, and what a role includes. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateAccount,
    CreateBootstrapToken,
    CreateNetwork,
    CreatePolicy,
    CreateRoute,
    CreateVip,
    DeleteAccount,
    DeleteMachine,
    DeleteNetwork,
    DeletePolicy,
    DeleteRoute,
    DeleteVip,
    IssueApiToken,
    PinReflectors,
    RegisterMachine,
    RenameMachine,
    RenameNetwork,
    RevokeApiToken,
    RevokeBootstrapToken,
    RevokeMachine,
    RotateKeys,
    SetAccountRole,
    SetDefaultNetwork,
    SetGateway,
    SetRouteReflectorMode,
    SetTransit,
    UnassignMachine,
    UpdatePolicy,
    UpdateRoute,
    UpdateVip,
)
from events.domain import (
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    DomainEvent,
)
from events.errors import ForbiddenError
from events.fields import AccountRole

RANKS: dict[AccountRole, int] = {"viewer": 0, "operator": 1, "admin": 2}
"""The roles in their order: each may do what those before it may."""

REQUIRED_ROLE: dict[type[Command], AccountRole] = {
    CreateNetwork: "operator",
    RenameNetwork: "operator",
    SetDefaultNetwork: "operator",
    SetRouteReflectorMode: "operator",
    DeleteNetwork: "operator",
    RegisterMachine: "operator",
    RenameMachine: "operator",
    SetTransit: "operator",
    DeleteMachine: "operator",
    AssignMachine: "operator",
    AssignMachines: "operator",
    UnassignMachine: "operator",
    RotateKeys: "operator",
    RevokeMachine: "operator",
    CreateRoute: "operator",
    UpdateRoute: "operator",
    DeleteRoute: "operator",
    CreateVip: "operator",
    UpdateVip: "operator",
    DeleteVip: "operator",
    CreatePolicy: "operator",
    UpdatePolicy: "operator",
    DeletePolicy: "operator",
    SetGateway: "operator",
    PinReflectors: "operator",
    CreateBootstrapToken: "operator",
    RevokeBootstrapToken: "operator",
    CreateAccount: "admin",
    SetAccountRole: "admin",
    DeleteAccount: "admin",
    IssueApiToken: "admin",
    RevokeApiToken: "admin",
}
"""The role that each command takes that a person or program may give. Of tokens, people may also manage their own,
whatever their role: over HTTP, where who they are is looked at."""


_OF_ACCOUNTS = (AccountCreated, AccountRoleSet, AccountDeleted, ApiTokenIssued, ApiTokenRevoked)


def role_to_undo(events: Iterable[DomainEvent]) -> AccountRole:
    """The role that undoing a command takes which had these events: what the command took, and at least operator."""
    return "admin" if any(isinstance(event, _OF_ACCOUNTS) for event in events) else "operator"


class HasRole(Protocol):
    """Whoever asks for something."""

    @property
    def role(self) -> AccountRole:
        """What he may do."""


def includes(role: AccountRole, other: AccountRole) -> bool:
    """Whether who has `role` may do all that `other` may."""
    return RANKS[role] >= RANKS[other]


def lower(one: AccountRole, other: AccountRole) -> AccountRole:
    """The lesser of two roles."""
    return min(one, other, key=RANKS.__getitem__)


def require(speaker: HasRole, role: AccountRole) -> None:
    """Raises `ForbiddenError` where the speaker's role does not include `role`."""
    if not includes(speaker.role, role):
        raise ForbiddenError(
            f"This takes the role {role}; yours is {speaker.role}.",
            hint=f"Sign in with a token of an account that has the role {role}.",
        )
