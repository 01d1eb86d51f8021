"""What the allocator remembers of executed commands, so that one sent again is answered, not executed. Pure.

A command that was executed here is known whole. Of one that was read from the log only its first event is: it is taken
for the same where it leads to such an event, and agrees with it in what both say. So nobody gets the answer to a
command that only had the same id; an answer may be worth a token.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from uuid import UUID

from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateAccount,
    CreateBootstrapToken,
    CreateFirstAccount,
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
    EnrolMachine,
    IssueApiToken,
    Outcome,
    PinReflectors,
    RegisterMachine,
    RegisterMembership,
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
    Undo,
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
from events.errors import CommandIdReusedError
from services.allocator.desk import assignments_of
from services.allocator.undo import COMPENSATING

COMMANDS_KEPT = 50_000
"""So many commands, the newest, are recognised when they are sent again."""

_LEADS_TO: dict[type[Command], tuple[type[DomainEvent], ...]] = {
    CreateNetwork: (NetworkCreated,),
    RenameNetwork: (NetworkRenamed,),
    SetDefaultNetwork: (DefaultNetworkSet,),
    SetRouteReflectorMode: (RouteReflectorModeSet,),
    DeleteNetwork: (NetworkUnrouted, NetworkDeleted),
    RegisterMachine: (MachineRegistered, MachineAgentUpdated),
    RenameMachine: (MachineRenamed,),
    SetTransit: (MachineTransitSet,),
    DeleteMachine: (MachinesUnassigned, MachineUnrouted, MachineRevoked, MachineDeleted),
    RevokeMachine: (MachinesUnassigned, MachineUnrouted, MachineRevoked),
    AssignMachine: (MachinesAssigned,),
    AssignMachines: (MachinesAssigned,),
    UnassignMachine: (MachinesUnassigned,),
    RegisterMembership: (MembershipRegistered,),
    RotateKeys: (KeyRotationRequested,),
    CreateBootstrapToken: (BootstrapTokenCreated,),
    RevokeBootstrapToken: (BootstrapTokenRevoked,),
    EnrolMachine: (MachineEnrolled, MachineAgentUpdated),
    CreateAccount: (AccountCreated,),
    CreateFirstAccount: (AccountCreated,),
    SetAccountRole: (AccountRoleSet,),
    DeleteAccount: (AccountDeleted,),
    IssueApiToken: (ApiTokenIssued,),
    RevokeApiToken: (ApiTokenRevoked,),
    CreateRoute: (RouteCreated,),
    UpdateRoute: (RouteUpdated,),
    DeleteRoute: (RouteDeleted,),
    CreateVip: (VipCreated,),
    UpdateVip: (VipUpdated,),
    DeleteVip: (VipDeleted,),
    CreatePolicy: (PolicyCreated,),
    UpdatePolicy: (PolicyUpdated,),
    DeletePolicy: (PolicyDeleted,),
    SetGateway: (GatewaySet,),
    PinReflectors: (ReflectorsPinned,),
    Undo: COMPENSATING,
}
"""The kinds of event that can be a command's first."""

_OWN = {"command_id", "actor"}


@dataclass(frozen=True, slots=True)
class _Executed:
    outcome: Outcome
    command: Command | None
    """The command itself, or None where only its events were read from the log."""
    first_event: DomainEvent | None


class CommandMemory:
    """The newest executed commands by id."""

    def __init__(self, kept: int = COMMANDS_KEPT) -> None:
        self._kept = kept
        self._executed: OrderedDict[UUID, _Executed] = OrderedDict()

    def executed(self, command: Command, outcome: Outcome) -> None:
        """Note a command that was executed here."""
        self._keep(command.command_id, _Executed(outcome, command, None))

    def logged(self, sequence: int, event: DomainEvent) -> None:
        """Note an event that was read from the log."""
        before = self._executed.get(event.command_id)
        if before is None:
            outcome = Outcome(
                command_id=event.command_id, sequence=sequence, changed=True, assignments=assignments_of((event,))
            )
            self._keep(event.command_id, _Executed(outcome, None, event))
        elif before.command is None:
            outcome = before.outcome.model_copy(
                update={
                    "sequence": sequence,
                    "assignments": before.outcome.assignments + assignments_of((event,)),
                }
            )
            self._executed[event.command_id] = replace(before, outcome=outcome)

    def recall(self, command: Command) -> Outcome | None:
        """The outcome of the command if it was executed before.

        Raises `CommandIdReusedError` if its id was used for another command.
        """
        before = self._executed.get(command.command_id)
        if before is None:
            return None
        if not _is_same(command, before):
            raise CommandIdReusedError(
                f"The command id {command.command_id} belongs to another command that was executed before.",
                hint="Give every new command an id (or Idempotency-Key) of its own.",
                field="command_id",
            )
        return before.outcome

    def _keep(self, command_id: UUID, executed: _Executed) -> None:
        self._executed[command_id] = executed
        self._executed.move_to_end(command_id)
        while len(self._executed) > self._kept:
            self._executed.popitem(last=False)


def _is_same(command: Command, before: _Executed) -> bool:
    if before.command is not None:
        return _without_actor(before.command) == _without_actor(command)
    event = before.first_event
    if event is None or type(event) not in _LEADS_TO[type(command)]:
        return False
    shared = (type(command).model_fields.keys() & type(event).model_fields.keys()) - _OWN
    said = {name: getattr(command, name) for name in shared}
    return all(value is None or str(value) == str(getattr(event, name)) for name, value in said.items())


def _without_actor(command: Command) -> Command:
    return command.model_copy(update={"actor": "-"})
