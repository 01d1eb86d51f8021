"""BGP speakers, sessions and routes as the API's objects. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from ipaddress import IPv4Address
from uuid import UUID

from events.peering import BgpPlan, full_mesh
from events.records import RibRoute, VipHealth
from events.routing import DEFAULT_REFLECTORS, network_asn
from services.gateway.bgp import Bgp
from services.gateway.http.bgp_schemas import (
    NetworkBgp,
    Reflector,
    RibEntry,
    RouteHop,
    Session,
    SessionCounts,
    Speaker,
    SpeakerCounts,
    Speaking,
    VipStatus,
)
from services.gateway.http.path_schemas import PathMachine
from services.gateway.http.views import recommendation
from services.gateway.mirror import Mirror
from services.gateway.peerings import Found
from services.gateway.presence import Presence


class BgpViews:
    """Makes views of BGP, as of one moment."""

    def __init__(self, mirror: Mirror, bgp: Bgp, presence: Presence, now: datetime) -> None:
        self._mirror = mirror
        self._bgp = bgp
        self._presence = presence
        self._now = now

    def network(self, network_id: UUID, plan: BgpPlan) -> NetworkBgp:
        """A network. Raises `NotFoundError`."""
        network, record = self._mirror.network(network_id)
        size = len(network.members)
        reflectors = len(plan.reflectors) if plan.reflectors else min(DEFAULT_REFLECTORS, size)
        speakers = Counter(self._speaking(network_id, machine_id) for machine_id in network.members)
        return NetworkBgp(
            mesh_network_uuid=network_id,
            mesh_network_name=record.name,
            asn=network_asn(network_id),
            route_reflector_mode=record.route_reflector_mode,
            stage=plan.stage,
            reflectors=tuple(
                Reflector(
                    **dict(self._machine(network_id, machine_id)),
                    reason="pinned" if machine_id in record.reflectors else "chosen",
                    speaker=self._speaking(network_id, machine_id),
                )
                for machine_id in sorted(plan.reflectors)
            ),
            sessions=SessionCounts(
                established=self._bgp.established(network_id, network.members.keys()),
                planned=plan.count(network.members.keys()),
                in_full_mesh=full_mesh(size),
                with_reflectors=reflectors * max(0, size - 1),
            ),
            speakers=SpeakerCounts(
                running=speakers["running"],
                off=speakers["off"],
                failed=speakers["failed"],
                unknown=speakers["unknown"],
            ),
            recommendation=recommendation(size, with_reflectors=record.route_reflector_mode),
        )

    def session(self, network_id: UUID, found: Found) -> Session:
        """A session."""
        _, machine_id, _, peer_id, _ = found.place
        said = found.state
        assert said.state != "gone"
        return Session(
            machine=self._machine(network_id, machine_id),
            peer=self._machine(network_id, peer_id),
            purpose=said.purpose,
            state=said.state,
            since=said.since,
            imported=said.imported,
            exported=said.exported,
            error=said.error,
        )

    def speaker(self, network_id: UUID, machine_id: UUID, plan: BgpPlan) -> Speaker:
        """A machine's speaker in a network that it is in."""
        network, record = self._mirror.network(network_id)
        said = self._bgp.speaker(network_id, machine_id)
        sessions = self._bgp.sessions(network_id, machine_id)
        established = (
            peering
            for peering, state in sessions.items()
            if state.state == "established" and peering[0] in network.members
        )
        return Speaker(
            mesh_network_uuid=network_id,
            mesh_network_name=record.name,
            asn=network_asn(network_id),
            state=said.state if said else "unknown",
            reason=said.reason if said else "Its agent has reported nothing of it.",
            version=said.version if said else "",
            since=said.since if said else None,
            is_reflector=machine_id in plan.reflectors,
            announced=said.announced if said else (),
            vips=tuple(map(self._vip, said.vips)) if said else (),
            sessions_established=sum(1 for _ in established),
            sessions_planned=len(plan.sessions(machine_id, network.members.keys())),
        )

    def route(self, network_id: UUID, route: RibRoute) -> RibEntry:
        """A route."""
        return RibEntry(
            prefix=route.prefix,
            next_hop=route.next_hop,
            machine=self._hop(network_id, route.next_hop),
            best=route.best,
            local_pref=route.local_pref,
            med=route.med,
            as_path=route.as_path,
            communities=route.communities,
            since=route.since,
            age_seconds=max(0, int((self._now - route.since).total_seconds())),
        )

    def _speaking(self, network_id: UUID, machine_id: UUID) -> Speaking:
        said = self._bgp.speaker(network_id, machine_id)
        return said.state if said is not None else "unknown"

    def _vip(self, health: VipHealth) -> VipStatus:
        record = self._mirror.routing.vips.get(health.vip_id)
        return VipStatus(
            uuid=health.vip_id,
            name=record.name if record is not None else None,
            address=record.address if record is not None else None,
            healthy=health.healthy,
            since=health.since,
            reason=health.reason,
        )

    def _hop(self, network_id: UUID, address: IPv4Address | None) -> RouteHop | None:
        if address is None:
            return None
        found = self._mirror.network(network_id)[0].by_address.with_key(int(address))
        machine_id = next(iter(found), None)
        return None if machine_id is None else RouteHop(uuid=machine_id, hostname=self._name_of(machine_id))

    def _machine(self, network_id: UUID, machine_id: UUID) -> PathMachine:
        member = self._mirror.network(network_id)[0].members.get(machine_id)
        return PathMachine(
            uuid=machine_id,
            hostname=self._name_of(machine_id),
            wg_ip_address=member.address if member else None,
            is_online=self._presence.told(machine_id, self._now),
        )

    def _name_of(self, machine_id: UUID) -> str:
        return self._mirror.name_of(machine_id) or f"machine {machine_id}"
