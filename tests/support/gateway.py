"""A whole control plane for the gateway's tests: a real bus, allocator, topology and gateway in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from uuid import UUID

import httpx2

from services.allocator import service as allocator
from services.gateway import service as gateway
from services.topology import service as topology
from tests.support.waiting import wait_until

Serve = Callable[[asyncio.Event], Awaitable[None]]


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[asyncio.Task[None]]:
    """A service for as long as the block lasts. Its failure is raised at the end."""
    stop = asyncio.Event()
    task = asyncio.ensure_future(serve(stop))
    try:
        yield task
    finally:
        stop.set()
        async with asyncio.timeout(15):
            await task


@asynccontextmanager
async def gateway_alone(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """A gateway and a client of it."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = gateway.Settings(nats_url=bus_url, port=0)
    async with serving(lambda stop: gateway.serve(settings, stop, port.set_result)) as task:
        await asyncio.wait({task, port}, return_when=asyncio.FIRST_COMPLETED)
        url = f"http://127.0.0.1:{port.result()}"
        async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=30) as http:
            await wait_until(lambda: answers(http), what="the gateway answers")
            yield http


@asynccontextmanager
async def control_plane(bus_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    """Allocator, topology, gateway, and a client of the last, when all are ready."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(allocating(bus_url))
        await stack.enter_async_context(deriving(bus_url))
        http = await stack.enter_async_context(gateway_alone(bus_url))
        await wait_until(lambda: is_ready(http), what="the control plane is ready")
        yield http


def allocating(bus_url: str) -> Any:
    """An allocator."""
    return serving(lambda stop: allocator.serve(allocator.Settings(nats_url=bus_url), stop))


def deriving(bus_url: str) -> Any:
    """A topology service."""
    return serving(lambda stop: topology.serve(topology.Settings(nats_url=bus_url), stop))


async def answers(http: httpx2.AsyncClient) -> bool:
    """Whether the gateway's HTTP server is there."""
    try:
        return (await http.get("/healthz")).is_success
    except httpx2.TransportError:
        return False


async def is_ready(http: httpx2.AsyncClient) -> bool:
    """Whether the gateway says that everything is ready."""
    return (await http.get("/readyz")).is_success


async def create_network(http: httpx2.AsyncClient, name: str, cidr: str, **fields: Any) -> UUID:
    """A network that was created over HTTP."""
    body = {"name": name, "network_cidr": cidr} | fields
    return UUID((await done(http.post("/api/v1/mesh-networks", json=body)))["uuid"])


async def register_machine(http: httpx2.AsyncClient, hostname: str) -> UUID:
    """A machine that was registered over HTTP."""
    return UUID((await done(http.post("/api/v1/machines", json={"hostname": hostname})))["uuid"])


async def done(request: Awaitable[httpx2.Response]) -> Any:
    """The JSON of an answer that has to be a success."""
    response = await request
    assert response.is_success, response.text
    return response.json() if response.content else None
