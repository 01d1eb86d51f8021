"""Tunnels as the API's objects. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from ipaddress import IPv4Address
from uuid import UUID

from events import tunnels as told
from services.gateway.http.tunnel_schemas import Tunnel, TunnelPeer, Tunnels
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence
from services.gateway.tunnel_reports import Report


class TunnelViews:
    """Makes views of tunnels, as of one moment."""

    def __init__(self, mirror: Mirror, presence: Presence, now: datetime) -> None:
        self._mirror = mirror
        self._presence = presence
        self._now = now

    def tunnels(self, machine_id: UUID, report: Report, network_id: UUID | None = None) -> Tunnels:
        """What a machine told, as far as it is about its networks, or about one of them. Raises `NotFoundError`."""
        _, record = self._mirror.machine(machine_id)
        found = [
            self._tunnel(machine_id, tunnel, report.read_at)
            for tunnel in report.among_members(machine_id, self._mirror).tunnels.values()
            if network_id in {None, tunnel.network_id}
        ]
        return Tunnels(
            machine_uuid=machine_id,
            hostname=record.hostname,
            read_at=report.read_at,
            tunnels=tuple(sorted(found, key=lambda tunnel: tunnel.mesh_network_name.lower())),
            left_out=report.left_out,
        )

    def _tunnel(self, machine_id: UUID, tunnel: told.Tunnel, read_at: datetime) -> Tunnel:
        network, record = self._mirror.network(tunnel.network_id)
        peers = (self._peer(peer, network.members[peer.machine_id].address, read_at) for peer in tunnel.peers)
        return Tunnel(
            mesh_network_uuid=tunnel.network_id,
            mesh_network_name=record.name,
            wg_ip_address=network.members[machine_id].address,
            interface=tunnel.interface,
            backend=tunnel.backend,
            state=tunnel.state,
            listen_port=tunnel.listen_port or None,
            mtu=tunnel.mtu or None,
            peers=tuple(sorted(peers, key=lambda peer: peer.wg_ip_address)),
        )

    def _peer(self, peer: told.TunnelPeer, address: IPv4Address, read_at: datetime) -> TunnelPeer:
        return TunnelPeer(
            machine_uuid=peer.machine_id,
            hostname=self._mirror.name_of(peer.machine_id) or f"machine {peer.machine_id}",
            wg_ip_address=address,
            is_online=self._presence.is_online(peer.machine_id, self._now),
            endpoint=peer.endpoint or None,
            last_handshake_at=None if peer.handshake is None else read_at - timedelta(seconds=peer.handshake),
            rx_bytes=peer.rx_bytes,
            tx_bytes=peer.tx_bytes,
        )
