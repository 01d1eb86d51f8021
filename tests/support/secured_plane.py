"""A whole secured control plane for tests: a real bus with TLS and tokens, allocator, topology and gateway in this
process, and clients of the last over HTTPS."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2

from events import bus
from events.client import BusClient
from events.commands import CreateFirstAccount
from events.enrolment import EnrolRequest, RenewRequest
from events.identity import Identity
from events.trust import jwt, proof, tokens
from events.trust.keys import Key, generate
from events.trust.permissions import inbox, network_tag
from services.allocator import service as allocator
from services.cli.embedded import EmbeddedServer
from services.cli.identity import create
from services.gateway import service as gateway
from services.topology import service as topology
from tests.support.gateway import answers, done, is_ready, serving
from tests.support.waiting import wait_until

API = "/api/v1"


@dataclass
class Machine:
    """A machine with its identity key."""

    id: UUID
    key: Key
    hostname: str


class SecuredPlane:
    """A control plane that runs, and the token of its first admin."""

    def __init__(self, identity: Identity, bus_url: str, stack: AsyncExitStack) -> None:
        self.identity = identity
        self.bus_url = bus_url
        self.url = ""
        self.admin_token = tokens.make(identity.mint(), "api", uuid4())
        self._stack = stack
        self._allocator = AsyncExitStack()

    async def start_allocator(self) -> None:
        """Start the allocator. One that runs ends first, and its memory with it."""
        await self._allocator.aclose()
        settings = allocator.Settings(nats_url=self.bus_url, identity=self.identity.folder)
        await self._allocator.enter_async_context(serving(lambda stop: allocator.serve(settings, stop)))

    async def stop_allocator(self) -> None:
        """Stop the allocator."""
        await self._allocator.aclose()

    async def client(self, token: str | None = None, **headers: str) -> httpx2.AsyncClient:
        """A client that shows a token; without one, a stranger."""
        shown = {"Authorization": f"Bearer {token}"} if token is not None else {}
        client = httpx2.AsyncClient(
            base_url=self.url, verify=self.identity.tls(), headers=shown | headers, trust_env=False, timeout=30
        )
        return await self.entered(client)

    async def entered(self, client: httpx2.AsyncClient) -> httpx2.AsyncClient:
        """A client, which is closed when the control plane ends."""
        return await self._stack.enter_async_context(client)

    async def admin(self) -> httpx2.AsyncClient:
        """A client of the first admin."""
        return await self.client(self.admin_token)

    async def account(self, name: str, role: str) -> httpx2.AsyncClient:
        """A client of a new account."""
        return await self.client(await self.token_of(name, role))

    async def token_of(self, name: str, role: str) -> str:
        """The token of a new account."""
        admin = await self.admin()
        account = await done(admin.post(f"{API}/accounts", json={"name": name, "role": role}))
        made = await done(admin.post(f"{API}/tokens", json={"account_uuid": account["uuid"], "name": "test"}))
        token: str = made["token"]
        return token

    async def bootstrap_token(self, **fields: Any) -> str:
        """A token that lets machines in."""
        token: str = (await done((await self.admin()).post(f"{API}/bootstrap-tokens", json=fields)))["token"]
        return token

    async def position(self) -> int:
        """How long the log is."""
        position: int = (await done((await self.admin()).get(f"{API}/events", params={"limit": 1})))["last_sequence"]
        return position

    async def enrolment(self, http: httpx2.AsyncClient, machine: Machine, token: str) -> dict[str, Any]:
        """A request to let a machine in, with a proof for a fresh challenge."""
        challenge = (await done(http.post(f"{API}/agents/challenge")))["challenge"]
        return EnrolRequest(
            token=token,
            machine_id=machine.id,
            identity_key=machine.key.public,
            hostname=machine.hostname,
            challenge=challenge,
            proof=proof.prove(machine.key, proof.ENROL, machine.id, challenge),
        ).model_dump(mode="json")

    async def renewal(self, http: httpx2.AsyncClient, machine: Machine) -> dict[str, Any]:
        """A request of a machine to get access again."""
        challenge = (await done(http.post(f"{API}/agents/challenge")))["challenge"]
        made = proof.prove(machine.key, proof.RENEW, machine.id, challenge)
        return RenewRequest(machine_id=machine.id, challenge=challenge, proof=made).model_dump(mode="json")

    async def enrolled(self, hostname: str) -> Machine:
        """A machine that was let in."""
        machine = fresh_machine(hostname)
        stranger = await self.client()
        body = await self.enrolment(stranger, machine, await self.bootstrap_token())
        await done(stranger.post(f"{API}/agents/enrol", json=body))
        return machine

    async def joined(self, machine: Machine, *networks: UUID) -> BusClient:
        """A machine's connection, with a token for these networks; closed when the control plane ends."""
        now = int(time.time())
        token = jwt.user(
            self.identity.key("machine"),
            self.identity.public.account,
            machine.key.public,
            str(machine.id),
            issued_at=now,
            expires_at=now + 3600,
            tags=[network_tag(network_id) for network_id in networks],
        )
        name = str(machine.id)
        credentials = bus.Credentials(lambda: token, machine.key.sign, inbox(name), self.identity.tls())
        client = await bus.connect(self.bus_url, name, credentials, insist=False)
        self._stack.push_async_callback(client.close)
        return client


def fresh_machine(hostname: str) -> Machine:
    """A machine that nobody knows."""
    return Machine(uuid4(), generate("user"), hostname)


@asynccontextmanager
async def secured_plane(folder: Path, **settings: Any) -> AsyncIterator[SecuredPlane]:
    """A control plane in a fresh folder, ready, for as long as the block lasts. `settings` are the gateway's."""
    identity = create(folder / "identity", ["127.0.0.1", "localhost"])
    server = EmbeddedServer(folder / "bus", port=0, identity=identity)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(server.stop)
        await server.start()
        plane = SecuredPlane(identity, server.url, stack)
        stack.push_async_callback(plane.stop_allocator)
        await plane.start_allocator()
        given: dict[str, Any] = {"nats_url": server.url, "identity": identity.folder}
        await stack.enter_async_context(serving(lambda stop: topology.serve(topology.Settings(**given), stop)))
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        at = gateway.Settings(**given, port=0, **settings)
        task = await stack.enter_async_context(serving(lambda stop: gateway.serve(at, stop, port.set_result)))
        await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
        plane.url = f"https://127.0.0.1:{port.result()}"
        stranger = await plane.client()
        await wait_until(lambda: answers(stranger), what="the gateway answers")
        await wait_until(lambda: is_ready(stranger), what="the control plane is ready")
        await _first_account(plane)
        await wait_until(lambda: is_ready(stranger), what="the first account shows")
        yield plane


async def _first_account(plane: SecuredPlane) -> None:
    console = await bus.connect(plane.bus_url, "console", plane.identity.credentials("console"))
    try:
        await bus.execute(
            console,
            CreateFirstAccount(
                command_id=uuid4(),
                actor="console:test",
                account_id=uuid4(),
                name="admin",
                token_id=uuid4(),
                secret_hash=tokens.hashed(plane.admin_token),
            ),
        )
    finally:
        await console.close()


@contextmanager
def plane_in_thread(folder: Path, **settings: Any) -> Iterator[tuple[SecuredPlane, asyncio.AbstractEventLoop]]:
    """A control plane beside a test that has no event loop, and the loop that it runs in."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    running = secured_plane(folder, **settings)
    try:
        plane = asyncio.run_coroutine_threadsafe(running.__aenter__(), loop).result(60)
        try:
            yield plane, loop
        finally:
            asyncio.run_coroutine_threadsafe(running.__aexit__(None, None, None), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
