"""The decision to undo a command: for each of its events, the last one first, what takes it back. Pure.

It is all or nothing. What an event set must still be as it set it, and what it took away must still be free; else the
undo is refused, with who changed it. What happened since to anything else stays. An undo's events are events like any
other, so an undo can be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from events.commands import Undo
from events.domain import (
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    BootstrapTokenCreated,
    BootstrapTokenRevoked,
    DefaultNetworkSet,
    DomainEvent,
    GatewaySet,
    KeyRotationRequested,
    MachineAgentUpdated,
    MachineDeleted,
    MachineEnrolled,
    MachineRegistered,
    MachineRenamed,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MachineUnrouted,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    NetworkUnrouted,
    PolicyCreated,
    PolicyDeleted,
    PolicyUpdated,
    ReflectorsPinned,
    RouteCreated,
    RouteDeleted,
    RouteReflectorModeSet,
    RouteUpdated,
    VipCreated,
    VipDeleted,
    VipUpdated,
)
from events.errors import CannotUndoError, NotFoundError, WireloomError
from services.allocator import undo_access, undo_machines, undo_networks, undo_routing
from services.allocator.desk import Desk, Placed
from services.allocator.lookups import MAX_BATCH_EVENTS
from services.allocator.undo_case import Case

TAKES_BACK: dict[type[DomainEvent], Callable[[Case, Placed, Any], None]] = {
    NetworkCreated: undo_networks.created,
    NetworkRenamed: undo_networks.renamed,
    DefaultNetworkSet: undo_networks.default_set,
    RouteReflectorModeSet: undo_networks.mode_set,
    NetworkDeleted: undo_networks.deleted,
    MachinesAssigned: undo_networks.assigned,
    MachinesUnassigned: undo_networks.unassigned,
    MachineRegistered: undo_machines.registered,
    MachineRenamed: undo_machines.renamed,
    MachineTransitSet: undo_machines.transit_set,
    RouteCreated: undo_routing.created,
    RouteUpdated: undo_routing.updated,
    RouteDeleted: undo_routing.deleted,
    VipCreated: undo_routing.created,
    VipUpdated: undo_routing.updated,
    VipDeleted: undo_routing.deleted,
    PolicyCreated: undo_routing.created,
    PolicyUpdated: undo_routing.updated,
    PolicyDeleted: undo_routing.deleted,
    GatewaySet: undo_routing.gateway_set,
    ReflectorsPinned: undo_routing.reflectors_pinned,
    NetworkUnrouted: undo_routing.network_unrouted,
    AccountCreated: undo_access.account_created,
    AccountRoleSet: undo_access.role_set,
    ApiTokenIssued: undo_access.api_token_issued,
    ApiTokenRevoked: undo_access.api_token_revoked,
    BootstrapTokenCreated: undo_access.bootstrap_token_created,
}
"""Which function takes back which event."""

NEVER: dict[type[DomainEvent], tuple[str, str]] = {
    MachineDeleted: (
        "deleted a machine, whose id is never used again.",
        "Let the machine join anew with a new token: wireloom token create",
    ),
    MachineUnrouted: (
        "took a machine that is no more out of all routing.",
        "Let the machine join anew, and name it where it is to be.",
    ),
    MachineRevoked: (
        "revoked a machine, for good.",
        "Let it join as a new machine with a new token: wireloom token create",
    ),
    MachineEnrolled: (
        "let a machine in, which spent a use of its token.",
        "Take it out again by revoking it: wireloom machine revoke",
    ),
    MachineAgentUpdated: (
        "is what a machine's agent reported of itself.",
        "Install the agent that is meant on the machine.",
    ),
    MembershipRegistered: (
        "is what a machine's agent reported: its key and endpoints.",
        "Have it make a new key, if that is meant: wireloom key rotate",
    ),
    KeyRotationRequested: (
        "had a machine make a new key: the one before is gone.",
        "Nothing is to be done; rotate it again if you do not trust the new one.",
    ),
    BootstrapTokenRevoked: (
        "revoked a bootstrap token: it never lets anybody in again.",
        "Make another: wireloom token create",
    ),
    AccountDeleted: (
        "deleted an account, whose tokens never count again.",
        "Create an account anew: wireloom account create",
    ),
}
"""What can never be taken back, why, and what to do instead."""

COMPENSATING: tuple[type[DomainEvent], ...] = (
    *(event_type for event_type in TAKES_BACK if event_type is not MachineRegistered),
    MachineDeleted,
    AccountDeleted,
    BootstrapTokenRevoked,
)
"""The kinds of event that an undo may come to."""


def undo(desk: Desk, command: Undo) -> None:
    """Take back all that the other command did. Raises `NotFoundError` where its events do not stand where the undo
    says, and `CannotUndoError`, with which event is in the way.

    The cost follows the number of its events and what happened since to the same aggregates; to find out how a route,
    policy or deleted network was before, also their history before, from the last snapshot on.
    """
    case = Case(desk, command, _events(desk, command))
    for placed in reversed(case.events):
        if (never := NEVER.get(type(placed.event))) is not None:
            why, hint = never
            raise CannotUndoError(f"Event {placed.position} {why}", hint=hint)
    before = len(desk.events)
    for placed in reversed(case.events):
        try:
            TAKES_BACK[type(placed.event)](case, placed, placed.event)
        except CannotUndoError:
            raise
        except WireloomError as error:
            raise CannotUndoError(
                f"What event {placed.position} did cannot be taken back: {error.detail}",
                hint="Change what is in the way, and undo it then.",
            ) from error
    if len(desk.events) - before > MAX_BATCH_EVENTS:
        raise CannotUndoError(
            f"It would take {len(desk.events) - before:,} events; one change has {MAX_BATCH_EVENTS:,} at most.",
            hint="Make the changes that you want by and by.",
        )


def _events(desk: Desk, command: Undo) -> tuple[Placed, ...]:
    """The other command's events: all between the two positions, and all that it has."""
    archive, first, last = desk.library.archive, command.first_sequence, command.last_sequence
    events = archive.between(first, last) if first <= last else []
    own = [each for each in events if each.event.command_id == command.undone]
    is_whole = (
        own and len(own) == len(events) <= MAX_BATCH_EVENTS and (own[0].position, own[-1].position) == (first, last)
    )
    if not is_whole or any(each.event.command_id == command.undone for each in archive.neighbours(first, last)):
        raise NotFoundError(
            f"The events of the command {command.undone} are not those from {first} to {last} of the log.",
            hint="Ask the gateway, which finds them: wireloom undo COMMAND-ID",
            field="undone",
        )
    return tuple(own)
