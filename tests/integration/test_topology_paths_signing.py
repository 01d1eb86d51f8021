"""PATHS on a real, secured bus: signed beside every record, and anew when the key is another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from events.subjects import bgp_plan
from events.trust.keys import fingerprint, generate
from events.trust.signing import Verifier, signed_with
from services.cli.private import write_private
from services.topology.service import serve
from services.topology.settings import Settings
from tests.support.bgp_fleet import Fleet
from tests.support.path_watch import PathWatch
from tests.support.secured import SecuredBus, secured_bus
from tests.support.waiting import wait_until


@pytest.fixture
async def bus(tmp_path: Path) -> AsyncIterator[SecuredBus]:
    async with secured_bus(tmp_path) as bus:
        yield bus


@pytest.fixture
async def watch(bus: SecuredBus) -> AsyncIterator[PathWatch]:
    async with (
        bus.connected("topology") as topology,
        bus.connected("gateway") as gateway,
        bus.connected("allocator") as allocator,
    ):
        watch = PathWatch(topology, gateway, allocator)
        await watch.prepare()
        yield watch


@asynccontextmanager
async def service(bus: SecuredBus) -> AsyncIterator[None]:
    """A running service, which must not end by itself."""
    stop = asyncio.Event()
    task = asyncio.create_task(serve(Settings(nats_url=bus.url, identity=bus.identity.folder), stop))
    try:
        yield
        assert not task.done()
    finally:
        stop.set()
        await asyncio.wait({task}, timeout=30)
        task.result()


def rotate(bus: SecuredBus) -> str:
    """Have a new key sign, and return its fingerprint."""
    new, ring = generate("operator"), bus.identity.ring()
    following = ring.model_copy(update={"version": ring.version + 1, "keys": (new.public, *ring.keys)})
    signed = following.signed_by(bus.identity.key("root"))
    write_private(bus.identity.folder / "ring.json", signed.model_dump_json())
    write_private(bus.identity.folder / "keys" / "records.seed", new.seed)
    return fingerprint(new.public)


async def genuine(bus: SecuredBus, watch: PathWatch) -> dict[str, bytes]:
    """What stands in PATHS, all of it signed by the control plane."""
    verifier = Verifier(bus.identity.public.root, bus.identity.ring())
    held = await watch.held()
    assert all(verifier.is_genuine(subject, payload, signature) for subject, (payload, signature) in held.items())
    return {subject: payload for subject, (payload, _) in held.items()}


async def test_every_path_is_signed_and_signed_anew_unchanged(bus: SecuredBus, watch: PathWatch) -> None:
    async with service(bus):
        machines = await watch.join(7)
        for _ in range(60):
            await watch.random_report(machines)
        await watch.settled(bus.identity.signer().fingerprint)
        before = await genuine(bus, watch)
        assert before
        new = rotate(bus)
        await watch.settled(new)
        assert await genuine(bus, watch) == before, "not a byte but the signatures"
        for _ in range(20):
            await watch.random_report(machines)
        await watch.settled(new)
        await genuine(bus, watch)
    newer = rotate(bus)
    async with service(bus), service(bus):
        for _ in range(20):
            await watch.random_report(machines)
        await watch.settled(newer)
        await genuine(bus, watch)
    assert "Violation" not in bus.server.log_path.read_text(), "the service may do what it does"


async def test_a_bgp_plan_is_signed_and_signed_anew_unchanged(bus: SecuredBus) -> None:
    async with (
        bus.connected("topology") as topology,
        bus.connected("gateway") as gateway,
        bus.connected("allocator") as allocator,
    ):
        fleet = Fleet(topology, gateway, allocator)
        await fleet.prepare()
        async with service(bus):
            await fleet.join(2)
            fleet.history.set_route_reflector_mode(fleet.network, True)
            await fleet.log()
            await fleet.becomes("switching", 2)
            before, _ = await fleet.standing()
            new = rotate(bus)

            async def is_signed_anew() -> bool:
                return signed_with((await fleet.standing())[1]) == new

            await wait_until(is_signed_anew, what="the plan is signed anew")
            payload, signature = await fleet.standing()
            assert payload == before, "not a byte but the signature"
            verifier = Verifier(bus.identity.public.root, bus.identity.ring())
            assert verifier.is_genuine(bgp_plan(fleet.network), payload, signature)
    assert "Violation" not in bus.server.log_path.read_text(), "the service may do what it does"
