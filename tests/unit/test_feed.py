"""How reading what stands in a stream ends, whoever swallows a cancellation on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from typing import Any
from unittest.mock import Mock

import pytest

from events import feed
from tests.support.waiting import wait_until


async def test_who_is_cancelled_again_while_it_ends_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    swallowed: list[str] = []
    is_over = asyncio.Event()

    async def stubborn(*_: Any, **__: Any) -> AsyncGenerator[list[Any]]:
        try:
            while True:
                try:
                    await asyncio.Event().wait()
                except asyncio.CancelledError:
                    swallowed.append("once")
                    if len(swallowed) > 3:
                        raise
            yield []
        finally:
            is_over.set()

    async def newest(*_: Any) -> int:
        return 1

    monkeypatch.setattr(feed, "feed", stubborn)
    monkeypatch.setattr(feed, "newest_sequence", newest)

    async def read() -> None:
        async for _ in feed.standing(Mock(), "S", "s.>"):
            pass

    reading = asyncio.create_task(read())
    await asyncio.sleep(0)
    reading.cancel()
    await wait_until(lambda: swallowed)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    assert is_over.is_set()
