"""The gateway's composition root."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nats.errors
import structlog
import uvicorn
from nats.aio.client import Client
from nats.aio.subscription import Subscription

from events import bus
from events.commands import Command
from events.ending import end, unless
from events.errors import InvalidInputError, UnavailableError
from events.identity import Identity
from events.memory import collect_rarely
from events.trust.permissions import Role
from services.gateway.acknowledging import Acknowledging
from services.gateway.admission import Admission
from services.gateway.agents import Agents
from services.gateway.commander import Commander
from services.gateway.follower import Follower
from services.gateway.http.app import make_app
from services.gateway.http.changes import Gateway
from services.gateway.http.dry_runs import Trial
from services.gateway.http.throttle import Throttle
from services.gateway.http.wire import PatientProtocol
from services.gateway.keeper import Keeper
from services.gateway.metrics import Metrics
from services.gateway.past import Pasts
from services.gateway.presence import Presence
from services.gateway.programs import Programs
from services.gateway.pulse import Pulse
from services.gateway.settings import Settings
from services.gateway.tasks import Tasks
from services.gateway.tracks import Tracks
from services.gateway.tunnels import Tunnels

_GRACE_SECONDS = 5
_UNSUBSCRIBE_SECONDS = 1

__all__ = ["Settings", "serve"]


async def serve(settings: Settings, stop: asyncio.Event, listening: Callable[[int], None] = lambda port: None) -> None:
    """Serve until `stop` is set; what was asked by then is answered. `listening` hears the HTTP port.

    The bus is waited for. Raises `InvalidInputError` for an identity or certificate that cannot be used,
    `UnavailableError` if the bus refuses, its connection is closed for good, or the port is taken, and `StoppedError`
    where it is told to stop before it has begun.
    """
    collect_rarely()
    identity = Identity(settings.identity) if settings.identity else None
    with listener(settings.host, settings.port) as listening_socket:
        async with AsyncExitStack() as stack:
            client = await stack.enter_async_context(_connected(settings, identity, "gateway", stop))
            keeping = None
            if identity:
                keeping = await stack.enter_async_context(_connected(settings, identity, "keeper", stop))
            port = listening_socket.getsockname()[1]
            parts = _Parts(settings, identity, client, keeping, port)
            listening(port)
            await parts.serve(listening_socket, stop)


@asynccontextmanager
async def _connected(
    settings: Settings, identity: Identity | None, role: Role, stop: asyncio.Event
) -> AsyncIterator[Client]:
    credentials = identity.credentials(role) if identity else None
    client = await unless(stop, bus.connect(settings.nats_url, f"wireloom-{role}", credentials))
    try:
        yield client
    finally:
        await client.close()


class _Parts:
    """A gateway put together."""

    def __init__(
        self, settings: Settings, identity: Identity | None, client: Client, keeping: Client | None, port: int
    ) -> None:
        metrics, presence, follower, tracks = Metrics(), Presence(), Follower(client), Tracks(client)
        commander = Commander(client, metrics)
        self.tasks = Tasks()
        self.release = version("wireloom")
        self.keeper = Keeper(keeping, identity, follower, metrics) if identity and keeping else None
        acknowledging = Acknowledging(follower.mirror, presence)
        follower.call_with_subjects(acknowledging.record)
        pulse = Pulse(follower, tracks, presence)
        pulse.watch(acknowledging.topics)
        self.agents = Agents(
            client,
            commander,
            follower,
            presence,
            metrics,
            tracks=tracks,
            acknowledging=acknowledging,
            identity=identity,
        )
        self.programs = Programs(commander, follower, self.tasks, self._try, secured=identity is not None)
        self.gateway = Gateway(
            client,
            commander,
            follower,
            presence,
            metrics,
            asyncio.Event(),
            tracks,
            pulse,
            Tunnels(client, follower, presence, secured=identity is not None),
            Pasts(client),
            acknowledging.convergences,
            admission=_admission(settings, identity, commander, follower, metrics),
            identity=identity,
            bus_urls=settings.told_bus_urls,
            public_url=settings.told_url(port),
            ca=identity.ca() if identity and settings.tls_cert is None else None,
            throttle=Throttle(settings.limits),
        )
        self.server = _Server(_http_config(self.gateway, self.release, settings.certificate))

    async def _try(self, command: Command) -> bytes:
        """What a program's command would do."""
        trial = Trial(self.gateway)
        await trial.give(command)
        return (await trial.told()).model_dump_json().encode()

    async def serve(self, listening: socket.socket, stop: asyncio.Event) -> None:
        """Serve until `stop` is set or a part fails."""
        gateway = self.gateway
        stopping = asyncio.create_task(stop.wait())
        on_http = asyncio.create_task(self.server.serve([listening]))
        on_bus = asyncio.create_task(self._serve_bus())
        inner = [asyncio.create_task(gateway.follower.run()), asyncio.create_task(gateway.commander.watch())]
        inner += [asyncio.create_task(gateway.tracks.run()), asyncio.create_task(gateway.pulse.run())]
        if self.keeper is not None:
            inner.append(asyncio.create_task(self.keeper.run()))
        parts = (stopping, on_http, on_bus, *inner)
        try:
            ended, _ = await asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)
            for part in ended:
                part.result()
        finally:
            gateway.closing.set()
            self.server.should_exit = True
            on_bus.cancel()
            await asyncio.wait([on_bus])
            await self.tasks.finish(_GRACE_SECONDS)
            await asyncio.wait([on_http])
            await end(parts)

    async def _serve_bus(self) -> None:
        """Answer programs at once, and agents as soon as there is something to answer them from."""
        follower = self.gateway.follower
        service = await self.programs.serve(self.gateway.client, self.release)
        subscriptions: list[Subscription] = []
        try:
            await follower.loaded.wait()
            subscriptions += await self.agents.serve(self.tasks)
            subscriptions.append(await self.gateway.tunnels.listen())
            structlog.get_logger("gateway").info("ready", position=follower.position)
            await asyncio.Event().wait()
        finally:
            with suppress(nats.errors.Error, TimeoutError):
                async with asyncio.timeout(_UNSUBSCRIBE_SECONDS):
                    for subscription in subscriptions:
                        await subscription.unsubscribe()
                    await service.stop()


def _admission(
    settings: Settings, identity: Identity | None, commander: Commander, follower: Follower, metrics: Metrics
) -> Admission | None:
    if identity is None:
        return None
    return Admission(identity, commander, follower, metrics=metrics, bus_urls=settings.told_bus_urls)


def _http_config(gateway: Gateway, release: str, certificate: tuple[Path, Path] | None) -> uvicorn.Config:
    return uvicorn.Config(
        make_app(gateway, release),
        http=PatientProtocol,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        **({} if certificate is None else _tls(*certificate)),
    )


def _tls(certificate: Path, key: Path) -> dict[str, Any]:
    """What makes uvicorn speak TLS. Raises `InvalidInputError` for files that cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        # Without a password given, OpenSSL would ask for that of an encrypted key on the terminal.
        context.load_cert_chain(certificate, key, password="")
    except OSError as error:
        raise InvalidInputError(
            f"The certificate {certificate} and the key {key} cannot be used: {error.strerror or error}.",
            hint="Give a PEM certificate and its unencrypted key, readable by the gateway.",
            field="tls_cert",
        ) from error
    return {"ssl_context_factory": lambda config, default: context}


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
