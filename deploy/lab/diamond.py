"""A mesh of four: two machines that talk, and two others through which they can when they must.

```
        ┌── north ──┐
 left ──┤           ├── right     and left ── right, until that is cut
        └── south ──┘
```
"""

from __future__ import annotations

import json
from ipaddress import IPv6Network, ip_address
from uuid import UUID

from deploy.lab.lab import Lab
from deploy.lab.machine import Machine
from deploy.lab.mesh import Mesh, wait_for
from events.fields import split_endpoint
from events.transit import transit_address, transit_prefix

NETWORK = "diamond"
CIDR = "172.16.0.0/24"
NAMES = ("left", "right", "north", "south")
TRANSITS = ("north", "south")


class Diamond:
    """The four, in one network, reaching each other."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.mesh = mesh = Mesh(lab)
        mesh.start_control_plane()
        mesh.wireloom("network", "create", NETWORK, CIDR)
        for name in NAMES:
            mesh.add(name)
        mesh.await_known(NAMES)
        mesh.wireloom("machine", "assign", *NAMES, "--network", NETWORK)
        mesh.await_all_reach_all(NETWORK, NAMES)
        self.left, self.right = lab.machines["left"], lab.machines["right"]
        self.addresses = mesh.addresses(NETWORK)
        self._machine_ids: dict[str, UUID] = {}
        for machine in mesh.get("machines?limit=1000")["items"]:
            self._machine_ids[machine["hostname"]] = UUID(machine["uuid"])
            self.network_id = next(UUID(membership["mesh_network_uuid"]) for membership in machine["memberships"])

    @property
    def prefix(self) -> IPv6Network:
        """What all transit addresses of the network are in."""
        return transit_prefix(self.network_id)

    def transit_address(self, name: str, via: str) -> str:
        """Where a machine is reached through another."""
        return str(transit_address(self.network_id, self._machine_ids[name], self._machine_ids[via]))

    def via(self) -> str | None:
        """The transit that both ends use; "" where both go straight, None while neither is so."""
        endpoints = self.mesh.endpoints(NAMES)
        hosts = {pair: ip_address(split_endpoint(endpoint)[0]) for pair, endpoint in endpoints.items()}
        to_right, to_left = hosts.get(("left", "right")), hosts.get(("right", "left"))
        if to_right is None or to_left is None:
            return None
        if not any(host.version == 6 and host in self.prefix for host in (to_right, to_left)):
            return ""
        ends = ((to_right, "right"), (to_left, "left"))
        used = (t for t in TRANSITS if all(str(host) == self.transit_address(name, t) for host, name in ends))
        return next(used, None)

    def await_direct(self) -> None:
        """Wait until both ends go straight."""
        wait_for(lambda: self.via() == "", "both ends to go straight")

    def await_transit(self) -> str:
        """Wait until both ends go through the same transit; its name."""
        return wait_for(self.via, "both ends to use one transit") or ""

    def await_standby(self) -> None:
        """Wait until both ends have an address for each of the two transits, and reach those straight."""

        def ready() -> bool:
            endpoints = self.mesh.endpoints(NAMES)
            hosts = [endpoints.get((a, t)) for a in ("left", "right") for t in TRANSITS]
            straight = all(host and ip_address(split_endpoint(host)[0]) not in self.prefix for host in hosts)
            return straight and all(
                {self.transit_address(machine.name, t) for t in TRANSITS} <= self._own(machine)
                for machine in (self.left, self.right)
            )

        wait_for(ready, "both ends to know both transits")

    @staticmethod
    def _own(machine: Machine) -> set[str]:
        shown = json.loads(machine.run(["ip", "-6", "-json", "address", "show"]))
        return {address["local"] for link in shown for address in link["addr_info"] if "local" in address}

    def cut_direct(self) -> None:
        """Let nothing pass between left and right."""
        self.lab.cut(self.left, self.right)

    def mend_direct(self) -> None:
        """Undo that."""
        self.lab.mend(self.left, self.right)

    def cut_off(self, name: str) -> None:
        """Let nothing pass between a machine and any other, as if it had lost its power."""
        machine = self.lab.machines[name]
        self.lab.cut(machine, *(other for other in self.lab.machines.values() if other is not machine))

    def bring_back(self, name: str) -> None:
        """Undo that."""
        machine = self.lab.machines[name]
        self.lab.mend(machine, *(other for other in self.lab.machines.values() if other is not machine))
