"""What a check of the log finds, in words, with what that means and what to do. Pure."""

from __future__ import annotations

from typing import Literal
from uuid import UUID

from events.fields import Frozen

Code = Literal[
    "missing",
    "foreign",
    "envelope",
    "unreadable",
    "version",
    "chain",
    "command",
    "redaction",
    "time",
    "digest",
    "truncated",
    "checkpoint",
    "state",
    "paths",
    "snapshot",
    "unchecked",
]

_LOST = "Restore the log from a backup that verifies: nothing else tells what stood there."

MEANINGS: dict[Code, tuple[str, str]] = {
    "missing": (
        "Messages of the log are gone. The log never removes any: the bus lost or dropped them, for a damaged disk "
        "perhaps, or somebody did.",
        _LOST,
    ),
    "foreign": (
        "Something that is no event was written into the log, or an event was damaged so that it is none any more.",
        "Look who may write to log.> on the bus, and restore the log from a backup that verifies.",
    ),
    "envelope": (
        "What stands around the event is not as any writer leaves it: it was damaged, or written by something else.",
        _LOST,
    ),
    "unreadable": (
        "The event was damaged, or a newer program wrote it.",
        "If a newer version of Wireloom wrote it, verify with that; else restore the log from a backup that verifies.",
    ),
    "version": (
        "An event of this aggregate was removed, inserted, written twice, or moved.",
        _LOST,
    ),
    "chain": (
        "The event before it in this aggregate is not the one that it was written after: that one was altered, or "
        "this one's account of it.",
        _LOST,
    ),
    "command": ("One of the events of a command was altered.", _LOST),
    "redaction": (
        "Somebody who is not the control plane's owner made it look as if personal data was removed from this event.",
        _LOST,
    ),
    "time": (
        "The clock of the machine that the allocator ran on was set back, or the event was written with a wrong time.",
        "If a clock was wrong then, nothing: order in the log is by position, not by time.",
    ),
    "digest": (
        "Between the two positions something was altered, removed, inserted or moved after the checkpoint was made, "
        "even if its chains were made to fit.",
        _LOST,
    ),
    "truncated": (
        "The log was longer once: its end was cut off, or it was restored from an older backup.",
        "Restore the log from a newer backup; what happened since the cut is decided anew otherwise.",
    ),
    "checkpoint": (
        "A checkpoint is not what the control plane signed: it was forged or damaged, and says nothing about the log.",
        "Look who may write to checkpoint.> on the bus; compare with a checkpoint that you keep elsewhere.",
    ),
    "state": (
        "What machines and people are shown does not follow from the log: a record was changed by hand, lost, or "
        "derived by a faulty program.",
        "If the log itself is in order, delete the stream STATE and start the topology service anew: it is made again "
        "from the log. If not, restore the log first: STATE may still show what the log has lost.",
    ),
    "paths": (
        "The ways that machines are told to take do not follow from who is a member and what machines report: a record "
        "was changed by hand, lost, or derived by a faulty program.",
        "Delete the stream PATHS: it is made again from the log and the reports at once.",
    ),
    "snapshot": (
        "What is shown of moments after that position does not follow from the log: the snapshot was changed by hand, "
        "or made by a faulty program. Nothing that happens now rests on it.",
        "Delete the stream HISTORY: it is made again from the log.",
    ),
    "unchecked": (
        "That part could not be checked, so nothing is said about it.",
        "Check that a topology service runs, then verify again.",
    ),
}
"""For each code what such a finding means, and what to do."""

NOTICES: frozenset[Code] = frozenset({"time"})
"""Findings that do not make a log wrong."""


class Finding(Frozen):
    """One thing that is not as it should be."""

    code: Code
    position: int
    """Where in the log; of several positions the first."""
    problem: str
    expected: str = ""
    """What should be there, where that can be told."""
    aggregate: UUID | None = None
    subject: str = ""
    """The subject of the derived record, or of the checkpoint, that it is about."""

    @property
    def is_notice(self) -> bool:
        """Whether the log is in order all the same."""
        return self.code in NOTICES
