"""A log is imported only into a bus that holds nothing of another one."""

from __future__ import annotations

from pathlib import Path

import pytest

from events import bus, log
from events.archive.format import Archived
from events.errors import ConflictError
from events.subjects import (
    CHECKPOINTS,
    HISTORY,
    PATHS,
    PLANS,
    REACH,
    REACH_STREAM,
    SNAPSHOTS,
    STATE,
    Stream,
)
from services.cli.restoring import Restored, restore
from tests.support.gateway import control_plane, create_network
from tests.support.histories import History
from tests.unit.test_archive import messages


def history() -> list[Archived]:
    history = History(3)
    for _ in range(5):
        history.register_machine()
    return [*messages(history.events), Archived(REACH_STREAM, 9, "reach.a.b.c", "", b"{}")]


async def restored(bus_url: str, folder: Path) -> Restored:
    return await restore(history(), folder, None, bus_url, root="", secured=False)


@pytest.mark.parametrize(
    "stream", [HISTORY, STATE, SNAPSHOTS, PATHS, PLANS, REACH, CHECKPOINTS], ids=lambda it: it.name
)
async def test_what_another_log_left_is_in_the_way(bus_url: str, tmp_path: Path, stream: Stream) -> None:
    client = await bus.connect(bus_url, "test")
    try:
        await bus.ensure_streams(client, (stream,), 1)
        await client.request(f"{stream.prefix}.5.0", b"{}", timeout=30)
        with pytest.raises(ConflictError, match=f"what belongs to one: {stream.name}"):
            await restored(bus_url, tmp_path)
        await client.request(f"$JS.API.STREAM.DELETE.{stream.name}", b"", timeout=30)
        assert (await restored(bus_url, tmp_path)).events == len(history()) - 1
        assert await log.last_sequence(client) == len(history()) - 1
    finally:
        await client.close()


async def test_a_log_is_never_written_over(bus_url: str, tmp_path: Path) -> None:
    async with control_plane(bus_url) as http:
        await create_network(http, "office", "172.16.0.0/24")
        with pytest.raises(ConflictError, match="holds a log already"):
            await restored(bus_url, tmp_path)
