"""Machines of the lab whose addresses change, and whose links go down and come up again."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from ipaddress import IPv4Interface, IPv6Interface, ip_interface
from itertools import count

from deploy.lab.lab import IP, Lab
from deploy.lab.machine import LabError, Machine
from deploy.lab.surroundings import Surroundings
from deploy.lab.theory import Spot

_FIRST_HOST, _LAST_HOST = 100, 250
"""The lab gives lower ones, one after the other."""

Interface = IPv4Interface | IPv6Interface


@dataclass(frozen=True, slots=True)
class Settings:
    """What a machine's `eth0` is set to."""

    addresses: tuple[Interface, ...]
    routes: tuple[tuple[str, str], ...]
    """The ways out: where to, and by which gateway."""

    @property
    def lines(self) -> str:
        """What `ip -batch` must read to have it so."""
        lines = [f"address replace {each} dev eth0{' nodad' if each.version == 6 else ''}" for each in self.addresses]
        return "\n".join([*lines, *(f"route replace {to} via {gateway}" for to, gateway in self.routes)])


class Moving:
    """Changes of place in a lab."""

    def __init__(self, surroundings: Surroundings) -> None:
        self._surroundings = surroundings
        self._unplugged: dict[str, Settings] = {}
        self._hosts = count()

    @property
    def _lab(self) -> Lab:
        return self._surroundings.lab

    def move(self, name: str) -> Spot:
        """Give a machine other addresses in the same networks; where it is then. The old ones go first, so that for a
        moment there is none."""
        machine = self._lab.machines[name]
        moved = self._renumber(machine)
        machine.address = moved.get(machine.address, machine.address)
        machine.address6 = moved.get(machine.address6, machine.address6)
        self._lab.renew_cuts()
        spot = self._surroundings.spots[name]
        spot = replace(spot, addresses=tuple(moved[address] for address in spot.addresses))
        self._surroundings.spots[name] = spot
        return spot

    def move_router(self, name: str) -> None:
        """Give the outermost router that a machine is behind, one that translates, another address: who is behind it is
        seen there from now on."""
        router = self._lab.boxes[f"{self._surroundings.spots[name].lan or name}-nat"]
        before = router.address
        router.address = self._renumber(router)[before]
        for machine in self._lab.machines.values():
            if machine.address == before:
                machine.address = router.address
        self._lab.renew_cuts()

    def _renumber(self, machine: Machine) -> dict[str, str]:
        before = _settings(machine)
        host = _FIRST_HOST + next(self._hosts) % (_LAST_HOST - _FIRST_HOST)
        after = replace(
            before,
            addresses=tuple(ip_interface((each.network[host], each.network.prefixlen)) for each in before.addresses),
        )
        machine.run(
            IP, text="\n".join(f"address delete {each} dev eth0" for each in before.addresses) + f"\n{after.lines}"
        )
        return {str(old.ip): str(new.ip) for old, new in zip(before.addresses, after.addresses, strict=True)}

    def unplug(self, name: str) -> None:
        """Take a machine's link down."""
        machine = self._lab.machines[name]
        self._unplugged[name] = _settings(machine)
        machine.run(IP, text="link set eth0 down")

    def plug(self, name: str) -> None:
        """Bring it up again, as it was."""
        self._lab.machines[name].run(IP, text=f"link set eth0 up\n{self._unplugged.pop(name).lines}")


def _settings(machine: Machine) -> Settings:
    """What a machine's `eth0` is set to now. Raises `LabError` if that is nothing."""
    shown = json.loads(machine.run(["ip", "-json", "address", "show", "dev", "eth0", "scope", "global"]))
    addresses = tuple(
        ip_interface(f"{each['local']}/{each['prefixlen']}")
        for link in shown
        for each in link.get("addr_info", ())
        if each
    )
    routes = tuple(
        (everywhere, route["gateway"])
        for family, everywhere in (("-4", "0.0.0.0/0"), ("-6", "::/0"))
        for route in json.loads(machine.run(["ip", family, "-json", "route", "show", "default"]))
    )
    if not addresses or not routes:
        raise LabError(f"{machine.name} has no address or no way out.")
    return Settings(addresses, routes)
