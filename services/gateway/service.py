"""The gateway's composition root."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import version

import nats.errors
import structlog
import uvicorn
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from events import bus
from events.errors import UnavailableError
from events.identity import Identity
from services.gateway.agents import Agents
from services.gateway.commander import Commander
from services.gateway.follower import Follower
from services.gateway.http.app import make_app
from services.gateway.http.changes import Gateway
from services.gateway.metrics import Metrics
from services.gateway.presence import Presence
from services.gateway.programs import serve_programs
from services.gateway.settings import Settings
from services.gateway.tasks import Tasks

_GRACE_SECONDS = 5
_UNSUBSCRIBE_SECONDS = 1

__all__ = ["Settings", "serve"]


async def serve(settings: Settings, stop: asyncio.Event, listening: Callable[[int], None] = lambda port: None) -> None:
    """Serve until `stop` is set; what was asked by then is answered. `listening` hears the HTTP port.

    Raises `InvalidInputError` for an address that is not loopback, and `UnavailableError` if the bus does not answer
    at the start, its connection is closed for good, or the port is taken.
    """
    with listener(settings.host, settings.port) as listening_socket:
        credentials = Identity(settings.identity).credentials("gateway") if settings.identity else None
        client = await bus.connect(settings.nats_url, "wireloom-gateway", credentials)
        try:
            listening(listening_socket.getsockname()[1])
            await _serve(client, listening_socket, stop)
        finally:
            await client.close()


async def _serve(client: Client, listening: socket.socket, stop: asyncio.Event) -> None:
    metrics, presence, tasks = Metrics(), Presence(), Tasks()
    commander, follower, closing = Commander(client, metrics), Follower(client), asyncio.Event()
    gateway = Gateway(client, commander, follower, presence, metrics, closing)
    release = version("wireloom")
    server = _Server(_http_config(gateway, release))
    stopping = asyncio.create_task(stop.wait())
    following = asyncio.create_task(follower.run())
    watching = asyncio.create_task(commander.watch())
    on_http = asyncio.create_task(server.serve([listening]))
    on_bus = asyncio.create_task(_serve_bus(gateway, tasks, release))
    parts = (stopping, following, watching, on_http, on_bus)
    try:
        ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
        for part in ended:
            part.result()
    finally:
        closing.set()
        server.should_exit = True
        on_bus.cancel()
        await asyncio.wait([on_bus])
        await tasks.finish(_GRACE_SECONDS)
        await asyncio.wait([on_http])
        stopping.cancel()
        following.cancel()
        watching.cancel()
        await asyncio.gather(*parts, return_exceptions=True)


async def _serve_bus(gateway: Gateway, tasks: Tasks, release: str) -> None:
    """Answer programs at once, and agents as soon as there is something to answer them from."""
    client, follower = gateway.client, gateway.follower
    agents = Agents(client, gateway.commander, follower, gateway.presence, gateway.metrics)
    service = await serve_programs(client, gateway.commander, tasks, release)
    subscriptions: list[Subscription] = []
    try:
        await follower.loaded.wait()
        subscriptions += await agents.serve(tasks)
        structlog.get_logger("gateway").info("ready", position=follower.position)
        await asyncio.Event().wait()
    finally:
        with suppress(nats.errors.Error, TimeoutError):
            async with asyncio.timeout(_UNSUBSCRIBE_SECONDS):
                for subscription in subscriptions:
                    await subscription.unsubscribe()
                await service.stop()


def _http_config(gateway: Gateway, release: str) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(gateway, release),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


@contextmanager
def listener(host: str, port: int) -> Iterator[socket.socket]:
    """The socket to accept HTTP connections on, bound. Raises `UnavailableError`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets that name their protocol; without it, each answer waits some 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, port))
        except OSError as error:
            raise UnavailableError(
                f"The gateway cannot listen on {host} port {port}: {error.strerror}.",
                hint="Stop what listens there, or choose another port with WIRELOOM_HTTP_PORT.",
            ) from error
        yield bound


class _Server(uvicorn.Server):
    """A server whose end the composition root decides, not a signal that it catches itself."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield
