"""The objects of the HTTP API that are about tunnels."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Literal
from uuid import UUID

from pydantic import Field

from events.fields import Moment
from services.gateway.http.schemas import Given, View

_NETWORK_UUID = "3f0c2e0a-6f2b-4b53-9f0e-3a4b7d1c2e10"
_MACHINE_UUID = "b6a1f2d4-0c6e-4c0b-8a57-5d3f1e2a9c77"


class TunnelPeer(View):
    """What a machine's WireGuard knows of a peer."""

    machine_uuid: UUID = Field(examples=[_MACHINE_UUID])
    hostname: str = Field(examples=["web-1"])
    wg_ip_address: IPv4Address = Field(examples=["172.16.0.2"])
    is_online: bool
    endpoint: str | None = Field(
        description="Where its packets go; of a path through other machines, an address of theirs. Null for nowhere "
        "yet.",
        examples=["192.0.2.10:51820"],
    )
    last_handshake_at: Moment | None = Field(description="Null for never.")
    rx_bytes: int = Field(description="Received from it since the interface knows it.", examples=[81920])
    tx_bytes: int = Field(description="Sent to it since the interface knows it.", examples=[4096])


class Tunnel(View):
    """A machine's WireGuard interface in one network."""

    mesh_network_uuid: UUID = Field(examples=[_NETWORK_UUID])
    mesh_network_name: str = Field(examples=["office-mesh"])
    wg_ip_address: IPv4Address = Field(examples=["172.16.0.1"])
    interface: str = Field(examples=["wl-3f0c2e0a"])
    backend: str = Field(
        description="Who drives it: `kernel`, or `wireguard-go` in user space; empty if that is not known.",
        examples=["kernel"],
    )
    state: Literal["up", "down", "missing", "unreadable"] = Field(
        description="`missing`: there is no such interface, or not yet; `unreadable`: the system refuses to tell."
    )
    listen_port: int | None = Field(description="Its UDP port.", examples=[51820])
    mtu: int | None = Field(examples=[1420])
    peers: tuple[TunnelPeer, ...] = Field(description="In the order of their addresses.")


class Tunnels(View):
    """What a machine's agent told of its tunnels, at this moment or a few seconds ago."""

    machine_uuid: UUID = Field(examples=[_MACHINE_UUID])
    hostname: str = Field(examples=["db-1"])
    read_at: Moment = Field(description="When the agent read it off its interfaces.")
    tunnels: tuple[Tunnel, ...] = Field(description="In the order of the networks' names.")
    left_out: int = Field(description="How many tunnels and peers it did not tell, since they are too many.")


class TunnelQuery(Given):
    """Which tunnels."""

    mesh_network_uuid: UUID | None = Field(None, description="Only the one in this network.")
