"""Checkpoints are written, signed, whoever else writes them and whatever key comes next."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from structlog.testing import capture_logs

from events import bus, log
from events.audit import stored
from events.audit.checkpoints import SignedCheckpoint, Trusted, checkpoint_subject, make, sift
from events.client import BusClient
from events.ending import end
from events.subjects import CHECKPOINTS, LOG
from events.trust.keys import Key, generate
from events.trust.signing import SIGNATURE_HEADER, Ring, Signer, Verifier
from services.cli.private import write_private
from services.topology.audit import checkpoints
from services.topology.audit.checkpoints import CheckpointKeeper
from tests.support.gateway import done
from tests.support.histories import History
from tests.support.log_writer import write_events
from tests.support.logbook import checkpoints_of, entries_of
from tests.support.secured_plane import API, secured_plane
from tests.support.waiting import wait_until

ROOT = generate("operator")
KEY, NEXT = generate("operator"), generate("operator")


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[BusClient]:
    client = await bus.connect(bus_url, "test")
    await bus.ensure_streams(client, (LOG, CHECKPOINTS), 1)
    yield client
    await client.close()


@asynccontextmanager
async def keeping(client: BusClient, key: Key | None = KEY) -> AsyncIterator[CheckpointKeeper]:
    keeper = CheckpointKeeper(client)
    task = asyncio.create_task(keeper.run(client, Signer(key) if key else None, asyncio.Lock()))
    try:
        yield keeper
    finally:
        assert not task.done()
        await end([task])


def history_of(count: int, history: History | None = None) -> History:
    history = history or History(1)
    while len(history.events) < count:
        history.register_machine()
    return history


async def standing(client: BusClient) -> list[tuple[str, SignedCheckpoint]]:
    newest = await stored.newest(client)
    return await stored.load(client, 0, newest[0]) if newest else []


async def has(client: BusClient, count: int) -> bool:
    return len(await standing(client)) == count


async def trusted(client: BusClient, *keys: Key) -> Trusted:
    ring = Ring(version=1, keys=tuple(key.public for key in keys)).signed_by(ROOT)
    return sift(await standing(client), Verifier(ROOT.public, ring) if keys else None)


async def reaches(client: BusClient, position: int) -> None:
    async def is_there() -> bool:
        newest = await stored.newest(client)
        return newest is not None and newest[1].read().position >= position

    await wait_until(is_there, what=f"there is a checkpoint of {position}")


async def test_one_every_so_often_and_when_asked(client: BusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 100)
    history = history_of(250)
    await write_events(client, history.events)
    async with keeping(client) as keeper:
        await reaches(client, 200)
        asked = await keeper.at_least(250)
        assert asked.read().position == 250
    async with keeping(client) as keeper:
        assert await keeper.at_least(250) == asked
        await write_events(client, history_of(400, history).events[250:])
        await reaches(client, 350)
    found = await trusted(client, KEY)
    assert (found.findings, found.unsigned) == ([], 0)
    assert [checkpoint.position for checkpoint in found.checkpoints] == [100, 200, 250, 350]
    right = checkpoints_of(entries_of(history.events))
    assert all(one.digest == right[one.position - 1].digest for one in found.checkpoints)


async def test_when_it_is_quiet(client: BusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "QUIET_SECONDS", 0.05)
    async with keeping(client, None):
        history = history_of(3)
        await write_events(client, history.events)
        await reaches(client, 3)
        await write_events(client, history_of(4, history).events[3:])
        await reaches(client, 4)
    found = await trusted(client)
    assert (found.findings, found.unsigned) == ([], len(found.checkpoints))


async def test_two_at_once_make_one_chain(client: BusClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "EVERY", 7)
    monkeypatch.setattr(checkpoints, "QUIET_SECONDS", 0.01)
    monkeypatch.setattr(checkpoints, "_RETRY_SECONDS", 0.01)
    history = History(2)
    async with keeping(client) as one, keeping(client) as other:
        for count in range(20, 201, 20):
            await write_events(client, history_of(count, history).events[count - 20 :])
            await asyncio.gather(one.at_least(count), other.at_least(count - 5))
    found = await trusted(client, KEY)
    assert found.findings == []
    positions = [checkpoint.position for checkpoint in found.checkpoints]
    assert positions == sorted(set(positions))
    right = checkpoints_of(entries_of(history.events))
    assert all(one.digest == right[one.position - 1].digest for one in found.checkpoints)


async def test_a_new_key_vouches_for_what_the_one_before_signed(client: BusClient) -> None:
    history = history_of(20)
    await write_events(client, history.events)
    async with keeping(client) as keeper:
        await keeper.at_least(20)
    async with keeping(client, NEXT):
        await wait_until(lambda: has(client, 2), what="the newest one is signed anew")
        found = await trusted(client, NEXT)
        assert (found.findings, [one.position for one in found.checkpoints]) == ([], [20, 20])
    await write_events(client, history_of(30, history).events[20:])
    async with keeping(client, NEXT) as keeper:
        await keeper.at_least(30)
    found = await trusted(client, NEXT)
    assert (found.findings, [one.position for one in found.checkpoints]) == ([], [20, 20, 30])


async def test_a_forged_one_is_not_built_on(client: BusClient) -> None:
    history = history_of(20)
    await write_events(client, history.events)
    async with keeping(client) as keeper:
        first = (await keeper.at_least(10)).read().position
    wrong = checkpoints_of(entries_of(history.events))[first - 1].model_copy(
        update={"position": first + 5, "count": first + 5}
    )
    beyond = wrong.model_copy(update={"position": 1000, "count": 1000})
    for forged in (wrong, beyond):
        signed = make(forged, Signer(generate("operator")))
        headers = {SIGNATURE_HEADER: signed.signature}
        await client.request(checkpoint_subject(forged.position), signed.checkpoint.encode(), headers=headers)
    await write_events(client, history_of(40, history).events[20:])
    with capture_logs() as told:
        async with keeping(client) as keeper:
            await keeper.at_least(40)
    errors = [line["event"] for line in told if line["log_level"] == "error"]
    assert errors == ["the log is shorter than its newest checkpoint says", "the log is not what a checkpoint says"]
    found = await trusted(client, KEY)
    assert [one.position for one in found.checkpoints] == [first, 40]
    assert [finding.position for finding in found.findings] == [first + 5, 1000]


async def test_a_control_plane_with_keys(tmp_path: Path) -> None:
    """Its checkpoints are signed, still count when their key was retired, and others do not."""
    async with secured_plane(tmp_path) as plane:
        admin, identity = await plane.admin(), plane.identity

        async def verify(*kept: Any) -> tuple[Any, list[Any]]:
            response = await admin.post(f"{API}/log/verification", json={"checkpoints": kept})
            lines = [orjson.loads(line) for line in response.content.splitlines()]
            return lines[-1], [line for line in lines if line["type"] == "finding"]

        kept = await done(admin.post(f"{API}/log/checkpoints"))
        verdict, findings = await verify(kept)
        assert (findings, verdict["in_order"], verdict["kept"]) == ([], True, [True])
        assert (verdict["unsigned_checkpoints"], verdict["root"]) == (0, identity.public.root)

        new, ring = generate("operator"), identity.ring()
        following = Ring(version=ring.version + 1, keys=(new.public,)).signed_by(identity.key("root"))
        write_private(identity.folder / "keys" / "records.seed", new.seed)
        write_private(identity.folder / "ring.json", following.model_dump_json())
        await done(admin.post(f"{API}/machines", json={"hostname": "later"}))

        async def is_signed_anew() -> bool:
            made = await done(admin.post(f"{API}/log/checkpoints"))
            return SignedCheckpoint(checkpoint=made["checkpoint"], signature=made["signature"]).is_signed_by(
                Verifier(identity.public.root, following)
            )

        await wait_until(is_signed_anew, what="the new key signs checkpoints")

        async def is_in_order() -> bool:
            verdict, _ = await verify(kept)
            return verdict["in_order"] and verdict["kept"] == [True] and verdict["checkpoints"] >= 2

        await wait_until(is_in_order, what="what the key before signed counts all the same")

        topology = await bus.connect(plane.bus_url, "test", identity.credentials("topology"))
        position = await log.last_sequence(topology) + 1
        forged = kept["checkpoint"].replace(
            f'"position":{orjson.loads(kept["checkpoint"])["position"]}', f'"position":{position}'
        )
        await topology.request(checkpoint_subject(position), forged.encode())
        await topology.close()
        verdict, findings = await verify(kept | {"checkpoint": forged})
        assert (verdict["in_order"], verdict["kept"]) == (False, [False])
        assert [finding["code"] for finding in findings] == ["checkpoint", "checkpoint"]
        assert "nobody signed it" in findings[0]["problem"]
        assert "its signature does not fit" in findings[1]["problem"]


async def test_what_is_no_checkpoint_is_passed_over(client: BusClient) -> None:
    history = history_of(3)
    await write_events(client, history.events)
    await client.request("checkpoint.3", b"nonsense", timeout=30)
    async with keeping(client, None) as keeper:
        assert (await keeper.at_least(3)).read().position == 3
    (finding,) = (await trusted(client)).findings
    assert "cannot be read" in finding.problem
