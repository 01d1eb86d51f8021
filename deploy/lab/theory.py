"""What theory says of two machines: whether their packets can go straight, or need a third machine. Pure.

The words for what translators do are those of RFC 4787.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv6Network, ip_address

from events.fields import split_endpoint

_TRANSIT = IPv6Network("fd00::/8")


class Mapping(Enum):
    """How a place's routers translate the source address and port of what goes out (RFC 4787, section 4.1)."""

    NONE = "none"
    ENDPOINT_INDEPENDENT = "endpoint-independent"
    ENDPOINT_DEPENDENT = "endpoint-dependent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """What is between a machine and everybody else."""

    name: str
    families: frozenset[int] = frozenset({4, 6})
    """The IP versions that machines there have."""
    mapping: Mapping = Mapping.NONE
    routers: int = 0
    """So many of them are between the machine and everybody else."""
    only_answers: bool = False
    """Whether only what answers comes in: from the address and port that something went out to (RFC 4787, section 5:
    address and port-dependent filtering)."""
    limited: bool = False
    """Whether UDP goes to one given machine only."""


OPEN = Place(name="open")
"""Nothing in between."""
HOME = Place(name="home", families=frozenset({4}), mapping=Mapping.ENDPOINT_INDEPENDENT, routers=1, only_answers=True)
"""A router with endpoint-independent translation, as most homes have."""
OFFICE = Place(name="office", families=frozenset({4}), mapping=Mapping.ENDPOINT_DEPENDENT, routers=1, only_answers=True)
"""A router that takes another port for each destination."""
CARRIER = Place(
    name="carrier", families=frozenset({4}), mapping=Mapping.ENDPOINT_INDEPENDENT, routers=2, only_answers=True
)
"""A home router behind a carrier's, both with endpoint-independent translation."""
WALLED = Place(name="walled", routers=1, only_answers=True)
"""A firewall that only lets out, without translation."""
GUARDED = Place(name="guarded", routers=1, only_answers=True, limited=True)
"""A firewall that lets UDP go to one given machine only, and TCP anywhere."""
SIX = Place(name="six", families=frozenset({6}))
"""IPv6 only."""

PLACES = (OPEN, HOME, OFFICE, CARRIER, WALLED, GUARDED, SIX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """Where one machine is."""

    name: str
    place: Place
    addresses: tuple[str, ...] = ()
    """The addresses that the machine itself has."""
    lan: str = ""
    """Machines behind one router share the name of their network."""
    only: str = ""
    """The one machine that it may exchange UDP with, where the place limits that."""


class Way(Enum):
    """How two machines' packets travel."""

    DIRECT = "direct"
    """One reaches the other at an address of its own, unasked."""
    PUNCHED = "punched"
    """Straight, after both sent at the same time, so that each router takes the other's packets for answers."""
    TRANSIT = "transit"
    """Through a third machine."""


def predict(a: Spot, b: Spot) -> Way:
    """How packets between two machines must travel. The answer is the same for (b, a).

    - In one network behind one router nothing is between the two: direct.
    - Where UDP is limited to one machine, everybody else is out of reach: transit.
    - Each version of IP that both have is a chance of its own, and the best counts; with none in common: transit.
    """
    if a.lan and a.lan == b.lan:
        return Way.DIRECT
    if not (_may_speak(a, b) and _may_speak(b, a)):
        return Way.TRANSIT
    chances = set(_chances(a.place, b.place))
    return next((way for way in Way if way in chances), Way.TRANSIT)


def _may_speak(one: Spot, other: Spot) -> bool:
    return not one.place.limited or one.only == other.name


def _chances(a: Place, b: Place) -> Iterator[Way]:
    """What each version of IP in common makes possible.

    - One of the two lets in what nobody asked for: the other sends first, and it answers wherever that came from,
      translated or not: direct.
    - Both let in only answers. To send to the other first makes what it sends an answer, if each knows the address and
      port from which the other's packets will come. It does where the mapping is none or endpoint-independent: what any
      third machine saw is what the other will see. So both ends punch.
    - With an endpoint-dependent mapping at one end, its packets to the other come from a port that nobody has seen
      before, so the other's router takes them for no answer; nor can the other send to that port first. One such end is
      enough (RFC 5128, section 3.3): transit.
    """
    for _ in a.families & b.families:
        if not (a.only_answers and b.only_answers):
            yield Way.DIRECT
        elif Mapping.ENDPOINT_DEPENDENT not in {a.mapping, b.mapping}:
            yield Way.PUNCHED


def observe(a: Spot, b: Spot, to_b: str, to_a: str) -> Way:
    """How packets travel, by the endpoints that WireGuard uses: `to_b` on a for b, `to_a` on b for a.

    Transit addresses are unlike any other. For the rest: where one end is used at an address of its own, at which it
    can be reached unasked, it is direct; else both are used where only answers come in, so they were punched.
    """
    hosts = [ip_address(split_endpoint(endpoint)[0]) for endpoint in (to_a, to_b)]
    if any(host.version == 6 and host in _TRANSIT for host in hosts):
        return Way.TRANSIT
    near = bool(a.lan) and a.lan == b.lan
    own = [str(host) in spot.addresses for host, spot in zip(hosts, (a, b), strict=True)]
    open_to_all = [not spot.place.only_answers for spot in (a, b)]
    if any(is_own and (near or is_open) for is_own, is_open in zip(own, open_to_all, strict=True)):
        return Way.DIRECT
    return Way.PUNCHED
