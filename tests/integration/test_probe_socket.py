"""Probes on the port of a real WireGuard, in network namespaces."""

from __future__ import annotations

import asyncio
import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from agent.device import DeviceError
from agent.probe_socket import ProbeSocket
from agent.probing.wire import MAGIC
from agent.wireguard_go import WireguardGoDevices
from events.fields import split_endpoint
from tests.support.stations import Station, cable, station
from tests.support.waiting import wait_until, wait_until_sync

pytestmark = pytest.mark.lab

_TRANSLATION = """table inet nat {
  chain out {
    type nat hook postrouting priority srcnat;
    ip saddr 10.0.0.0/24 meta l4proto udp masquerade to :40000-40009
    ip6 saddr fd01::/64 meta l4proto udp masquerade to :40000-40009
  }
}"""

Packets = list[tuple[str, bytes]]


@pytest.fixture
def stations() -> Iterator[Callable[[], Station]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(station(WireguardGoDevices))


@pytest.fixture
def probing() -> Iterator[Callable[[Station, int], tuple[ProbeSocket, Packets]]]:
    """Opens a probe socket on a station, with the packets that it receives."""
    opened: list[tuple[Station, ProbeSocket]] = []

    def start(on: Station, port: int) -> tuple[ProbeSocket, Packets]:
        packets: Packets = []
        probe_socket = on.do(ProbeSocket, port, lambda *packet: packets.append(packet))
        opened.append((on, probe_socket))
        return probe_socket, packets

    yield start
    for on, probe_socket in opened:
        on.do(probe_socket.close)


def complaints(on: Station) -> list[int]:
    """How many times a station said that a destination is unreachable (ICMP and ICMPv6)."""
    said = on.run("nstat", "-az", "IcmpOutDestUnreachs", "Icmp6OutDestUnreachs")
    return [int(count) for count in re.findall(r"OutDestUnreachs +(\d+)", said)]


def shake_hands(one: Station, other: Station, address: str) -> None:
    """Have the first station open a session with the other."""
    wait_until_sync(lambda: one.pings(address), what="a handshake")
    assert one.read().peers[other.public_key].last_handshake


@pytest.mark.parametrize("version", [4, 6])
def test_probes_travel_the_mapping_of_the_tunnel(
    stations: Callable[[], Station], probing: Callable[[Station, int], tuple[ProbeSocket, Packets]], version: int
) -> None:
    """Behind a NAT that changes the port, a probe is seen to come from where the tunnel's packets come from."""
    inner, router, outer = stations(), stations(), stations()
    cable(inner, ("10.0.0.2/24", "fd01::2/64"), router, ("10.0.0.1/24", "fd01::1/64"))
    cable(router, ("198.51.100.1/24", "fd02::1/64"), outer, ("198.51.100.2/24", "fd02::2/64"))
    inner.run("ip", "route", "add", "default", "via", "10.0.0.1")
    inner.run("ip", "-6", "route", "add", "default", "via", "fd01::1")
    router.run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
    router.run("nft", _TRANSLATION)
    address = "198.51.100.2" if version == 4 else "[fd02::2]"
    inner.up(52001, "172.20.0.1/24")
    outer.up(52002, "172.20.0.2/24")
    inner.peer(outer, "172.20.0.2/32", endpoint=f"{address}:52002")
    outer.peer(inner, "172.20.0.1/32")
    shake_hands(inner, outer, "172.20.0.2")

    mapped = outer.read().peers[inner.public_key].endpoint
    assert mapped is not None
    assert 40000 <= split_endpoint(mapped)[1] <= 40009
    here, at_inner = probing(inner, 52001)
    there, at_outer = probing(outer, 52002)
    for size in (1, 2, 103, 1000):
        assert inner.do(here.send, f"{address}:52002", MAGIC + bytes(size))
    wait_until_sync(lambda: len(at_outer) == 4, what="probes at the other end")
    assert {source for source, _ in at_outer} == {mapped}
    assert [len(packet) for _, packet in at_outer] == [5, 6, 107, 1004]
    assert outer.do(there.send, mapped, MAGIC + b"and back")
    wait_until_sync(lambda: at_inner, what="a probe that comes back")
    assert at_inner == [(f"{address}:52002", MAGIC + b"and back")]

    assert inner.pings("172.20.0.2", count=2)
    assert outer.read().peers[inner.public_key].endpoint == mapped
    assert len(at_outer) == 4, "the tunnel's own packets do not come here"
    assert complaints(inner) == [0, 0]
    assert complaints(outer) == [0, 0]


@pytest.fixture
def pair(stations: Callable[[], Station]) -> tuple[Station, Station]:
    one, other = stations(), stations()
    cable(one, ("192.0.2.1/24", "fd01::1/64"), other, ("192.0.2.2/24", "fd01::2/64"))
    return one, other


@pytest.mark.parametrize("address", ["192.0.2.2", "[fd01::2]"])
def test_only_probes_to_the_port_are_received(
    pair: tuple[Station, Station],
    probing: Callable[[Station, int], tuple[ProbeSocket, Packets]],
    address: str,
) -> None:
    one, other = pair
    other.up(52002)
    here, _ = probing(one, 52001)
    _, received = probing(other, 52002)
    for endpoint, packet in (
        (f"{address}:52003", MAGIC + b" another port"),
        (f"{address}:52002", b"\1\0\0\0" + bytes(144)),
        (f"{address}:52002", MAGIC[:3]),
        (f"{address}:52002", b""),
        (f"{address}:52002", MAGIC + b" this"),
    ):
        assert one.do(here.send, endpoint, packet)
    wait_until_sync(lambda: received, what="the probe")
    assert [packet for _, packet in received] == [MAGIC + b" this"]


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_checksums_are_right(
    pair: tuple[Station, Station], probing: Callable[[Station, int], tuple[ProbeSocket, Packets]], family: int
) -> None:
    """An ordinary socket, which drops what has a wrong checksum, receives probes of any content."""
    one, other = pair
    address = "192.0.2.2" if family == socket.AF_INET else "fd01::2"
    here, _ = probing(one, 52001)
    plain = other.do(socket.socket, family, socket.SOCK_DGRAM)
    with closing(plain):
        plain.bind((address, 52002))
        plain.settimeout(10)
        endpoint = f"{address}:52002" if family == socket.AF_INET else f"[{address}]:52002"
        for packet in [MAGIC, *(bytes([byte]) * length for byte in (0, 1, 0xFF) for length in (1, 2, 7, 99, 1000))]:
            assert one.do(here.send, endpoint, packet)
            assert plain.recv(2048) == packet


def test_a_changed_port_is_followed(
    pair: tuple[Station, Station], probing: Callable[[Station, int], tuple[ProbeSocket, Packets]]
) -> None:
    one, other = pair
    here, _ = probing(one, 52001)
    there, received = probing(other, 52002)

    def change_ports() -> None:
        here.listen_port, there.listen_port = 52011, 52012

    one.do(change_ports)
    assert (here.listen_port, there.listen_port) == (52011, 52012)
    for endpoint in ("192.0.2.2:52002", "[fd01::2]:52002", "192.0.2.2:52012", "[fd01::2]:52012"):
        one.do(here.send, endpoint, MAGIC)
    wait_until_sync(lambda: len(received) == 2, what="two probes")
    assert sorted(received) == [("192.0.2.1:52011", MAGIC), ("[fd01::1]:52011", MAGIC)]


def test_what_cannot_be_sent_is_said_and_harms_nothing(
    pair: tuple[Station, Station], probing: Callable[[Station, int], tuple[ProbeSocket, Packets]]
) -> None:
    one, other = pair
    here, received = probing(one, 52001)
    there, _ = probing(other, 52002)
    for endpoint in ("203.0.113.1:1", "[2001:db8::1]:1", "255.255.255.255:1", "no endpoint", "192.0.2.255:9"):
        assert not one.do(here.send, endpoint, MAGIC), endpoint
    assert one.do(here.send, "192.0.2.2:9", MAGIC), "a refusal by ICMP comes later, and is nobody's"
    for link in one.run("ls", "/sys/class/net").split():
        one.run("ip", "link", "set", link, "down")
        one.run("ip", "link", "set", link, "up")
    wait_until_sync(
        lambda: other.do(there.send, "192.0.2.1:52001", MAGIC) and received, what="a probe after the link came back"
    )
    assert one.do(here.send, "192.0.2.2:52002", MAGIC)


async def test_whoever_floods_the_port_leaves_most_of_the_time_to_others() -> None:
    times: list[float] = []

    def work(_: str, __: bytes) -> None:
        begun = time.thread_time()
        while time.thread_time() < begun + 0.001:
            pass
        times.append(time.monotonic())

    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as port,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as by,
    ):
        port.bind(("127.0.0.1", 0))
        with closing(ProbeSocket(port.getsockname()[1], work)):
            for _ in range(200):
                by.sendto(MAGIC + bytes(82), port.getsockname())
            await wait_until(lambda: len(times) == 200, what="all probes")
    assert times[-1] - times[0] >= 2 * 0.2


def test_a_closed_socket_sends_nothing(
    pair: tuple[Station, Station], probing: Callable[[Station, int], tuple[ProbeSocket, Packets]]
) -> None:
    one, _ = pair
    here, _ = probing(one, 52001)
    one.do(here.close)
    assert not one.do(here.send, "192.0.2.2:52002", MAGIC)


async def test_without_the_right_to_raw_sockets_it_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    assert asyncio.get_running_loop()
    monkeypatch.setattr("agent.probe_socket.socket.socket", refuse)
    with pytest.raises(DeviceError, match="raw socket") as refused:
        ProbeSocket(51820, lambda *_: None)
    assert "CAP_NET_RAW" in refused.value.hint
