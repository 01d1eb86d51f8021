"""Real agents with interfaces in memory, all in one process of their own that a test may kill and start again.

Started as `python -m tests.support.fleet URL FOLDER MACHINE...`; each agent keeps its state in a folder of its own.
Asked on the bus (`fleet.report`), the process tells what its interfaces are like:
`{machine: {interface: {addresses, public_key, peers: {key: {allowed_ips, endpoint, hostname}}}}}`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import ip_interface
from pathlib import Path
from typing import Any
from uuid import UUID

import nats.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from agent.access import open_bus
from agent.agent import Agent
from agent.context import Options
from agent.desired import Locality
from agent.device import Device
from agent.keys import public_key
from agent.network import Network
from agent.recording import RecordingDevices
from agent.store import DiskStore
from agent.surroundings import FixedSurroundings
from events.bus import connect
from services.cli.process import ChildProcess
from tests.support.ledger import Ledger, read_ledger
from tests.support.waiting import PATIENCE, wait_until

REPORT = "fleet.report"

Report = dict[UUID, dict[str, Any]]


class Fleet:
    """The process in which the agents live, from outside."""

    def __init__(self, bus_url: str, folder: Path, machine_ids: Sequence[UUID]) -> None:
        self.machine_ids = tuple(machine_ids)
        names = [str(machine_id) for machine_id in machine_ids]
        command = [sys.executable, "-m", "tests.support.fleet", bus_url, str(folder), *names]
        self._child = ChildProcess(command, os.environ)

    async def start(self) -> None:
        """Start all agents, from what an earlier life left on disk."""
        await self._child.start()

    async def kill(self) -> None:
        """End all agents as a crash would; what they had in memory, their interfaces too, is gone."""
        assert self._child.pid is not None
        os.kill(self._child.pid, signal.SIGKILL)
        await self._child.wait()

    async def stop(self) -> None:
        """End the process."""
        await self._child.stop()

    async def report(self, client: Client) -> Report:
        """What the agents' interfaces are like; nothing if the process does not answer."""
        try:
            reply = await client.request(REPORT, timeout=2)
        except (nats.errors.Error, TimeoutError):
            return {}
        return {UUID(machine): tunnels for machine, tunnels in orjson.loads(reply.data).items()}

    async def follows(self, client: Client, timeout: float = PATIENCE) -> Ledger:
        """Wait until every agent has announced itself in its networks and has exactly the interfaces and peers that
        the log tells of; returns what that is."""
        ledger, told = await read_ledger(client), Report()

        async def is_right() -> bool:
            nonlocal ledger, told
            ledger, told = await read_ledger(client), await self.report(client)
            return not self._differing(ledger, told)

        try:
            await wait_until(is_right, timeout)
        except TimeoutError as error:
            machine_id = self._differing(ledger, told)[0]
            raise AssertionError(
                f"{machine_id} has {told.get(machine_id)}, and should have {ledger.tunnels(machine_id)}"
            ) from error
        return ledger

    def _differing(self, ledger: Ledger, told: Report) -> list[UUID]:
        return [
            machine_id
            for machine_id in self.machine_ids
            if machine_id not in ledger.hostnames or told.get(machine_id) != ledger.tunnels(machine_id)
        ]


@asynccontextmanager
async def running_fleet(bus_url: str, folder: Path, machine_ids: Sequence[UUID]) -> AsyncIterator[Fleet]:
    """Agents in a process of their own, for as long as the block lasts."""
    fleet = Fleet(bus_url, folder, machine_ids)
    try:
        await fleet.start()
        yield fleet
    finally:
        await fleet.stop()


async def _live(url: str, folder: Path, machine_ids: list[str]) -> None:
    lives = [_make(url, folder, machine_id, number) for number, machine_id in enumerate(machine_ids, start=1)]

    async def tell(message: Msg) -> None:
        report = {str(agent.machine_id): _tunnels(agent, devices) for agent, devices in lives}
        await message.respond(orjson.dumps(report))

    client = await connect(url, "fleet")
    try:
        await client.subscribe(REPORT, cb=tell)
        await asyncio.gather(*(agent.run() for agent, _ in lives))
    finally:
        await client.close()


def _make(url: str, folder: Path, machine_id: str, number: int) -> tuple[Agent, RecordingDevices]:
    devices = RecordingDevices()
    here = Locality((ip_interface(f"192.0.2.{number}/24"),), frozenset({4}))
    agent = Agent(
        UUID(machine_id),
        Options(f"agent-{number}", "0.1.0"),
        connect=open_bus(url, "agent", UUID(machine_id)),
        devices=devices,
        store=DiskStore(folder / machine_id),
        surroundings=FixedSurroundings(here),
    )
    return agent, devices


def _tunnels(agent: Agent, devices: RecordingDevices) -> dict[str, Any]:
    networks = {network.interface: network for network in agent.networks.values()}
    found: dict[str, Any] = {}
    for interface in devices.interfaces():
        device = devices.read(interface)
        assert device is not None
        found[interface] = _tunnel(device, networks.get(interface))
    return found


def _tunnel(device: Device, network: Network | None) -> dict[str, Any]:
    members = network.view.members.values() if network else ()
    hostnames = {member.public_key: member.hostname for member in members}
    return {
        "addresses": sorted(device.addresses),
        "public_key": public_key(device.private_key) if device.private_key else None,
        "peers": {
            key: {
                "allowed_ips": sorted(peer.allowed_ips),
                "endpoint": peer.endpoint,
                "hostname": hostnames.get(key),
            }
            for key, peer in device.peers.items()
        },
    }


def main() -> None:
    """Run the agents that the command line names, until SIGTERM."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    url, folder, *machine_ids = sys.argv[1:]
    asyncio.run(_live(url, Path(folder), machine_ids))


if __name__ == "__main__":
    main()
