"""What routes, virtual IPs and route policies are made of, and the rules for them. Pure.

A *route* says that prefixes lie behind machines; a *virtual IP* (VIP) is an address that one of several machines
answers, the first in their order that is healthy. Both are announced with BGP (RFC 4271) in every network that the
machine is in. A *route policy* is an ordered list of rules for what a machine takes in (import) or tells (export).
"""

from __future__ import annotations

import re
from datetime import timedelta
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from events.fields import Frozen

RECOMMENDED_FULL_MESH = 100
"""With more machines than this, route reflector mode is recommended."""

MIN_REFLECTORS = 2
DEFAULT_REFLECTORS = 3
"""So many reflectors a network has where it has machines enough, and none are pinned."""
MAX_REFLECTORS = 8

BGP_PORT = 179
REFLECTOR_PORT = 1790
"""The TCP port on which a reflector takes its clients' sessions. Another than BGP's own (179), so that a session with
it as a reflector and one with it as a peer of the full mesh can stand side by side while a network is switched."""

MAX_PREFIXES = 100
"""How many prefixes a route may have."""
MAX_RULES = 100
SHORTEST_ROUTE = 8
FIRST_PREFERENCE = 200
"""LOCAL_PREF of a VIP at the first machine in its list; each further machine has one less."""
MAX_MACHINES = 100
"""How many machines a route or VIP may have."""
MAX_ANNOUNCED = 500
"""How many prefixes may lie behind one machine."""
MAX_ANSWERED = 200
"""For how many VIPs one machine may answer."""
MAX_CLAIMED = 20_000
"""How many prefixes and VIPs there may be in all: a gateway's announcement, which is one record, may hold them all."""

_FIRST_ASN = 4_200_000_000
_LAST_ASN = 4_294_967_294

UNROUTABLE = (
    IPv4Network("0.0.0.0/8"),
    IPv4Network("127.0.0.0/8"),
    IPv4Network("169.254.0.0/16"),
    IPv4Network("224.0.0.0/3"),
)
"""This host, loopback, link-local, multicast and reserved (RFC 6890): never a route or VIP."""

HealthCheckType = Literal["none", "tcp", "http", "https", "grpc", "grpcs", "exec"]
MatchType = Literal["any", "prefix_list", "community", "as_path"]
PolicyAction = Literal["accept", "reject"]
Direction = Literal["import", "export"]
SessionKind = Literal["mesh", "client", "reflector"]
"""What a machine's session with another is for: the full mesh; as a client of the reflector that the other is; as a
reflector with its client."""
PlanStage = Literal["mesh", "switching", "reflectors"]
"""Sessions of the full mesh alone; those and the sessions with reflectors side by side; with reflectors alone."""

_COMMUNITY = re.compile(r"(0|[1-9][0-9]{0,4}):(0|[1-9][0-9]{0,4})")
_AS_PATH = re.compile(r"(?:\*|\?|[1-9][0-9]{0,9})(?: (?:\*|\?|[1-9][0-9]{0,9}))*")
_CHECK_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62})")
_PATH = re.compile(r"/[\x21-\x7e]{0,255}")


def network_asn(network_id: UUID) -> int:
    """The autonomous system number of a network: private (RFC 6996), 32 bits (RFC 6793), and the same for ever."""
    digest = sha256(b"wireloom asn 1\n" + network_id.bytes).digest()
    return _FIRST_ASN + int.from_bytes(digest[:8], "big") % (_LAST_ASN - _FIRST_ASN + 1)


def check_route_prefix(prefix: IPv4Network) -> IPv4Network:
    """`prefix` if it may be announced. Raises ValueError that says why not."""
    if prefix.prefixlen < SHORTEST_ROUTE:
        what = "the default route" if prefix.prefixlen == 0 else f"shorter than /{SHORTEST_ROUTE}"
        raise ValueError(f"{prefix} is {what}, which a mesh does not carry; name the prefixes that are meant")
    for never in UNROUTABLE:
        if prefix.overlaps(never):
            raise ValueError(f"{prefix} overlaps {never}, which cannot be routed (RFC 6890)")
    return prefix


def _prefix(value: Any) -> Any:
    if isinstance(value, IPv4Network):
        return value
    if not isinstance(value, str) or "/" not in value:
        raise ValueError("a prefix is written in CIDR notation, for example 10.20.0.0/16")
    try:
        return IPv4Network(value)
    except ValueError as error:
        raise ValueError(f"{value[:40]!r} is not an IPv4 prefix in canonical form, such as 10.20.0.0/16") from error


def _vip(address: IPv4Address) -> IPv4Address:
    check_route_prefix(IPv4Network(address))
    return address


def _text(value: Any) -> Any:
    if not isinstance(value, str | IPv4Address):
        raise ValueError("an address is written as text, for example 203.0.113.10")
    return value


def _community(text: str) -> str:
    if not _COMMUNITY.fullmatch(text) or any(int(part) > 0xFFFF for part in text.split(":")):
        raise ValueError(
            f"{text[:40]!r} is not a community: write two numbers up to 65535, such as 65000:100 (RFC 1997)"
        )
    return text


def _as_path(text: str) -> str:
    if text and not _AS_PATH.fullmatch(text):
        raise ValueError(
            "an AS path pattern is numbers, ? (any one) and * (any number of them) with one space between, "
            "for example '* 4200000001 *'"
        )
    if any(part.isdigit() and int(part) > 0xFFFF_FFFF for part in text.split()):
        raise ValueError("an AS number is at most 4294967295")
    return text


Prefix = Annotated[IPv4Network, BeforeValidator(_prefix)]
RoutePrefix = Annotated[IPv4Network, BeforeValidator(_prefix), AfterValidator(check_route_prefix)]
"""A prefix that a machine may announce."""
VipAddress = Annotated[IPv4Address, BeforeValidator(_text), AfterValidator(_vip)]
Community = Annotated[str, AfterValidator(_community)]
"""A community (RFC 1997), as `65000:100`."""
AsPathPattern = Annotated[str, StringConstraints(max_length=200), AfterValidator(_as_path)]
Description = Annotated[str, StringConstraints(max_length=200, pattern=r"^[^\x00-\x1f\x7f]*$")]


class HealthCheck(Frozen):
    """How a machine finds out whether it can answer for a VIP. A check that is `none` always succeeds.

    What `target` means: for `tcp` a port, or `address:port`; for `http` and `https` a URL or, for the machine itself, a
    path, or `:port/path`; for `grpc` and `grpcs` `:port` or `address:port`, with `/service` after it if one is meant
    (gRPC health checking protocol); for `exec` the name of a program that the machine's administrator has put into the
    agent's folder of checks.
    """

    type: HealthCheckType = "none"
    target: Annotated[str, StringConstraints(max_length=300, pattern=r"^[\x21-\x7e]*$")] = ""
    interval_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    timeout_seconds: Annotated[int, Field(ge=1, le=300)] = 5
    healthy_threshold: Annotated[int, Field(ge=1, le=100)] = 2
    """So many successes in a row make it healthy."""
    unhealthy_threshold: Annotated[int, Field(ge=1, le=100)] = 3
    """So many failures in a row make it unhealthy."""
    holdoff_seconds: Annotated[int, Field(ge=0, le=3600)] = 0
    """How long after the VIP was given to a machine the first check is made."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.type == "none" and self.target:
            raise ValueError("a health check of type none has no target")
        if self.type != "none" and not self.target:
            raise ValueError(f"a health check of type {self.type} needs a target")
        if self.type == "exec" and not _CHECK_NAME.fullmatch(self.target):
            raise ValueError("the target of an exec check is the name of a program in the agent's folder of checks")
        if self.timeout_seconds > self.interval_seconds:
            raise ValueError("a check's timeout cannot be longer than its interval")
        return self

    @property
    def holdoff(self) -> timedelta:
        """`holdoff_seconds` as a duration."""
        return timedelta(seconds=self.holdoff_seconds)


class PolicyRule(Frozen):
    """One rule of a route policy: which routes it is for, and what becomes of them. The first that matches decides."""

    sequence: Annotated[int, Field(ge=1, le=65_535)]
    """Its place: lower ones come first."""
    enabled: bool = True
    description: Description = ""
    action: PolicyAction = "accept"
    match_type: MatchType = "any"
    match_prefixes: Annotated[tuple[Prefix, ...], Field(max_length=MAX_PREFIXES)] = ()
    """With `prefix_list`: the route lies inside one of these."""
    match_prefix_len_min: Annotated[int, Field(ge=0, le=32)] | None = None
    match_prefix_len_max: Annotated[int, Field(ge=0, le=32)] | None = None
    """Without the two, a route matches a prefix only if it is the same."""
    match_communities: Annotated[tuple[Community, ...], Field(max_length=50)] = ()
    """With `community`: the route carries one of these."""
    match_as_path: AsPathPattern = ""
    """With `as_path`: numbers, `?` for any one and `*` for any number of them."""
    set_local_pref: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    set_med: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    set_communities: Annotated[tuple[Community, ...], Field(max_length=50)] | None = None
    """In place of those that the route carries."""
    add_communities: Annotated[tuple[Community, ...], Field(max_length=50)] = ()
    remove_communities: Annotated[tuple[Community, ...], Field(max_length=50)] = ()
    prepend_as_count: Annotated[int, Field(ge=0, le=10)] = 0
    """How often the network's own AS number is put before the AS path."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        asked: dict[MatchType, bool] = {
            "prefix_list": bool(self.match_prefixes),
            "community": bool(self.match_communities),
            "as_path": bool(self.match_as_path),
        }
        for kind, given in asked.items():
            if given != (self.match_type == kind):
                raise ValueError(f"match_type {kind} goes with what it is to match, and nothing else does")
        lengths = (self.match_prefix_len_min, self.match_prefix_len_max)
        if self.match_type != "prefix_list" and lengths != (None, None):
            raise ValueError("prefix lengths go with match_type prefix_list")
        if None not in lengths and lengths[0] > lengths[1]:  # type: ignore[operator]
            raise ValueError("match_prefix_len_min is greater than match_prefix_len_max")
        changes = (self.set_local_pref, self.set_med, self.set_communities)
        if self.action == "reject" and (
            changes != (None, None, None) or self.add_communities or self.remove_communities or self.prepend_as_count
        ):
            raise ValueError("a rule that rejects changes nothing")
        return self


class Policy(Frozen):
    """A route policy's content: its rules in their order, and what becomes of a route that none is for."""

    direction: Direction
    default_action: PolicyAction = "accept"
    local_pref: Annotated[int, Field(ge=0, le=0xFFFF_FFFF)] | None = None
    """LOCAL_PREF of all routes that it lets pass, before any rule."""
    rules: Annotated[tuple[PolicyRule, ...], Field(max_length=MAX_RULES)] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        places = [rule.sequence for rule in self.rules]
        if places != sorted(set(places)):
            raise ValueError("rules stand in the order of their sequence numbers, each number once")
        return self
