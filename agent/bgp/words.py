"""What a network's records say of BGP: who may announce what, the network's policies, and its plan. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from uuid import UUID

from events.records import AnnouncementRecord, BgpPlanRecord, NetworkPolicyRecord
from events.routing import Direction, Policy

Word = AnnouncementRecord | NetworkPolicyRecord


class Words:
    """The newest of a network's records of BGP. Mutable, in memory only."""

    def __init__(self) -> None:
        self.announcements: dict[UUID, AnnouncementRecord] = {}
        """By machine; those that may announce nothing have none."""
        self.policies: dict[Direction, Policy] = {}
        self.plan: BgpPlanRecord | None = None
        """None for a full mesh."""
        self._subjects: dict[str, Word] = {}

    def put(self, subject: str, word: Word) -> None:
        """Take in a record."""
        self._subjects[subject] = word
        if isinstance(word, AnnouncementRecord):
            self.announcements[word.machine_id] = word
        else:
            self.policies[word.policy.direction] = word.policy

    def drop(self, subject: str) -> None:
        """A subject has no record any more."""
        word = self._subjects.pop(subject, None)
        if isinstance(word, AnnouncementRecord):
            self.announcements.pop(word.machine_id, None)
        elif word is not None:
            self.policies.pop(word.policy.direction, None)

    def retain(self, subjects: Iterable[str]) -> None:
        """Every other subject has no record any more."""
        for subject in set(self._subjects).difference(subjects):
            self.drop(subject)
