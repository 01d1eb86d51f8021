"""The kernel backend against a real kernel's WireGuard. `test_kernel.py` runs this inside the virtual machine."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest

from agent.backends import choose
from agent.desired import Desired, DesiredPeer
from agent.device import Changes, PeerChange, PortTakenError
from agent.kernel import KernelDevices
from agent.keys import generate_private_key, public_key
from agent.plan import diff
from agent.probe_socket import ProbeSocket
from agent.probing.wire import MAGIC
from tests.integration.test_forwarding import NESTED_MTU, build
from tests.support.device_contract import DeviceContract, a_desired, a_key
from tests.support.namespaces import command, enter, join, namespace
from tests.support.stations import Station, cable, station
from tests.support.waiting import wait_until_sync


class TestKernelDevices(DeviceContract):
    @pytest.fixture
    def devices(self) -> Iterator[KernelDevices]:
        devices = KernelDevices()
        yield devices
        for interface in devices.interfaces():
            devices.remove(interface)
        devices.close()

    def test_a_taken_port_is_refused(self, devices: KernelDevices, interface: str) -> None:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as holder:
            holder.bind(("::", 51777))
            with pytest.raises(PortTakenError):
                devices.apply(interface, diff(a_desired(listen_port=51777), None, time.time()))
            self.set_right(devices, interface, a_desired(listen_port=51778))

    def test_edits_by_others_are_repaired(self, devices: KernelDevices, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        key = next(iter(desired.peers))
        for edit in (
            ("wg", "set", interface, "peer", a_key(), "allowed-ips", "172.20.0.3/32,10.0.0.0/8"),
            ("wg", "set", interface, "peer", key, "allowed-ips", "172.20.0.77/32"),
            ("wg", "set", interface, "peer", key, "persistent-keepalive", "7", "endpoint", "192.0.2.9:9"),
            ("wg", "set", interface, "peer", key, "remove"),
            ("wg", "set", interface, "listen-port", "40000"),
            ("ip", "address", "del", "172.20.0.1/32", "dev", interface),
            ("ip", "route", "del", "172.20.0.0/24"),
            ("ip", "link", "set", interface, "mtu", "1300"),
            ("ip", "link", "set", interface, "down"),
            ("ip", "link", "del", interface),
        ):
            command(*edit)
            assert diff(desired, devices.read(interface), time.time()), edit
            self.set_right(devices, interface, desired)

    def test_200_peers_and_2000_allowed_ips_are_read_back(self, devices: KernelDevices, interface: str) -> None:
        """More than one netlink message holds, so that a dump goes over many, and a peer over two."""
        wide = frozenset(f"10.{number // 256}.{number % 256}.0/24" for number in range(1_800))
        peers = {a_key(): DesiredPeer(frozenset({f"172.20.1.{number}/32"})) for number in range(200)}
        actual = self.set_right(devices, interface, a_desired(peers=peers))
        assert set(actual.peers) == set(peers)
        key = next(iter(peers))
        for chunk in (sorted(wide)[:900], sorted(wide)[900:]):
            devices.apply(interface, Changes(peers=(PeerChange(key, add_allowed_ips=frozenset(chunk)),)))
        grown = devices.read(interface)
        assert grown is not None
        assert grown.peers[key].allowed_ips == wide | peers[key].allowed_ips


def test_the_kernel_is_chosen_by_itself() -> None:
    devices = choose("auto")
    assert devices.name == "kernel"
    devices.close()


@contextmanager
def devices_in(name: str) -> Iterator[Callable[[Callable[[KernelDevices], object]], object]]:
    """Calls with the kernel's devices of a namespace."""
    with ThreadPoolExecutor(1, initializer=enter, initargs=(name,)) as thread:
        devices = KernelDevices()
        yield lambda call: thread.submit(call, devices).result()
        thread.submit(devices.close).result()


def test_packets_pass_between_two_namespaces_and_other_peers_are_left_alone() -> None:
    keys = generate_private_key(), generate_private_key()
    third = a_key()
    peers = (
        {
            public_key(keys[1]): DesiredPeer(frozenset({"172.20.0.2/32"}), ("192.0.2.2:52002",)),
            third: DesiredPeer(frozenset({"172.20.0.3/32"})),
        },
        {public_key(keys[0]): DesiredPeer(frozenset({"172.20.0.1/32"}), ("192.0.2.1:52001",))},
    )
    with ExitStack() as stack:
        names = [stack.enter_context(namespace()) for _ in range(2)]
        join(names[0], "192.0.2.1/24", names[1], "192.0.2.2/24")
        inside = [stack.enter_context(devices_in(name)) for name in names]
        for index in range(2):
            address = f"172.20.0.{index + 1}/32"
            wanted = Desired(keys[index], 52001 + index, 1420, address, "172.20.0.0/24", peers[index])
            changes = diff(wanted, None, time.time())
            inside[index](lambda devices, changes=changes: devices.apply("wl-kernel", changes))

        def shaken_hands() -> float:
            device = inside[0](lambda devices: devices.read("wl-kernel"))
            return device.peers[public_key(keys[1])].last_handshake  # type: ignore[attr-defined]

        wait_until_sync(shaken_hands, what="a handshake")
        assert " 0% packet loss" in command("ping", "-c3", "-i0.2", "-W5", "172.20.0.2", namespace=names[0])
        before = shaken_hands()
        more = PeerChange(third, endpoint="192.0.2.3:1", add_allowed_ips=frozenset({"172.20.0.33/32"}))
        inside[0](lambda devices: devices.apply("wl-kernel", Changes(peers=(more,))))
        assert shaken_hands() == before
        assert " 0% packet loss" in command("ping", "-c2", "-i0.2", "-W5", "172.20.0.2", namespace=names[0])


@pytest.fixture
def stations() -> Iterator[Callable[[], Station]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(station(KernelDevices))


@pytest.mark.parametrize("address", ["192.0.2.2", "[fd01::2]"])
def test_probes_share_the_port_of_the_kernels_wireguard(stations: Callable[[], Station], address: str) -> None:
    one, other = stations(), stations()
    cable(one, ("192.0.2.1/24", "fd01::1/64"), other, ("192.0.2.2/24", "fd01::2/64"))
    one.up(52001, "172.20.0.1/24")
    other.up(52002, "172.20.0.2/24")
    one.peer(other, "172.20.0.2/32", endpoint=f"{address}:52002")
    other.peer(one, "172.20.0.1/32")
    wait_until_sync(lambda: one.pings("172.20.0.2"), what="a session")
    seen = other.read().peers[one.public_key].endpoint
    assert seen is not None

    received: list[tuple[str, bytes]] = []
    here = one.do(ProbeSocket, 52001, lambda *packet: received.append(packet))
    there = other.do(ProbeSocket, 52002, lambda *packet: received.append(packet))
    assert one.do(here.send, f"{address}:52002", MAGIC + b"there")
    wait_until_sync(lambda: received, what="a probe")
    assert other.do(there.send, seen, MAGIC + b"and back")
    wait_until_sync(lambda: len(received) == 2, what="its answer")
    assert received == [(seen, MAGIC + b"there"), (f"{address}:52002", MAGIC + b"and back")]
    assert one.pings("172.20.0.2", count=2, wait=5)
    assert len(received) == 2, "the tunnel's own packets do not come here"
    unreachable = other.run("nstat", "-az", "IcmpOutDestUnreachs", "Icmp6OutDestUnreachs")
    assert all(line.split()[1] == "0" for line in unreachable.splitlines() if "Unreachs" in line)
    one.do(here.close)
    other.do(there.close)


def test_a_tunnel_leads_through_a_transit_machine(stations: Callable[[], Station]) -> None:
    """With a kernel that forwards IPv6 from all interfaces or none."""
    chain = build(stations, None)
    for end in (chain.left, chain.right):
        chain.protect(end)
    chain.carry()
    wait_until_sync(lambda: chain.left.pings("172.20.0.2"), what="a ping through the transit machine")
    size = str(NESTED_MTU - 28)
    assert ", 0% packet loss" in chain.left.run("ping", "-c2", "-i0.2", "-W5", "-Mdo", "-s", size, "172.20.0.2")
    assert not chain.left.pings(chain.address(3))
    assert chain.transit.run("sysctl", "-n", "net.ipv6.conf.default.forwarding").strip() == "0"
    chain.transit.do(chain.forwarding.remove)
    assert not chain.left.pings("172.20.0.2")
    assert chain.transit.run("sysctl", "-n", "net.ipv6.conf.all.forwarding").strip() == "0"
