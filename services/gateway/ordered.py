"""Ids kept in the order of their keys, for lists that are read page by page. Pure."""

from __future__ import annotations

from bisect import bisect_left, insort
from uuid import UUID

Key = str | int
Row = tuple[Key, UUID]
"""A sort key and the id it belongs to; all keys of one list are of one type."""


class Ordered:
    """Ids in the order of their keys; equal keys in the order of the ids."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self._keys: dict[UUID, Key] = {}

    def put(self, item: UUID, key: Key) -> None:
        """Set the key of an id, which may be new."""
        if self._keys.get(item) != key:
            self.discard(item)
            self._keys[item] = key
            insort(self.rows, (key, item))

    def discard(self, item: UUID) -> None:
        """Forget an id, if it is there."""
        if item in self._keys:
            del self.rows[bisect_left(self.rows, (self._keys.pop(item), item))]

    def with_key(self, key: Key) -> list[UUID]:
        """The ids that have exactly this key."""
        found = []
        for index in range(bisect_left(self.rows, (key, _LOWEST)), len(self.rows)):
            if self.rows[index][0] != key:
                break
            found.append(self.rows[index][1])
        return found


_LOWEST = UUID(int=0)
