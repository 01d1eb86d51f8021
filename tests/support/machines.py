"""Machines whose agents are real and whose interfaces are in memory, beside a gateway that answers from a model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ipaddress import ip_interface
from uuid import UUID, uuid4

from agent.access import Door, open_bus, secured_bus
from agent.agent import Agent
from agent.bgp.routing import Gear
from agent.context import Options
from agent.desired import Locality
from agent.recording import RecordingDevices
from agent.store import MemoryStore, Store
from agent.surroundings import FixedSurroundings
from events.interfaces import interface_name
from events.records import PeerRecord
from events.subjects import network_peer
from tests.support.device_contract import a_key
from tests.support.fake_gateway import FakeGateway
from tests.support.waiting import wait_until

NETWORK = UUID("11111111-0000-4000-8000-000000000000")
NAME = interface_name(NETWORK)
HERE = Locality((ip_interface("192.0.2.10/24"),), frozenset({4}))


@dataclass
class Machine:
    """A machine whose agent may run, stop and run again."""

    url: str
    machine_id: UUID = field(default_factory=uuid4)
    devices: RecordingDevices = field(default_factory=RecordingDevices)
    surroundings: FixedSurroundings = field(default_factory=lambda: FixedSurroundings(HERE))
    options: Options = field(default_factory=lambda: Options("db-1", "0.1.0", beat_interval=0.05))
    store: Callable[[], Store] = MemoryStore
    door: Door | None = None
    """Where it gets its access; None for a bus that lets everybody in."""
    gear: Gear | None = None
    """What it speaks BGP with, if it does."""

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Agent]:
        ready = asyncio.Event()
        agent = Agent(
            self.machine_id,
            self.options,
            connect=open_bus(self.url, "agent", self.machine_id)
            if self.door is None
            else secured_bus(self.door, "agent"),
            door=self.door,
            devices=self.devices,
            store=self.store(),
            surroundings=self.surroundings,
            gear=self.gear,
            on_ready=ready.set,
        )
        life = asyncio.create_task(agent.run())
        try:
            await asyncio.wait({asyncio.create_task(ready.wait()), life}, return_when=asyncio.FIRST_COMPLETED)
            yield agent
        finally:
            agent.stop()
            await life


async def add_peers(gateway: FakeGateway, numbers: range) -> list[UUID]:
    """Members that are somewhere else; the number is the end of the address."""
    added = []
    for number in numbers:
        machine_id = UUID(int=number)
        gateway.model.assign(NETWORK, machine_id, f"172.20.0.{number}")
        await gateway.say(gateway.model.announce(NETWORK, machine_id, a_key(), (f"192.0.2.{number}:51820",)))
        added.append(machine_id)
    return added


def has_right_peers(gateway: FakeGateway, machine: Machine) -> bool:
    wanted = {
        record.public_key: {f"{record.address}/32"}
        for member, record in gateway.model.members(NETWORK).items()
        if member != machine.machine_id
    }
    return wanted == {key: set(peer.allowed_ips) for key, peer in machine.devices.peers(NAME).items()}


def own_record(gateway: FakeGateway, machine: Machine) -> PeerRecord | None:
    body = gateway.model.body(network_peer(NETWORK, machine.machine_id))
    return body if isinstance(body, PeerRecord) else None


async def assigned(gateway: FakeGateway, machine: Machine, address: str = "172.20.0.200") -> None:
    """Assign the machine and wait until it has joined and announced itself."""
    await wait_until(lambda: gateway.model.is_known(machine.machine_id), what="the registration")
    await gateway.say(gateway.model.assign(NETWORK, machine.machine_id, address))
    await wait_until(lambda: own_record(gateway, machine), what="the announcement")
    await wait_until(lambda: has_right_peers(gateway, machine), what="the peers")
