"""What is said of a peer that is not reached: also which addresses were tried, as they become known."""

from __future__ import annotations

from uuid import uuid4

from agent.probing.choice import Candidate
from agent.probing.outputs import Link
from agent.probing.telling import Telling


def told(telling: Telling) -> list[tuple[str, ...]]:
    """The addresses that were named, in each report."""
    return [tuple(endpoint for endpoint, _ in said.state.tried) for said in telling.said if isinstance(said, Link)]


def candidate(endpoint: str) -> Candidate:
    return Candidate(endpoint, "announced", is_near=False)


def test_what_was_tried_later_is_told_too_but_not_often() -> None:
    telling, one, two = Telling(uuid4()), candidate("192.0.2.1:1"), candidate("192.0.2.2:2")
    assert telling.unreachable(0, ()), "before anything is known of where it is"
    assert not telling.unreachable(5, (one,)), "that is soon"
    assert not telling.unreachable(30, (one,))
    assert not telling.unreachable(60, (one,))
    assert told(telling) == [(), ("192.0.2.1:1",)]
    for second in range(60, 3660):
        telling.unreachable(second, (one, two) if second % 2 else (one,))
    assert len(told(telling)) < 15
