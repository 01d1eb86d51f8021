"""The read model as the API's objects. Pure."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from events.peering import BgpPlan, full_mesh
from events.routing import DEFAULT_REFLECTORS, RECOMMENDED_FULL_MESH
from services.gateway.http.schemas import Machine, Membership, Network
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence


def network_view(mirror: Mirror, network_id: UUID, plan: BgpPlan) -> Network:
    """A network. Raises `NotFoundError`."""
    network, record = mirror.network(network_id)
    return Network(
        uuid=network_id,
        name=record.name,
        network_cidr=record.network_cidr,
        is_default=record.is_default,
        route_reflector_mode=record.route_reflector_mode,
        available_ip_count=network.available_ip_count,
        machine_count=len(network.members),
        created_at=record.created_at,
        updated_at=network.updated_at,
        bgp_stage=plan.stage,
        recommendation=recommendation(len(network.members), with_reflectors=record.route_reflector_mode),
    )


def recommendation(size: int, *, with_reflectors: bool) -> str | None:
    """What is recommended for a network of so many machines; None for nothing."""
    if with_reflectors or size <= RECOMMENDED_FULL_MESH:
        return None
    return (
        f"Turn on route reflector mode: in full mesh {size:,} machines keep {full_mesh(size):,} BGP sessions, "
        f"with {DEFAULT_REFLECTORS} reflectors {DEFAULT_REFLECTORS * (size - 1):,}."
    )


def machine_view(mirror: Mirror, presence: Presence, machine_id: UUID, now: datetime) -> Machine:
    """A machine with its memberships. Raises `NotFoundError`."""
    machine, record = mirror.machine(machine_id)
    identity = mirror.access.identity(machine_id)
    revoked_at = identity.revoked_at if identity is not None else None
    memberships = (membership_view(mirror, network_id, machine_id) for network_id in machine.networks)
    return Machine(
        uuid=machine_id,
        hostname=record.hostname,
        is_online=presence.told(machine_id, now),
        last_seen_at=presence.last_seen_at(machine_id),
        agent_version=record.agent_version,
        transit=record.transit,
        state="active" if revoked_at is None else "revoked",
        memberships=tuple(membership for membership in memberships if membership is not None),
        refused_records=presence.refused(machine_id) if presence.is_recorded else None,
        enrolled_at=identity.enrolled_at if identity is not None else None,
        revoked_at=revoked_at,
        created_at=record.created_at,
        updated_at=machine.updated_at,
    )


def membership_view(mirror: Mirror, network_id: UUID, machine_id: UUID) -> Membership | None:
    """A machine's place in a network; None if it has none."""
    network = mirror.networks.get(network_id)
    if network is None or network.record is None or machine_id not in network.members:
        return None
    peer = network.peers.get(machine_id)
    return Membership(
        mesh_network_uuid=network_id,
        mesh_network_name=network.record.name,
        wg_ip_address=network.members[machine_id].address,
        public_key=peer.public_key if peer else None,
        endpoints=peer.endpoints if peer else (),
    )
