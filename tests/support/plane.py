"""A whole control plane of real processes, each of which a test may kill and start again."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar
from uuid import UUID, uuid4

import httpx2
import orjson

from events import bus, state
from events.client import BusClient
from events.commands import COMMANDS, Outcome
from events.errors import UnavailableError, WireloomError
from events.feed import last_sequence
from events.identity import Identity
from events.subjects import LOG_STREAM, command
from events.trust.keys import Key
from services.cli.first import insisting, make_first_admin
from services.cli.process import ChildProcess
from services.cli.serve import Service
from services.cli.up import service_process
from services.topology.rebuild import compare
from tests.support.enrolled import BOOTSTRAP_TOKENS, Enrolled, enrol
from tests.support.program import environment, free_port
from tests.support.waiting import PATIENCE, wait_until

ACTOR = "test:caller"

NETWORKS = "/api/v1/mesh-networks"
MACHINES = "/api/v1/machines"

T = TypeVar("T")


class Plane:
    """The services of a control plane, a client of their bus and one of their HTTP API.

    With an identity everything is secured: `client` has the topology service's credentials, `console` those for giving
    commands, and `http` the first admin's token, as soon as `ready` has made it.
    """

    def __init__(
        self, bus_url: str, replicas: int, client: BusClient, identity: Identity | None, console: BusClient
    ) -> None:
        self.bus_url = bus_url
        self.client = client
        self.console = console
        self.identity = identity
        self.token = ""
        self._port = free_port()
        self.url = f"{'https' if identity else 'http'}://127.0.0.1:{self._port}"
        verify = identity.tls() if identity else True
        self.http = httpx2.AsyncClient(base_url=self.url, verify=verify, trust_env=False, timeout=15)
        self._replicas = replicas
        self._running: dict[str, ChildProcess] = {}
        self._ends: dict[str, asyncio.Task[int]] = {}

    async def start(self, *names: str) -> None:
        """Start services. A name is that of a service, with anything after a `/` to tell several of a kind apart."""
        for name in names:
            child = service_process(Service(name.partition("/")[0]), self._environment())
            self._running[name] = child
            await child.start()
            self._ends[name] = asyncio.create_task(child.wait())

    def _environment(self) -> dict[str, str]:
        values = {
            "NATS_URL": self.bus_url,
            "WIRELOOM_REPLICAS": str(self._replicas),
            "WIRELOOM_HTTP_PORT": str(self._port),
        }
        return environment(**values, **({"WIRELOOM_IDENTITY": str(self.identity.folder)} if self.identity else {}))

    async def kill(self, name: str) -> None:
        """End a service as a crash would."""
        child = self._running.pop(name)
        assert child.pid is not None
        assert not self._ends[name].done(), f"the {name} ended by itself with {self._ends[name].result()}"
        os.kill(child.pid, signal.SIGKILL)
        await self._ends.pop(name)

    async def stop(self, name: str) -> None:
        """End a service in good order."""
        child = self._running.pop(name)
        await child.stop()
        assert await self._ends.pop(name) == 0, f"the {name} did not end in good order"

    async def close(self) -> None:
        """End everything."""
        await asyncio.gather(*(child.stop() for child in self._running.values()))
        await asyncio.gather(*self._ends.values())
        await self.http.aclose()

    def assert_running(self) -> None:
        """No service ended that was not told to."""
        ended = {name: end.result() for name, end in self._ends.items() if end.done()}
        assert not ended, f"ended by themselves: {ended}"

    async def ready(self) -> None:
        """Wait until the gateway says that everything is ready, and with an identity sign in."""

        async def is_ready() -> bool:
            self.assert_running()
            try:
                return (await self.http.get("/readyz")).is_success
            except httpx2.TransportError:
                return False

        await wait_until(is_ready, what="the control plane is ready")
        if self.identity is not None and not self.token:
            self.token = await make_first_admin(insisting(self.console, PATIENCE)) or ""
            assert self.token, "there was an account already"
            self.http.headers["Authorization"] = f"Bearer {self.token}"

            async def is_signed_in() -> bool:
                return (await self.http.get("/api/v1/session")).is_success

            await wait_until(is_signed_in, what="the gateway knows the first account")

    async def give(self, kind: str, command_id: UUID | None = None, **fields: object) -> Outcome:
        """Have a command executed over the bus: asked again with the same id until it is decided, as programs do."""
        body = orjson.dumps({"command_id": command_id or uuid4(), "actor": ACTOR, **fields})
        if self.identity is not None:
            given = COMMANDS.validate_python({"kind": kind} | orjson.loads(body))
            return await _insist(lambda: bus.execute(self.console, given, timeout=2))
        answer = await _insist(lambda: bus.ask(self.client, command(kind), body, timeout=2))
        return Outcome.model_validate_json(answer)

    async def change(self, method: str, path: str, body: object = None, key: UUID | None = None) -> Any:
        """Have a change made over HTTP: asked again with the same key until it shows, as the `wireloom` program does.

        Raises any `WireloomError` but `UnavailableError`.
        """
        headers = {"Idempotency-Key": str(key or uuid4()), "X-Wireloom-Actor": ACTOR}

        async def attempt() -> Any:
            try:
                response = await self.http.request(method, path, json=body, headers=headers)
            except httpx2.TransportError as error:
                raise UnavailableError(str(error)) from error
            answer: Any = orjson.loads(response.content) if response.content else None
            if not response.is_success:
                raise WireloomError.from_problem(answer)
            if response.status_code == 202:
                raise UnavailableError("it does not show yet")
            return answer

        return await _insist(attempt)

    async def get(self, path: str, **params: Any) -> Any:
        """What stands at a path."""
        response = await self.http.get(path, params=params)
        assert response.is_success, response.text
        return response.json()

    async def network(self, name: str, network_cidr: str) -> UUID:
        """A new network."""
        made = await self.change("POST", NETWORKS, {"name": name, "network_cidr": network_cidr})
        return UUID(made["uuid"])

    async def machines(self, machine_ids: Sequence[UUID]) -> None:
        """Make machines known."""

        async def register(first: int) -> None:
            for number in range(first, len(machine_ids), 100):
                await self.give("register-machine", machine_id=machine_ids[number], hostname=f"m-{number}")

        await asyncio.gather(*(register(first) for first in range(100)))

    async def enrol(self, hostname: str, token: str = "", key: Key | None = None) -> Enrolled:
        """Let a machine in as its agent would be, with a fresh bootstrap token unless one is given."""
        token = token or (await self.change("POST", BOOTSTRAP_TOKENS, {}))["token"]
        return await enrol(self.http, hostname, token, key)

    async def state_follows(self) -> None:
        """Wait until STATE has reached the log's end and is byte for byte what a rebuild from the log gives."""

        async def is_current() -> bool:
            last = await state.last_message(self.client)
            end = await last_sequence(self.client, LOG_STREAM)
            return last is not None and last.position == end

        async def is_same() -> bool:
            return not await compare(self.client)

        await wait_until(is_current, what="STATE has reached the end of the log")
        await wait_until(is_same, what="STATE is what follows from the log")


@asynccontextmanager
async def running_plane(bus_url: str, replicas: int = 1, identity: Identity | None = None) -> AsyncIterator[Plane]:
    """A control plane on a bus that runs, ready, for as long as the block lasts; with an identity a secured one."""
    async with starting_plane(bus_url, replicas, identity) as plane:
        await plane.ready()
        yield plane


@asynccontextmanager
async def starting_plane(bus_url: str, replicas: int = 1, identity: Identity | None = None) -> AsyncIterator[Plane]:
    """The same, started but not waited for."""
    async with AsyncExitStack() as closing:
        client = await bus.connect(bus_url, "test", identity.credentials("topology") if identity else None)
        closing.push_async_callback(client.close)
        console = client
        if identity is not None:
            console = await bus.connect(bus_url, "test console", identity.credentials("console"))
            closing.push_async_callback(console.close)
        plane = Plane(bus_url, replicas, client, identity, console)
        closing.push_async_callback(plane.close)
        await plane.start(*Service)
        yield plane


async def _insist(attempt: Callable[[], Awaitable[T]]) -> T:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await attempt()
            except UnavailableError:
                await asyncio.sleep(0.05)
