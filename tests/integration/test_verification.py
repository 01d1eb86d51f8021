"""Verifying the log of a real control plane: in order, damaged on the disk, tampered with, cut off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from uuid import UUID

import httpx2
import orjson

from events import bus, feed, log, state
from events.client import BusClient, Entry, headers_of
from events.subjects import LOG, machine_info
from services.cli.embedded import EmbeddedServer
from services.topology.service import LogBehindError
from tests.support.gateway import control_plane, create_network, deriving, done, gateway_alone, register_machine
from tests.support.logbook import rechained, renumbered
from tests.support.waiting import wait_until

VERIFICATION = "/api/v1/log/verification"
CHECKPOINTS_PATH = "/api/v1/log/checkpoints"

Json = dict[str, Any]


class Plane:
    """A control plane whose log a test verifies."""

    def __init__(self, http: httpx2.AsyncClient, client: BusClient) -> None:
        self.http = http
        self.client = client

    async def some_history(self) -> UUID:
        """A network and machines, some of them renamed; the network's id."""
        network = await create_network(self.http, "office", "172.16.0.0/24")
        for number in range(5):
            machine = await register_machine(self.http, f"m-{number}")
            await done(self.http.patch(f"/api/v1/machines/{machine}", json={"hostname": f"db-{number}"}))
            path = f"/api/v1/mesh-networks/{network}/machines"
            await done(self.http.post(path, json={"machine_uuid": str(machine)}))
        return network

    async def verify(self, *kept: Json) -> tuple[Json, list[Json]]:
        """The verdict, and the findings."""
        response = await self.http.post(VERIFICATION, json={"checkpoints": list(kept)}, timeout=60)
        assert response.is_success, response.text
        assert response.headers["content-type"] == "application/x-ndjson"
        lines = [orjson.loads(line) for line in response.content.splitlines()]
        assert lines[-1]["type"] == "verdict", lines[-1]
        return lines[-1], [line for line in lines if line["type"] == "finding"]

    async def checkpoint(self) -> Json:
        """A checkpoint of the log as it is."""
        made: Json = await done(self.http.post(CHECKPOINTS_PATH))
        return made

    async def follows(self) -> None:
        """Wait until STATE has reached the log's end."""

        async def is_there() -> bool:
            last = await state.last_message(self.client)
            return last is not None and last.position == await log.last_sequence(self.client)

        await wait_until(is_there, what="STATE has reached the log's end")


@asynccontextmanager
async def plane_on(url: str) -> AsyncIterator[Plane]:
    client = await bus.connect(url, "test")
    try:
        async with control_plane(url) as http:
            yield Plane(http, client)
    finally:
        await client.close()


@asynccontextmanager
async def plane_on_damaged(url: str) -> AsyncIterator[Plane]:
    """Allocator, topology and gateway on a log that is shorter than it was: what follows it gives up."""
    client = await bus.connect(url, "test")
    try:
        async with AsyncExitStack() as stack:
            with suppress(LogBehindError):
                await stack.enter_async_context(deriving(url))
                http = await stack.enter_async_context(gateway_alone(url))
                await wait_until(lambda: is_loaded(http), what="the gateway has loaded STATE")
                yield Plane(http, client)
                with suppress(LogBehindError):
                    await stack.aclose()
    finally:
        await client.close()


async def messages_of(client: BusClient) -> list[Entry]:
    end, found = await log.last_sequence(client), list[Entry]()
    async for batch in feed.entries(client, LOG.name, 0):
        found += batch
        if found[-1].sequence >= end:
            return found
    raise AssertionError


async def rewrite(url: str, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Put another log in the place of the one on a bus where nothing else runs."""
    client = await bus.connect(url, "test")
    try:
        entries = change(await messages_of(client))
        await feed.jetstream(client, f"STREAM.DELETE.{LOG.name}", {})
        await bus.ensure_streams(client, [LOG], 1)
        for entry in entries:
            await client.request(entry.subject, entry.data, headers=headers_of(entry.headers))
    finally:
        await client.close()


def codes(findings: list[Json]) -> set[str]:
    return {finding["code"] for finding in findings}


async def test_a_log_in_order(bus_url: str) -> None:
    async with plane_on(bus_url) as plane:
        verdict, findings = await plane.verify()
        assert (verdict["in_order"], verdict["count"], findings) == (True, 0, [])
        assert (await plane.http.post(CHECKPOINTS_PATH)).status_code == 404
        await plane.some_history()
        kept = await plane.checkpoint()
        end = await log.last_sequence(plane.client)
        assert orjson.loads(kept["checkpoint"])["position"] == end
        assert await plane.checkpoint() == kept
        await register_machine(plane.http, "later")
        await plane.follows()
        verdict, findings = await plane.verify(kept)
        assert findings == []
        assert (verdict["in_order"], verdict["count"], verdict["covered"]) == (True, end + 1, end)
        assert (verdict["state_position"], verdict["kept"], verdict["unsigned_checkpoints"]) == (end + 1, [True], 1)
        assert verdict["records"] == len((await state.load(plane.client)).entries)


async def test_checkpoints_page_by_page(bus_url: str) -> None:
    async with plane_on(bus_url) as plane:
        assert await done(plane.http.get(CHECKPOINTS_PATH)) == {"items": [], "next": None}
        made = []
        for number in range(5):
            await register_machine(plane.http, f"m-{number}")
            made.append(orjson.loads((await plane.checkpoint())["checkpoint"])["position"])
        shown: list[int] = []
        before = None
        while True:
            place = {} if before is None else {"before": before}
            page = await done(plane.http.get(CHECKPOINTS_PATH, params={"limit": 2} | place))
            shown += [item["position"] for item in page["items"]]
            before = page["next"]
            if before is None:
                break
        assert shown == made[::-1]
        verdict, findings = await plane.verify()
        assert (verdict["checkpoints"], verdict["covered"], findings) == (5, made[-1], [])


async def test_a_bit_that_flipped_on_the_disk(bus_server: EmbeddedServer) -> None:
    """The server notices by its own checksums, and leaves the message out: then it is missing."""
    async with plane_on(bus_server.url) as plane:
        await plane.some_history()
        await plane.checkpoint()
    client = await bus.connect(bus_server.url, "test")
    entries = await messages_of(client)
    await client.close()
    await bus_server.stop()
    target = entries[len(entries) // 2]
    (block,) = bus_server.data_dir.rglob(f"{LOG.name}/msgs/*.blk")
    raw = bytearray(block.read_bytes())
    raw[raw.index(target.data) + 20] ^= 1
    block.write_bytes(raw)
    await bus_server.start()
    async with plane_on(bus_server.url) as plane:
        verdict, findings = await plane.verify()
        assert not verdict["in_order"]
        assert (findings[0]["code"], findings[0]["position"]) == ("missing", target.sequence)
        assert codes(findings) >= {"missing", "digest"}


async def test_an_event_that_was_taken_out(bus_url: str) -> None:
    """Even if the rest is put together again without a gap, and the newest checkpoint with it."""
    async with plane_on(bus_url) as plane:
        network = await plane.some_history()
        kept = await plane.checkpoint()
        end = await log.last_sequence(plane.client)
    removed = []

    def without_a_rename(entries: list[Entry]) -> list[Entry]:
        index = next(i for i, entry in enumerate(entries) if entry.subject.endswith(str(network)))
        removed.append(entries[index])
        return renumbered([*entries[:index], *entries[index + 1 :]])

    await rewrite(bus_url, without_a_rename)
    async with plane_on_damaged(bus_url) as plane:
        verdict, findings = await plane.verify(kept)
        assert (verdict["in_order"], verdict["count"], verdict["kept"]) == (False, end - 1, [False])
        assert codes(findings) >= {"version", "truncated"}
        (gap,) = (finding for finding in findings if finding["code"] == "version")
        assert gap["aggregate_uuid"] == str(network)
        assert gap["aggregate"] == "network office"
        assert "version 1 is not before it" in gap["problem"]
        assert all(finding["meaning"] and finding["advice"] for finding in findings)


async def test_an_event_that_was_rewritten_with_all_that_follows(bus_url: str) -> None:
    """Its chain is whole again: only the checkpoints, and what was derived before, tell."""
    async with plane_on(bus_url) as plane:
        await plane.some_history()
        kept = await plane.checkpoint()

    def renamed(entries: list[Entry]) -> list[Entry]:
        return rechained([entry._replace(data=entry.data.replace(b'"m-2"', b'"x-2"')) for entry in entries])

    await rewrite(bus_url, renamed)
    async with plane_on(bus_url) as plane:
        verdict, findings = await plane.verify()
        assert not verdict["in_order"]
        assert [finding["code"] for finding in findings] == ["digest"]
        await feed.jetstream(plane.client, "STREAM.DELETE.CHECKPOINTS", {})
        verdict, findings = await plane.verify()
        assert (verdict["in_order"], verdict["checkpoints"]) == (True, 0)
        verdict, findings = await plane.verify(kept)
        assert ([finding["code"] for finding in findings], verdict["kept"]) == (["digest"], [False])


async def test_a_log_that_was_cut_off(bus_url: str) -> None:
    async with plane_on(bus_url) as plane:
        await plane.some_history()
        kept = await plane.checkpoint()
        end = await log.last_sequence(plane.client)
    await rewrite(bus_url, lambda entries: entries[:-3])
    async with plane_on_damaged(bus_url) as plane:
        verdict, findings = await plane.verify()
        cut = next(finding for finding in findings if finding["code"] == "truncated")
        assert (verdict["in_order"], cut["position"]) == (False, end)
        assert f"ends at position {end - 3}" in cut["problem"]
        await feed.jetstream(plane.client, "STREAM.DELETE.CHECKPOINTS", {})
        verdict, findings = await plane.verify(kept)
        assert "truncated" in codes(findings)


async def test_a_record_that_was_changed_by_hand(bus_url: str) -> None:
    async with plane_on(bus_url) as plane:
        await plane.some_history()
        await plane.checkpoint()
        machine = await register_machine(plane.http, "victim")
        await register_machine(plane.http, "another")
        await plane.follows()
        entries = dict((await state.load(plane.client)).entries)
        altered = entries[machine_info(machine)].replace(b"victim", b"mallet")
        await plane.client.request(machine_info(machine), altered)
        strange = machine_info(UUID(int=7))
        await plane.client.request(strange, altered)
        verdict, findings = await plane.verify()
        assert not verdict["in_order"]
        assert {finding["subject"] for finding in findings} == {machine_info(machine), strange}
        told = next(finding for finding in findings if finding["subject"] == machine_info(machine))
        assert (told["code"], told["aggregate_uuid"]) == ("state", str(machine))
        assert 'body.hostname is "mallet"' in told["problem"]
        assert 'body.hostname "victim"' in told["expected"]


async def test_one_at_a_time_and_without_a_topology_service(bus_url: str) -> None:
    async with plane_on(bus_url) as plane:
        await plane.some_history()
    client = await bus.connect(bus_url, "test")
    silent = await client.subscribe("audit.*")
    async with gateway_alone(bus_url) as http:
        await wait_until(lambda: is_loaded(http), what="the gateway has loaded STATE")
        first = asyncio.create_task(http.post(VERIFICATION))
        await silent.next_msg(timeout=30)
        refused = await http.post(VERIFICATION)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate-limited")
        first.cancel()
        await silent.unsubscribe()
        await client.flush()

        async def verdict() -> Json | None:
            response = await http.post(VERIFICATION)
            return None if response.status_code == 429 else orjson.loads(response.content.splitlines()[-1])

        told = await wait_until(verdict, what="the turn is over")
        assert (told["in_order"], told["state_position"], told["findings"]) == (False, None, 1)
    await client.close()


async def is_loaded(http: httpx2.AsyncClient) -> bool:
    return (await http.get("/api/v1/machines")).is_success
