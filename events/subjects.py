"""Every subject and every stream, in one place.

| subject | who says it | who hears it |
|---|---|---|
| `log.<aggregate>` | allocator | topology, gateway (LOG: the truth) |
| `snapshot.<aggregate>` | allocator | allocator (SNAPSHOTS: only to start quickly) |
| `state.network.<network>.info`, `.peer.<machine>` | topology | gateway (STATE) |
| `state.machine.<machine>.info`, `.network.<network>` | topology | gateway (STATE) |
| `state.access.bootstrap.<token>`, `.identity.<machine>`, `.account.<account>`, `.token.<token>` | topology | gateway |
| `reach.<network>.<machine>.<peer>` | gateway | topology (REACH: what machines report) |
| `pathstate.paths.<machine>.path.<network>.<peer>`, `….relay.…` | topology | gateway (PATHS) |
| `state.network.<network>.announcement.<machine>`, `.policy.<direction>` | topology | gateway (STATE) |
| `state.machine.<machine>.routing` | topology | gateway (STATE) |
| `state.routing.route.<route>`, `.vip.<vip>`, `.policy.<policy>`, `.gateway.<machine>` | topology | gateway (STATE) |
| `pathstate.bgp.<network>.plan` | topology | gateway (PATHS) |
| `bgp.<network>.<machine>.speaker`, `.session.<peer>.<kind>`, `.rib.<part>` | gateway | topology, gateway (BGP) |
| `live.…` | the server, repeating `state.…` and `pathstate.…` | agents |
| `live.machine.<machine>.look` | gateway | the machine's agent (no record: somebody looks at its tunnels) |
| `ask.<machine>.<verb>` | the machine's agent | gateway: one of them, but all hear `ask.<machine>.tunnels` |
| `beat.<machine>` | the machine's agent | gateway |
| `history.<position>.<part>` | topology | topology (HISTORY: STATE as it was, only to look back quickly) |
| `plan.<network>` | topology | topology (PLANS: the BGP plans that there were) |
| `checkpoint.<position>` | topology | gateway (CHECKPOINTS: what the log was, signed) |
| `past.<what>` | gateway | topology: one of them (what was, or would be: `events.past`) |
| `audit.<what>` | gateway | topology: one of them (is all in order: `events.audit.asking`) |
| `allocator.execute`, `allocator.preview` | gateway | allocator |
| `wireloom.command.<principal>.<kind>` | programs | gateway |
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal
from uuid import UUID

from events.routing import Direction, SessionKind

LOG_STREAM = "LOG"
LOG_PREFIX = "log"
SNAPSHOT_STREAM = "SNAPSHOTS"
SNAPSHOT_PREFIX = "snapshot"
STATE_STREAM = "STATE"
STATE_PREFIX = "state"
REACH_STREAM = "REACH"
REACH_PREFIX = "reach"
PATHS_STREAM = "PATHS"
PATHS_PREFIX = "pathstate"
BGP_STREAM = "BGP"
BGP_PREFIX = "bgp"
HISTORY_STREAM = "HISTORY"
HISTORY_PREFIX = "history"
PLANS_STREAM = "PLANS"
PLANS_PREFIX = "plan"
CHECKPOINTS_STREAM = "CHECKPOINTS"
CHECKPOINTS_PREFIX = "checkpoint"
LIVE_PREFIX = "live"

EVENT_HEADER = "Wl-Event"
"""Header of a stored event: its version in the aggregate, a space, and its topic."""

ALLOCATOR_EXECUTE = "allocator.execute"
ALLOCATOR_PREVIEW = "allocator.preview"
ALLOCATOR_QUEUE = "allocator"
COMMAND_PREFIX = "wireloom.command"
ANYBODY = "anybody"
"""Who gives commands where the bus does not ask who one is."""
GATEWAY_QUEUE = "gateway"

ScopeKind = Literal["network", "machine", "paths", "bgp"]
"""`paths` is a machine's scope too: its paths and relays; `bgp` a network's: its BGP plan. Both are in PATHS."""
AskVerb = Literal["register", "membership", "sync", "ring", "reach", "bgp", "tunnels"]
RoutingPart = Literal["route", "vip", "policy", "gateway"]
AccessPart = Literal["bootstrap", "identity", "account", "token"]


as_uuid = lru_cache(maxsize=100_000)(UUID)
"""The id that a part of a subject says: the same stand in very many."""


def log_subject(aggregate_id: UUID) -> str:
    """Where an aggregate's events stand in the log."""
    return f"{LOG_PREFIX}.{aggregate_id}"


def network_info(network_id: UUID) -> str:
    """STATE subject of a network's own record."""
    return f"{STATE_PREFIX}.network.{network_id}.info"


def network_peer(network_id: UUID, machine_id: UUID) -> str:
    """STATE subject of a network's record of one peer."""
    return f"{STATE_PREFIX}.network.{network_id}.peer.{machine_id}"


def machine_info(machine_id: UUID) -> str:
    """STATE subject of a machine's own record."""
    return f"{STATE_PREFIX}.machine.{machine_id}.info"


def machine_membership(machine_id: UUID, network_id: UUID) -> str:
    """STATE subject of a machine's place in one network."""
    return f"{STATE_PREFIX}.machine.{machine_id}.network.{network_id}"


def access(part: AccessPart, item_id: UUID) -> str:
    """STATE subject of one item of the access list."""
    return f"{STATE_PREFIX}.access.{part}.{item_id}"


def routing(part: RoutingPart, item_id: UUID) -> str:
    """STATE subject of one item of the routing list."""
    return f"{STATE_PREFIX}.routing.{part}.{item_id}"


def network_announcement(network_id: UUID, machine_id: UUID) -> str:
    """STATE subject of what a machine may announce in a network."""
    return f"{STATE_PREFIX}.network.{network_id}.announcement.{machine_id}"


def network_policy(network_id: UUID, direction: Direction) -> str:
    """STATE subject of the route policy that a network has for a direction."""
    return f"{STATE_PREFIX}.network.{network_id}.policy.{direction}"


def machine_routing(machine_id: UUID) -> str:
    """STATE subject of what a machine is to announce, check and let cross."""
    return f"{STATE_PREFIX}.machine.{machine_id}.routing"


def bgp_plan(network_id: UUID) -> str:
    """PATHS subject of a network's BGP plan."""
    return f"{PATHS_PREFIX}.bgp.{network_id}.plan"


def plan_history(network_id: UUID) -> str:
    """Where the BGP plans that a network had stand."""
    return f"{PLANS_PREFIX}.{network_id}"


def bgp_speaker(network_id: UUID, machine_id: UUID) -> str:
    """Where a machine's newest report of its BGP speaker stands."""
    return f"{BGP_PREFIX}.{network_id}.{machine_id}.speaker"


def bgp_session(network_id: UUID, machine_id: UUID, peer_id: UUID, kind: SessionKind) -> str:
    """Where a machine's newest report of one BGP session stands."""
    return f"{BGP_PREFIX}.{network_id}.{machine_id}.session.{peer_id}.{kind}"


def bgp_rib(network_id: UUID, machine_id: UUID, part: int) -> str:
    """Where one part of a machine's newest report of its routes stands."""
    return f"{BGP_PREFIX}.{network_id}.{machine_id}.rib.{part}"


def path(machine_id: UUID, network_id: UUID, peer_id: UUID) -> str:
    """PATHS subject of how a machine reaches a peer."""
    return f"{PATHS_PREFIX}.paths.{machine_id}.path.{network_id}.{peer_id}"


def relay(machine_id: UUID, network_id: UUID, peer_id: UUID) -> str:
    """PATHS subject of what a transit machine passes on to a peer."""
    return f"{PATHS_PREFIX}.paths.{machine_id}.relay.{network_id}.{peer_id}"


def reach(network_id: UUID, machine_id: UUID, peer_id: UUID) -> str:
    """Where a machine's newest report of a link stands."""
    return f"{REACH_PREFIX}.{network_id}.{machine_id}.{peer_id}"


def scope(kind: ScopeKind, scope_id: UUID) -> str:
    """The name of a scope: `network:<uuid>` or `machine:<uuid>`."""
    return f"{kind}:{scope_id}"


def scope_of(subject: str) -> str:
    """The scope that a `state.` or `live.` subject belongs to; for the access list `access:<part>`."""
    _, kind, scope_id, _ = subject.split(".", 3)
    return f"{kind}:{scope_id}"


def live_of(subject: str) -> str:
    """Where a STATE or PATHS subject is repeated live."""
    return f"{LIVE_PREFIX}.{subject.partition('.')[2]}"


def state_of(subject: str) -> str:
    """The STATE or PATHS subject of a live one."""
    rest = subject.partition(".")[2]
    return f"{PATHS_PREFIX if rest.startswith(('paths.', 'bgp.')) else STATE_PREFIX}.{rest}"


def live_scope(kind: ScopeKind, scope_id: UUID) -> str:
    """The subscription that hears everything of a scope."""
    return f"{LIVE_PREFIX}.{kind}.{scope_id}.>"


def look(machine_id: UUID) -> str:
    """Where a gateway says that somebody looks at a machine's tunnels. No record ever stands under `state.….look`, so
    it is none that is repeated live."""
    return f"{LIVE_PREFIX}.machine.{machine_id}.look"


def ask(machine_id: UUID, verb: AskVerb) -> str:
    """Where a machine's agent asks the gateway for something."""
    return f"ask.{machine_id}.{verb}"


def beat(machine_id: UUID) -> str:
    """Where a machine's agent says that it is alive."""
    return f"beat.{machine_id}"


def command(kind: str, principal: UUID | str = ANYBODY) -> str:
    """Where a program gives a command of this kind. `principal` is the id of the API token that it speaks with."""
    return f"{COMMAND_PREFIX}.{principal}.{kind}"


@dataclass(frozen=True)
class Stream:
    """The definition of a JetStream stream: what differs from the server's defaults."""

    name: str
    prefix: str
    options: tuple[tuple[str, Any], ...] = ()

    def config(self, replicas: int) -> dict[str, Any]:
        """The stream's configuration as the JetStream API takes it."""
        return {
            "name": self.name,
            "subjects": [f"{self.prefix}.>"],
            "retention": "limits",
            "storage": "file",
            "discard": "new",
            "max_msgs": -1,
            "max_bytes": -1,
            "max_age": 0,
            "num_replicas": replicas,
            "allow_direct": True,
            "allow_atomic": True,
            **dict(self.options),
        }


REPORTS_KEPT_SECONDS = 30 * 24 * 3600
"""So long reports are kept."""

_NEVER_REMOVED = (("deny_delete", True), ("deny_purge", True))

LOG = Stream(LOG_STREAM, LOG_PREFIX, _NEVER_REMOVED)
"""The truth: nothing is ever removed from it."""

SNAPSHOTS = Stream(SNAPSHOT_STREAM, SNAPSHOT_PREFIX)
"""Aggregates as they were at some version: may be lost at no cost but time."""

STATE = Stream(
    STATE_STREAM,
    STATE_PREFIX,
    (
        ("discard", "old"),
        ("max_msgs_per_subject", 1),
        ("republish", {"src": f"{STATE_PREFIX}.>", "dest": f"{LIVE_PREFIX}.>"}),
    ),
)
"""The newest derived record of each subject, repeated live."""

REACH = Stream(
    REACH_STREAM,
    REACH_PREFIX,
    (("discard", "old"), ("max_msgs_per_subject", 1000), ("max_age", REPORTS_KEPT_SECONDS * 1_000_000_000)),
)
"""What machines reported of their links: of each the newest 1000 reports, for 30 days; each link is reported again
within a week."""

PATHS = Stream(
    PATHS_STREAM,
    PATHS_PREFIX,
    (
        ("discard", "old"),
        ("max_msgs_per_subject", 1),
        ("republish", {"src": f"{PATHS_PREFIX}.>", "dest": f"{LIVE_PREFIX}.>"}),
    ),
)
"""The ways through transit machines, derived from REACH and STATE, repeated live. If deleted, derived anew."""

BGP = Stream(
    BGP_STREAM,
    BGP_PREFIX,
    (("discard", "old"), ("max_msgs_per_subject", 250), ("max_age", REPORTS_KEPT_SECONDS * 1_000_000_000)),
)
"""What machines report of their BGP speakers, sessions and routes: of each the newest 250, for 30 days; each is
reported again within a week."""

HISTORY = Stream(HISTORY_STREAM, HISTORY_PREFIX, (("discard", "old"), ("max_msgs_per_subject", 1)))
"""What STATE held at some positions of the log, so that no moment is far from one. If deleted, made anew."""

PLANS = Stream(PLANS_STREAM, PLANS_PREFIX, (("discard", "old"), ("max_msgs_per_subject", 1000)))
"""The BGP plans that each network had: the newest 1000."""

CHECKPOINTS = Stream(CHECKPOINTS_STREAM, CHECKPOINTS_PREFIX, _NEVER_REMOVED)
"""What the whole log came to at some positions, signed."""
