"""The packet filter's rules that keep BGP in a mesh to the speakers of its members. Pure.

Sessions carry no passwords: that a packet comes through a tunnel says which machine it is from, but not which of its
programs. So nobody but the agent's own user speaks BGP with a member, no container and no machine behind this one does,
and what comes by another interface than the mesh's own, as from a neighbour on the same wire, is not heard. With who is
no member, behind one, everybody may.
"""

from __future__ import annotations

from agent.bgp.passage_rules import Passage, names
from events.routing import BGP_PORT, REFLECTOR_PORT

TABLE = "ip wireloom_bgp"
"""The agent's own table of nftables for it."""

REMOVAL = f"table {TABLE}\ndelete table {TABLE}\n"
_BFD_PORT = 4784
"""BFD over several hops (RFC 5883), which BIRD uses for sessions that are `multihop`."""
_PORTS = (f"tcp dport {{ {BGP_PORT}, {REFLECTOR_PORT} }}", f"udp dport {_BFD_PORT}")


def fence(passage: Passage, user: int) -> str:
    """What to tell `nft -f`; `user` is the one that BIRD runs as."""
    tunnels, here = names(passage.interfaces), names((*passage.interfaces, "lo"))
    own = f"ip daddr {{ {', '.join(map(str, passage.addresses))} }}"
    members = f"oifname {tunnels} ip daddr {{ {', '.join(map(str, passage.meshes))} }}"
    chains = {
        "input": [f"iifname != {here} {own} {ports} drop" for ports in _PORTS],
        "forward": [f"{members} {ports} drop" for ports in _PORTS],
        "output": [
            f"{way} {ports} meta skuid != {user} drop" for way in (members, f'oifname "lo" {own}') for ports in _PORTS
        ],
    }
    lines = []
    for hook, rules in chains.items():
        lines += [f"  chain {hook} {{", f"    type filter hook {hook} priority filter; policy accept;"]
        lines += [*(f"    {rule}" for rule in rules), "  }"]
    return "\n".join([f"{REMOVAL}table {TABLE} {{", *lines, "}\n"])
