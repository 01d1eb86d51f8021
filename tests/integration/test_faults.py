"""Real processes killed in the middle of a thousand assignments: nothing acknowledged is lost, no address is double."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from events import bus
from events.commands import AssignMachine, CreateNetwork, Outcome, RegisterMachine
from events.store.journal import Journal
from events.subjects import LOG
from services.allocator.application import Allocator, Answer
from services.cli.embedded import EmbeddedServer
from tests.support.callers import Callers
from tests.support.fleet import Fleet, running_fleet
from tests.support.ledger import read_ledger
from tests.support.plane import ACTOR, Plane, running_plane

pytestmark = pytest.mark.faults

MACHINES = 1000
AGENTS = 30
CIDR = IPv4Network("172.20.0.0/24")


@dataclass
class Site:
    """A network, a thousand machines that are not in it yet, and agents on some of them."""

    server: EmbeddedServer
    plane: Plane
    fleet: Fleet
    network_id: UUID
    machine_ids: list[UUID]

    async def crash_bus(self) -> None:
        """Kill the message bus and start it again."""
        self.server.kill()
        await self.server.wait()
        await self.server.start()

    async def crash_fleet(self) -> None:
        """Kill all agents and start them again."""
        await self.fleet.kill()
        await self.fleet.start()

    def crash(self, name: str) -> Callable[[], Awaitable[None]]:
        """Kills a service and starts it again."""

        async def crash() -> None:
            await self.plane.kill(name)
            await self.plane.start(name)

        return crash

    async def crash_all(self) -> None:
        """Kill everything and start it again: the power failed."""
        services = ("allocator", "topology", "gateway")
        self.server.kill()
        for name in services:
            await self.plane.kill(name)
        await self.fleet.kill()
        await self.server.wait()
        await self.server.start()
        await self.plane.start(*services)
        await self.fleet.start()


@pytest.fixture
async def site(bus_server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Site]:
    bus_server.port = int(bus_server.url.rsplit(":", 1)[1])
    machine_ids = [uuid4() for _ in range(MACHINES)]
    async with running_plane(bus_server.url) as plane:
        network_id = await plane.network("office", "172.20.0.0/22")
        await plane.machines(machine_ids)
        async with running_fleet(bus_server.url, tmp_path / "fleet", machine_ids[:AGENTS]) as fleet:
            random.Random(1).shuffle(machine_ids)
            yield Site(bus_server, plane, fleet, network_id, machine_ids)


@pytest.mark.parametrize("victim", ["bus", "allocator", "topology", "gateway", "fleet", "all"])
async def test_crashes_in_the_middle_of_a_thousand_assignments(site: Site, victim: str) -> None:
    crashes = {"bus": site.crash_bus, "fleet": site.crash_fleet, "all": site.crash_all}
    crash = crashes.get(victim) or site.crash(victim)
    callers = Callers(site.plane, site.network_id)
    async with callers.calling(site.machine_ids):
        for count in (300, 700):
            await callers.reach(count)
            assert len(callers.told) < MACHINES
            await crash()
    site.plane.assert_running()
    assert len(callers.told) == MACHINES
    ledger = await site.fleet.follows(site.plane.client)
    callers.assert_kept(ledger)
    assert all(len(ledger.tunnels(machine_id)) == 1 for machine_id in site.fleet.machine_ids)
    await site.plane.state_follows()


async def test_two_allocators_at_once_never_give_an_address_twice(bus_url: str) -> None:
    async with AsyncExitStack() as stack:
        clients = [await bus.connect(bus_url, "allocator") for _ in range(2)]
        stack.push_async_callback(asyncio.gather, *(client.close() for client in clients))
        await bus.ensure_streams(clients[0], (LOG,), 1)
        journals = [Journal(client, LOG.name, LOG.prefix) for client in clients]
        one, other = (
            stack.enter_context(Allocator({"NATS_URL": bus_url}, append=journal.append)) for journal in journals
        )
        network_id, machine_ids = uuid4(), [uuid4() for _ in range(254)]
        create = CreateNetwork(
            command_id=uuid4(), actor=ACTOR, network_id=network_id, name="office", network_cidr=str(CIDR)
        )
        register = [
            RegisterMachine(command_id=uuid4(), actor=ACTOR, machine_id=machine_id, hostname="db-1")
            for machine_id in machine_ids
        ]
        await one.execute([create, *register])

        async def assign(allocator: Allocator, mine: list[UUID]) -> list[Answer]:
            answers: list[Answer] = []
            for machine_id in mine:
                command = AssignMachine(command_id=uuid4(), actor=ACTOR, network_id=network_id, machine_id=machine_id)
                answers += await allocator.execute([command])
            return answers

        halves = await asyncio.gather(assign(one, machine_ids[::2]), assign(other, machine_ids[1::2]))
        ledger = await read_ledger(clients[0])
    sequences = [[answer.sequence for answer in half if isinstance(answer, Outcome)] for half in halves]
    assert [len(half) for half in sequences] == [127, 127], "the network is full, and nobody was refused"
    assert len(set(sequences[0]) | set(sequences[1])) == 254, "each was written on its own"
    assert {member.address for member in ledger.members[network_id].values()} == set(CIDR.hosts())


async def test_two_allocators_race_and_one_dies(site: Site) -> None:
    await site.plane.start("allocator/second")
    callers = Callers(site.plane, site.network_id)
    async with callers.calling(site.machine_ids):
        await callers.reach(500)
        await site.plane.kill("allocator")
    site.plane.assert_running()
    callers.assert_kept(await read_ledger(site.plane.client))
    await site.fleet.follows(site.plane.client)
    await site.plane.state_follows()
