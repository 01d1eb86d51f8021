"""The moments that the gateway keeps: one of each, and not more than fit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from events.instants import Instant
from events.past import Supposed
from services.gateway import past
from services.gateway.mirror import Machine, Mirror
from services.gateway.past import Past, Pasts

NOW = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)


class Counted(Pasts):
    """Moments of so many machines each, without a bus."""

    def __init__(self, machines: int = 0) -> None:
        super().__init__(cast(Any, None))
        self.machines = machines
        self.asked: list[int] = []
        self.at_once = self.most_at_once = 0

    async def place(self, instant: Instant) -> tuple[int, datetime]:
        position = cast(int, instant.position)
        return position, NOW + timedelta(seconds=position)

    async def _asked(self, position: int, time: datetime, then: Sequence[Supposed]) -> Past:
        self.asked.append(position)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        mirror = Mirror()
        mirror.machines.update((uuid4(), Machine()) for _ in range(self.machines))
        return Past(cast(Any, None), mirror, position, time, then)


async def test_a_moment_that_many_want_at_once_is_asked_for_once() -> None:
    pasts = Counted()
    found = await asyncio.gather(*(pasts.at(Instant(position=7)) for _ in range(50)))
    assert pasts.asked == [7]
    assert len(set(map(id, found))) == 1


async def test_many_moments_are_asked_for_one_after_the_other() -> None:
    pasts = Counted()
    await asyncio.gather(*(pasts.at(Instant(position=position)) for position in range(100)))
    assert pasts.most_at_once == 1


async def test_of_large_meshes_fewer_moments_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(past, "_KEPT_RECORDS", 30)
    pasts = Counted(machines=10)
    for position in (1, 2, 3, 4, 2, 3, 4, 1):
        await pasts.at(Instant(position=position))
    assert pasts.asked == [1, 2, 3, 4, 1]
    huge = Counted(machines=31)
    for position in (1, 1, 2, 2, 1):
        await huge.at(Instant(position=position))
    assert huge.asked == [1, 2, 1]
