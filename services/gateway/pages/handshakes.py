"""What pages of a machine show of its tunnels: its agent is asked, and not waited for long. Shell."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from uuid import UUID

from events.errors import UnavailableError, WireloomError
from services.gateway.http.tunnel_schemas import TunnelPeer
from services.gateway.http.tunnel_views import TunnelViews
from services.gateway.pages.page import Visit

_PATIENCE = 0.1
"""Seconds. What comes later shows when the page is brought up to date."""

Place = tuple[UUID, UUID]
"""A network and a peer."""


@dataclass(frozen=True)
class Handshakes:
    """What a machine's WireGuard knows of its peers."""

    peers: Mapping[Place, TunnelPeer] = field(default_factory=dict)
    why: str = ""
    """Why nothing is known."""
    fades: bool = False
    """Whether it is worth asking again soon."""


async def handshakes_of(visit: Visit, machine_id: UUID) -> Handshakes:
    """What the machine's agent tells, if it tells it soon."""
    gateway = visit.gateway
    if visit.is_past:
        return Handshakes(why="nobody writes them down.")
    try:
        async with asyncio.timeout(_PATIENCE):
            report = await gateway.tunnels.of(machine_id)
    except TimeoutError:
        return Handshakes(why="its agent has not answered yet.", fades=True)
    except WireloomError as error:
        return Handshakes(why=f"{error.detail} {error.hint}".strip(), fades=isinstance(error, UnavailableError))
    found = TunnelViews(gateway.mirror, gateway.presence, gateway.now()).tunnels(machine_id, report)
    peers = {(tunnel.mesh_network_uuid, peer.machine_uuid): peer for tunnel in found.tunnels for peer in tunnel.peers}
    return Handshakes(peers, fades=True)
