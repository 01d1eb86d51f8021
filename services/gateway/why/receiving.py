"""What machines report of a prefix, and which policy lets it pass. Pure."""

from __future__ import annotations

from datetime import datetime
from ipaddress import IPv4Network
from typing import Literal
from uuid import UUID

from events.records import PolicyRecord, RibRoute, RibState, SessionState, SpeakerState
from events.routing import Direction, Policy, PolicyRule
from events.subjects import BGP_STREAM, bgp_rib, bgp_session, bgp_speaker, routing
from services.gateway.bgp import Heard
from services.gateway.why.steps import Step, thing
from services.gateway.why.teller import Teller

_PARTS = 20
_LONGEST = 32

Verdict = Literal["accept", "reject", "depends"]


def announced_by(tell: Teller, prefix: IPv4Network, network_id: UUID, machine_id: UUID) -> bool:
    """Whether a machine reported that it announces a prefix."""
    state = tell.seen.tracks.bgp.speaker(network_id, machine_id)
    return state is not None and state.state == "running" and prefix in state.announced


def speaking(tell: Teller, prefix: IPv4Network, network_id: UUID, machine_id: UUID) -> list[Step]:
    """What a machine that may announce a prefix reports of that, and its policy for what it announces."""
    name = tell.machine(machine_id)
    heard = tell.seen.tracks.bgp.heard(bgp_speaker(network_id, machine_id))
    policy = _policy(tell, network_id, machine_id, "export", prefix)
    if heard is None or not isinstance(heard.event.state, SpeakerState):
        return [*policy, thing(f"{name} has reported nothing of its BGP speaker")]
    state = heard.event.state
    if state.state != "running":
        why = f": {state.reason}" if state.reason else ""
        return [*policy, _report(heard, f"{name} reported that its BGP speaker is {state.state}{why}", state.since)]
    vips = {vip.vip_id: vip for vip in tell.mirror.routing.vips.values() if IPv4Network(vip.address) == prefix}
    sick = [health for health in state.vips if health.vip_id in vips and not health.healthy]
    if sick:
        why = f": {sick[0].reason}" if sick[0].reason else ""
        text = f"{name} reported that it cannot answer for {vips[sick[0].vip_id].name}{why}"
        return [*policy, _report(heard, text, sick[0].since)]
    does = "announces" if prefix in state.announced else "does not announce"
    return [*policy, _report(heard, f"{name} reported that it {does} {prefix}", heard.event.time)]


def receiving(
    tell: Teller, prefix: IPv4Network, network_id: UUID, machine_id: UUID, announcers: list[UUID]
) -> tuple[bool, list[Step]]:
    """Whether a machine has a route to a prefix in a network, and why."""
    if machine_id not in tell.mirror.networks[network_id].members:
        return False, [tell.absence(network_id, machine_id)]
    name = tell.machine(machine_id)
    if machine_id in announcers:
        return True, [thing(f"{name} announces it itself")]
    rib = _rib(tell, prefix, network_id, machine_id)
    steps = [_report(heard, _route_text(tell, network_id, machine_id, route), route.since) for heard, route in rib]
    if not rib:
        newest = tell.seen.tracks.bgp.heard(bgp_rib(network_id, machine_id, 0))
        if newest is None:
            steps.append(thing(f"{name} has reported no routes"))
        else:
            steps.append(_report(newest, f"{name} reported its routes, and {prefix} is not among them"))
    steps += _sessions(tell, network_id, machine_id, announcers)
    steps += _policy(tell, network_id, machine_id, "import", prefix)
    return any(route.best for _, route in rib), [*steps, tell.membership(network_id, machine_id)]


def _rib(tell: Teller, prefix: IPv4Network, network_id: UUID, machine_id: UUID) -> list[tuple[Heard, RibRoute]]:
    """A machine's routes to a prefix, each with the report that has it; the one in use first."""
    known, _ = tell.seen.tracks.bgp.routes(network_id, machine_id)
    wanted = [route for route in known if route.prefix == prefix]
    found = []
    for part in range(_PARTS if wanted else 0):
        heard = tell.seen.tracks.bgp.heard(bgp_rib(network_id, machine_id, part))
        if heard is not None and isinstance(heard.event.state, RibState):
            found += [(heard, route) for route in wanted if route in heard.event.state.routes]
    return sorted(found, key=lambda pair: not pair[1].best)


def _route_text(tell: Teller, network_id: UUID, machine_id: UUID, route: RibRoute) -> str:
    name, hop = tell.machine(machine_id), route.next_hop
    holder = None
    if hop is not None:
        holder = next(iter(tell.mirror.networks[network_id].by_address.with_key(int(hop))), None)
    through = f"through {tell.machine(holder)}" if holder is not None else f"through {hop or 'itself'}"
    use = "uses" if route.best else "knows, and does not use,"
    return f"{name} reported that it {use} the route {through}, with LOCAL_PREF {route.local_pref}"


def _sessions(tell: Teller, network_id: UUID, machine_id: UUID, announcers: list[UUID]) -> list[Step]:
    """What a machine reports of the BGP sessions that the route would come by."""
    plan = tell.seen.tracks.plan(network_id)
    members = tell.mirror.networks[network_id].members
    wanted = sorted(plan.sessions(machine_id, members.keys() & {*announcers, *plan.reflectors, machine_id}))
    steps = []
    for peer_id, purpose in wanted[:6]:
        heard = tell.seen.tracks.bgp.heard(bgp_session(network_id, machine_id, peer_id, purpose))
        ends = f"{tell.machine(machine_id)}'s BGP session with {tell.machine(peer_id)}"
        if heard is None or not isinstance(heard.event.state, SessionState):
            steps.append(thing(f"{ends} was never reported"))
            continue
        state = heard.event.state
        error = f": {state.error}" if state.error and state.state != "established" else ""
        steps.append(_report(heard, f"{ends} was reported {state.state}{error}", state.since))
    return steps


def _policy(tell: Teller, network_id: UUID, machine_id: UUID, direction: Direction, prefix: IPv4Network) -> list[Step]:
    """The policy that counts for a machine in a network, its own before the network's, and what it says of a prefix."""
    policies = [item for item in tell.mirror.routing.policies.values() if item.policy.direction == direction]
    own = [item for item in policies if machine_id in item.machine_ids]
    theirs = [item for item in policies if network_id in item.network_ids]
    counting = next(iter(own or theirs), None)
    if counting is None:
        return []
    whose = f"{tell.machine(machine_id)}'s own" if own else f"{tell.network(network_id)}'s"
    text = f"the {direction} policy {counting.name}, {whose}, {_says(counting, prefix)}"
    return list(tell.derived(routing("policy", counting.policy_id), text))


def _says(record: PolicyRecord, prefix: IPv4Network) -> str:
    verdict, rule = verdict_of(record.policy, prefix)
    by = f"by rule {rule.sequence}" if rule is not None else "as no rule is for it"
    if verdict == "depends":
        return f"decides it {by}, which looks at more than the prefix"
    return f"{'lets it pass' if verdict == 'accept' else 'rejects it'}, {by}"


def verdict_of(policy: Policy, prefix: IPv4Network) -> tuple[Verdict, PolicyRule | None]:
    """What a policy says of a route to a prefix, and by which rule; None for by default. It `depends` where a rule
    looks at communities or the AS path first."""
    for rule in policy.rules:
        if not rule.enabled:
            continue
        if rule.match_type in ("community", "as_path"):
            return "depends", rule
        if rule.match_type == "any" or _matches(rule, prefix):
            return rule.action, rule
    return policy.default_action, None


def _matches(rule: PolicyRule, prefix: IPv4Network) -> bool:
    if rule.match_prefix_len_min is None and rule.match_prefix_len_max is None:
        return prefix in rule.match_prefixes
    longest = _LONGEST if rule.match_prefix_len_max is None else rule.match_prefix_len_max
    if not (rule.match_prefix_len_min or 0) <= prefix.prefixlen <= longest:
        return False
    return any(prefix.subnet_of(item) for item in rule.match_prefixes)


def _report(heard: Heard, text: str, since: datetime | None = None) -> Step:
    return Step(
        "report",
        text,
        time=since or heard.event.time,
        stream=BGP_STREAM,
        position=heard.sequence,
        uuids=(heard.event.machine_id,),
    )
