"""Sorted lists and their pages."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.errors import InvalidInputError
from services.gateway.ordered import Ordered
from services.gateway.queries import take

keys = st.lists(st.integers(0, 20), max_size=40)


def ordered_of(numbers: list[int]) -> Ordered:
    ordered = Ordered()
    for index, number in enumerate(numbers):
        ordered.put(UUID(int=index), f"{number:02}")
    return ordered


@given(keys, keys)
def test_stays_in_order(numbers: list[int], changed: list[int]) -> None:
    ordered = ordered_of(numbers)
    for index, number in enumerate(changed):
        ordered.put(UUID(int=index), f"{number:02}")
    for index in range(0, len(numbers), 3):
        ordered.discard(UUID(int=index))
    expected = dict(enumerate(numbers)) | dict(enumerate(changed))
    for index in range(0, len(numbers), 3):
        expected.pop(index, None)
    assert ordered.rows == sorted((f"{number:02}", UUID(int=index)) for index, number in expected.items())
    for number in range(21):
        same = [UUID(int=index) for index, key in sorted(expected.items()) if key == number]
        assert ordered.with_key(f"{number:02}") == same


@given(keys, st.integers(1, 7), st.sampled_from(["hostname", "-hostname"]))
def test_pages_are_the_whole_list(numbers: list[int], limit: int, sort: str) -> None:
    rows = ordered_of(numbers).rows
    seen: list[UUID] = []
    after: str | None = None
    while True:
        page = take(rows, sort, limit, after)
        assert page.total == len(rows)
        assert len(page.ids) <= limit
        seen += page.ids
        after = page.next
        if after is None:
            break
    ids = [row[1] for row in rows]
    assert seen == (ids if sort == "hostname" else ids[::-1])


def test_a_page_goes_on_after_what_was_removed() -> None:
    ordered = ordered_of([1, 2, 3, 4])
    first = take(ordered.rows, "hostname", 2, None)
    ordered.discard(first.ids[-1])
    assert take(ordered.rows, "hostname", 9, first.next).ids == [UUID(int=2), UUID(int=3)]


@pytest.mark.parametrize("cursor", ["", "x", "abc=", "WzFd", "bnVsbA", "♥"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="does not belong"):
        take(ordered_of([1, 2]).rows, "hostname", 1, cursor)


def test_a_cursor_belongs_to_its_sort() -> None:
    rows = ordered_of([1, 2]).rows
    with pytest.raises(InvalidInputError, match="does not belong"):
        take(rows, "-hostname", 1, take(rows, "hostname", 1, None).next)
