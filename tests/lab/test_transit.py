"""A transit machine sees WireGuard packets only, forwards nothing else, and answers nothing at transit addresses."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from deploy.lab.diamond import NAMES, TRANSITS, Diamond
from deploy.lab.lab import IP, Lab
from deploy.lab.machine import Machine
from deploy.lab.mesh import wait_for
from deploy.lab.throughput import iperf
from tests.lab.watching import WIREGUARD, captured, interface_of, packets

pytestmark = [pytest.mark.lab, pytest.mark.timeout(180)]

SECRET = b"knownsecret16byt"
"""As much as fits into the pattern that `ping` fills its packets with."""

PINGS = 20
PORT = 9000
_SERVICES = f"""
import socket, threading
tcp = socket.create_server(("::", {PORT}), family=socket.AF_INET6, dualstack_ipv6=True)
udp = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
udp.bind(("::", {PORT}))
def answer():
    while True:
        data, sender = udp.recvfrom(100)
        print("udp", sender, flush=True)
        udp.sendto(data, sender)
threading.Thread(target=answer, daemon=True).start()
print("ready", flush=True)
while True:
    connection, sender = tcp.accept()
    print("tcp", sender, flush=True)
    connection.close()
"""
_LIKE_WIREGUARD = bytes([4, 0, 0, 0]) + bytes(28)


@pytest.fixture(scope="module")
def diamond() -> Iterator[Diamond]:
    """Two machines that talk through a transit, and know another one."""
    with Lab() as lab:
        diamond = Diamond(lab)
        diamond.cut_direct()
        diamond.await_transit()
        diamond.await_standby()
        for name in NAMES:
            services = lab.machines[name].start("services", ["python3", "-c", _SERVICES])
            wait_for(lambda services=services: "ready" in services.log.read_text(), "services to listen")
        yield diamond


def test_what_crosses_a_transit_is_wireguard_and_nothing_else(diamond: Diamond) -> None:
    diamond.await_standby()
    diamond.await_transit()
    north, south = (diamond.lab.machines[name] for name in TRANSITS)
    ping = ["ping", "-n", "-c", str(PINGS), "-i", "0.05", "-p", SECRET.hex(), diamond.addresses["right"]]
    received: list[int] = []

    def all_received() -> bool:
        received.append(int(diamond.left.run(ping, check=False).partition(" received")[0].rsplit(maxsplit=1)[-1]))
        return received[-1] == PINGS

    with captured(north) as at_north, captured(south) as at_south, captured(diamond.left) as sent:
        # Some may be lost as long as the ends still turn to the way that they will keep.
        wait_for(all_received, "every ping to be answered")
    carried = 0
    # The way may change meanwhile.
    for transit, seen in ((north, at_north), (south, at_south)):
        tunnel, _ = interface_of(transit)
        carried += sum(f" {tunnel} " in line for line in packets(transit, seen, WIREGUARD))
        # The kernel asks the link for routers now and then: multicast, which WireGuard has nobody to send to. And the
        # transit is a member itself, whom others speak with.
        foreign = f"not {WIREGUARD} and not ip6 multicast and not host {diamond.addresses[transit.name]}"
        assert not [line for line in packets(transit, seen, foreign) if f" {tunnel} " in line]
        assert SECRET not in seen.read_bytes()
    # Each ping and each answer, in and out.
    assert carried >= 4 * sum(received)
    assert SECRET in sent.read_bytes(), "the secret was not sent"


def test_packets_of_every_size_cross_a_transit(diamond: Diamond) -> None:
    diamond.await_transit()
    for source, target in ((diamond.left, diamond.right), (diamond.right, diamond.left)):
        assert iperf(source, target, diamond.addresses[target.name], seconds=1) > 1
        mtu = int(source.run(["ip", "route", "get", diamond.addresses[target.name]]).partition(" mtu ")[2].split()[0])
        for size in range(mtu - 20, mtu + 1):
            ping = [
                "ping",
                "-n",
                "-c",
                "1",
                "-W",
                "1",
                "-M",
                "do",
                "-s",
                str(size - 28),
                diamond.addresses[target.name],
            ]
            assert " 1 received" in source.run(ping, check=False), f"{size} of {mtu} bytes"


def test_ends_that_stay_on_a_way_that_both_have_left_are_called_back_when_it_breaks(diamond: Diamond) -> None:
    """Packets that are under way while both ends turn to another way have the WireGuard of each go on by the former."""
    diamond.await_standby()
    chosen = diamond.await_transit()
    former = next(name for name in TRANSITS if name != chosen)

    def strayed() -> bool:
        for here, there in ((diamond.left, diamond.right), (diamond.right, diamond.left)):
            interface, _ = interface_of(here)
            key = there.run(["wg", "show", interface_of(there)[0], "public-key"]).strip()
            port = there.run(["wg", "show", interface_of(there)[0], "listen-port"]).strip()
            endpoint = f"[{diamond.transit_address(there.name, former)}]:{port}"
            here.run(["wg", "set", interface, "peer", key, "endpoint", endpoint])
        return diamond.via() == former

    wait_for(strayed, "both ends to use the other transit")
    assert diamond.left.ping(diamond.addresses["right"]) is not None
    assert diamond.via() == former
    diamond.cut_off(former)
    try:
        wait_for(lambda: diamond.left.ping(diamond.addresses["right"], 0.3), "left to reach right again", 20)
        assert diamond.await_transit() == chosen
    finally:
        diamond.bring_back(former)
    diamond.await_standby()


def test_transit_addresses_answer_nothing_but_wireguard(diamond: Diamond) -> None:
    via = diamond.await_transit()
    diamond.left.run(["nft", "flush", "ruleset"])
    for name, target in (
        ("right", diamond.transit_address("right", via)),
        ("left", diamond.transit_address("left", via)),
    ):
        source = diamond.left if name == "right" else diamond.right
        assert not _answers(source, target)
    heard = diamond.lab.machines["right"].directory / "services.log"
    assert diamond.transit_address("left", via) not in heard.read_text()
    assert _answers(diamond.left, diamond.addresses["right"]) == {"ping", "tcp", "udp"}, "nothing listens at all"


def test_nothing_answers_at_the_addresses_of_a_transit_that_is_itself_reached_through_another(diamond: Diamond) -> None:
    north, south = (diamond.lab.machines[name] for name in TRANSITS)
    address = diamond.transit_address("north", "south")
    diamond.lab.cut(diamond.left, north)
    try:
        wait_for(lambda: diamond.left.ping(diamond.addresses["north"], 0.3), "left to reach north through south")
        wait_for(lambda: address in north.run(["ip", "address"]), "north to have the address")
        diamond.left.run(["nft", "flush", "ruleset"])
        assert not _answers(diamond.left, address)
        assert _answers(diamond.left, diamond.addresses["north"]) == {"ping", "tcp", "udp"}
        assert f" dev {interface_of(diamond.left)[0]} " in diamond.left.run(["ip", "route", "get", address])
    finally:
        diamond.lab.mend(diamond.left, north)
    diamond.await_standby()
    assert south.ping(diamond.addresses["left"])


def test_a_transit_forwards_nothing_but_wireguard_between_members(diamond: Diamond) -> None:
    """The last test here: it leaves left's interface as its owner's attack made it."""
    via = diamond.await_transit()
    transit, control = diamond.lab.machines[via], diamond.lab.machines["control"]
    transit.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"])
    tunnel, _ = interface_of(transit)
    own = diamond.transit_address("left", via)
    with captured(transit) as seen, captured(control) as outside:
        diamond.mesh.agents["left"].stop()
        diamond.left.run(["nft", "flush", "ruleset"])
        targets = _send_all_through(diamond, via)
        for target in targets:
            _send(diamond.left, own if ":" in target else diamond.addresses["left"], target)
    came = [line for line in packets(transit, seen, f"port {PORT}") if f" {tunnel} In" in line]
    went = [line for line in packets(transit, seen, f"port {PORT} and not {WIREGUARD}") if " Out" in line]
    for target in targets:
        assert any(f"> {target}.{PORT}" in line for line in came), (
            f"what was sent to {target} never came to the transit"
        )
    assert not went
    assert not packets(control, outside, f"port {PORT}")
    assert diamond.transit_address("left", via) not in (diamond.right.directory / "services.log").read_text()


def _answers(source: Machine, address: str) -> set[str]:
    """What answers at an address: to `ping`, TCP, UDP."""
    found = {"ping"} if source.ping(address, 0.5) is not None else set()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with source.network():
        udp = socket.socket(family, socket.SOCK_DGRAM)
    with udp, suppress(OSError):
        udp.settimeout(0.5)
        udp.sendto(b"are you there?", (address, PORT))
        udp.recv(100)
        found.add("udp")
    with suppress(OSError):
        with source.network():
            connection = socket.create_connection((address, PORT), 0.5)
        connection.close()
        found.add("tcp")
    return found


def _send(source: Machine, own: str, address: str) -> None:
    """Plain UDP, UDP that looks like WireGuard, and the first packet of TCP."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for payload in (b"not WireGuard", _LIKE_WIREGUARD):
        with source.network():
            udp = socket.socket(family, socket.SOCK_DGRAM)
        with udp:
            udp.bind((own, 0))
            for _ in range(3):
                udp.sendto(payload, (address, PORT))
    with source.network(), suppress(OSError):
        socket.create_connection((address, PORT), 0.3, (own, 0)).close()


def _send_all_through(diamond: Diamond, via: str) -> list[str]:
    """Have left send what goes to these addresses into its tunnel to the transit, as its owner can."""
    left, right, control = diamond.left, diamond.right, diamond.lab.machines["control"]
    nested = diamond.transit_address("right", via)
    targets = [control.address6, right.address6, nested, diamond.addresses["right"]]
    tunnel, _ = interface_of(left)
    transit_tunnel, _ = interface_of(diamond.lab.machines[via])
    key = diamond.lab.machines[via].run(["wg", "show", transit_tunnel, "public-key"]).strip()
    left.run(["wg", "set", tunnel, "peer", key, "allowed-ips", ",".join([*targets, diamond.addresses[via]])])
    left.run(IP, text="\n".join(f"route replace {target} dev {tunnel}" for target in targets))
    return targets
