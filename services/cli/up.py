"""`wireloom up`: a whole control plane on this machine, bus and services, kept running."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Annotated, Any

import httpx2
import structlog
import typer

from events import bus
from events.commands import Command, Outcome
from events.ending import StoppedError, unless
from events.errors import InvalidInputError, UnavailableError
from events.identity import Identity
from events.trust.certificates import certificate_fingerprint
from services.cli import identity as identities
from services.cli.datadir import default_data_dir, held, refuse_other_mode
from services.cli.embedded import EmbeddedServer
from services.cli.first import insisting, make_first_admin
from services.cli.logs import configure_logging
from services.cli.notify import notify
from services.cli.plan import Plan, Welcome, check, environment, remarks, summary
from services.cli.process import ChildProcess
from services.cli.renewal import keep_renewing, renew_where_due
from services.cli.serve import Service, stop_on_signals
from services.cli.session import console
from services.cli.supervisor import Supervised

_BUS_PATIENCE = 5.0
_READY_EVERY = 0.1
_WORRY_AFTER = 15.0


def up(
    *,
    data_dir: Annotated[
        Path | None,
        typer.Option(
            envvar="WIRELOOM_DATA_DIR",
            show_default="/var/lib/wireloom for root, else ~/.local/share/wireloom",
            help="Where the embedded bus keeps the log, and the control plane its keys.",
        ),
    ] = None,
    public_host: Annotated[
        str,
        typer.Option(
            envvar="WIRELOOM_PUBLIC_HOST",
            show_default=False,
            help="The name or address by which machines and people reach this one.",
        ),
    ] = "",
    http_host: Annotated[
        str, typer.Option(envvar="WIRELOOM_HTTP_HOST", help="The address that the HTTP API listens on; 0.0.0.0: all.")
    ] = "127.0.0.1",
    http_port: Annotated[int, typer.Option(min=1, max=65535, envvar="WIRELOOM_HTTP_PORT")] = 7480,
    bus_host: Annotated[
        str, typer.Option(envvar="WIRELOOM_BUS_HOST", help="The address that the embedded bus listens on for agents.")
    ] = "127.0.0.1",
    bus_port: Annotated[int, typer.Option(min=1, max=65535, envvar="WIRELOOM_BUS_PORT")] = 7422,
    tls_cert: Annotated[
        Path | None,
        typer.Option(
            envvar="WIRELOOM_TLS_CERT", show_default="self-made", help="A certificate (PEM) for the public host."
        ),
    ] = None,
    tls_key: Annotated[Path | None, typer.Option(envvar="WIRELOOM_TLS_KEY", help="Its key (PEM).")] = None,
    identity: Annotated[
        Path | None,
        typer.Option(
            envvar="WIRELOOM_IDENTITY",
            show_default="identity in the data directory",
            help="The folder with the control plane's keys.",
        ),
    ] = None,
    nats_url: Annotated[
        str,
        typer.Option(
            envvar="NATS_URL",
            show_default=False,
            help="Use this bus instead of bringing one along; it must know the identity.",
        ),
    ] = "",
    replicas: Annotated[
        int, typer.Option(min=1, max=5, envvar="WIRELOOM_REPLICAS", help="Copies of each stream, on a cluster.")
    ] = 1,
    no_auth: Annotated[
        bool,
        typer.Option("--no-auth", help="Let whoever reaches it do everything, unencrypted: on loopback, for trying."),
    ] = False,
) -> None:
    """Run a whole control plane on this machine: message bus, allocator, topology and gateway.

    Its first start makes its keys and certificates, and shows the first admin's token. Restarts what dies, and stops
    everything in order on SIGTERM or Ctrl-C.
    """
    configure_logging(service="up")
    directory = (data_dir or default_data_dir(os.environ, os.geteuid() == 0)).absolute()
    if no_auth and identity is not None:
        raise InvalidInputError(
            "An identity is of no use with --no-auth.", hint="Leave out one of the two.", field="no_auth"
        )
    plan = Plan(
        data_dir=directory,
        identity=None if no_auth else (identity or directory / "identity").absolute(),
        nats_url=nats_url,
        bus_host=bus_host,
        bus_port=bus_port,
        http_host=http_host,
        http_port=http_port,
        replicas=replicas,
        host_name=socket.gethostname(),
        public_host=public_host,
        certificate=None if tls_cert is None else tls_cert.absolute(),
        key=None if tls_key is None else tls_key.absolute(),
    )
    for remark in remarks(check(plan)):
        console(stderr=True).print(f"warning: {remark}", style="yellow", soft_wrap=True)
    asyncio.run(_run(plan))


async def _run(plan: Plan) -> None:
    stop = stop_on_signals()
    _check_port_is_free(plan.http_host, plan.http_port)
    async with AsyncExitStack() as parts:
        if not plan.nats_url:
            parts.enter_context(held(plan.data_dir))
        identity = _identity(plan)
        server = await _bus(plan, identity, parts)
        services = {service: service_process(service, environment(plan, os.environ)) for service in Service}
        for service, process in services.items():
            supervised = Supervised(service.value, process)
            parts.push_async_callback(supervised.stop)
            await supervised.start()
        with suppress(StoppedError):
            welcome = await unless(stop, _welcome(plan, identity))
            typer.echo(summary(plan, welcome))
            notify("READY=1")
            await _renewing(plan, identity, server, services[Service.GATEWAY], stop)
        notify("STOPPING=1")
        structlog.get_logger("services.cli.up").info("stopping")


async def _renewing(
    plan: Plan, identity: Identity | None, server: EmbeddedServer | None, gateway: ChildProcess, stop: asyncio.Event
) -> None:
    """Wait until we are told to stop, with certificates that never run out."""

    async def reload() -> None:
        if server is not None:
            server.reload()
        await gateway.stop()  # who supervises it starts it again

    stopping = asyncio.create_task(stop.wait())
    tasks: set[asyncio.Task[Any]] = {stopping}
    if identity is not None:
        tasks.add(asyncio.create_task(keep_renewing(identity, plan.hosts, reload)))
    try:
        for task in (await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED))[0]:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _identity(plan: Plan) -> Identity | None:
    """The identity, made at the first start, its certificates fit; None in open mode. A data directory of the other
    mode is refused."""
    found = Identity(plan.identity) if plan.identity is not None and identities.exists(plan.identity) else None
    if not plan.nats_url:
        refuse_other_mode(plan.data_dir, found.public.account if found else None, secured=plan.identity is not None)
    if plan.identity is None:
        return None
    if found is None:
        if plan.nats_url:
            raise InvalidInputError(
                f"There is no identity in {plan.identity}, by which the bus at {plan.nats_url} would know us.",
                hint="Give the one that the bus was set up with (`wireloom identity create`) with --identity, or "
                "--no-auth for a bus on this machine that does not ask who one is.",
                field="identity",
            )
        found = identities.create(plan.identity, plan.hosts)
        structlog.get_logger("services.cli.up").info("identity made", folder=str(plan.identity), hosts=plan.hosts)
    else:
        renew_where_due(found, plan.hosts)
    return found


async def _check_bus(url: str, identity: Identity | None) -> None:
    """Raises `UnavailableError` if no bus answers at `url`, rather than leave the services waiting for it."""
    credentials = identity.credentials("console") if identity else None
    try:
        async with asyncio.timeout(_BUS_PATIENCE):
            await (await bus.connect(url, "wireloom up", credentials)).close()
    except TimeoutError as error:
        knows = " that knows this identity" if identity else ""
        raise UnavailableError(
            f"No message bus{knows} answers at {url}.",
            hint="Start it, give the right address, or leave out --nats-url and NATS_URL to have one brought along.",
        ) from error


async def _bus(plan: Plan, identity: Identity | None, parts: AsyncExitStack) -> EmbeddedServer | None:
    """A bus that answers: the one that is given, or our own, which is returned."""
    if plan.nats_url:
        await _check_bus(plan.nats_url, identity)
        return None
    if identity is None:
        console(stderr=True).print(
            "warning: without authorisation (--no-auth), every user and program of this machine can read and change "
            "everything, and nothing is encrypted.",
            style="yellow",
        )
    server = EmbeddedServer(plan.data_dir / "bus", plan.bus_host, plan.bus_port, identity)
    supervised = Supervised("message bus", server)
    parts.push_async_callback(supervised.stop)
    await supervised.start()
    return server


def service_process(service: Service, variables: Mapping[str, str]) -> ChildProcess:
    """One service as a child of ours, configured by its environment."""
    return ChildProcess([sys.executable, "-m", "services.cli", "serve", service.value], variables)


async def _welcome(plan: Plan, identity: Identity | None) -> Welcome | None:
    """Wait until all is ready, and the first admin's token is good if this is the first start: what to show then, None
    in open mode."""
    await _answered(plan, identity, "/readyz")
    if identity is None:
        return None
    welcome = await _first(plan, identity)
    if welcome.token is not None:
        await _answered(plan, identity, "/api/v1/session", {"Authorization": f"Bearer {welcome.token}"})
    return welcome


async def _answered(plan: Plan, identity: Identity | None, path: str, headers: Mapping[str, str] | None = None) -> None:
    """Wait until the gateway has no objection."""
    log = structlog.get_logger("services.cli.up")
    loop = asyncio.get_running_loop()
    worry_at = loop.time() + _WORRY_AFTER
    verify = _trusting(plan, identity) if identity is not None else True
    async with httpx2.AsyncClient(
        base_url=plan.local_url, headers=headers, verify=verify, trust_env=False, timeout=5
    ) as http:
        while True:
            reason = "the gateway does not answer"
            with suppress(httpx2.TransportError):
                response = await http.get(path)
                if response.is_success:
                    return
                reason = response.text
            if loop.time() > worry_at:
                log.warning("not ready yet, still trying", reason=reason)
                worry_at = loop.time() + _WORRY_AFTER
            await asyncio.sleep(_READY_EVERY)


def _trusting(plan: Plan, identity: Identity) -> ssl.SSLContext:
    """Trusts the gateway's own certificate and no other. A given one need not be for the address of this machine that
    we ask at: it was compared with the public host."""
    if plan.certificate is None:
        return identity.tls()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=plan.certificate.read_text())
    return context


async def _first(plan: Plan, identity: Identity) -> Welcome:
    """What to show at the end of the start: the first admin's token if this is the first start.

    Where our output is kept as a log (systemd's journal), no token is made: `wireloom account recover` shows one.
    """
    pin = certificate_fingerprint(identity.ca()) if plan.certificate is None else ""
    if _output_is_journal(os.environ):
        return Welcome(None, pin, hidden=True)
    log = structlog.get_logger("services.cli.up")
    client = await bus.connect(plan.local_bus, "wireloom up", identity.credentials("console"))

    async def execute(command: Command) -> Outcome:
        while True:
            try:
                return await insisting(client, _WORRY_AFTER)(command)
            except UnavailableError as error:
                log.warning("the first account cannot be made yet, still trying", reason=str(error))

    try:
        return Welcome(await make_first_admin(execute), pin)
    finally:
        await client.close()


def _output_is_journal(variables: Mapping[str, str]) -> bool:
    """Whether standard output goes to systemd's journal (systemd.exec(5), JOURNAL_STREAM)."""
    output = os.fstat(sys.stdout.fileno())
    return variables.get("JOURNAL_STREAM") == f"{output.st_dev}:{output.st_ino}"


def _check_port_is_free(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise InvalidInputError(
                    f"{host} is no address of this machine, so the gateway cannot listen there.",
                    hint="Give one that it has, or --http-host 0.0.0.0 and what others call it with --public-host.",
                    field="http_host",
                ) from error
            raise UnavailableError(
                f"Port {port} on {host} is not free ({error.strerror}), so the gateway cannot listen there.",
                hint="Another control plane may be running (`wireloom status`); choose a port with --http-port.",
            ) from error
