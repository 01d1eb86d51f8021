"""What a machine passes on, and who may speak BGP into its mesh: with the real packet filter, in namespaces."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import TypeVar

import pytest

from agent.bgp.forwarding import PassageGuard
from agent.bgp.passage_rules import Passage
from tests.support.namespaces import command, enter, namespace

pytestmark = pytest.mark.lab

T = TypeVar("T")
OWN, PEER = IPv4Address("10.9.0.1"), IPv4Address("10.9.0.2")
LAN = IPv4Network("192.168.7.0/24")
BEHIND = IPv4Address("198.51.100.5")
IN_MESH = Passage(interfaces=("wl-1",), addresses=(OWN,), meshes=(IPv4Network("10.9.0.0/24"),))
ANNOUNCING = replace(IN_MESH, prefixes=(LAN,))
NOBODY = 65534


class Place:
    """A namespace, and a thread inside."""

    def __init__(self, name: str, thread: ThreadPoolExecutor) -> None:
        self.name = name
        self._thread = thread

    def run(self, function: Callable[[], T]) -> T:
        return self._thread.submit(function).result()

    def setting(self, interface: str) -> str:
        return command("cat", f"/proc/sys/net/ipv4/conf/{interface}/forwarding", namespace=self.name).strip()

    def switch(self, interface: str, value: str) -> None:
        command("sh", "-c", f"echo {value} > /proc/sys/net/ipv4/conf/{interface}/forwarding", namespace=self.name)


@pytest.fixture
def places() -> Iterator[dict[str, Place]]:
    """This machine (`own`), another member (`peer`), and one on the same wire that is in no mesh (`near`)."""
    with ExitStack() as stack:
        made = {}
        for label in ("own", "peer", "near"):
            name = stack.enter_context(namespace(label))
            thread = stack.enter_context(ThreadPoolExecutor(1, initializer=enter, initargs=(name,)))
            made[label] = Place(name, thread)
        for other, link, addresses in (("peer", "wl-1", (OWN, PEER)), ("near", "lan", ("192.168.7.1", "192.168.7.9"))):
            here, there = made["own"].name, made[other].name
            command("ip", "link", "add", link, "netns", here, "type", "veth", "peer", "name", link, "netns", there)
            for name, address in zip((here, there), addresses, strict=True):
                command("ip", "address", "add", f"{address}/24", "dev", link, namespace=name)
                command("ip", "link", "set", link, "up", namespace=name)
        for place in made.values():
            command("ip", "link", "set", "lo", "up", namespace=place.name)
        command("ip", "route", "add", "10.9.0.0/24", "via", "192.168.7.1", namespace=made["near"].name)
        yield made


@pytest.fixture
def guard(tmp_path: Path) -> PassageGuard:
    return PassageGuard(tmp_path / "run")


def listening(address: IPv4Address, port: int) -> Callable[[], socket.socket]:
    return lambda: socket.create_server((str(address), port))


def connects(address: IPv4Address, port: int, user: int = 0) -> Callable[[], bool]:
    """Whether a program of this user can connect."""

    def attempt() -> bool:
        program = ["timeout", "2", "bash", "-c", f": </dev/tcp/{address}/{port}"]
        return subprocess.run(program, user=user, cwd="/", capture_output=True, check=False).returncode == 0

    return attempt


def test_only_speakers_speak_bgp_and_only_through_the_tunnel(places: dict[str, Place], guard: PassageGuard) -> None:
    own, peer, near = places["own"], places["peer"], places["near"]
    with (
        closing(own.run(listening(OWN, 179))),
        closing(own.run(listening(OWN, 8080))),
        closing(peer.run(listening(PEER, 1790))),
    ):
        assert near.run(connects(OWN, 179))  # Linux answers for its addresses on every interface
        assert own.run(connects(PEER, 1790, NOBODY))
        own.run(lambda: guard.apply(IN_MESH))
        assert not near.run(connects(OWN, 179))
        assert not own.run(connects(PEER, 1790, NOBODY))
        assert not own.run(connects(OWN, 179, NOBODY))
        assert peer.run(connects(OWN, 179))
        assert own.run(connects(PEER, 1790))
        assert near.run(connects(OWN, 8080))
        # Nor does the machine pass on what somebody else says.
        command("ip", "route", "add", "192.168.7.0/24", "via", str(OWN), namespace=peer.name)
        own.switch("all", "1")
        own.run(lambda: guard.apply(ANNOUNCING))
        assert not near.run(connects(PEER, 1790))
        # With somebody behind the other member everybody may speak BGP.
        command("ip", "address", "add", f"{BEHIND}/32", "dev", "lo", namespace=peer.name)
        command("ip", "route", "add", str(BEHIND), "via", str(PEER), namespace=own.name)
        command("ip", "route", "add", str(BEHIND), "via", "192.168.7.1", namespace=near.name)
        with closing(peer.run(listening(BEHIND, 179))):
            assert near.run(connects(BEHIND, 179))
            assert own.run(connects(BEHIND, 179, NOBODY))
        own.run(guard.remove)
        assert near.run(connects(PEER, 1790))


def test_interfaces_forward_only_as_long_as_something_lies_behind(
    places: dict[str, Place], guard: PassageGuard
) -> None:
    own = places["own"]
    own.switch("all", "0")
    own.run(lambda: guard.apply(ANNOUNCING))
    assert (own.setting("lan"), own.setting("wl-1"), own.setting("all")) == ("1", "1", "0")
    own.run(lambda: guard.apply(IN_MESH))
    assert (own.setting("lan"), own.setting("wl-1")) == ("0", "0")


def test_what_somebody_else_has_forward_since_is_left_alone(places: dict[str, Place], guard: PassageGuard) -> None:
    own = places["own"]
    own.switch("all", "0")
    own.run(lambda: guard.apply(ANNOUNCING))
    assert 'iifname "lan" drop' in command("nft", "list", "ruleset", namespace=own.name)
    own.switch("all", "1")  # as Docker does when it starts
    own.run(lambda: guard.apply(ANNOUNCING))
    assert 'iifname "lan" drop' not in command("nft", "list", "ruleset", namespace=own.name)
    own.run(guard.remove)
    assert (own.setting("lan"), own.setting("wl-1")) == ("1", "1")
    assert "wireloom" not in command("nft", "list", "ruleset", namespace=own.name)


def test_another_packet_filter_that_forwards_nothing_is_named(places: dict[str, Place], guard: PassageGuard) -> None:
    own = places["own"]
    own.run(lambda: guard.apply(ANNOUNCING))
    assert own.run(guard.obstacles) == []
    chain = "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority 0; policy drop; }"
    command("nft", chain, namespace=own.name)
    assert own.run(guard.obstacles) == ["ip filter FORWARD"]
