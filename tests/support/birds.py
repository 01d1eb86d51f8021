"""Machines with real BIRDs, each in a namespace, on one wire: without tunnels, for these are not what is tested."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any
from uuid import UUID

from agent.bgp.config import KERNEL_TABLE
from agent.bgp.intent import Announced, BgpIntent, Neighbour, NetworkIntent, Owner
from agent.bgp.observed import NetworkObservation, Observation
from agent.bgp.speaker import Speaker
from events.interfaces import interface_name
from events.records import RibRoute
from events.routing import network_asn
from tests.support.namespaces import command, enter, namespace
from tests.support.waiting import PATIENCE, wait_until_sync


def network_id(number: int) -> UUID:
    """The id of a network; `number` also stands in its addresses."""
    return UUID(int=number << 96 | 0x4000 << 64 | 0x8000 << 48)


def machine_id(number: int) -> UUID:
    """The id of a machine."""
    return UUID(int=number | 0x4000 << 64 | 0x8000 << 48)


def address(network: int, number: int) -> IPv4Address:
    """A machine's in a network."""
    return IPv4Address(f"10.{network}.0.{number}")


def prefix(number: int) -> IPv4Network:
    """What lies behind a machine."""
    return IPv4Network(f"192.168.{number}.0/24")


def intent(number: int, size: int, network: int = 9, **changes: Any) -> NetworkIntent:
    """What a machine of `size` is to do in a full mesh where each announces, and owns, its `prefix`."""
    others = [other for other in range(1, size + 1) if other != number]
    plain = NetworkIntent(
        network_id=network_id(network),
        asn=network_asn(network_id(network)),
        cidr=IPv4Network(f"10.{network}.0.0/24"),
        interface=interface_name(network_id(network)),
        address=address(network, number),
        stage="mesh",
        is_reflector=False,
        reflectors=(),
        members=tuple(Neighbour(machine_id(other), address(network, other)) for other in others),
        owners=tuple(Owner(address(network, other), (prefix(other),)) for other in others),
        announced=(Announced(prefix(number)),),
    )
    return replace(plain, **changes)


def reflected(plain: NetworkIntent, stage: str, *reflectors: int) -> dict[str, Any]:
    """The changes that a plan makes to an intent."""
    chosen = {machine_id(number) for number in reflectors}
    others = tuple(member for member in plain.members if member.machine_id in chosen)
    return {"stage": stage, "reflectors": others, "is_reflector": len(others) < len(chosen)}


@dataclass
class Station:
    """A machine: its namespace, its speaker in a thread of its own, and what was seen of it."""

    number: int
    name: str
    folder: Path
    seen: list[Observation] = field(default_factory=list)
    _loop: asyncio.AbstractEventLoop | None = None
    _thread: threading.Thread | None = None
    _speaker: Speaker | None = None
    _task: asyncio.Task[None] | None = None
    _ready: threading.Event = field(default_factory=threading.Event)

    def begin(self) -> None:
        """Let an agent's speaker live."""
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name=self.name)
        self._thread.start()
        assert self._ready.wait(PATIENCE)

    def _run(self) -> None:
        enter(self.name)
        with suppress(asyncio.CancelledError):
            asyncio.run(self._live())

    async def _live(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._speaker = Speaker(self.folder, self.seen.append)
        self._task = asyncio.current_task()
        self._ready.set()
        await self._speaker.run()

    def end(self) -> None:
        """End the speaker's part of the agent; BIRD lives on."""
        if self._thread is not None and self._loop is not None and self._task is not None:
            with suppress(RuntimeError):  # it has ended already
                self._loop.call_soon_threadsafe(self._task.cancel)
            self._thread.join(PATIENCE)
            assert not self._thread.is_alive()
            self._thread = None

    def stop(self) -> None:
        """Stop BIRD, too."""
        self.end()
        asyncio.run(Speaker(self.folder, self.seen.append).stop())

    def apply(self, *networks: NetworkIntent, crossing: tuple[UUID, ...] = ()) -> None:
        """See `Speaker.apply`."""
        assert self._loop is not None
        assert self._speaker is not None
        self._loop.call_soon_threadsafe(self._speaker.apply, BgpIntent(networks, crossing))

    @property
    def pid(self) -> int:
        """BIRD's."""
        return int((self.folder / "bird.pid").read_text())

    def kill(self) -> None:
        """Kill BIRD, if it runs."""
        with suppress(FileNotFoundError, ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def observed(self, network: int = 9) -> NetworkObservation:
        """What was last seen of a network."""
        networks = self.seen[-1].networks if self.seen else {}
        return networks.get(network_id(network), NetworkObservation())

    def established(self, network: int = 9) -> dict[tuple[int, str], Any]:
        """The sessions that stand, by machine and purpose."""
        found = self.observed(network).sessions
        return {(s.peer_id.int & 0xFFFF, s.purpose): s for s in found if s.state == "established"}

    def rib(self, wanted: str, network: int = 9) -> list[RibRoute]:
        """The routes to a prefix, the best first."""
        return [route for route in self.observed(network).rib if str(route.prefix) == wanted]

    def routes(self) -> dict[str, dict[str, Any]]:
        """The kernel's, by destination."""
        text = command("ip", "-j", "-d", "route", "show", "table", str(KERNEL_TABLE), namespace=self.name, check=False)
        found = json.loads(text) if text.strip() not in {"", "["} else []  # the latter where there is no such table
        return {route["dst"] if "/" in route["dst"] else f"{route['dst']}/32": route for route in found}

    def await_routes(self, *wanted: int) -> None:
        """Until the kernel has the routes to what lies behind these machines, and no other."""
        expected = {str(prefix(number)): number for number in wanted}
        wait_until_sync(
            lambda: self.routes().keys() == expected.keys(), what=f"{self.name}: {sorted(expected)} in the kernel"
        )


def wire_machine(name: str, number: int, network: int, switch: str) -> None:
    """Give a machine its interface in a network, with address and route as the agent makes them for a tunnel."""
    link, there = interface_name(network_id(network)), f"m{network}n{number}"
    command("ip", "link", "add", link, "netns", name, "type", "veth", "peer", "name", there, "netns", switch)
    command("ip", "link", "set", there, "master", f"br{network}", "up", namespace=switch)
    command("ip", "address", "add", f"{address(network, number)}/32", "dev", link, namespace=name)
    command("ip", "link", "set", link, "up", namespace=name)
    command("ip", "route", "add", f"10.{network}.0.0/24", "dev", link, "scope", "link", namespace=name)


@contextmanager
def stations(folder: Path, places: dict[int, tuple[int, ...]]) -> Iterator[dict[int, Station]]:
    """Machines, by number, each with a speaker that lives, in the networks that are named for it."""
    with ExitStack() as stack:
        switch = stack.enter_context(namespace("sw"))
        for network in sorted({network for networks in places.values() for network in networks}):
            command("ip", "link", "add", f"br{network}", "type", "bridge", namespace=switch)
            command("ip", "link", "set", f"br{network}", "up", namespace=switch)
        made = {}
        for number, networks in places.items():
            name = stack.enter_context(namespace(f"m{number}"))
            for network in networks:
                wire_machine(name, number, network, switch)
            station = Station(number, name, folder / str(number))
            stack.callback(station.kill)
            stack.callback(station.end)
            station.begin()
            made[number] = station
        yield made


class RouteWatch:
    """Hears of every change of the kernel's routes in a namespace."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._marks = 0
        self._lines: list[str] = []
        self._process = subprocess.Popen(
            ["ip", "-n", name, "monitor", "route"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.append(line.strip())

    def mark(self) -> None:
        """Until all that has happened so far was heard."""
        since = self._marks

        def heard() -> bool:
            # Another each time: of what is there already, nobody hears.
            self._marks += 1
            route = ("unreachable", f"198.18.{self._marks >> 8}.{self._marks & 255}")
            command("ip", "route", "add", *route, "table", "99", namespace=self._name)
            wanted = tuple(
                f"unreachable 198.18.{mark >> 8}.{mark & 255} " for mark in range(since + 1, self._marks + 1)
            )
            return any(line.startswith(wanted) for line in self._lines)

        wait_until_sync(heard, what="the monitor hears")

    def lost(self) -> list[str]:
        """The routes that were missing at any moment."""
        self.mark()
        gone = re.compile(rf"Deleted .* table {KERNEL_TABLE} .*")
        return [line for line in self._lines if gone.fullmatch(line)]

    def close(self) -> None:
        """Hear no more."""
        self._process.terminate()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def watching(*watched: Station) -> Iterator[list[RouteWatch]]:
    """Hears of every change of the kernel's routes there, from now on."""
    with ExitStack() as stack:
        watches = []
        for station in watched:
            watch = RouteWatch(station.name)
            stack.callback(watch.close)
            watch.mark()
            watches.append(watch)
        yield watches
