"""What a transit machine forwards, and what answers at transit addresses, with real WireGuard in network namespaces."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import IPv6Network
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from agent.device import Route
from agent.forwarding import Forwarding, NoTransitError
from agent.transit_rules import TransitNetwork
from agent.wireguard_go import WireguardGoDevices
from events.transit import transit_address, transit_prefix
from tests.support.stations import Station, cable, station
from tests.support.waiting import wait_until_sync

pytestmark = pytest.mark.lab

PORT = 52000
NESTED_MTU = 1328
"""The largest whose packets, padded to a multiple of 16 and with 80 bytes more, fit into 1420."""
LIKE_WIREGUARD = b"\4\0\0\0" + bytes(28)


@pytest.fixture
def stations() -> Iterator[Callable[[], Station]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(station(WireguardGoDevices))


@dataclass
class Chain:
    """Two machines that reach each other only through a third."""

    left: Station
    transit: Station
    right: Station
    network_id: UUID
    forwarding: Forwarding

    @property
    def prefix(self) -> IPv6Network:
        return transit_prefix(self.network_id)

    def address(self, index: int) -> str:
        """A machine's address through the transit machine: 1 left, 2 right; 3 is the transit machine's own."""
        return str(transit_address(self.network_id, UUID(int=index), UUID(int=3 if index != 3 else 4)))

    def transit_network(self, of: Station, forwards: bool = False) -> TransitNetwork:
        return TransitNetwork(of.interface, self.prefix, PORT, forwards)

    def carry(self) -> None:
        self.transit.do(self.forwarding.apply, [self.transit_network(self.transit, forwards=True)])

    def protect(self, end: Station) -> None:
        end.do(Forwarding().apply, [self.transit_network(end)])


def build(stations: Callable[[], Station], one_by_one: bool | None) -> Chain:
    left, transit, right = stations(), stations(), stations()
    chain = Chain(left, transit, right, uuid4(), Forwarding(one_by_one=one_by_one))
    cable(left, ("192.0.2.1/25",), transit, ("192.0.2.3/25",))
    cable(transit, ("192.0.2.131/25",), right, ("192.0.2.130/25",))
    for index, here in enumerate((left, right, transit), 1):
        here.up(
            PORT,
            f"172.20.0.{index}/32",
            f"{chain.address(index)}/128",
            routes=(
                Route("172.20.0.0/24"),
                Route(f"172.20.0.{3 - index}/32", mtu=NESTED_MTU) if index < 3 else Route("172.20.0.0/24"),
                Route(str(chain.prefix), source=chain.address(index)),
            ),
        )
    for index, underlay in ((1, "192.0.2.3"), (2, "192.0.2.131")):
        end, other = (left, right)[index - 1], (left, right)[2 - index]
        via = ("172.20.0.3/32", f"{chain.address(3)}/128", f"{chain.address(3 - index)}/128")
        end.peer(transit, *via, endpoint=f"{underlay}:{PORT}")
        end.peer(other, f"172.20.0.{3 - index}/32", endpoint=f"[{chain.address(3 - index)}]:{PORT}")
        transit.peer(end, f"172.20.0.{index}/32", f"{chain.address(index)}/128")
        wait_until_sync(lambda end=end: end.pings("172.20.0.3"), what="a session with the transit machine")
    return chain


@pytest.fixture(params=[True, False], ids=["one interface", "all interfaces"])
def chain(request: pytest.FixtureRequest, stations: Callable[[], Station]) -> Chain:
    if request.param and not Path("/proc/sys/net/ipv6/conf/all/force_forwarding").exists():
        pytest.skip("this kernel forwards from all interfaces or none")
    return build(stations, request.param)


def listener(on: Station, kind: int, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = on.do(socket.socket, family, kind)
    made.setblocking(False)
    made.bind((address, port))
    if kind == socket.SOCK_STREAM:
        made.listen()
    return made


def received(by: socket.socket) -> list[bytes]:
    """What has come so far."""
    packets = []
    while True:
        try:
            packets.append(by.recv(2048))
        except BlockingIOError:
            return packets


def test_a_tunnel_leads_through_a_transit_machine(chain: Chain) -> None:
    chain.carry()
    chain.protect(chain.left)
    chain.protect(chain.right)
    wait_until_sync(lambda: chain.left.pings("172.20.0.2"), what="a ping through the transit machine")
    assert chain.right.pings("172.20.0.1", count=3)
    largest = str(NESTED_MTU - 28)
    assert " 0% packet loss" in chain.left.run(
        *("ping", "-c2", "-i0.2", "-W2", "-Mdo", "-s", largest, "172.20.0.2"), check=False
    )
    chain.transit.do(chain.forwarding.remove)
    assert not chain.left.pings("172.20.0.2")


def test_another_packet_filter_that_forwards_nothing_is_named(chain: Chain) -> None:
    chain.carry()
    assert chain.transit.do(chain.forwarding.obstacles) == []
    for table, hook in (("ip6 filter", "forward"), ("ip filter", "forward"), ("inet mine", "input")):
        chain.transit.run("nft", f"table {table} {{ chain A {{ type filter hook {hook} priority 0; policy drop; }}; }}")
    assert chain.transit.do(chain.forwarding.obstacles) == ["ip6 filter A"]


def test_nothing_but_wireguard_is_forwarded(chain: Chain) -> None:
    chain.carry()
    right = chain.address(2)
    service = listener(chain.right, socket.SOCK_DGRAM, right, 7777)
    doors = listener(chain.right, socket.SOCK_STREAM, right, 7777)
    sender = listener(chain.left, socket.SOCK_DGRAM, chain.address(1), 7777)
    knocking = chain.left.do(socket.socket, socket.AF_INET6, socket.SOCK_STREAM)
    knocking.setblocking(False)
    with service, doors, sender, knocking:
        assert knocking.connect_ex((right, 7777))
        for packet in (b"hello", b"\4\0\0\1" + bytes(28), b"\5\0\0\0" + bytes(28), b"\0\0\0\0" + bytes(28), b"\4\0"):
            sender.sendto(packet, (right, 7777))
        assert not chain.left.pings(right)
        sender.sendto(LIKE_WIREGUARD, (right, 7777))
        got: list[bytes] = []
        wait_until_sync(lambda: got.extend(received(service)) or got, what="what looks like WireGuard")
        assert got == [LIKE_WIREGUARD]
        with pytest.raises(BlockingIOError):
            doors.accept()

        # With the machine's own rules not even that.
        chain.protect(chain.right)
        sender.sendto(LIKE_WIREGUARD, (right, 7777))
        wait_until_sync(lambda: chain.left.pings("172.20.0.2"), what="a ping through the transit machine")
        assert not received(service)


def test_transit_addresses_answer_nothing_but_wireguard(chain: Chain) -> None:
    """Neither the transit machine's nor those of the machines that are reached through it."""
    chain.carry()
    chain.protect(chain.right)
    for asking, asked, index in ((chain.left, chain.transit, 3), (chain.transit, chain.right, 2)):
        address, mesh_address = chain.address(index), f"172.20.0.{index}"
        with ExitStack() as stack:
            services = [
                stack.enter_context(listener(asked, kind, address, 7777))
                for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM)
            ]
            mesh = stack.enter_context(listener(asked, socket.SOCK_DGRAM, mesh_address, 7778))
            own = chain.address(1 if asking is chain.left else 3)
            sender = stack.enter_context(listener(asking, socket.SOCK_DGRAM, own, 7779))
            plain = stack.enter_context(asking.do(socket.socket, socket.AF_INET, socket.SOCK_DGRAM))
            knocking = stack.enter_context(asking.do(socket.socket, socket.AF_INET6, socket.SOCK_STREAM))
            knocking.setblocking(False)
            assert knocking.connect_ex((address, 7777))
            for packet in (b"hello", LIKE_WIREGUARD):
                _send(sender, packet, (address, 7777))
            assert not asking.pings(address)
            plain.sendto(b"services on the mesh are reached as ever", (mesh_address, 7778))
            wait_until_sync(lambda mesh=mesh: received(mesh), what="a packet on the mesh")
            assert not received(services[0])
            with pytest.raises(BlockingIOError):
                services[1].accept()


def _send(sender: socket.socket, packet: bytes, address: tuple[str, int]) -> None:
    """Send, though the sender's own rules may forbid it."""
    try:
        sender.sendto(packet, address)
    except PermissionError:
        return


def test_a_transit_address_is_not_reached_from_outside(chain: Chain, stations: Callable[[], Station]) -> None:
    """Whoever shares a cable with a transit machine reaches neither its transit address nor those beyond."""
    outside = stations()
    cable(outside, ("fd99::1/64",), chain.transit, ("fd99::2/64",))
    outside.run("ip", "-6", "route", "add", str(chain.prefix), "via", "fd99::2")
    chain.transit.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    assert outside.pings(chain.address(3)), "before there are rules"
    chain.carry()
    service = listener(chain.right, socket.SOCK_DGRAM, chain.address(2), 7777)
    outside_plain = outside.do(socket.socket, socket.AF_INET6, socket.SOCK_DGRAM)
    inside = listener(chain.left, socket.SOCK_DGRAM, chain.address(1), 7777)
    with service, outside_plain, inside:
        assert not outside.pings(chain.address(3))
        outside_plain.sendto(LIKE_WIREGUARD, (chain.address(2), 7777))
        inside.sendto(LIKE_WIREGUARD + b"from inside", (chain.address(2), 7777))
        got: list[bytes] = []
        wait_until_sync(lambda: got.extend(received(service)) or got, what="the packet from inside")
        assert got == [LIKE_WIREGUARD + b"from inside"]
        assert outside.pings("fd99::2"), "what is no transit address answers"


@pytest.mark.parametrize("router", [False, True], ids=["a host", "a router"])
def test_other_forwarding_stays_as_it_was(chain: Chain, stations: Callable[[], Station], router: bool) -> None:
    one, other, transit = stations(), stations(), chain.transit
    cable(one, ("fd91::1/64", "198.51.100.1/25"), transit, ("fd91::2/64", "198.51.100.2/25"))
    cable(transit, ("fd92::2/64", "198.51.100.130/25"), other, ("fd92::1/64", "198.51.100.129/25"))
    for end, gateway, gateway4 in ((one, "fd91::2", "198.51.100.2"), (other, "fd92::2", "198.51.100.130")):
        end.run("ip", "-6", "route", "add", "default", "via", gateway)
        end.run("ip", "route", "add", "default", "via", gateway4)
    if router:
        transit.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1", "net.ipv4.ip_forward=1")
    transit.run("nft", "table ip6 theirs { chain forward { type filter hook forward priority 5; counter\n }\n}")

    def state() -> tuple[bool, bool, str, str]:
        wait = 5.0 if router else 0.3
        passes = one.pings("fd92::1", wait=wait), one.pings("198.51.100.129", wait=wait)
        settings = transit.run("sysctl", "-ar", r"(ip_forward|(all|default|c[0-9a-f]{8})\.(forwarding|accept_ra))$")
        kept = [line for line in settings.splitlines() if not line.startswith("net.ipv6.conf.all.forwarding")]
        return *passes, "\n".join(kept), transit.run("nft", "-s", "list", "table", "ip6", "theirs")

    before, all_before = state(), transit.run("sysctl", "-n", "net.ipv6.conf.all.forwarding")
    assert before[:2] == (router, router)
    for _ in range(2):
        chain.carry()
        assert state() == before
    transit.do(chain.forwarding.apply, [chain.transit_network(transit)])
    assert transit.run("sysctl", "-n", "net.ipv6.conf.all.forwarding") == all_before
    assert state() == before
    chain.carry()
    transit.do(chain.forwarding.remove)
    transit.do(chain.forwarding.remove)
    assert state() == before
    assert transit.run("sysctl", "-n", "net.ipv6.conf.all.forwarding") == all_before
    assert "wireloom" not in transit.run("nft", "list", "ruleset")


def test_who_becomes_a_router_later_is_one(chain: Chain, stations: Callable[[], Station]) -> None:
    """Also when the agent had turned forwarding on before, for itself alone."""
    one, other, transit = stations(), stations(), chain.transit
    cable(one, ("fd91::1/64",), transit, ("fd91::2/64",))
    cable(transit, ("fd92::2/64",), other, ("fd92::1/64",))
    one.run("ip", "-6", "route", "add", "default", "via", "fd91::2")
    other.run("ip", "-6", "route", "add", "default", "via", "fd92::2")
    chain.carry()
    assert not one.pings("fd92::1")
    transit.run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    chain.carry()
    assert one.pings("fd92::1")
    transit.do(chain.forwarding.remove)
    assert one.pings("fd92::1")


def test_a_learnt_default_route_stays(chain: Chain, stations: Callable[[], Station]) -> None:
    """Linux drops default routes learnt from router advertisements when it becomes a router."""
    router = stations()
    cable(router, ("fd91::1/64",), chain.transit, ("fd91::2/64",))
    link = next(line.split()[2] for line in chain.transit.run("ip", "-6", "route").splitlines() if "fd91::" in line)
    mac = router.run("cat", f"/sys/class/net/{link}/address").strip()
    advertise(router, link, mac)
    learnt = wait_until_sync(lambda: chain.transit.run("ip", "-6", "route", "show", "default"), what="a default route")
    assert "proto ra" in learnt
    chain.carry()
    assert "proto ra" in chain.transit.run("ip", "-6", "route", "show", "default")
    assert chain.transit.run("sysctl", "-n", f"net.ipv6.conf.{link}.accept_ra").strip() == "1"
    chain.transit.do(chain.forwarding.remove)
    assert "proto ra" in chain.transit.run("ip", "-6", "route", "show", "default")


def advertise(router: Station, link: str, mac: str) -> None:
    """Send one router advertisement (RFC 4861, section 4.2): a default router for half an hour."""
    source_link_layer = b"\1\1" + bytes.fromhex(mac.replace(":", ""))
    advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0) + source_link_layer
    index = int(router.run("cat", f"/sys/class/net/{link}/ifindex"))
    wait_until_sync(
        lambda: "tentative" not in router.run("ip", "-6", "address", "show", "dev", link), what="a link-local address"
    )
    raw = router.do(socket.socket, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    with raw:
        raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        raw.sendto(advertisement, ("ff02::1", 0, 0, index))


def test_rules_that_others_flushed_come_back(chain: Chain) -> None:
    chain.carry()
    rules = chain.transit.run("nft", "list", "ruleset")
    assert "wireloom" in rules
    chain.transit.run("nft", "flush", "ruleset")
    chain.carry()
    assert chain.transit.run("nft", "list", "ruleset") == rules


def test_without_nft_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = tmp_path / "conf"
    for name in ("all", "default", "wl-1"):
        (settings / name).mkdir(parents=True)
        (settings / name / "force_forwarding").write_text("0")
        (settings / name / "forwarding").write_text("0")
    monkeypatch.setattr("agent.nft._PATHS", str(tmp_path))
    network = TransitNetwork("wl-1", transit_prefix(uuid4()), 51820, forwards=True)
    with pytest.raises(NoTransitError) as refused:
        Forwarding(settings).apply([network])
    assert "nftables" in refused.value.hint
    assert (settings / "wl-1" / "force_forwarding").read_text() == "0"
    with pytest.raises(NoTransitError, match="no IPv6"):
        Forwarding(tmp_path / "absent").apply([network])
    Forwarding(tmp_path / "absent").remove()
