"""A bus that knows who may do what, and connections to it as machines and programs."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from uuid import UUID, uuid4

from nats.aio.client import Client

from events import bus
from events.bus import Credentials
from events.client import BusClient
from events.identity import Identity
from events.records import (
    Body,
    IdentityRecord,
    MachineRecord,
    MembershipRecord,
    NetworkRecord,
    Record,
)
from events.state import encode_record
from events.subjects import (
    LOG,
    SNAPSHOTS,
    STATE,
    access,
    machine_info,
    machine_membership,
    network_info,
    scope_of,
)
from events.trust import jwt
from events.trust.keys import Key, generate
from events.trust.permissions import inbox, network_tag
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create
from tests.support.waiting import wait_until


class SecuredBus:
    """A running server with its identity."""

    def __init__(self, server: EmbeddedServer, identity: Identity) -> None:
        self.server = server
        self.identity = identity

    @property
    def url(self) -> str:
        """Where it listens."""
        return self.server.url

    @asynccontextmanager
    async def connected(self, role: str) -> AsyncIterator[BusClient]:
        """A service's connection."""
        client = await bus.connect(self.url, role, self.identity.credentials(role))  # type: ignore[arg-type]
        try:
            yield client
        finally:
            await client.close()

    @asynccontextmanager
    async def user(self, key: Key, token: str, name: str) -> AsyncIterator[BusClient]:
        """A machine's or program's connection with a token that it was given. Raises `UnauthenticatedError`."""
        async with as_user(self.url, self.identity, key, token, name) as client:
            yield client

    def machine_token(self, key: Key, machine_id: UUID, networks: Sequence[UUID], issued_at: int | None = None) -> str:
        """A machine's token, as the gateway makes them."""
        now = int(time.time())
        return jwt.user(
            self.identity.key("machine"),
            self.identity.public.account,
            key.public,
            str(machine_id),
            issued_at=now if issued_at is None else issued_at,
            expires_at=now + 3600,
            tags=[network_tag(network_id) for network_id in networks],
        )


@asynccontextmanager
async def as_user(url: str, identity: Identity, key: Key, token: str, name: str) -> AsyncIterator[BusClient]:
    """A machine's or program's connection with a token that it was given. Raises `UnauthenticatedError`."""
    credentials = Credentials(lambda: token, key.sign, inbox(name), identity.tls())
    client = await bus.connect(url, name, credentials, insist=False)
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def secured_bus(folder: Path) -> AsyncIterator[SecuredBus]:
    """A fresh secured bus with all streams."""
    identity = create(folder / "identity", ["127.0.0.1", "localhost"])
    server = EmbeddedServer(folder / "bus", port=0, identity=identity)
    await server.start()
    running = SecuredBus(server, identity)
    try:
        async with running.connected("allocator") as allocator:
            await bus.ensure_streams(allocator, (LOG, SNAPSHOTS), 1)
        async with running.connected("topology") as topology:
            await bus.ensure_streams(topology, (STATE,), 1)
        yield running
    finally:
        await server.stop()


class StateWriter:
    """Writes records as the topology service does, where a test needs no log."""

    def __init__(self, client: Client) -> None:
        self._jetstream = client.jetstream()
        self._revisions: dict[str, int] = defaultdict(int)
        self._cause = 0

    async def put(self, subject: str, body: Body | None) -> Record:
        """Write a record."""
        self._cause += 1
        previous = self._revisions[scope_of(subject)]
        self._revisions[scope_of(subject)] = previous + 1
        now = datetime.now(UTC)
        record = Record(revision=previous + 1, previous=previous, cause=self._cause, time=now, body=body)
        await self._jetstream.publish(subject, encode_record(record))
        return record

    async def network(self) -> UUID:
        """A new network."""
        network_id = uuid4()
        body = NetworkRecord(
            network_id=network_id,
            name=f"n-{network_id}",
            network_cidr=IPv4Network("172.16.0.0/16"),
            is_default=False,
            route_reflector_mode=False,
            created_at=datetime.now(UTC),
        )
        await self.put(network_info(network_id), body)
        return network_id

    async def machine(self, *networks: UUID) -> tuple[UUID, Key]:
        """A new machine that has enrolled and is in these networks, and its key."""
        machine_id, key, now = uuid4(), generate("user"), datetime.now(UTC)
        body = MachineRecord(machine_id=machine_id, hostname="m", agent_version="", created_at=now)
        await self.put(machine_info(machine_id), body)
        await self.put(
            access("identity", machine_id),
            IdentityRecord(machine_id=machine_id, identity_key=key.public, enrolled_at=now, token_id=uuid4()),
        )
        for network_id in networks:
            await self.assign(machine_id, network_id)
        return machine_id, key

    async def assign(self, machine_id: UUID, network_id: UUID) -> None:
        """Have a machine join a network."""
        membership = MembershipRecord(
            machine_id=machine_id,
            network_id=network_id,
            network_cidr=IPv4Network("172.16.0.0/16"),
            address=IPv4Address("172.16.0.1"),
            assigned_at=datetime.now(UTC),
        )
        await self.put(machine_membership(machine_id, network_id), membership)

    async def unassign(self, machine_id: UUID, network_id: UUID) -> None:
        """Have a machine leave a network."""
        await self.put(machine_membership(machine_id, network_id), None)

    async def revoke(self, machine_id: UUID, key: Key) -> None:
        """Revoke a machine."""
        now = datetime.now(UTC)
        body = IdentityRecord(
            machine_id=machine_id, identity_key=key.public, enrolled_at=now, token_id=uuid4(), revoked_at=now
        )
        await self.put(access("identity", machine_id), body)


async def closed(client: BusClient) -> None:
    """Wait until the server has closed a connection for good."""
    await wait_until(lambda: client.is_closed, what="the server closes the connection")
