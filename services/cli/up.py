"""`wireloom up`: a whole control plane on this machine, bus and services, kept running."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated

import httpx2
import structlog
import typer

from events import bus
from events.errors import InvalidInputError, UnavailableError
from services.cli.datadir import default_data_dir, held
from services.cli.embedded import EmbeddedServer
from services.cli.logs import configure_logging
from services.cli.notify import notify
from services.cli.process import ChildProcess
from services.cli.serve import Service, stop_on_signals
from services.cli.session import DEFAULT_URL, console
from services.cli.supervisor import Supervised

DEFAULT_BUS = "nats://127.0.0.1:7422"
HTTP_HOST = "127.0.0.1"
"""The gateway listens on loopback only: it cannot tell yet who may do what."""

_BUS_PATIENCE = 5.0
_READY_EVERY = 0.1
_WORRY_AFTER = 15.0


@dataclass(frozen=True)
class Plan:
    """What `wireloom up` is to run."""

    data_dir: Path
    nats_url: str
    """A bus that runs already; empty to bring our own."""
    bus_host: str
    bus_port: int
    http_port: int
    replicas: int

    @property
    def url(self) -> str:
        """Where the gateway will answer."""
        return f"http://{HTTP_HOST}:{self.http_port}"


def up(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="WIRELOOM_DATA_DIR",
            show_default="/var/lib/wireloom for root, else ~/.local/share/wireloom",
            help="Where the embedded bus keeps the log.",
        ),
    ] = None,
    nats_url: Annotated[
        str, typer.Option(envvar="NATS_URL", help="Use this bus instead of bringing one along.", show_default=False)
    ] = "",
    bus_host: Annotated[str, typer.Option(help="Where the embedded bus listens for agents.")] = "127.0.0.1",
    bus_port: Annotated[int, typer.Option(min=1, max=65535)] = 7422,
    http_port: Annotated[int, typer.Option(min=1, max=65535)] = 7480,
    replicas: Annotated[
        int, typer.Option(min=1, max=5, envvar="WIRELOOM_REPLICAS", help="Copies of each stream, on a cluster.")
    ] = 1,
) -> None:
    """Run a whole control plane on this machine: message bus, allocator, topology and gateway.

    Restarts what dies, and stops everything in order on SIGTERM or Ctrl-C.
    """
    configure_logging(service="up")
    if replicas > 1 and not nats_url:
        raise InvalidInputError(
            f"The bus that wireloom brings along is one server and cannot keep {replicas} copies.",
            hint="Give a cluster's address with --nats-url, or leave out --replicas and WIRELOOM_REPLICAS.",
            field="replicas",
        )
    directory = data_dir or default_data_dir(os.environ, os.geteuid() == 0)
    plan = Plan(directory.absolute(), nats_url, bus_host, bus_port, http_port, replicas)
    asyncio.run(_run(plan))


async def _run(plan: Plan) -> None:
    stop = stop_on_signals()
    _check_port_is_free(plan.http_port)
    async with AsyncExitStack() as parts:
        if plan.nats_url:
            await _check_bus(plan.nats_url)
            bus_url = plan.nats_url
        else:
            parts.enter_context(held(plan.data_dir))
            bus_url = await _start_bus(plan, parts)
        for service in Service:
            supervised = Supervised(service.value, service_process(service, bus_url, plan.http_port, plan.replicas))
            parts.push_async_callback(supervised.stop)
            await supervised.start()
        if await _ready_or_stopped(plan.url, stop):
            typer.echo(summary(plan, bus_url))
            notify("READY=1")
            await stop.wait()
        notify("STOPPING=1")
        structlog.get_logger("services.cli.up").info("stopping")


async def _check_bus(url: str) -> None:
    """Raises `UnavailableError` if no bus answers at `url`, rather than leave the services waiting for it."""
    try:
        async with asyncio.timeout(_BUS_PATIENCE):
            await (await bus.connect(url, "wireloom up")).close()
    except TimeoutError as error:
        raise UnavailableError(
            f"No message bus answers at {url}.",
            hint="Start it, give the right address, or leave out --nats-url and NATS_URL to have one brought along.",
        ) from error


async def _start_bus(plan: Plan, parts: AsyncExitStack) -> str:
    if not _is_loopback(plan.bus_host):
        console(stderr=True).print(
            f"warning: the bus listens on {plan.bus_host} and has no authentication yet: whoever reaches port "
            f"{plan.bus_port} can read and change everything. Let only your machines reach it.",
            style="yellow",
        )
    server = EmbeddedServer(plan.data_dir / "bus", plan.bus_host, plan.bus_port)
    supervised = Supervised("message bus", server)
    parts.push_async_callback(supervised.stop)
    await supervised.start()
    return f"nats://{_reachable(plan.bus_host)}:{plan.bus_port}"


def service_process(service: Service, bus_url: str, http_port: int, replicas: int = 1) -> ChildProcess:
    """One service as a child of ours, configured by its environment."""
    environment = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
    environment |= {
        "NATS_URL": bus_url,
        "WIRELOOM_REPLICAS": str(replicas),
        "WIRELOOM_HTTP_HOST": HTTP_HOST,
        "WIRELOOM_HTTP_PORT": str(http_port),
    }
    return ChildProcess([sys.executable, "-m", "services.cli", "serve", service.value], environment)


async def _ready_or_stopped(url: str, stop: asyncio.Event) -> bool:
    """Wait until the gateway says that all is ready: True; or until we are told to stop: False."""
    log = structlog.get_logger("services.cli.up")
    loop = asyncio.get_running_loop()
    worry_at = loop.time() + _WORRY_AFTER
    async with httpx2.AsyncClient(base_url=url, trust_env=False, timeout=5) as http:
        while not stop.is_set():
            reason = "the gateway does not answer"
            with suppress(httpx2.TransportError):
                response = await http.get("/readyz")
                if response.is_success:
                    return True
                reason = response.text
            if loop.time() > worry_at:
                log.warning("not ready yet, still trying", reason=reason)
                worry_at = loop.time() + _WORRY_AFTER
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), _READY_EVERY)
    return False


def summary(plan: Plan, bus_url: str) -> str:
    """What a person should know once everything runs: where things are, and what to type next."""
    data = f"with the bus, at {plan.nats_url}" if plan.nats_url else str(plan.data_dir)
    export = "" if plan.url == DEFAULT_URL else f"  export WIRELOOM_URL={plan.url}\n"
    agent = "sudo wireloom-agent run" + ("" if bus_url == DEFAULT_BUS else f" --nats {bus_url}")
    return f"""
Wireloom is up. Ctrl-C stops it.

  HTTP API      {plan.url}/api/v1
  Message bus   {bus_url}
  Data          {data}

Next, in another terminal:

{export}  wireloom network create office 172.16.0.0/24
  {agent}
  wireloom machine assign HOSTNAME --network office
  wireloom log --follow
"""


def _check_port_is_free(port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HTTP_HOST, port))
        except OSError as error:
            raise UnavailableError(
                f"Port {port} on {HTTP_HOST} is not free ({error.strerror}), so the gateway cannot listen there.",
                hint="Another control plane may be running (`wireloom status`); choose a port with --http-port.",
            ) from error


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _reachable(host: str) -> str:
    """An address at which a server that listens on `host` can be reached from this machine, as a URL has it."""
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if address.is_unspecified:
        return "127.0.0.1" if address.version == 4 else "[::1]"
    return f"[{address}]" if address.version == 6 else str(address)
