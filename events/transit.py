"""The addresses by which WireGuard packets travel through transit machines, and what is said of how links are. Pure.

Where A cannot reach B directly, its WireGuard packets for B are carried inside its tunnel to a transit machine T (by
*nesting*): T decrypts the outer layer only, and forwards what it finds, WireGuard again, to B. For that each machine
has, for each transit that it is reached through, a *transit address*: an IPv6 unique local address (RFC 4193) that
follows from the network, the machine and the transit. So B's address through T is not its address through another
transit: both can be in use at once, and either end can change from one to the other by itself.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from ipaddress import IPv6Address, IPv6Network
from uuid import UUID

MAX_HOPS = 4
"""Through so many transit machines, one after the other, a path may lead."""

ALTERNATIVES = 2
"""So many ways through transit machines are named for a pair: the first is used, the next stands by."""

RTT_STEPS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
"""Round trips are reported in these steps, in milliseconds: the lowest that is not less."""


def transit_prefix(network_id: UUID) -> IPv6Network:
    """The prefix that all transit addresses of a network are in: `fd` and 40 bits (RFC 4193, section 3.2.2), a /64."""
    digest = hashlib.sha256(b"wireloom transit prefix 1\n" + network_id.bytes).digest()
    return IPv6Network((b"\xfd" + digest[:5] + bytes(10), 64))


def transit_address(network_id: UUID, machine_id: UUID, via: UUID) -> IPv6Address:
    """The address at which `machine_id` is reached through the transit machine next to it, `via`."""
    digest = hashlib.sha256(b"wireloom transit 1\n" + network_id.bytes + machine_id.bytes + via.bytes).digest()
    return IPv6Address(transit_prefix(network_id).network_address.packed[:8] + digest[:8])


def rtt_step(milliseconds: float) -> int:
    """The step that a round trip is reported as."""
    return RTT_STEPS[min(bisect_left(RTT_STEPS, milliseconds), len(RTT_STEPS) - 1)]


def keeps_step(step: int, milliseconds: float) -> bool:
    """Whether a round trip is still reported as `step`: jitter of a quarter beyond the step's ends changes nothing."""
    place = RTT_STEPS.index(step)
    least = RTT_STEPS[place - 1] if place else 0
    return least * 0.75 <= milliseconds <= step * 1.25 or (place == len(RTT_STEPS) - 1 and milliseconds > step)
