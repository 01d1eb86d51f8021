"""When the log is taken for damaged: not while others write."""

from __future__ import annotations

from typing import Any, cast

import pytest

from events import feed, log
from events.feed import StreamMissingError
from events.log import LogDamagedError, require_whole
from events.state import Last

CLIENT = cast(Any, None)


class Bus:
    """A bus where another allocator writes an event between any two questions, and STATE follows at once."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.end = self.derived = 100
        self.writes = 1
        self.missing = 0
        self.seen = list[int]()
        monkeypatch.setattr(feed, "jetstream", self.jetstream)
        monkeypatch.setattr(log, "last_message", self.last_message)
        monkeypatch.setattr(log, "_LOOK_SECONDS", 0)

    async def jetstream(self, *_: object) -> dict[str, Any]:
        end = self.seen.pop(0) if self.seen else self.end
        self._go_on()
        return {"state": {"last_seq": end, "messages": end - self.missing}}

    async def last_message(self, _: object) -> Last | None:
        derived = self.derived
        self._go_on()
        if derived < 0:
            raise StreamMissingError("STATE")
        return Last(1, "state.network.x.info", b"", derived)

    def _go_on(self) -> None:
        self.end += self.writes
        self.derived += self.writes


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Bus:
    return Bus(monkeypatch)


async def test_what_others_write_meanwhile_is_no_damage(world: Bus) -> None:
    for _ in range(5):
        await require_whole(CLIENT)


async def test_a_leader_that_does_not_know_the_end_yet_is_asked_again(world: Bus) -> None:
    world.writes, world.seen = 0, [97, 99]
    await require_whole(CLIENT)
    assert not world.seen


async def test_a_log_that_stays_shorter_than_state_is_damaged(world: Bus) -> None:
    world.writes, world.end = 0, 99
    with pytest.raises(LogDamagedError, match="events at its end"):
        await require_whole(CLIENT)


async def test_a_position_without_an_event_is_damage(world: Bus) -> None:
    world.missing = 1
    with pytest.raises(LogDamagedError, match="1 of its"):
        await require_whole(CLIENT)


async def test_without_state_the_log_alone_is_looked_at(world: Bus) -> None:
    world.derived = -1000
    await require_whole(CLIENT)
