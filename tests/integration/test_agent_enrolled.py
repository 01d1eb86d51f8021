"""The lines that a real control plane gives out, pasted on machines; and new keys when it asks for them."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import httpx2
import pytest

from agent import identity as identities
from agent.context import Options
from agent.identity import EnrolledDoor, Identity
from agent.keys import public_key
from agent.main import run
from agent.store import DiskStore
from events.errors import IdentityTakenError, MachineRevokedError, TokenRefusedError
from events.interfaces import interface_name
from events.trust.keys import generate
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


async def a_line(admin: httpx2.AsyncClient, **fields: object) -> str:
    """What `wireloom token create` gives out."""
    line: str = (await done(admin.post(f"{API}/bootstrap-tokens", json=fields)))["join_command"]
    return line


async def paste(line: str, state: Path, hostname: str) -> int:
    """Run a line as it is, on a machine that keeps its state in a folder."""
    sudo, program, *arguments = shlex.split(line)
    assert (sudo, program) == ("sudo", "wireloom-agent")
    more = ["--state-dir", str(state), "--hostname", hostname, "--no-service"]
    return await asyncio.to_thread(run, [*arguments, *more])


def identity_in(state: Path) -> Identity:
    identity = identities.load(state)
    assert identity is not None
    return identity


def a_machine(plane: SecuredPlane, state: Path) -> Machine:
    identity = identity_in(state)
    return Machine(
        plane.bus_url,
        identity.machine_id,
        door=EnrolledDoor(state, identity),
        store=lambda: DiskStore(state),
        options=Options(identity.hostname, beat_interval=1.0),
    )


def used(machine: Machine, network_id: UUID) -> str:
    device = machine.devices.read(interface_name(network_id))
    return public_key(device.private_key) if device and device.private_key else ""


async def test_a_pasted_line_brings_a_machine_into_its_network_and_keys_rotate(
    plane: SecuredPlane, admin: httpx2.AsyncClient, tmp_path: Path
) -> None:
    made = await done(admin.post(f"{API}/mesh-networks", json={"name": "office", "network_cidr": "172.20.0.0/24"}))
    network_id = UUID(made["uuid"])
    line = await a_line(admin, uses=2, mesh_network_uuid=str(network_id))
    for hostname in ("db-1", "db-2"):
        assert await paste(line, tmp_path / hostname, hostname) == 0
    first, second = (a_machine(plane, tmp_path / hostname) for hostname in ("db-1", "db-2"))
    name = interface_name(network_id)
    async with first.running() as agent, second.running():
        await wait_until(lambda: used(first, network_id) in second.devices.peers(name), what="the first's key")
        await wait_until(lambda: used(second, network_id) in first.devices.peers(name), what="the second's key")
        network = agent.networks[network_id]
        for generation in (1, 2):
            old, peers = used(first, network_id), dict(first.devices.peers(name))
            await done(admin.post(f"{API}/machines/{first.machine_id}/rotate-key", json={}))
            await wait_until(lambda old=old: used(first, network_id) != old, what="another key")  # type: ignore[misc]
            await wait_until(
                lambda: set(second.devices.peers(name)) == {used(first, network_id)}, what="it at the peer"
            )
            assert first.devices.peers(name) == peers
            store = DiskStore(tmp_path / "db-1")
            tunnel = store.tunnel(network_id)
            store.close()
            assert tunnel is not None
            assert (tunnel.generation, tunnel.next_key) == (generation, None)
        assert agent.networks[network_id] is network


async def test_who_is_not_let_in_is_told_why_and_nothing_changes(
    plane: SecuredPlane, admin: httpx2.AsyncClient, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = await a_line(admin)
    assert await paste(line, tmp_path / "db-1", "db-1") == 0
    known = identity_in(tmp_path / "db-1")
    before = await plane.position()

    assert await paste(line, tmp_path / "db-2", "db-2") == TokenRefusedError.exit_code
    assert await plane.position() == before
    said = capsys.readouterr()
    assert line.split()[5] not in said.out + said.err
    thief = tmp_path / "thief"
    thief.mkdir()
    identities.save(thief, Identity(machine_id=known.machine_id, key=generate("user"), url=known.url))
    another = await a_line(admin)
    before = await plane.position()
    assert await paste(another, thief, "db-1") == IdentityTakenError.exit_code
    assert not identity_in(thief).is_enrolled
    assert await plane.position() == before

    assert await paste(another, tmp_path / "db-1", "db-1") == 0, (
        "its own key is let in again, and the token was not spent"
    )
    again = identity_in(tmp_path / "db-1")
    assert (again.machine_id, again.key.public) == (known.machine_id, known.key.public)

    await done(admin.post(f"{API}/machines/{known.machine_id}/revoke"))
    fresh = await a_line(admin)
    before = await plane.position()
    with pytest.raises(MachineRevokedError):
        await EnrolledDoor(tmp_path / "db-1", again).renew(())
    capsys.readouterr()
    assert await paste(fresh, tmp_path / "db-1", "db-1") == MachineRevokedError.exit_code
    assert "revoked" in capsys.readouterr().err
    assert await plane.position() == before
