"""The newest events for those who look again and again: the log is not read anew for each of them."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from nats.aio.client import Client

from services.gateway import history
from services.gateway.history import Recent, Stretch
from services.gateway.wanted import Wanted

NOBODY = cast(Client, None)


async def test_of_many_who_look_at_once_none_reads_again_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[int] = []

    async def slow(client: Client, before: Any, limit: int, wanted: Wanted, lowest: int = 1) -> Stretch:
        began.append(lowest)
        await asyncio.sleep(0)
        return Stretch([], None, 100)

    monkeypatch.setattr(history, "newest_first", slow)
    recent = Recent()
    await recent.newest(NOBODY, 6, Wanted())
    await asyncio.gather(*(recent.newest(NOBODY, 6, Wanted()) for _ in range(5)))
    assert began == [1, 101, 101, 101, 101, 101]
