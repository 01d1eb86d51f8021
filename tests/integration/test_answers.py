"""The services that answer the gateway publish nothing where a reply subject would make it a record or an event."""

from __future__ import annotations

import pytest

from events import bus, feed
from events.audit.asking import AUDIT_CHECKPOINT, AUDIT_STATE
from events.client import BusClient
from events.past import PAST_NETWORK, PAST_STATE
from events.subjects import ALLOCATOR_PREVIEW, CHECKPOINTS_STREAM, LOG_STREAM, REACH_STREAM, STATE_STREAM
from tests.support.gateway import control_plane


@pytest.mark.parametrize("subject", [PAST_STATE, PAST_NETWORK, AUDIT_STATE, AUDIT_CHECKPOINT, ALLOCATOR_PREVIEW])
async def test_nothing_is_answered_but_in_an_inbox(bus_url: str, subject: str) -> None:
    async with control_plane(bus_url):
        client = await bus.connect(bus_url, "test")
        try:
            before = await ends(client)
            for reply in ("log.x", "state.x", "checkpoint.1", "reach.x"):
                await client.publish(subject, b"{}", reply=reply)
                await client.publish(subject, b'{"position": 0}', reply=reply)
            answer = await client.request(subject, b"{}", timeout=30)  # the one after those
            assert answer.data
            assert await ends(client) == before
        finally:
            await client.close()


async def ends(client: BusClient) -> list[int]:
    streams = (LOG_STREAM, STATE_STREAM, CHECKPOINTS_STREAM, REACH_STREAM)
    return [(await feed.jetstream(client, f"STREAM.INFO.{stream}", {}))["state"]["last_seq"] for stream in streams]
