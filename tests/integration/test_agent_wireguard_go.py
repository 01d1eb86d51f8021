"""The wireguard-go backend, in network namespaces."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest

from agent.desired import Desired, DesiredPeer
from agent.device import Changes, Device, PortTakenError
from agent.keys import generate_private_key, public_key
from agent.plan import diff
from agent.wireguard_go import SOCKET_FOLDER, WireguardGoDevices
from tests.support.device_contract import DeviceContract, a_desired
from tests.support.namespaces import command, enter, join, namespace
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.lab


class Inside:
    """A backend that works inside a namespace, through a thread that lives there."""

    name = "wireguard-go"
    blocking = True

    def __init__(self, namespace_name: str) -> None:
        self.namespace = namespace_name
        self.devices = WireguardGoDevices()
        self.thread = ThreadPoolExecutor(1, initializer=enter, initargs=(namespace_name,))

    def read(self, interface: str) -> Device | None:
        return self.thread.submit(self.devices.read, interface).result()

    def apply(self, interface: str, changes: Changes) -> None:
        self.thread.submit(self.devices.apply, interface, changes).result()

    def remove(self, interface: str) -> None:
        self.thread.submit(self.devices.remove, interface).result()

    def interfaces(self) -> list[str]:
        return self.thread.submit(self.devices.interfaces).result()

    def close(self) -> None:
        for interface in self.interfaces():
            self.remove(interface)
        self.thread.submit(self.devices.close).result()
        self.thread.shutdown()


@pytest.fixture
def machines() -> Iterator[Callable[[], Inside]]:
    with ExitStack() as stack:

        def machine() -> Inside:
            return stack.enter_context(closing(Inside(stack.enter_context(namespace()))))

        yield machine


class TestWireguardGoDevices(DeviceContract):
    @pytest.fixture
    def devices(self, machines: Callable[[], Inside]) -> Inside:
        return machines()

    def test_a_taken_port_is_refused(self, devices: Inside, interface: str) -> None:
        holder = devices.thread.submit(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM).result()
        with holder:
            holder.bind(("::", 51777))
            with pytest.raises(PortTakenError):
                devices.apply(interface, diff(a_desired(listen_port=51777), None, time.time()))
            self.set_right(devices, interface, a_desired(listen_port=51778))

    def test_a_virtual_ip_is_not_what_the_machine_sends_from(self, devices: Inside, interface: str) -> None:
        self.set_right(devices, interface, a_desired(vips=frozenset({"10.0.0.1/32"})))
        route = command("ip", "route", "get", "172.20.0.2", namespace=devices.namespace)
        assert " src 172.20.0.1 " in route

    def test_edits_by_others_are_repaired(self, devices: Inside, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        key = next(iter(desired.peers))
        foreign = public_key(generate_private_key())
        for edit in (
            ("wg", "set", interface, "peer", foreign, "allowed-ips", "172.20.0.3/32,10.0.0.0/8"),
            ("wg", "set", interface, "peer", key, "allowed-ips", "172.20.0.77/32"),
            ("wg", "set", interface, "peer", key, "persistent-keepalive", "7", "endpoint", "192.0.2.9:9"),
            ("wg", "set", interface, "peer", key, "remove"),
            ("wg", "set", interface, "listen-port", "40000"),
            ("ip", "address", "add", "10.9.9.9/24", "dev", interface),
            ("ip", "address", "del", "172.20.0.1/32", "dev", interface),
            ("ip", "route", "del", "172.20.0.0/24"),
            ("ip", "link", "set", interface, "mtu", "1300"),
            ("ip", "link", "set", interface, "down"),
            ("ip", "link", "del", interface),
        ):
            command(*edit, namespace=devices.namespace)
            assert diff(desired, devices.read(interface), time.time()), edit
            self.set_right(devices, interface, desired)

    def test_a_preshared_key_of_others_is_repaired(
        self, devices: Inside, interface: str, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        secret = tmp_path_factory.mktemp("psk") / "psk"
        secret.write_text(generate_private_key())
        key = next(iter(desired.peers))
        command("wg", "set", interface, "peer", key, "preshared-key", str(secret), namespace=devices.namespace)
        assert devices.read(interface).peers[key].preshared  # type: ignore[union-attr]
        assert not self.set_right(devices, interface, desired).peers[key].preshared

    def test_a_killed_process_is_replaced(self, devices: Inside, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        os.kill(process_of(interface), signal.SIGKILL)
        wait_until_sync(lambda: devices.read(interface) is None, what="the interface's end")
        self.set_right(devices, interface, desired)

    def test_a_link_that_cannot_be_driven_is_replaced(self, devices: Inside, interface: str) -> None:
        command("ip", "link", "add", interface, "type", "bridge", namespace=devices.namespace)
        assert devices.read(interface) is None
        self.set_right(devices, interface, a_desired())

    def test_removing_leaves_no_control_socket(self, devices: Inside, interface: str) -> None:
        self.set_right(devices, interface, a_desired())
        assert (SOCKET_FOLDER / f"{interface}.sock").exists()
        devices.remove(interface)
        assert not (SOCKET_FOLDER / f"{interface}.sock").exists()


def process_of(interface: str) -> int:
    """The process id of the wireguard-go that drives an interface."""
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if (entry / "cmdline").read_bytes().split(b"\0")[:2] == [b"wireguard-go", interface.encode()]:
                return int(entry.name)
    raise AssertionError(f"no wireguard-go drives {interface}")


def shaken_hands(machine: Inside, interface: str, key: str) -> float:
    device = machine.read(interface)
    assert device is not None
    return device.peers[key].last_handshake


def test_packets_pass_and_changing_one_peer_leaves_the_other(machines: Callable[[], Inside]) -> None:
    """Two namespaces reach each other through the tunnel; the others' changes do not touch it."""
    here, there = machines(), machines()
    join(here.namespace, "192.0.2.1/24", there.namespace, "192.0.2.2/24")
    keys = generate_private_key(), generate_private_key()
    third = public_key(generate_private_key())
    peers = (
        {
            public_key(keys[1]): DesiredPeer(frozenset({"172.20.0.2/32"}), ("192.0.2.2:52002",)),
            third: DesiredPeer(frozenset({"172.20.0.3/32"})),
        },
        {public_key(keys[0]): DesiredPeer(frozenset({"172.20.0.1/32"}), ("192.0.2.1:52001",))},
    )
    names = f"wl-{uuid4().hex[:8]}", f"wl-{uuid4().hex[:8]}"
    wanted = [
        Desired(keys[index], 52001 + index, 1420, f"172.20.0.{index + 1}/32", "172.20.0.0/24", peers[index])
        for index in range(2)
    ]
    for machine, name, desired in zip((here, there), names, wanted, strict=True):
        machine.apply(name, diff(desired, machine.read(name), time.time()))
    wait_until_sync(lambda: shaken_hands(here, names[0], public_key(keys[1])), what="a handshake")
    assert " 0% packet loss" in command("ping", "-c3", "-i0.2", "-W2", "172.20.0.2", namespace=here.namespace)

    before = shaken_hands(here, names[0], public_key(keys[1]))
    changed = {**peers[0], third: DesiredPeer(frozenset({"172.20.0.33/32"}), ("192.0.2.3:1",))}
    changes = diff(replace(wanted[0], peers=changed), here.read(names[0]), time.time())
    assert [change.public_key for change in changes.peers] == [third]
    here.apply(names[0], changes)
    assert shaken_hands(here, names[0], public_key(keys[1])) == before
    assert not diff(replace(wanted[0], peers=changed), here.read(names[0]), time.time())
    assert " 0% packet loss" in command("ping", "-c2", "-i0.2", "-W2", "172.20.0.2", namespace=here.namespace)
