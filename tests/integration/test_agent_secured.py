"""Agents that join a whole secured control plane, as machines do: over HTTPS, with tokens, on a bus with TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx2
import pytest

from agent.context import Options
from agent.identity import EnrolledDoor, load
from agent.install import Service
from agent.join import Wish, join
from agent.store import DiskStore
from events.interfaces import interface_name
from events.trust.certificates import certificate_fingerprint
from tests.support.gateway import done
from tests.support.machines import Machine
from tests.support.secured_plane import API, SecuredPlane, secured_plane
from tests.support.waiting import wait_until


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[SecuredPlane]:
    async with secured_plane(tmp_path / "plane") as plane:
        yield plane


@pytest.fixture
async def admin(plane: SecuredPlane) -> httpx2.AsyncClient:
    return await plane.admin()


async def a_machine(plane: SecuredPlane, folder: Path, hostname: str) -> Machine:
    """A machine that has joined."""
    wish = Wish(
        url=plane.url,
        token=await plane.bootstrap_token(),
        hostname=hostname,
        ca_sha256=certificate_fingerprint(plane.identity.ca()),
        with_service=False,
    )
    state, service = folder / hostname, Service(lambda _: None, running=folder / "nowhere")
    await asyncio.to_thread(join, wish, state, service, lambda _: None)
    identity = load(state)
    assert identity is not None
    return Machine(
        plane.bus_url,
        identity.machine_id,
        door=EnrolledDoor(state, identity),
        store=lambda: DiskStore(state),
        options=Options(hostname, beat_interval=1.0),
    )


async def a_network(admin: httpx2.AsyncClient, name: str, cidr: str) -> UUID:
    made = await done(admin.post(f"{API}/mesh-networks", json={"name": name, "network_cidr": cidr}))
    return UUID(made["uuid"])


async def assign(admin: httpx2.AsyncClient, network_id: UUID, *machines: Machine) -> None:
    for machine in machines:
        asked = {"machine_uuid": str(machine.machine_id)}
        await done(admin.post(f"{API}/mesh-networks/{network_id}/machines", json=asked))


async def peers(machine: Machine, network_id: UUID, count: int) -> None:
    name = interface_name(network_id)
    await wait_until(lambda: len(machine.devices.peers(name)) == count, what=f"{count} peers")


async def test_machines_join_meet_and_part(plane: SecuredPlane, admin: httpx2.AsyncClient, tmp_path: Path) -> None:
    machines = [await a_machine(plane, tmp_path, f"m-{number}") for number in range(3)]
    office = await a_network(admin, "office", "172.20.0.0/24")
    lab = await a_network(admin, "lab", "172.21.0.0/24")
    first, second, third = machines
    async with first.running() as agent, second.running(), third.running():
        await assign(admin, office, *machines)
        await assign(admin, lab, first, second)
        for machine in machines:
            await peers(machine, office, 2)
        await peers(first, lab, 1)

        await done(admin.delete(f"{API}/mesh-networks/{lab}/machines/{second.machine_id}"))
        await peers(first, lab, 0)
        await wait_until(lambda: second.devices.interfaces() == [interface_name(office)], what="second leaves")
        await peers(second, office, 2)

        await done(admin.post(f"{API}/machines/{third.machine_id}/revoke"))
        await wait_until(lambda: not third.devices.interfaces(), what="the revoked machine leaves")
        await peers(first, office, 1)
        await peers(second, office, 1)

        said: dict[str, Any] = {}

        async def is_complete() -> bool:
            said.update(await done(admin.get(f"{API}/machines/{third.machine_id}/revocation")))
            return bool(said["complete"])

        await wait_until(is_complete, what="the receipts")
        dropped = {each["uuid"] for network in said["networks"] for each in network["dropped"]}
        assert dropped == {str(first.machine_id), str(second.machine_id)}
        assert not agent._context.belief.refusals.counts
