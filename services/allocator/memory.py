"""What the allocator remembers of executed commands, so that one sent again is answered, not executed. Pure."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from uuid import UUID

from events.commands import (
    AssignMachine,
    AssignMachines,
    Command,
    CreateNetwork,
    DeleteMachine,
    DeleteNetwork,
    Outcome,
    RegisterMachine,
    RegisterMembership,
    RenameMachine,
    RenameNetwork,
    SetDefaultNetwork,
    SetRouteReflectorMode,
    UnassignMachine,
)
from events.domain import (
    DefaultNetworkSet,
    DomainEvent,
    MachineAgentUpdated,
    MachineDeleted,
    MachineRegistered,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkRenamed,
    RouteReflectorModeSet,
)
from events.errors import CommandIdReusedError
from services.allocator.desk import assignments_of

COMMANDS_KEPT = 50_000
"""So many commands, the newest, are recognised when they are sent again."""

_LEADS_TO: dict[type[Command], tuple[type[DomainEvent], ...]] = {
    CreateNetwork: (NetworkCreated,),
    RenameNetwork: (NetworkRenamed,),
    SetDefaultNetwork: (DefaultNetworkSet,),
    SetRouteReflectorMode: (RouteReflectorModeSet,),
    DeleteNetwork: (NetworkDeleted,),
    RegisterMachine: (MachineRegistered, MachineAgentUpdated),
    RenameMachine: (MachineRenamed,),
    DeleteMachine: (MachinesUnassigned, MachineDeleted),
    AssignMachine: (MachinesAssigned,),
    AssignMachines: (MachinesAssigned,),
    UnassignMachine: (MachinesUnassigned,),
    RegisterMembership: (MembershipRegistered,),
}


@dataclass(frozen=True, slots=True)
class _Executed:
    outcome: Outcome
    command: Command | None
    """The command itself, or None where only its events were read from the log."""
    event_type: type[DomainEvent] | None


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
            self._keep(event.command_id, _Executed(outcome, None, type(event)))
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
        if before.command is not None:
            same = _without_actor(before.command) == _without_actor(command)
        else:
            same = before.event_type in _LEADS_TO[type(command)]
        if not same:
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


def _without_actor(command: Command) -> Command:
    return command.model_copy(update={"actor": "-"})
