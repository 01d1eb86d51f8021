"""What is derived held against what follows: PATHS, the BGP plans and the snapshots, in order and changed by hand."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from events import bus, log, state
from events.audit.asking import Outcome
from events.audit.findings import Finding
from events.client import BusClient
from events.ending import end
from events.feed import jetstream
from events.peering import BgpPlan
from events.records import Record
from events.state import encode_record
from events.subjects import (
    HISTORY_PREFIX,
    HISTORY_STREAM,
    PATHS_PREFIX,
    PATHS_STREAM,
    REACH_PREFIX,
    REACH_STREAM,
    bgp_plan,
    path,
)
from events.trust.keys import generate
from events.trust.signing import Signer
from services.topology.audit import ways
from services.topology.audit.compare import compare
from services.topology.past.chronicler import Chronicler
from services.topology.past.vault import Vault
from services.topology.service import serve
from services.topology.settings import Settings
from tests.support.path_watch import PathWatch
from tests.support.waiting import wait_until

EVER = timedelta(days=36_500)
LASTING = 0.5


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[BusClient]:
    client = await bus.connect(bus_url, "test")
    yield client
    await client.close()


@asynccontextmanager
async def deriving(url: str) -> AsyncIterator[None]:
    """A topology service."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        task = asyncio.create_task(serve(Settings(nats_url=url), stop))
        stack.push_async_callback(end, [task])
        stack.callback(stop.set)
        yield
        assert not task.done()


@asynccontextmanager
async def watching(client: BusClient, bus_url: str) -> AsyncIterator[PathWatch]:
    """A network of six with ways through others."""
    watch = PathWatch(client, client, client, seed=4)
    await watch.prepare()
    async with deriving(bus_url):
        machines = await watch.join(6)
        for one in machines:
            for other in machines:
                if one < other:
                    await watch.say(one, other, watch.chance.choice((1, 5, None)))
        await watch.settled()
        yield watch


@pytest.fixture
async def watch(client: BusClient, bus_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PathWatch]:
    """A network in which nothing that was reported is forgotten."""
    monkeypatch.setattr(ways, "_FORGOTTEN", EVER)
    async with watching(client, bus_url) as watch:
        yield watch


async def compared(client: BusClient, signer: Signer | None = None) -> tuple[list[Finding], Outcome]:
    findings: list[Finding] = []
    async with aclosing(compare(client, signer, LASTING)) as told:
        async for one in told:
            if isinstance(one, Finding):
                findings.append(one)
            if isinstance(one, Outcome):
                return findings, one
    raise AssertionError


async def some_way(watch: PathWatch) -> tuple[str, bytes]:
    """A record of PATHS that names a way."""
    held = await watch.held()
    return next((subject, payload) for subject, (payload, _) in held.items() if b'"ways":[[' in payload)


async def test_paths_in_order(watch: PathWatch, client: BusClient) -> None:
    findings, outcome = await compared(client)
    assert findings == []
    assert outcome.paths == len(await watch.held()) > 0
    assert outcome.position == await log.last_sequence(client)


async def test_ways_that_were_changed_invented_or_removed_by_hand(watch: PathWatch, client: BusClient) -> None:
    subject, payload = await some_way(watch)
    record = state.decode_record(payload)
    emptied = record.model_copy(update={"body": record.body.model_copy(update={"ways": ()})})  # type: ignore[union-attr]
    await client.request(subject, encode_record(emptied))
    (finding,), outcome = await compared(client)
    assert (finding.code, finding.subject) == ("paths", subject)
    assert "ways is []" in finding.problem
    assert 'ways [["' in finding.expected
    assert str(finding.aggregate) == subject.split(".")[2]
    assert outcome.paths == len(await watch.held())

    await jetstream(client, f"STREAM.PURGE.{PATHS_STREAM}", {"filter": subject})
    (finding,), _ = await compared(client)
    assert finding.problem == f"PATHS lacks {subject}"

    await client.request(subject, payload)
    one, other = (await watch.join(2))[:2]
    strange = path(one, watch.network, other)
    await client.request(strange, payload)
    await client.request(f"{PATHS_PREFIX}.paths.nonsense", b"{")
    await wait_until(lambda: is_derived(client), what="STATE has reached the log's end")
    findings, _ = await compared(client)
    assert {finding.subject for finding in findings} == {strange, f"{PATHS_PREFIX}.paths.nonsense"}
    assert all("does not follow" in finding.problem for finding in findings)


async def is_derived(client: BusClient) -> bool:
    last = await state.last_message(client)
    return last is not None and last.position == await log.last_sequence(client)


async def test_what_goes_on_meanwhile_is_no_difference(watch: PathWatch, client: BusClient) -> None:
    machines = list(watch.history.networks[watch.network])

    async def go_on() -> None:
        while True:
            await watch.random_report(machines)
            if watch.chance.random() < 0.1:
                machines.extend(await watch.join(1))

    going = asyncio.create_task(go_on())
    try:
        for _ in range(3):
            findings, outcome = await compared(client)
            assert findings == []
            assert outcome.paths > 0
    finally:
        await end([going])


async def test_what_may_rest_on_reports_that_are_not_kept_is_not_judged(
    watch: PathWatch, client: BusClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await jetstream(client, f"STREAM.PURGE.{REACH_STREAM}", {"filter": f"{REACH_PREFIX}.>"})
    findings, _ = await compared(client)
    assert all("does not follow" in finding.problem for finding in findings)
    assert len(findings) == len(await watch.bodies()) > 0
    monkeypatch.setattr(ways, "_FORGOTTEN", timedelta(days=23))
    findings, _ = await compared(client)
    assert findings == []


async def test_a_bgp_plan_that_was_changed_by_hand(client: BusClient, bus_url: str) -> None:
    """Nobody writes meanwhile: who does takes up what stands there."""
    async with watching(client, bus_url) as watch:
        pass
    machines = tuple(watch.history.networks[watch.network])

    def plan(*reflectors: UUID) -> bytes:
        body = BgpPlan("reflectors", frozenset(reflectors)).record(watch.network)
        return encode_record(Record(revision=7, previous=6, cause=1, time=datetime.now(UTC), body=body))

    await client.request(f"plan.{watch.network}", plan(*machines[:2]))
    await client.request(bgp_plan(watch.network), plan(*machines[2:3]))
    (finding,), _ = await compared(client)
    assert (finding.code, finding.aggregate) == ("paths", watch.network)
    assert f'reflectors is ["{machines[2]}"]' in finding.problem


async def test_what_is_right_but_not_signed(watch: PathWatch, client: BusClient) -> None:
    findings, _ = await compared(client, Signer(generate("user")))
    assert {finding.code for finding in findings} == {"state", "paths"}
    assert all("is not signed" in finding.problem for finding in findings)
    assert {finding.subject for finding in findings} >= (await watch.held()).keys()
    assert all((finding.position > 0) == (finding.code == "state") for finding in findings)


async def test_a_snapshot_that_was_changed_by_hand(watch: PathWatch, client: BusClient) -> None:
    await watch.join(30)
    await wait_until(lambda: is_derived(client), what="STATE has reached the log's end")
    await Chronicler(client, 9, rest=0).write_due()
    heads = await Vault(client).heads()
    findings, outcome = await compared(client)
    assert (findings, outcome.snapshots) == ([], len(heads))
    head, damaged = list(heads.values())[1:3]
    await jetstream(client, f"STREAM.PURGE.{HISTORY_STREAM}", {"filter": f"{HISTORY_PREFIX}.{damaged.position}.1"})
    vault = Vault(client)
    snapshot = await vault.read(head)
    assert snapshot is not None
    subject, payload = next(iter(snapshot.contents.items()))
    altered = {**snapshot.contents, subject: payload.replace(b'"revision":1', b'"revision":9')}
    await vault.write(snapshot._replace(contents=altered), head.following)
    (finding,), outcome = await compared(client)
    assert outcome.snapshots == len(heads) - 1, "one is none any more"
    assert (finding.code, finding.position) == ("snapshot", head.position)
    assert f"in 1 records, the first {subject}" in finding.problem
