"""Machines with real BIRDs, as many as fit on this one; and how their sessions and routes are seen.

A BIRD dies with this program, however that ends, and so do the machines' namespaces: nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from agent.bgp.config import KERNEL_TABLE
from agent.bgp.control import ControlError, connected
from agent.bgp.names import SessionName, read_session_name
from agent.bgp.parse import read_protocols
from agent.bgp.process import Bird
from benchmarks import wire
from events.errors import UnavailableError

_ASKED_AT_ONCE = 8
_RTMGRP_IPV4_ROUTE = 0x40
_RTM_NEWROUTE, _RTM_DELROUTE = 24, 25
_RTA_DST, _RTA_TABLE = 1, 15
_SO_RCVBUFFORCE = 33  # the socket module does not name it
_BUFFER = 4 << 20


class CannotError(UnavailableError):
    """Raised when this machine cannot hold the speakers."""

    code = "speakers"
    title = "BGP speakers cannot be measured here"


@dataclass(frozen=True, slots=True)
class Session:
    """One end of a session that stands."""

    name: SessionName
    since: datetime


@dataclass
class Machine:
    """A machine, its BIRD, and the routes that BIRD has put into its kernel."""

    folder: Path
    namespace: int
    netlink: socket.socket
    configuration: str = ""
    process: subprocess.Popen[bytes] | None = None
    learnt: dict[IPv4Network, float] = field(default_factory=dict)
    """When each prefix came, by `time.monotonic`."""

    def place(self, configuration: str) -> None:
        """Put a configuration where BIRD will read it."""
        self.folder.mkdir(exist_ok=True)
        (self.folder / "bird.conf").write_text(configuration)
        self.configuration = configuration

    def start(self) -> None:
        """Start BIRD. What measures comes first, if the processors do not suffice for all."""
        inside = ("nsenter", f"--net={wire.path(self.namespace)}")
        bird = ("nice", "bird", "-f", "-c", "bird.conf", "-s", "bird.ctl", "-P", "bird.pid")
        with (self.folder / "bird.err").open("wb") as words:
            self.process = subprocess.Popen(
                [*inside, "setpriv", "--pdeathsig", "KILL", *bird],
                cwd=self.folder,
                env={"PATH": f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin", "TZ": "UTC", "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )

    async def configure(self, configuration: str) -> float:
        """Give BIRD another configuration; returns when that began, by `time.monotonic`. Raises ControlError."""
        self.place(configuration)
        async with connected(self.folder / "bird.ctl") as control:
            began = time.monotonic()
            await control.ask("configure")
            return began

    async def sessions(self) -> dict[str, Session]:
        """The sessions that stand, by their names in BIRD; none if it does not answer."""
        try:
            async with connected(self.folder / "bird.ctl") as control:
                lines = await control.ask("show protocols")
        except ControlError:
            return {}
        standing = (each for each in read_protocols(line.text for line in lines) if each.state == "Established")
        names = ((each, read_session_name(each.name)) for each in standing)
        return {each.name: Session(name, each.since) for each, name in names if name is not None}

    def memory(self) -> tuple[int, int]:
        """PSS and RSS in bytes."""
        assert self.process is not None
        lines = Path(f"/proc/{self.process.pid}/smaps_rollup").read_text().splitlines()[1:]
        sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines}
        return sizes["Pss:"], sizes["Rss:"]

    def hear(self) -> None:
        """Read what the kernel says of its routes."""
        now = time.monotonic()
        try:
            while True:
                for kind, prefix in _changes(self.netlink.recv(1 << 16)):
                    if kind == _RTM_NEWROUTE:
                        self.learnt.setdefault(prefix, now)
                    else:
                        self.learnt.pop(prefix, None)
        except BlockingIOError:
            return

    def stop(self) -> None:
        """Take away what an ended BIRD has left."""
        self.hear()
        if self.learnt:
            wire.flush(self.namespace, KERNEL_TABLE)
        self.hear()
        self.learnt.clear()
        shutil.rmtree(self.folder)


class Stage:
    """Machines that may be given a BIRD each, again and again."""

    def __init__(self, machines: Sequence[Machine]) -> None:
        self.machines = machines
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)

    def place(self, configurations: Mapping[int, str]) -> None:
        """Put configurations where BIRD will read them, by the machines' numbers."""
        for number, configuration in configurations.items():
            self.machines[number].place(configuration)

    async def configure(self, configurations: Mapping[int, str]) -> None:
        """Give machines other configurations. Raises ControlError."""

        async def configure(number: int, configuration: str) -> None:
            async with self._asking:
                await self.machines[number].configure(configuration)

        await asyncio.gather(*(configure(number, text) for number, text in configurations.items()))

    async def sessions(self, size: int) -> list[dict[str, Session]]:
        """See `Machine.sessions`; of the first so many machines."""

        async def ask(machine: Machine) -> dict[str, Session]:
            async with self._asking:
                return await machine.sessions()

        return await asyncio.gather(*(ask(machine) for machine in self.machines[:size]))

    def stop(self) -> None:
        """End all BIRDs at once, and take away what they left."""
        running = {machine.folder: machine.process for machine in self.machines if machine.process is not None}
        for process in running.values():
            process.kill()
        for process in running.values():
            process.wait()
        for machine in self.machines:
            machine.process = None
            if machine.folder.exists():
                machine.stop()


@contextmanager
def stage(folder: Path, addresses: Sequence[IPv4Address], cidr: IPv4Network, interface: str) -> Iterator[Stage]:
    """Machines on one wire, see `wire.namespaces`. Raises CannotError."""
    if os.geteuid() != 0:
        raise CannotError("Machines are network namespaces, which only root may make: use `make bench`.")
    if not Bird.is_installed():
        raise CannotError("There is no BIRD on this machine: apt install bird2.")
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        machines = []
        for number, namespace in enumerate(stack.enter_context(wire.namespaces(addresses, cidr, interface))):
            netlink = stack.enter_context(_listening(namespace))
            machine = Machine(folder / f"speaker-{number}", namespace, netlink)
            loop.add_reader(netlink, machine.hear)
            stack.callback(loop.remove_reader, netlink)
            machines.append(machine)
        made = Stage(machines)
        stack.callback(made.stop)
        yield made


def _listening(namespace: int) -> socket.socket:
    """What the kernel says of routes there."""
    with wire.inside(namespace):
        netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE)
    netlink.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    netlink.bind((0, _RTMGRP_IPV4_ROUTE))
    return netlink


def _changes(data: bytes) -> Iterator[tuple[int, IPv4Network]]:
    """Routes that came into the table that BIRD fills, and those that left it (rtnetlink(7))."""
    while len(data) >= 28:
        length, kind = struct.unpack_from("=IH", data)
        attributes = dict(_attributes(data[28:length]))
        table = attributes.get(_RTA_TABLE)
        if kind in {_RTM_NEWROUTE, _RTM_DELROUTE} and table == struct.pack("=I", KERNEL_TABLE):
            yield kind, IPv4Network((attributes.get(_RTA_DST, bytes(4)), data[17]))
        data = data[length + 3 & ~3 :]


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= 4:
        length, kind = struct.unpack_from("=HH", data)
        yield kind, data[4:length]
        data = data[max(length, 4) + 3 & ~3 :]
