"""What a person decides about an agent, and what its networks share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from agent.believing import Belief
from agent.desired import DEFAULT_MTU
from agent.device import Devices
from agent.listening import Spawn
from agent.pathfinding import Probing
from agent.port_mapping.mapper import PortMapper
from agent.reporting import Reports
from agent.store import Store
from agent.view import Mesh

KEY_MAX_AGE = 90 * 86400.0
"""Seconds after which a machine makes itself a new key."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a person decides about an agent."""

    hostname: str
    agent_version: str = ""
    mtu: int = DEFAULT_MTU
    endpoints: tuple[str, ...] = ()
    """Where the machine can be reached, given by hand: address and port, or address alone."""
    reconcile_interval: float = 30.0
    """Seconds between full comparisons of the interfaces with what they should be."""
    beat_interval: float = 10.0
    """Seconds between heartbeats."""
    key_max_age: float = KEY_MAX_AGE
    """Seconds after which a key gives way to a new one; 0 for never."""
    down_on_exit: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """What an agent's networks share."""

    machine_id: UUID
    options: Options
    devices: Devices
    store: Store
    run: Callable[..., Awaitable[Any]]
    """Calls a function that may wait for the system."""
    spawn: Spawn
    wake: Callable[[], None]
    """Says that an interface may not be as it should."""
    wrote: Callable[[], None]
    """Says that the store wants a flush."""
    doubted: Callable[[UUID], None]
    """Says that the control plane may not have this machine in a network any more."""
    deleted: Callable[[UUID], None]
    """Says that a network was deleted."""
    belief: Belief
    """Tells what to believe of what is heard."""
    acknowledge: Callable[[], None]
    """Says that an interface agrees with more of its network's records."""
    reports: Reports
    """Orders what is reported of links."""
    routed: Callable[[], None] = lambda: None
    """Says that what a network's records say of BGP, or who its members are and how they are reached, may have
    changed."""
    probing: Probing | None = None
    """None where nothing is probed."""
    meshes: dict[UUID, Mesh] = field(default_factory=dict)
    """What is inside of each network that the machine is in."""
    mapper: PortMapper | None = None
    """None where routers are not asked for anything."""
