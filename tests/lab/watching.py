"""What the lab tests watch while they change things: pings that go on, packets on the router, interfaces."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from agent.probing.wire import MAGIC
from deploy.lab.machine import Machine
from deploy.lab.mesh import Mesh, wait_for

NETWORK = "mesh"
FIVE = ("m1", "m2", "m3", "m4", "m5")

_numbers = count(1)
_SUMMARY = re.compile(r"(\d+) packets transmitted, (\d+) received")
_IN_FLIGHT = 1
"""A ping that was sent just before the end has no answer yet."""

_HERE = "127.0.0.1"
_LAST = b"the last packet"
"""What the router says to itself when a capture ends."""

_WIREGUARD_V4 = " or ".join(f"udp[8:4] = 0x0{kind}000000" for kind in (1, 2, 3, 4))
_WIREGUARD_V6 = " or ".join(f"ip6[48:4] = 0x0{kind}000000" for kind in (1, 2, 3, 4))
WIREGUARD = f"((ip and udp and ({_WIREGUARD_V4})) or (ip6 and udp and ({_WIREGUARD_V6})))"
"""Selects WireGuard's four kinds of messages: a byte that tells which, and three zeros (section 5.4 of its paper)."""

_MAGIC = f"0x{MAGIC.hex()}"
PROBE = f"((ip and udp and udp[8:4] = {_MAGIC}) or (ip6 and udp and ip6[48:4] = {_MAGIC}))"
"""Selects path probes, which are sealed."""


@contextmanager
def unbroken_ping(machine: Machine, address: str) -> Iterator[None]:
    """Pings go from a machine to an address all the time, and none may be lost."""
    ping = machine.start(f"ping-{next(_numbers)}", ["ping", "-n", "-i", "0.05", "-W", "1", address])
    wait_for(lambda: ping.log.read_text().count("time=") > 2, f"{address} to answer {machine.name}")
    try:
        yield
        answered = ping.log.read_text().count("time=")
        wait_for(lambda: ping.log.read_text().count("time=") > answered + 2, f"{address} to answer still")
    finally:
        ping.signal(signal.SIGINT)
        ping.wait()
    match = _SUMMARY.search(ping.log.read_text())
    assert match, ping.log.read_text()
    sent, received = int(match[1]), int(match[2])
    assert sent - received <= _IN_FLIGHT, f"{sent - received} of {sent} pings to {address} were lost"


@contextmanager
def captured(router: Machine) -> Iterator[Path]:
    """A file with every packet that the router saw from the beginning of the block to its end."""
    path = router.directory / f"packets-{next(_numbers)}.pcap"
    command = ["tcpdump", "-n", "-U", "--immediate-mode", "-i", "any", "-Z", "root", "-w", str(path)]
    tcpdump = router.start(path.stem, command)
    wait_for(lambda: "listening on" in tcpdump.log.read_text(), "tcpdump to listen")
    try:
        yield path
        router.run(["ping", "-n", "-c", "1", "-p", _LAST.hex(), _HERE])
        wait_for(lambda: _LAST in path.read_bytes(), "tcpdump to write the last packet")
    finally:
        tcpdump.stop()


def packets(router: Machine, capture: Path, selection: str) -> list[str]:
    """The packets of a capture that a filter selects, a line each."""
    return router.run(["tcpdump", "-n", "-r", str(capture), f"not host {_HERE} and ({selection})"]).splitlines()


def interface_of(machine: Machine) -> tuple[str, int]:
    """The name and index of a machine's one mesh interface. A new interface has a new index."""
    found = [
        (link["ifname"], link["ifindex"])
        for link in json.loads(machine.run(["ip", "-json", "link", "show"]))
        if link["ifname"].startswith("wl-")
    ]
    assert len(found) == 1, found
    name, index = found[0]
    return str(name), int(index)


def crash(mesh: Mesh, machine: Machine) -> None:
    """As if the machine lost its power: every process ends, and its interfaces go; its disk stays."""
    machine.run(["sh", "-c", "kill -9 -1"], check=False)
    mesh.agents[machine.name].wait()
    mesh.await_interface_gone(machine.name)


def revive(mesh: Mesh, machine: Machine) -> None:
    """Start an agent that was ended, and wait until the control plane sees it again."""
    mesh.start_agent(machine)
    wait_for(lambda: is_online(mesh, machine.name), f"{machine.name} to be online")


def is_online(mesh: Mesh, hostname: str) -> bool:
    """Whether the control plane has heard of a machine lately."""
    found = mesh.get(f"machines?hostname={hostname}")["items"]
    return bool(found and found[0]["is_online"])
