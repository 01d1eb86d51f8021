"""The lab: machines, each in a subnet of its own, joined by one router; and cuts between them.

```
 control 198.18.0.2 ──┐             ┌── m1 198.18.1.2
                      ├── router ───┼── m2 198.18.2.2
                      │ (.1 in each)└── m3 198.18.3.2 …
```

The addresses are those that RFC 2544 and RFC 5180 keep for tests; nothing of it is visible outside. `surroundings`
puts routers of their own, with address translation or a firewall, between a machine and this router.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv6Address
from pathlib import Path
from typing import Self

from deploy.lab.machine import LabError, Machine

MOST_MACHINES = 254
IP = ("ip", "-batch", "-")
"""Reads what to do, a line each."""

_FORWARD = ("/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding")


class Lab:
    """A router and the machines behind it. As a context manager it takes everything away at the end."""

    def __init__(self, *, ipv6: bool = True, outlive: bool = False) -> None:
        """With `outlive`, what is running at the end of this program stays, until somebody ends its processes."""
        self.directory = Path(tempfile.mkdtemp(prefix="wireloom-lab-"))
        self.ipv6 = ipv6
        self.machines: dict[str, Machine] = {}
        self.boxes: dict[str, Machine] = {}
        """Routers of others, between this router and machines."""
        self._outlive = outlive
        self._left_up = False
        self._subnets = 0
        self._cuts: set[tuple[Machine, Machine]] = set()
        self.router = Machine("router", self.directory, outlive=outlive)
        try:
            _have_forward(self.router)
        except LabError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add_machine(self, name: str) -> Machine:
        """A new machine, in the next subnet, that can reach every other."""
        machine = self.make_machine(name)
        self.join(machine, ipv6=self.ipv6)
        return machine

    def make_machine(self, name: str) -> Machine:
        """A new machine that is not connected to anything yet."""
        self.machines[name] = machine = self._make(name)
        return machine

    def make_box(self, name: str) -> Machine:
        """A new machine that passes on what others send, not connected to anything yet."""
        self.boxes[name] = box = self._make(name)
        _have_forward(box)
        return box

    def _make(self, name: str) -> Machine:
        if name in self.machines or name in self.boxes or name == "router":
            raise LabError(f"There is a machine {name} already.")
        return Machine(name, self.directory, outlive=self._outlive)

    def join(self, machine: Machine, *, ipv4: bool = True, ipv6: bool = True) -> int:
        """Connect a machine to the router by its `eth0`, in the next subnet; the subnet's number."""
        if self._subnets > MOST_MACHINES:
            raise LabError(f"A lab holds at most {MOST_MACHINES} machines.")
        subnet, self._subnets = self._subnets, self._subnets + 1
        v4, v6 = f"198.18.{subnet}", f"2001:2:0:{subnet:x}:"
        port = f"to-{subnet}"
        outer = [f"link add {port} type veth peer name eth0 netns {machine.pid}", f"link set {port} up"]
        inner = ["link set eth0 up"]
        if ipv4:
            outer.append(f"address add {v4}.1/24 dev {port}")
            inner += [f"address add {v4}.2/24 dev eth0", f"route add default via {v4}.1"]
            machine.address = f"{v4}.2"
        if ipv6:
            outer.append(f"address add {v6}:1/64 dev {port} nodad")
            inner += [f"address add {v6}:2/64 dev eth0 nodad", f"route add ::/0 via {v6}:1"]
            machine.address6 = str(IPv6Address(f"{v6}:2"))
        # `ip` finds the machine's network by process id: so it must see our processes, not the router's.
        self.router.run(IP, text="\n".join(outer), only_network=True)
        machine.run(IP, text="\n".join(inner))
        return subnet

    def cut(self, one: Machine, *others: Machine) -> None:
        """Let nothing pass between a machine and others: nor between whoever shares their addresses."""
        self._cuts |= {(one, other) for other in others}
        self.renew_cuts()

    def mend(self, one: Machine, *others: Machine) -> None:
        """Undo a cut."""
        self._cuts -= {pair for other in others for pair in ((one, other), (other, one))}
        self.renew_cuts()

    def renew_cuts(self) -> None:
        """Have the cuts be between the addresses that machines have now."""
        rules = [
            f"{family} saddr {source} {family} daddr {target} drop"
            for one, other in self._cuts
            for a, b in ((one, other), (other, one))
            for family, source, target in (("ip", a.address, b.address), ("ip6", a.address6, b.address6))
            if source and target
        ]
        chain = "type filter hook forward priority filter; policy accept;"
        table = f"table inet lab {{ chain cuts {{ {chain}\n" + "\n".join(rules) + "\n}\n}\n"
        self.router.run(["nft", "-f", "-"], text=f"table inet lab\ndelete table inet lab\n{table}")

    def leave_up(self) -> None:
        """From now on closing does nothing: what was made to outlive us does."""
        self._left_up = True

    def close(self) -> None:
        """End every process, take every namespace away, remove every file. Idempotent."""
        if self._left_up:
            return
        for machine in (*self.machines.values(), *self.boxes.values(), self.router):
            machine.close()
        shutil.rmtree(self.directory, ignore_errors=True)


Pings = dict[tuple[str, str], float | None]
"""Milliseconds by the names of the two machines; None where no answer came."""


def ping_all(pairs: Iterable[tuple[Machine, Machine, str]], timeout: float = 1.0) -> Pings:
    """Pings from one machine to another at an address, all at once."""
    wanted = list(pairs)
    with ThreadPoolExecutor(max_workers=16) as pool:
        times = pool.map(lambda pair: pair[0].ping(pair[2], timeout), wanted)
        return {(one.name, other.name): time for (one, other, _), time in zip(wanted, times, strict=True)}


def _have_forward(machine: Machine) -> None:
    machine.run(["sh", "-c", "".join(f"[ ! -e {path} ] || echo 1 >{path};" for path in _FORWARD)])
