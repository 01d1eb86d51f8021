"""Machines acknowledge what they have applied, and the API and the program tell who lags."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from typer.testing import CliRunner

from events import bus
from events.client import BusClient
from events.records import Heartbeat
from events.subjects import beat
from services.cli.main import app
from tests.support.gateway import control_plane, create_network, done, register_machine
from tests.support.waiting import wait_until

NETWORKS = "/api/v1/mesh-networks"


@pytest.fixture
async def http(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with control_plane(bus_url) as http:
        yield http


@pytest.fixture
async def client(bus_url: str) -> AsyncIterator[BusClient]:
    client = await bus.connect(bus_url, "test")
    yield client
    await client.close()


async def status(http: httpx2.AsyncClient, network: UUID) -> Any:
    return await done(http.get(f"{NETWORKS}/{network}/status"))


async def test_who_lags_and_how_soon_changes_were_applied(http: httpx2.AsyncClient, client: BusClient) -> None:
    network = await create_network(http, "office", "172.16.0.0/24")
    boot, counter = uuid4(), iter(range(1, 1000))
    machines = [await register_machine(http, name) for name in ("one", "two")]
    for machine in machines:
        await done(http.post(f"{NETWORKS}/{network}/machines", json={"machine_uuid": str(machine)}))

    async def say(machine: UUID, revision: int) -> None:
        heartbeat = Heartbeat(
            boot_id=boot, counter=next(counter), applied={network: revision}, applied_ago={network: 5}
        )
        await client.publish(beat(machine), heartbeat.model_dump_json().encode())

    async def lagging() -> list[str]:
        return [each["hostname"] for each in (await status(http, network))["lagging"] if each["is_online"]]

    async def shows(*names: str) -> bool:
        return await lagging() == list(names)

    first = (await status(http, network))["revision"]
    for machine in machines:
        await say(machine, first)
    await wait_until(shows, what="both are up to date")
    await done(http.patch(f"{NETWORKS}/{network}", json={"name": "bureau"}))
    await say(machines[0], first + 1)
    await wait_until(lambda: shows("two"), what="the second lags")
    told = await status(http, network)
    assert (told["revision"], told["up_to_date_count"], told["lagging_count"]) == (first + 1, 1, 1)
    assert told["lagging"][0]["since"] == told["changed_at"]
    (change, *_) = told["changes"]
    assert (change["revision"], change["machine_count"]) == (first + 1, 1)
    assert 0 <= change["p50_seconds"] == change["p99_seconds"] < 60
    command = ["network", "status", "bureau", "--url", str(http.base_url)]
    shown = await asyncio.to_thread(CliRunner().invoke, app, command)
    assert shown.exit_code == 0, shown.output
    assert "1 of 2; 1 online lags" in shown.output
    assert "two" in shown.output
    assert (await http.get(f"{NETWORKS}/{uuid4()}/status")).status_code == 404
