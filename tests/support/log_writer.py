"""Events straight into the log, without an allocator, for tests of those who follow it."""

from __future__ import annotations

from collections.abc import Iterable

from nats.aio.client import Client

from events import codec
from events.bus import ensure_streams
from events.domain import DomainEvent
from events.feed import last_sequence
from events.subjects import EVENT_HEADER, LOG, log_subject
from tests.support.waiting import wait_until


async def write_events(client: Client, events: Iterable[DomainEvent]) -> int:
    """Append `events` to the log, which is created if it is missing; returns the log's last sequence."""
    await ensure_streams(client, (LOG,), 1)
    end = await last_sequence(client, LOG.name)
    for event in events:
        header = {EVENT_HEADER: f"{event.originator_version} {codec.topic_of(type(event))}"}
        await client.publish(log_subject(event.originator_id), codec.encode(event), headers=header)
        end += 1

    async def stored() -> bool:
        return await last_sequence(client, LOG.name) >= end

    await wait_until(stored, what="the events are in the log")
    return end
