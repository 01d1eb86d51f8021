"""What follows from one event: the records that it comes to, and what they make meaningless. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from events.errors import InternalError
from events.records import Body, Record, SubjectRecord
from events.subjects import machine_info, network_info, scope_of


class InconsistentLogError(InternalError):
    """Raised when an event speaks of something that the log has not brought about."""

    code = "inconsistent-log"
    title = "The log contradicts itself"


@dataclass(frozen=True, slots=True)
class Derived:
    """What follows from one event."""

    records: list[SubjectRecord] = field(default_factory=list)
    """What STATE must hold, to be written together."""
    purges: list[str] = field(default_factory=list)
    """Filters of STATE subjects that mean nothing any more once the records are written. Only where a deleted network
    is created again is anything written under them once more: whoever writes that purges first."""


class Draft:
    """The records of one event as they come up."""

    def __init__(self, revisions: dict[str, int], cause: int, time: datetime) -> None:
        """`revisions` holds each scope's revision, and is kept up to date."""
        self.derived = Derived()
        self.purges = self.derived.purges
        self.cause = cause
        """The event's position in the log."""
        self._revisions = revisions
        self._time = time

    def put(self, subject: str, body: Body | None) -> None:
        """Let `subject` say `body`, or with None that it is gone."""
        in_scope = scope_of(subject)
        previous = self._revisions.get(in_scope, 0)
        self._revisions[in_scope] = previous + 1
        record = Record(revision=previous + 1, previous=previous, cause=self.cause, time=self._time, body=body)
        self.derived.records.append(SubjectRecord(subject=subject, record=record))


def all_peers(network_id: UUID) -> str:
    """The filter of a network's peer records."""
    return network_info(network_id).removesuffix("info") + "peer.*"


def all_announcements(network_id: UUID) -> str:
    """The filter of the records of what a network's members may announce."""
    return network_info(network_id).removesuffix("info") + "announcement.*"


def all_policies(network_id: UUID) -> str:
    """The filter of a network's route policies."""
    return network_info(network_id).removesuffix("info") + "policy.*"


def all_memberships(machine_id: UUID) -> str:
    """The filter of a machine's membership records."""
    return machine_info(machine_id).removesuffix("info") + "network.*"


def filters_of(subject: str) -> tuple[str, str]:
    """The filters, as they stand in `Derived.purges`, that are for `subject`."""
    return subject, f"{subject.rpartition('.')[0]}.*"


def is_covered(subject: str, filters: set[str]) -> bool:
    """Whether one of these filters, as they stand in `Derived.purges`, is for `subject`."""
    return not filters.isdisjoint(filters_of(subject))
