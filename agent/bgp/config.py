"""BIRD's configuration, written from what the machine's speaker is to do. Pure.

For each network three tables: `in_…` holds what the members tell, as they tell it, and what the machine announces;
`rib_…` what the machine makes of it, with its import policy; `reach_…` how next hops are reached. What a reflector
passes on comes from `in_…`, so its own import policy is no other machine's. `used_routes` is made of all networks' and
goes into the kernel's table.

    sessions ⇄ in_… ──intake_…──▶ rib_… ──use_…──▶ used_routes ──▶ kernel table 20179
                 ▲                  │
                 └───── cross_… ────┘ of other networks, at a gateway

A session's name, and all else that it is made of, comes from the two machines alone: a change that is not about them
leaves it standing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from agent.bgp.intent import BgpIntent, NetworkIntent, Owner
from agent.bgp.names import intake_name, network_label, reflector_name, rib_table, session_name
from agent.bgp.policies import policy_function
from events.routing import REFLECTOR_PORT

KERNEL_TABLE = 20179
LOG_FILE = "bird.log"
"""In BIRD's working folder, and so are the others."""
OLD_LOG_FILE = "bird.log.old"
_LOG_SIZE = 262_144

RESTART_TIME = 8
"""Seconds that the others hold a machine's routes when its BIRD is gone without a word, or BFD says that it is."""
RECOVERY_TIME = 10
"""Seconds after which a BIRD that was started again gives up those of its neighbours that did not come back."""
_CLIENTS_PORT = REFLECTOR_PORT + 1
DEFAULT_PREFERENCE = 100
_HEAVIEST = 30_000
"""What is preferred more than this (LOCAL_PREF) counts as this at a reflector's own choice, for BIRD's preference is a
number up to 65,535."""
_CROSSED = 65_000
"""BIRD's preference of a route that crosses here. Two gateways that each took the other's for better than their own
would both stop announcing it, and begin again."""

_HEAD = f"""\
log "{LOG_FILE}" {_LOG_SIZE} "{OLD_LOG_FILE}" {{ trace, info, warning, error, fatal, bug, auth, remote }};
router id 0.0.0.1;
timeformat base iso long ms;
timeformat log iso long ms;
timeformat protocol iso long ms;
timeformat route iso long ms;
graceful restart wait {RECOVERY_TIME};

protocol device {{
}}
"""

_BFD = """\
protocol bfd {
  accept ipv4 multihop;
  strict bind on;
  multihop { interval 1 s; idle tx interval 1 s; multiplier 3; };
}
"""
_PERSIST = "persist on;"
_KERNEL = f"""\
ipv4 table used_routes;
protocol kernel {{
  ipv4 {{ table used_routes; import none; export where source = RTS_BGP; }};
  kernel table {KERNEL_TABLE};
  {_PERSIST}
  graceful restart;
}}
"""


def render(intent: BgpIntent) -> str:
    """The configuration. What BIRD put into the kernel outlives it."""
    by_id = {network.network_id: network for network in intent.networks}
    crossing = [by_id[network_id] for network_id in intent.crossing if network_id in by_id]
    parts = [_HEAD]
    if intent.networks:
        parts += [_BFD, _KERNEL]
    for network in intent.networks:
        parts += _network(network, [other for other in crossing if network in crossing and other is not network])
    for source in crossing:
        parts += [_crossing(source, target) for target in crossing if target is not source]
    return "\n".join(parts)


def fading(configuration: str) -> str:
    """The same, but that what BIRD put into the kernel goes when it is stopped."""
    return configuration.replace(_PERSIST, "persist off;")


def _network(network: NetworkIntent, others: Collection[NetworkIntent]) -> Iterator[str]:
    label = network_label(network.network_id)
    rib = rib_table(network.network_id)
    yield f"# network {network.network_id}\nipv4 table in_{label};\nipv4 table {rib};\nipv4 table reach_{label};\n"
    yield f"""\
protocol static via_{label} {{
  ipv4 {{ table reach_{label}; }};
  route {network.cidr} via "{network.interface}";
}}
"""
    yield _own(network, label, others)
    yield _owned(label, network.owners)
    yield from _policies(network, label)
    yield _filters(network, label)
    yield f"""\
protocol pipe {intake_name(network.network_id)} {{
  table in_{label};
  peer table {rib};
  import none;
  export filter take_{label};
}}
protocol pipe use_{label} {{
  table {rib};
  peer table used_routes;
  import none;
  export filter hand_{label};
}}
"""
    yield from _sessions(network, label)


def _own(network: NetworkIntent, label: str, others: Iterable[NetworkIntent]) -> str:
    """What the machine announces. At a reflector the best announcement of a prefix wins, even over its own: it tells
    its clients of one alone."""
    preferences = {each.prefix: each.local_pref for each in network.announced}
    routes = {prefix: f"bgp_local_pref = {preference};" for prefix, preference in preferences.items()}
    for other in others:
        if other.cidr not in routes:
            routes[other.cidr] = f"bgp_local_pref = {DEFAULT_PREFERENCE}; bgp_path.prepend({other.asn});"
    lines = [f"protocol static own_{label} {{", f"  ipv4 {{ table in_{label}; }};"]
    for prefix in sorted(routes):
        weight = 2 * min(preferences.get(prefix, DEFAULT_PREFERENCE), _HEAVIEST) + 1
        weighing = f" preference = {weight};" if network.is_reflector else ""
        lines.append(f"  route {prefix} blackhole {{ {routes[prefix]}{weighing} }};")
    return "\n".join([*lines, "}\n"])


def _owned(label: str, owners: Iterable[Owner]) -> str:
    prefixes: dict[IPv4Address, set[IPv4Network]] = {}
    for owner in owners:
        prefixes.setdefault(owner.address, set()).update(owner.prefixes)
    cases = [f"    {each}: return net ~ {_prefixes(owned)};" for each, owned in sorted(prefixes.items()) if owned]
    body = ["  case bgp_next_hop {", *cases, "  }"] if cases else []
    return "\n".join([f"function owned_{label}()", "{", *body, "  return false;", "}\n"])


def _prefixes(prefixes: Iterable[IPv4Network]) -> str:
    return f"[ {', '.join(map(str, sorted(prefixes)))} ]"


def _policies(network: NetworkIntent, label: str) -> Iterator[str]:
    if network.import_policy is not None:
        yield policy_function(f"importing_{label}", network.import_policy, network.asn) + "\n"
    if network.export_policy is not None:
        yield policy_function(f"exporting_{label}", network.export_policy, network.asn) + "\n"


def _filters(network: NetworkIntent, label: str) -> str:
    """`from`: what a session lets in, from owners and reflectors. `to`: what it tells. `take`: from `in` to
    `rib`. `hand`: to the kernel.

    A route with the machine's own address as next hop is one that crosses here; no owner has that address.
    """
    told = f"source = RTS_BGP && bgp_next_hop != {network.address}"
    return "\n".join(
        [
            f"filter from_{label}",
            "{",
            f"  if ! owned_{label}() then reject;",
            f"  if {_is_passed_on(network)} then reject;",
            *_weighing(network),
            "  accept;",
            "}",
            f"filter to_{label}",
            "{",
            f"  if {told} then accept; # a reflector passes it on as it is",
            *([f"  if ! exporting_{label}() then reject;"] if network.export_policy is not None else []),
            "  accept;",
            "}",
            f"filter take_{label}",
            "{",
            "  preference = 200;",
            f"  if ! ({told}) then accept;",
            "  preference = 100;",
            *([f"  if ! importing_{label}() then reject;"] if network.import_policy is not None else []),
            "  accept;",
            "}",
            f"filter hand_{label}",
            "{",
            "  if source = RTS_STATIC then accept; # so that nobody else's is used in its place",
            f'  if ifname != "{network.interface}" then reject;',
            "  onlink = true;",
            "  gw = bgp_next_hop;",
            f"  krt_prefsrc = {network.address};",
            *_narrow(network),
            "  accept;",
            "}\n",
        ]
    )


def _is_passed_on(network: NetworkIntent) -> str:
    """Whether a route comes from another than its owner, and from no reflector."""
    reflectors = network.reflectors if network.stage != "mesh" else ()
    passed_on = "from != bgp_next_hop"
    return (
        f"{passed_on} && ! (from ~ [ {', '.join(str(each.address) for each in reflectors)} ])"
        if reflectors
        else passed_on
    )


def _weighing(network: NetworkIntent) -> Iterator[str]:
    if network.is_reflector:
        yield f"  preference = {2 * _HEAVIEST};"
        yield f"  if bgp_local_pref < {_HEAVIEST} then preference = 2 * bgp_local_pref;"


def _narrow(network: NetworkIntent) -> Iterator[str]:
    if network.narrow:
        hops = ", ".join(map(str, sorted(set(network.narrow))))
        yield f"  if bgp_next_hop ~ [ {hops} ] then krt_mtu = {network.narrow_mtu};"


def _sessions(network: NetworkIntent, label: str) -> Iterator[str]:
    """In every stage but that of the full mesh alone, all members are clients of all reflectors, and so are these of
    each other: nobody gives up a session by becoming a reflector, or by being one no more."""
    yield f"""\
template bgp member_{label} {{
  local {network.address} as {network.asn};
  router id {network.address};
  multihop;
  strict bind on;
  free bind on;
  bfd graceful;
  graceful restart on;
  graceful restart time {RESTART_TIME};
  connect delay time 1;
  connect retry time 5;
  error wait time 1, 8;
  hold time 9;
  allow local as;
  debug {{ states }};
  ipv4 {{ table in_{label}; igp table reach_{label}; import filter from_{label}; export filter to_{label}; }};
}}
"""
    if network.stage != "reflectors":
        for member in network.members:
            name = session_name("mesh", network.network_id, member.machine_id)
            yield _session(name, label, f"neighbor {member.address} as {network.asn};")
    if network.stage != "mesh":
        for reflector in network.reflectors:
            name = session_name("client", network.network_id, reflector.machine_id)
            yield _session(name, label, f"neighbor {reflector.address} port {REFLECTOR_PORT} as {network.asn};")
    if network.stage != "mesh" and network.is_reflector:
        yield _reflector(network, label)


def _session(name: str, label: str, neighbour: str) -> str:
    return f"protocol bgp {name} from member_{label} {{ {neighbour} }}\n"


def _reflector(network: NetworkIntent, label: str) -> str:
    """BIRD lets one session at a time begin with a neighbour and its port. Clients come from any port, so the one that
    is named here only keeps these sessions apart from those of the full mesh, and from those with other reflectors."""
    name = reflector_name(network.network_id)
    return f"""\
protocol bgp {name} from member_{label} {{
  local port {REFLECTOR_PORT};
  neighbor range {network.cidr} port {_CLIENTS_PORT} as {network.asn};
  dynamic name "{name}_";
  rr client;
  rr cluster id {network.address};
}}
"""


def _crossing(source: NetworkIntent, target: NetworkIntent) -> str:
    """Lets the routes of one network into another, but those that came from there."""
    here, there = network_label(source.network_id), network_label(target.network_id)
    return f"""\
filter cross_{here}_{there}_filter
{{
  if source != RTS_BGP || ifname != "{source.interface}" then reject;
  if bgp_path ~ [= * {target.asn} * =] then reject;
  bgp_path.prepend({source.asn});
  bgp_next_hop = {target.address};
  preference = {_CROSSED};
  accept;
}}
protocol pipe cross_{here}_{there} {{
  table {rib_table(source.network_id)};
  peer table in_{there};
  import none;
  export filter cross_{here}_{there}_filter;
}}
"""
