"""How much passes, direct and through a transit, beside WireGuard that was set up by hand on machines like those.

`python -m deploy.lab.throughput` prints the figures. All machines share this one's processors: what counts is how the
figures compare. Exit status 0 if everything was measured.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median

from rich.console import Console
from rich.table import Table

from deploy.lab.diamond import Diamond
from deploy.lab.lab import IP, Lab
from deploy.lab.machine import LabError, Machine
from deploy.lab.mesh import wait_for

SECONDS = 3
_ROUNDS = 3
_PINGS = 5
_MTU = 1420
_NESTED_MTU = 1328
_LISTENS = 51820
_BY_HAND = ("one", "middle", "other")
_HAND = "by hand"
_MESH = "10.99.0."
_NESTED = "fd99::"


@dataclass(frozen=True, slots=True)
class Figure:
    """What was measured of one way."""

    by: str
    way: str
    megabits: float
    """A second."""
    round_trip: float
    """Milliseconds, when nothing else goes on."""


def iperf(source: Machine, target: Machine, address: str, seconds: int) -> float:
    """Megabits a second by TCP, from one machine to another at an address of the other."""
    server = target.start("iperf3", ["iperf3", "--server", "--one-off", "--bind", address, "--forceflush"])
    try:
        wait_for(lambda: _listens(target, address), "iperf3 to listen")
        command = ["iperf3", "--client", address, "--time", str(seconds), "--json", "--connect-timeout", "5000"]
        answer = json.loads(source.run(command, timeout=seconds + 30))
    finally:
        server.kill()
    return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e6


def _listens(machine: Machine, address: str) -> bool:
    return address in machine.run(["ss", "-Hltn", "sport", "=", ":5201"])


class ByHand:
    """Three machines with WireGuard set up by `wg`, as a person would; the middle one passes on."""

    def __init__(self, lab: Lab) -> None:
        self.one, self.middle, self.other = (lab.add_machine(name) for name in _BY_HAND)
        self._machines = (self.one, self.middle, self.other)
        self._keys: dict[str, str] = {}
        for number, machine in enumerate(self._machines, start=1):
            self._set_up(machine, number)
        self.middle.run(["sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"])

    def _set_up(self, machine: Machine, number: int) -> None:
        interface = self._interface(machine)
        machine.start("wireguard-go", ["wireguard-go", "--foreground", interface])
        wait_for(lambda: interface in machine.run(["wg", "show", "interfaces"]), "wireguard-go to start")
        secret = machine.run(["wg", "genkey"])
        self._keys[machine.name] = machine.run(["wg", "pubkey"], text=secret).strip()
        command = ["wg", "set", interface, "listen-port", str(_LISTENS), "private-key", "/dev/stdin"]
        machine.run(command, text=secret)
        lines = [f"address add {_MESH}{number}/24 dev {interface}", f"link set {interface} mtu {_MTU} up"]
        machine.run(IP, text="\n".join([*lines, f"address add {_NESTED}{number}/64 dev {interface} nodad"]))

    @staticmethod
    def _interface(machine: Machine) -> str:
        return f"hand-{machine.name}"

    def _set(self, machine: Machine, peer: Machine, endpoint: str, *allowed: str) -> None:
        command = ["wg", "set", self._interface(machine), "peer", self._keys[peer.name], "endpoint", endpoint]
        machine.run([*command, "allowed-ips", ",".join(allowed)])

    def direct(self) -> str:
        """Have the outer two talk straight; the address of the second."""
        ends = ((self.one, self.other, 3), (self.other, self.one, 1))
        for machine, peer, number in ends:
            self._set(machine, peer, f"{peer.address}:{_LISTENS}", f"{_MESH}{number}/32")
        return f"{_MESH}3"

    def nested(self) -> str:
        """Have them talk in a tunnel inside their tunnels with the middle one; the address of the second."""
        ends = ((self.one, self.other, 1, 3), (self.other, self.one, 3, 1))
        for machine, peer, here, there in ends:
            self._set(
                machine, self.middle, f"{self.middle.address}:{_LISTENS}", f"{_NESTED}{there}/128", f"{_MESH}2/32"
            )
            self._set(
                self.middle, machine, f"{machine.address}:{_LISTENS}", f"{_NESTED}{here}/128", f"{_MESH}{here}/32"
            )
            self._set(machine, peer, f"[{_NESTED}{there}]:{_LISTENS}", f"{_MESH}{there}/32")
            route = f"route replace {_MESH}{there} dev {self._interface(machine)} mtu {_NESTED_MTU}"
            machine.run(IP, text=route)
        return f"{_MESH}3"


Side = tuple[str, Machine, Machine, str]
"""Who set the tunnels up, from which machine to which, and the address of the second."""


def measure(seconds: int) -> Iterator[Figure]:
    """Both ways, both sides, in turns: so that what else this machine does meanwhile hits both alike."""
    with Lab() as first, Lab() as second:
        hand, diamond = ByHand(first), Diamond(second)
        ours: Side = ("Wireloom", diamond.left, diamond.right, diamond.addresses["right"])
        diamond.await_direct()
        yield from _compare("direct", ((_HAND, hand.one, hand.other, hand.direct()), ours), seconds)
        diamond.cut_direct()
        diamond.await_transit()
        yield from _compare("through a transit", ((_HAND, hand.one, hand.other, hand.nested()), ours), seconds)


def _compare(way: str, sides: tuple[Side, ...], seconds: int) -> Iterator[Figure]:
    """The medians of some rounds."""
    for _, source, _, address in sides:
        wait_for(lambda: source.ping(address), f"{address} to answer {source.name}")  # noqa: B023
    trips = {by: median(source.ping(address) or 0.0 for _ in range(_PINGS)) for by, source, _, address in sides}
    rounds = [{by: iperf(source, to, address, seconds) for by, source, to, address in sides} for _ in range(_ROUNDS)]
    for by, *_ in sides:
        yield Figure(by, way, median(figures[by] for figures in rounds), trips[by])


def table(figures: list[Figure]) -> Table:
    """The figures, for people; in the last column what part of the one by hand."""
    shown = Table(box=None, pad_edge=False)
    for heading in ("way", "by", "Mbit/s", "round trip", "of by hand"):
        shown.add_column(heading, justify="left" if heading in {"way", "by"} else "right")
    floors = {figure.way: figure.megabits for figure in figures if figure.by == _HAND}
    for figure in sorted(figures, key=lambda figure: figure.way):
        trip = f"{figure.round_trip:.2f} ms"
        part = f"{100 * figure.megabits / floors[figure.way]:.0f} %"
        shown.add_row(figure.way, figure.by, f"{figure.megabits:.0f}", trip, part)
    return shown


def main() -> int:
    """The program's entry point."""
    parser = argparse.ArgumentParser(prog="deploy.lab.throughput", description=__doc__)
    parser.add_argument("--seconds", type=int, default=SECONDS, help="for each round (%(default)s)")
    options = parser.parse_args()
    console = Console(highlight=False)
    try:
        console.print(table(list(measure(options.seconds))))
    except LabError as error:
        console.print(f"[bold red]✗[/] {error}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
