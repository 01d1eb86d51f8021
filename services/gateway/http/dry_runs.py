"""Changes that are only tried (`?dry_run=true`): what they would do, told from two supposed moments. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from events.commands import Command, Outcome
from events.domain import (
    DomainEvent,
    MachineDeleted,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MembershipRegistered,
    NetworkDeleted,
    ReflectorsPinned,
    RouteReflectorModeSet,
)
from events.log import LoggedEvent
from events.preview import Preview, PreviewAnswer
from services.gateway.aftermath import aftermath
from services.gateway.diff import difference
from services.gateway.differences import Difference
from services.gateway.history import names_in
from services.gateway.http.diff_views import changes_view
from services.gateway.http.dry_run_schemas import DryRun, DryRunAssignment, DryRunCommand, DryRunEvent
from services.gateway.naming import NameOf
from services.gateway.seen import Seen
from services.gateway.words import fields_of, in_words, machines_of, networks_of

if TYPE_CHECKING:
    from services.gateway.http.changes import Gateway

_MOVING = (
    MachineDeleted,
    MachineRevoked,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MembershipRegistered,
    NetworkDeleted,
    ReflectorsPinned,
    RouteReflectorModeSet,
)
"""The kinds of event by which a network's paths and sessions may change at once."""


class Trial:
    """One request's commands, decided as if they were given, and what they would do."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._commands: list[Command] = []
        self._answer: PreviewAnswer | None = None

    async def give(self, command: Command) -> Outcome:
        """What a command would come to after those before it. Raises what it would be refused with."""
        self._answer = await self._gateway.commander.preview([*self._commands, command])
        outcome = self._answer.commands[-1].done()
        self._commands.append(command)
        return outcome

    async def told(self) -> DryRun:
        """What the commands would do. Two moments are derived for it: it takes as long as two looks at the past."""
        assert self._answer is not None
        events = [event for preview in self._answer.commands for event in preview.decoded()]
        commands = tuple(map(_command, self._commands, self._answer.commands))
        if not events:
            return DryRun(
                position=self._answer.position,
                commands=commands,
                effects=changes_view(Difference()),
            )
        async with self._gateway.trials:
            now, then = await self._gateway.pasts.supposing(events, self._answer.position)
            effects = await _effects(now, then, events)
        name_of = _names(now, then, events)
        return DryRun(
            position=self._answer.position,
            commands=commands,
            events=tuple(_event(event, name_of) for event in events),
            later=aftermath(events, then, self._is_online),
            effects=changes_view(effects),
        )

    def _is_online(self, machine_id: UUID) -> bool:
        return self._gateway.presence.is_online(machine_id, self._gateway.now())


async def _effects(now: Seen, then: Seen, events: Sequence[DomainEvent]) -> Difference:
    """What would be otherwise, anywhere. Only networks whose paths and sessions the events can change are looked into;
    the comparison goes on beside other requests."""
    moving = [event for event in events if isinstance(event, _MOVING)]
    networks = {network_id for event in moving for network_id in networks_of(event)}
    networks.update(home for event in moving for item in machines_of(event) for home in now.mirror.networks_of(item))
    for side in (now, then):
        await side.look_into(sorted(networks))
    return await asyncio.to_thread(difference, now, then)


def _names(now: Seen, then: Seen, events: Sequence[DomainEvent]) -> NameOf:
    told = names_in([LoggedEvent(0, event, "") for event in events], then.mirror.name_of)
    return lambda item: now.mirror.name_of(item) or told(item)


def _command(command: Command, preview: Preview) -> DryRunCommand:
    outcome = preview.done()
    return DryRunCommand(
        command_id=command.command_id,
        kind=type(command).model_fields["kind"].default,
        summary=command.summary,
        changed=outcome.changed and not preview.is_executed,
        executed=preview.is_executed,
        log_sequence=outcome.sequence,
        assignments=tuple(
            DryRunAssignment(machine_uuid=made.machine_id, wg_ip_address=made.address) for made in outcome.assignments
        ),
    )


def _event(event: DomainEvent, name_of: NameOf) -> DryRunEvent:
    return DryRunEvent(
        kind=event.kind,
        actor=event.actor,
        command_id=event.command_id,
        network_uuids=networks_of(event),
        machine_uuids=machines_of(event),
        text=in_words(event, name_of),
        data=fields_of(event),
    )
