"""What the STATE stream comes to hold, in memory. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

from events.records import Record
from events.state import encode_record
from events.subjects import scope_of
from services.topology.derived import Derived


class Shelf:
    """What STATE holds once every derivation so far is written and purged."""

    def __init__(self, contents: Mapping[str, bytes] | None = None) -> None:
        """With the `contents` of another, as that one was."""
        self._held: dict[str, bytes | Record] = dict(contents or {})
        """In the order in which they stand in STATE. A record is made bytes when somebody asks for all: most are
        replaced before that."""
        self._scopes: defaultdict[str, set[str]] = defaultdict(set)
        for subject in self._held:
            self._scopes[scope_of(subject)].add(subject)

    def take(self, derived: Derived) -> None:
        """Do with the records and purges what the STATE stream does with them."""
        held = self._held
        for entry in derived.records:
            subject = entry.subject
            if held.pop(subject, None) is None:
                self._scopes[scope_of(subject)].add(subject)
            held[subject] = entry.record
        for subject_filter in derived.purges:
            scope = self._scopes[scope_of(subject_filter)]
            stem = subject_filter.removesuffix("*")
            for subject in [one for one in scope if one.startswith(stem)]:
                scope.remove(subject)
                del held[subject]

    def contents(self) -> dict[str, bytes]:
        """Every subject with its record's bytes, in the order in which they were written."""
        held = {
            subject: record if isinstance(record, bytes) else encode_record(record)
            for subject, record in self._held.items()
        }
        self._held = dict(held)
        return held

    def __len__(self) -> int:
        return len(self._held)
