"""A whole control plane for a benchmark: the embedded server and the three services, each a process of its own."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import nats.errors
import orjson
from nats.aio.client import Client

from events import bus, subjects
from events.commands import Outcome
from events.errors import WireloomError
from services.cli.embedded import EmbeddedServer
from services.cli.serve import Service
from services.cli.up import service_process

ACTOR = "bench:driver"
SERVICES = tuple(service.value for service in Service)


@dataclass(frozen=True, slots=True)
class Plane:
    """A running control plane and a client of its bus."""

    url: str
    client: Client
    http_url: str

    async def command(self, kind: str, **fields: object) -> Outcome:
        """Give a command over the bus, as programs do. Its refusal is raised."""
        reply = await self.client.request(subjects.command(kind), orjson.dumps({"actor": ACTOR, **fields}), timeout=30)
        if reply.headers and "Nats-Service-Error-Code" in reply.headers:
            raise WireloomError.from_problem(orjson.loads(reply.data))
        return Outcome.model_validate_json(reply.data)

    async def network(self, name: str, network_cidr: str) -> UUID:
        """A new network."""
        network_id = uuid4()
        await self.command("create-network", network_id=network_id, name=name, network_cidr=network_cidr)
        return network_id

    async def machines(self, count: int) -> list[UUID]:
        """New machines."""
        ids = [uuid4() for _ in range(count)]
        for start in range(0, count, 200):
            await asyncio.gather(
                *(self.command("register-machine", machine_id=each, hostname="m") for each in ids[start : start + 200])
            )
        return ids

    async def assign(self, network_id: UUID, machine_ids: Sequence[UUID]) -> None:
        """Assign machines to a network, all at once."""
        await self.command("assign-machines", network_id=network_id, machine_ids=machine_ids)


@asynccontextmanager
async def running_plane(data_dir: Path, services: Sequence[str] = SERVICES) -> AsyncIterator[Plane]:
    """A control plane on free ports and a directory of its own, for as long as the block lasts."""
    async with AsyncExitStack() as stack:
        server = EmbeddedServer(data_dir, port=0)
        url = await server.start()
        stack.push_async_callback(server.stop)
        port = _free_port()
        for service in services:
            child = service_process(Service(service), os.environ | {"NATS_URL": url, "WIRELOOM_HTTP_PORT": str(port)})
            await child.start()
            stack.push_async_callback(child.stop)
        client = await bus.connect(url, "benchmark")
        stack.push_async_callback(client.close)
        plane = Plane(url, client, f"http://127.0.0.1:{port}")
        if "gateway" in services:
            await _until_it_answers(plane)
        yield plane


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


async def _until_it_answers(plane: Plane) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                await plane.command("set-default-network", network_id=None)
            except (nats.errors.Error, WireloomError):
                await asyncio.sleep(0.05)
            else:
                return
