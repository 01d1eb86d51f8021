"""Places in the lab: the routers that stand between a machine and everybody else.

```
                     198.18.n.2  ┌─────┐ 192.168.1.1
 router ─────────────────────────┤ NAT ├──────┬── 192.168.1.2
                                 └─────┘      └── 192.168.1.3
        198.18.n.2 ┌─────┐ 100.64.0.0/24 ┌─────┐ 192.168.1.1
 router ───────────┤ NAT ├───────────────┤ NAT ├────── 192.168.1.2
                   └─────┘               └─────┘
        198.18.n.2 ┌──────────┐ 198.19.n.1
 router ───────────┤ firewall ├────── 198.19.n.2, 2001:2:1:n::2
                   └──────────┘
```

Every home has the same addresses, as homes do. Connection tracking has the kernel's own timeouts.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from deploy.lab.lab import IP, Lab
from deploy.lab.machine import LabError, Machine
from deploy.lab.theory import Mapping, Place, Spot

_HOME = IPv4Network("192.168.1.0/24")
_CARRIER = IPv4Network("100.64.0.0/24")
"""Shared address space (RFC 6598)."""


class Surroundings:
    """The places of a lab and who is where."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.spots: dict[str, Spot] = {}
        self._lans: dict[str, _Lan] = {}

    def settle(self, name: str, place: Place, *, lan: str = "", only: str = "") -> Spot:
        """A new machine at a place. Those that name the same `lan` share a router; `only` names a machine that is
        there already, the one that a limited place lets UDP go to."""
        if place.limited != bool(only):
            raise LabError(f"{name}: a place where UDP is limited, and no other, needs the machine that it may go to.")
        machine = self.lab.make_machine(name)
        if place.routers:
            net = lan or name
            if net not in self._lans:
                self._lans[net] = self._build(net, place, only)
            self._lans[net].connect(machine)
        else:
            self.lab.join(machine, ipv4=4 in place.families, ipv6=6 in place.families)
        spot = Spot(name=name, place=place, addresses=_addresses(machine), lan=lan, only=only)
        self.spots[name] = spot
        return spot

    def _build(self, name: str, place: Place, only: str) -> _Lan:
        """The routers of a place, the outermost first."""
        if place.mapping is Mapping.NONE:
            return self._build_firewall(name, only)
        box = self.lab.make_box(f"{name}-nat")
        self.lab.join(box, ipv6=False)
        for level in range(1, place.routers):
            outer = _Lan(box, _CARRIER)
            _translate(box, place.mapping)
            box = self.lab.make_box(f"{name}-nat{level + 1}")
            outer.connect(box)
        _translate(box, place.mapping)
        return _Lan(box, _HOME)

    def _build_firewall(self, name: str, only: str) -> _Lan:
        box = self.lab.make_box(f"{name}-firewall")
        subnet = self.lab.join(box)
        v4, v6 = IPv4Network(f"198.19.{subnet}.0/24"), IPv6Network(f"2001:2:1:{subnet:x}::/64")
        routes = f"route add {v4} via {box.address}\nroute add {v6} via {box.address6}"
        self.lab.router.run(IP, text=routes)
        _filter(box, self.lab.machines[only] if only else None)
        return _Lan(box, v4, v6)


class _Lan:
    """A network behind a router: a bridge, whose first address is the router's."""

    def __init__(self, box: Machine, ipv4: IPv4Network, ipv6: IPv6Network | None = None) -> None:
        self._box = box
        self._ipv4 = ipv4
        self._ipv6 = ipv6
        self._used = 1
        lines = ["link add lan type bridge", f"address add {ipv4[1]}/{ipv4.prefixlen} dev lan"]
        if ipv6:
            lines.append(f"address add {ipv6[1]}/{ipv6.prefixlen} dev lan nodad")
        box.run(IP, text="\n".join([*lines, "link set lan up"]))

    def connect(self, machine: Machine) -> None:
        """Put a machine into the network by its `eth0`. Others see the router's address, if that translates."""
        self._used += 1
        here, port = self._used, f"lan-{self._used}"
        self._box.run(
            IP,
            text=f"link add {port} type veth peer name eth0 netns {machine.pid}\nlink set {port} master lan up",
            only_network=True,
        )
        ipv4, ipv6 = self._ipv4, self._ipv6
        lines = [f"address add {ipv4[here]}/{ipv4.prefixlen} dev eth0", "link set eth0 up"]
        lines.append(f"route add default via {ipv4[1]}")
        if ipv6:
            lines += [f"address add {ipv6[here]}/{ipv6.prefixlen} dev eth0 nodad", f"route add ::/0 via {ipv6[1]}"]
        machine.run(IP, text="\n".join(lines))
        machine.address = str(ipv4[here]) if ipv6 else self._box.address
        machine.address6 = str(ipv6[here]) if ipv6 else ""


def _addresses(machine: Machine) -> tuple[str, ...]:
    """The addresses of a machine's `eth0` that others may use."""
    shown = machine.run(["ip", "-brief", "address", "show", "dev", "eth0", "scope", "global"]).split()
    return tuple(address.split("/")[0] for address in shown[2:])


_FILTER = """
table inet firewall {
  chain in {
    # What nobody asked for must leave no trace: else its port would not be free when somebody inside uses it.
    type filter hook input priority filter; policy drop;
    iifname { lo, lan } accept
    ct state established,related accept
    meta l4proto icmpv6 accept
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    LIMITED
    ct state established,related accept
    iifname lan oifname eth0 accept
    # Where the kernel shows its firewalls what a bridge passes on (br_netfilter).
    iifname lan oifname lan accept
  }
}
"""


def _filter(box: Machine, only: Machine | None = None) -> None:
    """Let in only what answers, and UDP out to one machine only, if one is given."""
    limited = ""
    if only is not None:
        limited = "\n".join(
            f"{family} daddr != {address} iifname lan meta l4proto udp drop"
            for family, address in (("ip", only.address), ("ip6", only.address6))
        )
    box.run(["nft", "-f", "-"], text=_FILTER.replace("LIMITED", limited))


def _translate(box: Machine, mapping: Mapping) -> None:
    """Give what goes out the router's own address; and let in only what answers."""
    _filter(box)
    ports = " random,fully-random" if mapping is Mapping.ENDPOINT_DEPENDENT else ""
    chain = f"type nat hook postrouting priority srcnat; oifname eth0 masquerade{ports};"
    box.run(["nft", "-f", "-"], text=f"table ip translation {{ chain out {{ {chain}\n}}\n}}")
