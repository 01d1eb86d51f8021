"""Machines as network namespaces, each with an event loop that lives in it, and WireGuard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar
from uuid import uuid4

from agent.device import Changes, Device, Devices, PeerChange, Route
from agent.keys import generate_private_key, public_key
from tests.support.namespaces import command, enter, namespace

T = TypeVar("T")


class Station:
    """A machine with one WireGuard interface. What it is told to do is done inside its namespace."""

    def __init__(self, name: str, devices: Devices) -> None:
        self.namespace = name
        self.interface = f"wl-{uuid4().hex[:8]}"
        self.private_key = generate_private_key()
        self.public_key = public_key(self.private_key)
        self._devices = devices
        self._device_thread = ThreadPoolExecutor(1, initializer=enter, initargs=(name,))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def _live(self) -> None:
        enter(self.namespace)
        self._loop.run_forever()

    def do(self, call: Callable[..., T], *arguments: object) -> T:
        """What a call returns that is made inside, by the event loop."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(call(*arguments))
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        return done.result(timeout=30)

    def run(self, *arguments: str, check: bool = True) -> str:
        """What a program prints that is run inside."""
        return command(*arguments, namespace=self.namespace, check=check)

    def up(self, port: int, *addresses: str, routes: tuple[Route, ...] = ()) -> None:
        """Make the interface."""
        self.apply(
            Changes(
                create=True,
                private_key=self.private_key,
                listen_port=port,
                mtu=1420,
                up=True,
                add_addresses=frozenset(addresses),
                add_routes=frozenset(routes),
            )
        )

    def peer(self, other: Station, *allowed_ips: str, endpoint: str | None = None) -> None:
        """Make or change a peer."""
        change = PeerChange(other.public_key, endpoint=endpoint, add_allowed_ips=frozenset(allowed_ips))
        self.apply(Changes(peers=(change,)))

    def apply(self, changes: Changes) -> None:
        """Change the interface."""
        self._device_thread.submit(self._devices.apply, self.interface, changes).result()

    def read(self) -> Device:
        """The interface."""
        device = self._device_thread.submit(self._devices.read, self.interface).result()
        assert device is not None
        return device

    def pings(self, address: str, count: int = 1, wait: float = 1.0) -> bool:
        """Whether all answers come, within so many seconds each."""
        return ", 0% packet loss" in self.run("ping", f"-c{count}", "-i0.2", f"-W{wait}", address, check=False)

    def close(self) -> None:
        """Take the interface away, and end the threads."""
        self._device_thread.submit(self._devices.remove, self.interface).result()
        self._device_thread.submit(self._devices.close).result()
        self._device_thread.shutdown()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def station(devices: Callable[[], Devices]) -> Iterator[Station]:
    """A station, gone afterwards."""
    with namespace() as name:
        # Addresses that the kernel makes are ready for use at once, too.
        command("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", namespace=name)
        made = Station(name, devices())
        try:
            yield made
        finally:
            made.close()


def cable(first: Station, first_addresses: tuple[str, ...], second: Station, second_addresses: tuple[str, ...]) -> None:
    """Join two stations; the link is named alike in both, and its addresses are ready for use at once."""
    name, there = (f"c{uuid4().hex[:8]}" for _ in range(2))
    command("ip", "link", "add", name, "netns", first.namespace, "type", "veth", "peer", "name", there)
    command("ip", "link", "set", there, "netns", second.namespace)
    second.run("ip", "link", "set", there, "name", name)
    for end, addresses in ((first, first_addresses), (second, second_addresses)):
        for address in addresses:
            end.run("ip", "address", "add", address, "dev", name, "nodad")
        end.run("ip", "link", "set", name, "up")
