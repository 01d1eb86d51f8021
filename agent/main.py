"""The program `wireloom-agent`: its arguments, and the one place where an agent is put together."""

from __future__ import annotations

import argparse
import asyncio
import logging
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from uuid import UUID

import orjson
import structlog

from agent.access import Connect, open_bus, secured_bus
from agent.agent import Agent
from agent.backends import choose
from agent.bgp.examine import CHECKS
from agent.bgp.gear import NOT_WANTED, clean_up, gear_for
from agent.bgp.routing import Gear
from agent.context import KEY_MAX_AGE, Options
from agent.desired import DEFAULT_MTU
from agent.device import Devices
from agent.forwarding import Forwarding, NoTransitError
from agent.identity import FILE_NAME as IDENTITY_FILE
from agent.identity import EnrolledDoor, Identity, described, load, rendered
from agent.install import STATE_DIR, Service
from agent.join import TOKEN_VARIABLE, Wish, join, leave, taken_token
from agent.kernel import KernelDevices
from agent.notify import notify
from agent.outer import OuterLoop
from agent.pathfinding import Probing
from agent.port_mapping.notes import Notes
from agent.probe_socket import ProbeSocket
from agent.status import read_status, render
from agent.store import FILE_NAME as STORE_FILE
from agent.store import DiskStore, exclusive, is_in_use
from agent.surroundings import SystemSurroundings, endpoint_with_port
from agent.wireguard_go import WireguardGoDevices
from events.errors import InvalidInputError, NotFoundError, WireloomError
from events.fields import check_endpoint, check_hostname

DEFAULT_STATE_DIR = str(STATE_DIR)
NO_PORT_MAPPING = "WIRELOOM_AGENT_NO_PORT_MAPPING"
_DAY = 86400.0


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

    _add_join(commands.add_parser("join", help="let this machine be one of a control plane's"))

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


def _add_join(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("url", metavar="URL", help="the control plane's address: https://host:port")
    parser.add_argument(
        "--token",
        help=f"the bootstrap token; - reads it from standard input; without, it is taken from {TOKEN_VARIABLE}. As an "
        "argument it is in the list of processes until the program has read it, a moment after it starts",
    )
    parser.add_argument(
        "--ca-sha256", default="", metavar="HEX", help="the certificate authority to trust, and no other"
    )
    parser.add_argument("--no-service", action="store_true", help="install no systemd unit")
    _add_place(parser)
    parser.set_defaults(command=_join)


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--hostname", help="the name to register under (default: this machine's own)")
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        type=_endpoint,
        metavar="ADDR[:PORT]",
        help="where other machines can reach this one, preferred to its own addresses; may be repeated",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--nats",
        metavar="URL",
        default=os.environ.get("NATS_URL"),
        help="the message bus of a control plane that lets everybody in (NATS_URL); needless for a machine that joined",
    )
    parser.add_argument("--machine-id", type=UUID, help="made at the first run if not given")
    _add_place(parser)
    parser.add_argument(
        "--key-max-age",
        type=_days,
        default=KEY_MAX_AGE,
        metavar="DAYS",
        help=f"days after which a WireGuard key gives way to a new one; 0 for never (default {KEY_MAX_AGE / _DAY:g})",
    )
    parser.add_argument("--backend", choices=("auto", "kernel", "wireguard-go"), default="auto")
    parser.add_argument("--no-bgp", action="store_true", help="speak no BGP: announce and learn no routes")
    parser.add_argument(
        "--checks",
        type=Path,
        default=CHECKS,
        metavar="FOLDER",
        help=f"the programs that health checks of virtual IPs may run, all of them root's (default {CHECKS})",
    )
    parser.add_argument("--mtu", type=_mtu, default=DEFAULT_MTU, help=f"of the interfaces (default {DEFAULT_MTU})")
    parser.add_argument(
        "--no-port-mapping",
        action="store_true",
        default=os.environ.get(NO_PORT_MAPPING, "") not in {"", "0"},
        help=f"ask no router to let others reach this machine ({NO_PORT_MAPPING}=1)",
    )
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


def _days(text: str) -> float:
    days = float(text)
    if not 0 <= days < math.inf:
        raise argparse.ArgumentTypeError("give a number of days, or 0 for never")
    return days * _DAY


def _join(parsed: argparse.Namespace) -> int:
    token = taken_token(parsed.token, os.environ)
    wish = Wish(
        url=parsed.url,
        token=token,
        hostname=check_hostname(parsed.hostname or socket.gethostname()),
        ca_sha256=parsed.ca_sha256,
        given_hostname=parsed.hostname or "",
        endpoints=tuple(parsed.endpoint),
        with_service=not parsed.no_service,
        agent_version=version("wireloom"),
    )
    join(wish, parsed.state_dir, Service(_say), _say)
    return 0


def _run(parsed: argparse.Namespace) -> int:
    with exclusive(parsed.state_dir):
        identity = load(parsed.state_dir)
        joined = identity if identity is not None and identity.is_enrolled else None
        if joined is None and not parsed.nats:
            raise InvalidInputError(
                "This machine has not joined a control plane.",
                hint="Join with the line that `wireloom token create` prints; or, for a control plane that lets "
                "everybody in (`wireloom up --no-auth`), give its message bus with --nats.",
            )
        options = _options(parsed, joined)
        _configure_logging(parsed.log_json)
        devices = choose(parsed.backend)
        store = DiskStore(parsed.state_dir)
        machine_id = store.machine_id(joined.machine_id if joined else parsed.machine_id)
        name = f"agent {options.hostname}"
        log = structlog.get_logger("agent").bind(machine=str(machine_id), backend=devices.name)
        if joined:
            log.info("starting", control_plane=joined.url)
            if parsed.nats:
                log.info("this machine has joined a control plane: --nats and NATS_URL say nothing to it")
            door = EnrolledDoor(parsed.state_dir, joined)
            connect = secured_bus(door, name)
        else:
            log.info("starting", bus=parsed.nats)
            door, connect = None, open_bus(parsed.nats, name, machine_id)
        gear = gear_for(machine_id, NOT_WANTED if parsed.no_bgp else "", parsed.checks)
        mappings = None if parsed.no_port_mapping else Notes(parsed.state_dir)
        with asyncio.Runner(loop_factory=OuterLoop) as runner:
            life = _live(
                machine_id,
                options,
                connect=connect,
                door=door,
                devices=devices,
                store=store,
                gear=gear,
                mappings=mappings,
            )
            runner.run(life)
    return 0


def _options(parsed: argparse.Namespace, joined: Identity | None) -> Options:
    hostname = parsed.hostname or (joined.hostname if joined else "") or socket.gethostname()
    return Options(
        hostname=check_hostname(hostname),
        agent_version=version("wireloom"),
        mtu=parsed.mtu,
        endpoints=tuple(parsed.endpoint) or (joined.endpoints if joined else ()),
        key_max_age=parsed.key_max_age,
        down_on_exit=parsed.down_on_exit,
    )


async def _live(
    machine_id: UUID,
    options: Options,
    *,
    connect: Connect,
    door: EnrolledDoor | None,
    devices: Devices,
    store: DiskStore,
    gear: Gear,
    mappings: Notes | None,
) -> None:
    agent = Agent(
        machine_id,
        options,
        connect=connect,
        door=door,
        devices=devices,
        store=store,
        surroundings=SystemSurroundings(),
        rules=Forwarding(),
        probing=Probing(ProbeSocket),
        gear=gear,
        mappings=mappings,
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
    folder = _existing(parsed.state_dir)
    identity = load(folder)
    store = DiskStore(folder)
    try:
        status = read_status(store, backends, time.time(), Notes(folder).read(), is_running=is_in_use(folder))
    finally:
        store.close()
        for backend in backends:
            backend.close()
    status["control_plane"] = described(identity, datetime.now(UTC)) if identity else None
    if parsed.json:
        _say(orjson.dumps(status, option=orjson.OPT_INDENT_2).decode())
    else:
        _say("\n".join([rendered(status["control_plane"]), render(status)]) if identity else render(status))
    return 0


def _leave(parsed: argparse.Namespace) -> int:
    folder = _existing(parsed.state_dir)
    machine_id = _machine_id(folder)
    leave(folder, Service(_say), _say)
    if machine_id is not None:
        clean_up(machine_id)
    with suppress(NoTransitError):
        Forwarding().remove()
    return 0


def _machine_id(folder: Path) -> UUID | None:
    """The machine whose state lies here; None where no agent has run yet."""
    if not (folder / STORE_FILE).exists():
        return None
    store = DiskStore(folder)
    try:
        return store.machine_id()
    finally:
        store.close()


def _existing(state_dir: Path) -> Path:
    if not any((state_dir / name).exists() for name in (STORE_FILE, IDENTITY_FILE)):
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
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


if __name__ == "__main__":
    sys.exit(run())
