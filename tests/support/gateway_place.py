"""A secured bus with a gateway alone, whose records and streams the test writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import structlog
from nats.aio.client import Client

from events import bus
from events.client import BusClient
from events.records import AccountRecord, ApiTokenRecord, MembershipRecord, PathRecord, Record
from events.state import encode_record
from events.subjects import BGP, PATHS, REACH, access, machine_membership, path
from events.trust import tokens
from events.trust.keys import Key
from services.gateway import service as gateway
from tests.support.gateway import answers, done, serving
from tests.support.secured import SecuredBus, StateWriter, secured_bus
from tests.support.secured_plane import API
from tests.support.waiting import wait_until


@dataclass
class Machine:
    """A machine with its identity key, and the networks it is in."""

    id: UUID
    key: Key
    networks: tuple[UUID, ...]


class Place:
    """A secured bus with a gateway and a network, whose records the test writes. A second network is called lab."""

    def __init__(self, the_bus: SecuredBus, client: Client) -> None:
        self.bus = the_bus
        self.client = client
        """The topology service's connection."""
        self.state = StateWriter(client)
        self.http: httpx2.AsyncClient
        self.office = self.lab = UUID(int=0)
        self._token = tokens.make(the_bus.identity.mint(), "api", uuid4())
        self._gateway = AsyncExitStack()

    async def prepare(self) -> None:
        """Write what every test needs."""
        self.office, self.lab = await self.state.network(), await self.state.network()
        account, token, now = uuid4(), uuid4(), datetime.now(UTC)
        body = AccountRecord(account_id=account, name="eve", role="viewer", created_at=now)
        await self.state.put(access("account", account), body)
        shown = ApiTokenRecord(
            token_id=token,
            account_id=account,
            name="test",
            role="viewer",
            use="api",
            secret_hash=tokens.hashed(self._token),
            created_at=now,
            expires_at=None,
        )
        await self.state.put(access("token", token), shown)

    async def start_gateway(self) -> None:
        """Start the gateway. One that runs ends first, and its memory with it."""
        await self._gateway.aclose()
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        settings = gateway.Settings(nats_url=self.bus.url, identity=self.bus.identity.folder, port=0)
        task = await self._gateway.enter_async_context(
            serving(lambda stop: gateway.serve(settings, stop, port.set_result))
        )
        await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
        url, shown = f"https://127.0.0.1:{port.result()}", {"Authorization": f"Bearer {self._token}"}
        client = httpx2.AsyncClient(base_url=url, verify=self.bus.identity.tls(), headers=shown, trust_env=False)
        self.http = await self._gateway.enter_async_context(client)
        await wait_until(lambda: answers(self.http), what="the gateway answers")
        await wait_until(self._is_loaded, what="the gateway has read STATE")

    async def _is_loaded(self) -> bool:
        return (await self.http.get(f"{API}/mesh-networks")).is_success

    async def stop(self) -> None:
        """Stop the gateway."""
        await self._gateway.aclose()

    async def machine(self, number: int, network: UUID | None = None) -> Machine:
        """A machine that is in a network, at the address with this number."""
        network = network or self.office
        machine_id, key = await self.state.machine()
        body = MembershipRecord(
            machine_id=machine_id,
            network_id=network,
            network_cidr=IPv4Network("172.16.0.0/16"),
            address=IPv4Address("172.16.0.0") + number,
            assigned_at=datetime.now(UTC),
        )
        await self.state.put(machine_membership(machine_id, network), body)
        return Machine(machine_id, key, (network,))

    @asynccontextmanager
    async def agent(self, machine: Machine) -> AsyncIterator[BusClient]:
        """A machine's connection."""
        token = self.bus.machine_token(machine.key, machine.id, machine.networks)
        async with self.bus.user(machine.key, token, str(machine.id)) as client:
            yield client

    async def make_streams(self) -> None:
        """Have what the topology service makes for reports and what follows from them."""
        await bus.ensure_streams(self.client, (REACH, PATHS, BGP), 1)

    async def written(self) -> int:
        """How many reports REACH holds."""
        count: int = (await self.client.jetstream().stream_info("REACH")).state.messages
        return count

    async def choose(self, machine: Machine, peer: Machine, *ways: tuple[UUID, ...]) -> None:
        """A record of PATHS."""
        body = PathRecord(network_id=self.office, machine_id=machine.id, peer_id=peer.id, ways=ways)
        record = Record(revision=1, previous=0, cause=7, time=datetime.now(UTC), body=body)
        await self.client.jetstream().publish(path(machine.id, self.office, peer.id), encode_record(record))

    async def look(self, where: str, **params: str) -> Any:
        """An answer of the HTTP API."""
        return await done(self.http.get(f"{API}/{where}", params=params))


@asynccontextmanager
async def placed(tmp_path: Path) -> AsyncIterator[Place]:
    """Such a place, for as long as the block lasts; nothing in the services' log may tell of a fault then."""
    with structlog.testing.capture_logs() as logs:
        async with secured_bus(tmp_path) as the_bus, the_bus.connected("topology") as client:
            found = Place(the_bus, client)
            await found.prepare()
            try:
                await found.start_gateway()
                yield found
            finally:
                await found.stop()
    services = [entry for entry in logs if str(entry.get("connection", "")).startswith("wireloom")]
    assert not [entry for entry in services if "ermissions" in str(entry.get("error"))]
    assert not [entry for entry in logs if entry.get("exc_info")]
    assert not [entry for entry in logs if entry["event"] == "cannot follow a stream yet"]
