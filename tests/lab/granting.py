"""Routers of the lab that grant port mappings: miniupnpd, which speaks PCP, NAT-PMP and UPnP."""

from __future__ import annotations

from deploy.lab.lab import IP, Lab
from deploy.lab.machine import Machine, Program
from deploy.lab.mesh import wait_for

_NAT = """
table inet mappings {
  chain prerouting { type nat hook prerouting priority dstnat; jump to_inside; }
  chain postrouting { type nat hook postrouting priority srcnat - 1; jump from_inside; }
  chain to_inside { }
  chain from_inside { }
}
table inet firewall {
  chain granted { }
}
insert rule inet firewall forward jump granted
"""
"""What miniupnpd fills with rules: beside the router's own translation, and within its firewall."""

_FLUSH = "\n".join(
    f"flush chain inet {chain}" for chain in ("mappings to_inside", "mappings from_inside", "firewall granted")
)

_CONFIGURATION = """
ext_ifname=eth0
ext_ip={address}
listening_ip=lan
ipv6_disable=yes
enable_natpmp={natpmp}
enable_upnp={upnp}
secure_mode=yes
system_uptime=no
uuid=6d2f1c1e-2b51-4f5c-9b0a-0a5d7f1f4c11
upnp_table_name=firewall
upnp_nat_table_name=mappings
upnp_forward_chain=granted
upnp_nat_chain=to_inside
upnp_nat_postrouting_chain=from_inside
allow 1024-65535 192.168.1.0/24 1024-65535
deny 0-65535 0.0.0.0/0 0-65535
"""


class Granting:
    """A router that can be made to grant mappings. It has a second outer address for them: miniupnpd takes none that
    is kept for tests, and so it is one of those that radio amateurs keep for theirs."""

    def __init__(self, lab: Lab, box: Machine, number: int) -> None:
        self.lab = lab
        self.box = box
        self.address = f"44.128.0.{number}"
        self._daemon: Program | None = None
        box.run(IP, text=f"address add {self.address}/32 dev eth0")
        lab.router.run(IP, text=f"route add {self.address}/32 via {box.address}")
        box.run(["nft", "-f", "-"], text=_NAT)

    def start(self, *, natpmp: bool = True, upnp: bool = False) -> None:
        """Grant mappings: by PCP and NAT-PMP, by UPnP, or by all."""
        path = self.box.directory / "miniupnpd.conf"
        words = {"address": self.address, "natpmp": _word(natpmp), "upnp": _word(upnp)}
        path.write_text(_CONFIGURATION.format(**words))
        log = self.box.directory / "miniupnpd.log"
        said = len(log.read_text()) if log.exists() else 0
        # Its files in /run are the box's own.
        self._daemon = daemon = self.box.start("miniupnpd", ["/usr/sbin/miniupnpd", "-d", "-f", path])
        listening = "NAT-PMP/PCP traffic on port" if natpmp else "HTTP listening on port"
        wait_for(lambda: listening in log.read_text()[said:] or not daemon.running, "miniupnpd to listen")
        assert daemon.running, daemon.last_lines()

    def crash(self) -> None:
        """Forget every mapping at once, as a reboot does, and grant none."""
        if self._daemon is not None:
            self._daemon.kill()
        self.box.run(["nft", "-f", "-"], text=_FLUSH)

    def mapped(self) -> str:
        """The rules that lead inside."""
        return self.box.run(["nft", "list", "chain", "inet", "mappings", "to_inside"])


def _word(is_on: bool) -> str:
    return "yes" if is_on else "no"
