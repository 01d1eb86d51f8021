"""What the STATE stream comes to hold, in memory. Pure."""

from __future__ import annotations

from collections import defaultdict

from events.state import encode_record
from events.subjects import scope_of
from services.topology.derived import Derived


class Shelf:
    """What STATE holds once every derivation so far is written and purged."""

    def __init__(self) -> None:
        self._scopes: dict[str, dict[str, bytes]] = defaultdict(dict)

    def take(self, derived: Derived) -> None:
        """Do with the records and purges what the STATE stream does with them."""
        for entry in derived.records:
            self._scopes[scope_of(entry.subject)][entry.subject] = encode_record(entry.record)
        for subject_filter in derived.purges:
            shelf = self._scopes[scope_of(subject_filter)]
            stem = subject_filter.removesuffix("*")
            for subject in [one for one in shelf if one.startswith(stem)]:
                del shelf[subject]

    def contents(self) -> dict[str, bytes]:
        """Every subject with its record's bytes."""
        return {subject: payload for shelf in self._scopes.values() for subject, payload in shelf.items()}
