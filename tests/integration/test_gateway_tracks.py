"""Reports and paths in a gateway's memory, on a real bus: what it writes when it cannot know what is written, and what
it knows after a stream was deleted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from nats.aio.client import Client

from events import bus
from events.errors import UnavailableError
from events.records import LinkState, PathRecord, ReachEvent, ReachRequest, Record
from events.state import encode_record
from events.subjects import PATHS, REACH, path, reach
from services.gateway.tracks import Tracks
from tests.support.proxy import proxy_to
from tests.support.reach_net import Net, direct, unreachable
from tests.support.waiting import wait_until


class Gateways:
    """Gateways' memories of one network, and what its machines report to them."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.net = Net(3)
        self.boot = uuid4()
        self._counter = 0

    @asynccontextmanager
    async def tracks(self, url: str) -> AsyncIterator[Tracks]:
        """One that has read the streams."""
        client = await bus.connect(url, "gateway")
        tracks = Tracks(client)
        task = asyncio.create_task(tracks.run())
        try:
            await wait_until(lambda: self.report(tracks), what="the streams are read")
            yield tracks
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await client.close()

    async def report(self, tracks: Tracks, *links: LinkState) -> bool:
        """Have the first machine report; False where it has to say it again."""
        self._counter += 1
        self.net.seconds += 1
        request = ReachRequest(network_id=self.net.id, boot_id=self.boot, counter=self._counter, links=links)
        try:
            await tracks.report(self.net.machines[0], request, self.net.mirror, self.net.now)
        except UnavailableError:
            return False
        return True

    async def newest(self) -> str:
        """What REACH says of the link from the first machine to the second."""
        subject = reach(self.net.id, *self.net.machines[:2])
        message = await self.client.jetstream().get_last_msg("REACH", subject)
        return ReachEvent.model_validate_json(message.data or b"").link.state

    async def written(self) -> int:
        """How many reports REACH holds."""
        count: int = (await self.client.jetstream().stream_info("REACH")).state.messages
        return count

    async def choose(self, way: UUID, revision: int) -> None:
        """Write how the first machine reaches the second."""
        one, two = self.net.machines[:2]
        body = PathRecord(network_id=self.net.id, machine_id=one, peer_id=two, ways=((way,),))
        record = Record(revision=revision, previous=0, cause=1, time=datetime.now(UTC), body=body)
        await self.client.jetstream().publish(path(one, self.net.id, two), encode_record(record))


@pytest.fixture
async def gateways(bus_url: str) -> AsyncIterator[Gateways]:
    client = await bus.connect(bus_url, "test")
    await bus.ensure_streams(client, (REACH, PATHS), 1)
    yield Gateways(client)
    await client.close()


async def test_a_report_is_compared_with_what_another_gateway_wrote(gateways: Gateways, bus_url: str) -> None:
    two = gateways.net.machines[1]
    async with proxy_to(bus_url) as proxy, gateways.tracks(bus_url) as first, gateways.tracks(proxy.url) as behind:
        assert await gateways.report(first, direct(two))
        await wait_until(lambda: behind.reach.link(gateways.net.id, gateways.net.machines[0], two), what="both know")
        proxy.flowing.clear()
        assert await gateways.report(first, unreachable(two))
        again = asyncio.create_task(gateways.report(behind, direct(two)))
        await asyncio.wait({again}, timeout=0.2)
        proxy.flowing.set()
        while not await again:
            again = asyncio.create_task(gateways.report(behind, direct(two)))
        assert await gateways.newest() == "direct"


async def test_what_may_have_been_written_is_written_over(gateways: Gateways, bus_url: str) -> None:
    two = gateways.net.machines[1]
    async with proxy_to(bus_url) as proxy, gateways.tracks(proxy.url) as tracks:
        assert await gateways.report(tracks, direct(two))
        proxy.lose("to_client", b'"stream":"REACH"')
        assert not await gateways.report(tracks, unreachable(two)), "its acknowledgement is lost"
        await wait_until(lambda: gateways.report(tracks, direct(two)), what="the link is reported as it is again")
        assert await gateways.newest() == "direct"


async def test_since_when_a_link_stands_outlives_the_reports_that_said_it(gateways: Gateways, bus_url: str) -> None:
    one, two, three = gateways.net.machines
    async with gateways.tracks(bus_url) as tracks:
        for number in range(50):
            gateways.net.seconds += 60
            flapping = unreachable(two) if number % 2 else direct(two)
            assert await gateways.report(tracks, flapping, direct(three, (10, 20)[number % 2]))
        steady = tracks.reach.link(gateways.net.id, one, three)
    await gateways.client.jetstream().purge_stream("REACH", keep=20)
    assert await gateways.written() == 20
    async with gateways.tracks(bus_url) as anew:
        again = anew.reach.link(gateways.net.id, one, three)
        assert steady is not None
        assert again is not None
        assert (again.since, again.newest) == (steady.since, steady.newest)
        assert again.began.event.time > again.since, "that report is not kept"


@pytest.mark.parametrize("stream", ["PATHS", "REACH"])
async def test_a_stream_that_was_deleted_is_read_anew(gateways: Gateways, bus_url: str, stream: str) -> None:
    one, two, edge = gateways.net.machines
    async with gateways.tracks(bus_url) as tracks:
        assert await gateways.report(tracks, unreachable(two))
        assert await gateways.report(tracks, direct(two))
        for revision in (1, 2, 3):
            await gateways.choose(edge, revision)
        await gateways.client.jetstream().delete_stream(stream)
        await bus.ensure_streams(gateways.client, (REACH, PATHS), 1)
        if stream == "PATHS":
            await gateways.choose(one, 1000)

            async def is_known() -> bool:
                with suppress(UnavailableError):
                    return (await tracks.sync("paths", one, 3)).revision == 1000
                return False

            await wait_until(is_known, what="what is derived anew is known")
            assert tracks.way(gateways.net.id, one, two).ways == ((one,),)
        else:

            async def is_written() -> bool:
                return await gateways.report(tracks, direct(two)) and await gateways.written() > 0

            await wait_until(is_written, what="what was lost is written again")
            assert await gateways.newest() == "direct"
