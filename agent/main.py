"""The program `wireloom-agent`: its arguments, and the one place where an agent is put together."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import orjson
import structlog
from nats.aio.client import Client

from agent.agent import Agent
from agent.backends import choose
from agent.desired import DEFAULT_MTU
from agent.device import Devices, interface_name
from agent.kernel import KernelDevices
from agent.network import Options
from agent.notify import notify
from agent.status import read_status, render
from agent.store import FILE_NAME, DiskStore, erase, exclusive
from agent.surroundings import SystemSurroundings, endpoint_with_port
from agent.wireguard_go import WireguardGoDevices
from events.bus import connect
from events.errors import NotFoundError, WireloomError
from events.fields import check_endpoint, check_hostname

DEFAULT_BUS = "nats://127.0.0.1:7422"
DEFAULT_STATE_DIR = "/var/lib/wireloom-agent"


def run(arguments: Sequence[str] | None = None) -> int:
    """The program. Returns its exit status."""
    parsed = _parser().parse_args(arguments)
    try:
        status: int = parsed.command(parsed)
    except WireloomError as error:
        sys.stderr.write(f"wireloom-agent: {error}\n")
        return error.exit_code
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("wireloom-agent", description="Makes this machine part of its mesh networks.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", help="run the agent"))

    status = commands.add_parser("status", help="show this machine's networks and peers")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(command=_status)

    leave = commands.add_parser("leave", help="remove every interface, key and file that the agent made")
    leave.set_defaults(command=_leave)

    for command in commands.choices.values():
        command.add_argument(
            "--state-dir",
            type=Path,
            default=os.environ.get("WIRELOOM_AGENT_STATE_DIR", DEFAULT_STATE_DIR),
            help=f"where the agent keeps its state (default {DEFAULT_STATE_DIR}; WIRELOOM_AGENT_STATE_DIR)",
        )
    show_version = commands.add_parser("version", help="show the version")
    show_version.set_defaults(command=_version)
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nats",
        metavar="URL",
        default=os.environ.get("NATS_URL", DEFAULT_BUS),
        help=f"the message bus (default {DEFAULT_BUS}; NATS_URL)",
    )
    parser.add_argument("--hostname", default=socket.gethostname(), help="the name to register under")
    parser.add_argument("--machine-id", type=UUID, help="made at the first run if not given")
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        type=_endpoint,
        metavar="ADDR[:PORT]",
        help="where other machines can reach this one, preferred to its own addresses; may be repeated",
    )
    parser.add_argument("--backend", choices=("auto", "kernel", "wireguard-go"), default="auto")
    parser.add_argument("--mtu", type=_mtu, default=DEFAULT_MTU, help=f"of the interfaces (default {DEFAULT_MTU})")
    parser.add_argument("--log-json", action="store_true", help="log JSON lines")
    parser.add_argument("--down-on-exit", action="store_true", help="take the tunnels down at the end")
    parser.set_defaults(command=_run)


def _endpoint(text: str) -> str:
    try:
        check_endpoint(endpoint_with_port(text, 1))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def _mtu(text: str) -> int:
    mtu = int(text)
    if not 1280 <= mtu <= 65456:
        raise argparse.ArgumentTypeError("an interface's MTU is from 1280 (IPv6's least) to 65456")
    return mtu


def _run(parsed: argparse.Namespace) -> int:
    options = Options(
        hostname=check_hostname(parsed.hostname),
        agent_version=version("wireloom"),
        mtu=parsed.mtu,
        endpoints=tuple(parsed.endpoint),
        down_on_exit=parsed.down_on_exit,
    )
    _configure_logging(parsed.log_json)
    with exclusive(parsed.state_dir):
        devices = choose(parsed.backend)
        store = DiskStore(parsed.state_dir)
        machine_id = store.machine_id(parsed.machine_id)
        structlog.get_logger("agent").info("starting", machine=str(machine_id), backend=devices.name, bus=parsed.nats)
        asyncio.run(_live(machine_id, options, parsed.nats, devices, store))
    return 0


async def _live(machine_id: UUID, options: Options, bus: str, devices: Devices, store: DiskStore) -> None:
    def connect_to_bus(on_reconnect: Callable[[], None], on_closed: Callable[[], None]) -> asyncio.Future[Client]:
        name = f"agent {options.hostname}"
        return asyncio.ensure_future(connect(bus, name, on_reconnect=on_reconnect, on_closed=on_closed))

    agent = Agent(
        machine_id,
        options,
        connect=connect_to_bus,
        devices=devices,
        store=store,
        surroundings=SystemSurroundings(),
        on_ready=lambda: notify("READY=1"),
    )

    def stop() -> None:
        notify("STOPPING=1")
        agent.stop()

    for stopping in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(stopping, stop)
    await agent.run()


def _status(parsed: argparse.Namespace) -> int:
    backends: tuple[Devices, ...] = (KernelDevices(), WireguardGoDevices())
    store = DiskStore(_existing(parsed.state_dir))
    try:
        status = read_status(store, backends, time.time())
    finally:
        store.close()
        for backend in backends:
            backend.close()
    _say(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode() if parsed.json else render(status))
    return 0


def _leave(parsed: argparse.Namespace) -> int:
    with exclusive(_existing(parsed.state_dir)):
        store = DiskStore(parsed.state_dir)
        devices = WireguardGoDevices()
        try:
            for network_id in store.tunnels():
                # Removing its link is all that a kernel interface needs as well.
                devices.remove(interface_name(network_id))
                store.forget_network(network_id)
        finally:
            devices.close()
            store.close()
        erase(parsed.state_dir)
    _say("Left every network here. The control plane still knows the machine: delete it there.")
    return 0


def _existing(state_dir: Path) -> Path:
    if not (state_dir / FILE_NAME).exists():
        raise NotFoundError(f"No agent has run with the state folder {state_dir}.", hint="Give its --state-dir.")
    return state_dir


def _version(_: argparse.Namespace) -> int:
    _say(version("wireloom"))
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")


def _configure_logging(as_json: bool) -> None:
    renderer = (
        structlog.processors.JSONRenderer() if as_json else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(run())
