"""Route policies in BIRD's filter language. Pure.

Nothing that people write as free text gets into a configuration: only numbers, prefixes, and AS path patterns that
consist of numbers and two signs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network

from events.routing import Policy, PolicyRule

_LONGEST = 32


def policy_function(name: str, policy: Policy, asn: int) -> str:
    """A function that makes the changes a policy wants to a route, and returns whether the route may pass."""
    lines = [f"function {name}()", "{"]
    if policy.local_pref is not None:
        lines.append(f"  bgp_local_pref = {policy.local_pref};")
    for rule in policy.rules:
        if rule.enabled:
            lines += _rule(rule, asn)
    lines += [f"  return {_verdict(policy.default_action)};", "}"]
    return "\n".join(lines)


def _verdict(action: str) -> str:
    return "true" if action == "accept" else "false"


def _rule(rule: PolicyRule, asn: int) -> Iterator[str]:
    yield f"  if {_condition(rule)} then {{ # {rule.sequence}"
    for change in _changes(rule, asn):
        yield f"    {change};"
    yield f"    return {_verdict(rule.action)};"
    yield "  }"


def _condition(rule: PolicyRule) -> str:
    match rule.match_type:
        case "any":
            return "true"
        case "prefix_list":
            patterns = list(_prefix_patterns(rule))
            return f"net ~ [ {', '.join(patterns)} ]" if patterns else "false"
        case "community":
            return f"bgp_community ~ {community_set(rule.match_communities)}"
        case "as_path":
            return f"bgp_path ~ [= {rule.match_as_path} =]"


def _prefix_patterns(rule: PolicyRule) -> Iterator[str]:
    """A prefix alone stands for itself; with lengths, for what lies inside it and is so long. BIRD's patterns would
    reach beyond the prefix for lengths shorter than its own."""
    for prefix in _distinct(rule.match_prefixes):
        if rule.match_prefix_len_min is None and rule.match_prefix_len_max is None:
            yield str(prefix)
            continue
        shortest = max(prefix.prefixlen, rule.match_prefix_len_min or 0)
        longest = _LONGEST if rule.match_prefix_len_max is None else rule.match_prefix_len_max
        if shortest <= longest:
            yield f"{prefix}{{{shortest},{longest}}}"


def _distinct(prefixes: Iterable[IPv4Network]) -> list[IPv4Network]:
    return sorted(set(prefixes))


def _changes(rule: PolicyRule, asn: int) -> Iterator[str]:
    if rule.set_local_pref is not None:
        yield f"bgp_local_pref = {rule.set_local_pref}"
    if rule.set_med is not None:
        yield f"bgp_med = {rule.set_med}"
    if rule.set_communities is not None:
        yield "bgp_community = -empty-"
    for community in rule.set_communities or ():
        yield f"bgp_community.add({_pair(community)})"
    if rule.remove_communities:
        yield f"bgp_community.delete({community_set(rule.remove_communities)})"
    for community in rule.add_communities:
        yield f"bgp_community.add({_pair(community)})"
    for _ in range(rule.prepend_as_count):
        yield f"bgp_path.prepend({asn})"


def community_set(communities: Iterable[str]) -> str:
    """A set of communities."""
    return f"[ {', '.join(_pair(community) for community in dict.fromkeys(communities))} ]"


def _pair(community: str) -> str:
    high, low = (int(part) for part in community.split(":"))
    return f"({high},{low})"
