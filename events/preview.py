"""Asking the allocator what commands would lead to: the messages. Pure.

The commands are decided one after the other, at the end of the log, each seeing what those before it would have done.
Nothing is written or remembered.
"""

from __future__ import annotations

from typing import Annotated, Any, Self
from uuid import UUID

import orjson
from pydantic import Field

from events.commands import AnyCommand, Outcome
from events.domain import DomainEvent
from events.errors import InvalidInputError, WireloomError
from events.fields import Frozen
from events.past import Supposed

DRY_RUN_HEADER = "Wl-Dry-Run"
"""With the value `1` on a program's command: it is only tried, and the answer tells what it would do."""

MAX_COMMANDS = 64
"""So many commands at most are asked about at once."""


class PreviewRequest(Frozen):
    """Asks what these commands would lead to (`ALLOCATOR_PREVIEW`)."""

    commands: Annotated[tuple[AnyCommand, ...], Field(min_length=1, max_length=MAX_COMMANDS)]


class Preview(Frozen):
    """What would become of one command: an outcome or a refusal."""

    command_id: UUID
    outcome: Outcome | None = None
    """Its `sequence` is the position at which the command was decided, unless it was executed before."""
    problem: dict[str, Any] | None = None
    """The refusal as a problem object (RFC 9457)."""
    is_executed: bool = False
    """Whether the command was executed before: `outcome` tells what was done then, and nothing would happen now."""
    events: tuple[Supposed, ...] = ()

    @classmethod
    def of_refusal(cls, command_id: UUID, refusal: WireloomError) -> Self:
        """That a command would be refused."""
        return cls(command_id=command_id, problem=orjson.loads(refusal.to_json()))

    def done(self) -> Outcome:
        """What the command would come to. Raises what it would be refused with."""
        if self.outcome is None:
            raise WireloomError.from_problem(self.problem or {})
        return self.outcome

    def decoded(self) -> tuple[DomainEvent, ...]:
        """The events. Raises `UnreadableEventError`."""
        return tuple(supposed.event() for supposed in self.events)


class PreviewAnswer(Frozen):
    """What would become of the commands, in their order."""

    position: int
    """The log's end, at which they were decided."""
    commands: tuple[Preview, ...]


def check_ids(request: PreviewRequest) -> None:
    """That each command has an id of its own. Raises `InvalidInputError`."""
    if len({command.command_id for command in request.commands}) < len(request.commands):
        raise InvalidInputError(
            "Two of the commands have the same id.", hint="Give each an id of its own.", field="command_id"
        )
