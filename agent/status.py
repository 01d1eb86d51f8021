"""What `wireloom-agent status` shows: the state on disk beside the interfaces as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from agent.device import Device, Devices, Peer
from agent.keys import public_key
from agent.port_mapping.notes import Note
from agent.store import DiskStore, LinkNote, SpeakerNote
from events.fields import split_endpoint
from events.interfaces import interface_name
from events.records import MachineRecord, MembershipRecord, NetworkRecord, PathRecord, PeerRecord, Record
from events.subjects import scope
from events.transit import transit_address


def read_status(
    store: DiskStore,
    backends: Iterable[Devices],
    now: float,
    mappings: Mapping[UUID, Note] | None = None,
    *,
    is_running: bool = True,
) -> dict[str, Any]:
    """The machine and its networks, as JSON takes it; `mappings` is what is noted of the router's, `is_running` whether
    the agent runs. Ages and times in seconds. Raises `DeviceError`."""
    machine_id = store.machine_id()
    bodies = list(_bodies(store, scope("machine", machine_id)))
    hostname = next((body.hostname for body in bodies if isinstance(body, MachineRecord)), None)
    memberships = [body for body in bodies if isinstance(body, MembershipRecord)]
    chosen = list(backends)
    return {
        "machine_id": str(machine_id),
        "hostname": hostname,
        "is_running": is_running,
        "networks": [
            _network(store, membership, chosen, now)
            | {"port_mapping": _mapping((mappings or {}).get(membership.network_id), now)}
            for membership in memberships
        ],
    }


def _bodies(store: DiskStore, scope_name: str) -> Iterator[Any]:
    for stored in store.records(scope_name):
        try:
            yield Record.model_validate_json(stored.body).body
        except ValidationError:
            continue


def _network(store: DiskStore, membership: MembershipRecord, backends: list[Devices], now: float) -> dict[str, Any]:
    interface = interface_name(membership.network_id)
    bodies = list(_bodies(store, scope("network", membership.network_id)))
    members = [body for body in bodies if isinstance(body, PeerRecord) and body.machine_id != membership.machine_id]
    tunnel = store.tunnel(membership.network_id)
    links = store.links(membership.network_id)
    ways = _ways(store, membership)
    hostnames = {member.machine_id: member.hostname for member in members}
    backend, device = _device(backends, interface)
    return {
        "network_id": str(membership.network_id),
        "name": next((body.name for body in bodies if isinstance(body, NetworkRecord)), None),
        "network_cidr": str(membership.network_cidr),
        "interface": interface,
        "backend": backend,
        "is_up": device is not None and device.up,
        "address": str(membership.address),
        "public_key": public_key(tunnel.private_key) if tunnel else None,
        "listen_port": device.listen_port if device else None,
        "revision": store.revision(scope("network", membership.network_id)),
        "bgp": _bgp(store.speaker(membership.network_id)),
        "peers": [
            _peer(member, peer, now) | _path(peer, links.get(member.machine_id), ways, hostnames)
            for member in sorted(members, key=lambda member: member.address)
            for peer in (device.peers.get(member.public_key) if device else None,)
        ],
    }


def _bgp(note: SpeakerNote | None) -> dict[str, Any] | None:
    """How BGP does, as the agent last noted it; None where it never ran."""
    if note is None:
        return None
    speaker = note.speaker
    return {
        "state": speaker.state,
        "reason": speaker.reason,
        "version": speaker.version,
        "since": speaker.since.isoformat(),
        "sessions_established": note.established,
        "sessions_planned": note.planned,
        "announced": [str(prefix) for prefix in speaker.announced],
        "vips": [
            {"address": address, "healthy": vip.healthy, "since": vip.since.isoformat(), "reason": vip.reason}
            for address, vip in zip(note.vips, speaker.vips, strict=True)
        ],
    }


def _device(backends: list[Devices], interface: str) -> tuple[str | None, Device | None]:
    for backend in backends:
        device = backend.read(interface)
        if device is not None:
            return backend.name, device
    return None, None


def _peer(member: PeerRecord, peer: Peer | None, now: float) -> dict[str, Any]:
    shaken = peer.last_handshake if peer else 0.0
    return {
        "machine_id": str(member.machine_id),
        "hostname": member.hostname,
        "address": str(member.address),
        "public_key": member.public_key,
        "endpoint": peer.endpoint if peer else None,
        "last_handshake": datetime.fromtimestamp(shaken, UTC).isoformat() if shaken else None,
        "last_handshake_age": round(now - shaken, 3) if shaken else None,
        "rx_bytes": peer.rx_bytes if peer else 0,
        "tx_bytes": peer.tx_bytes if peer else 0,
    }


def _mapping(note: Note | None, now: float) -> dict[str, Any] | None:
    """How the router lets others reach this machine in one network; None where it does not, or no longer."""
    if note is None or note.until <= now:
        return None
    return {
        "protocol": str(note.protocol),
        "endpoint": note.endpoint,
        "router": note.router,
        "since": datetime.fromtimestamp(note.since, UTC).isoformat(),
        "until": datetime.fromtimestamp(note.until, UTC).isoformat(),
    }


def _ways(store: DiskStore, membership: MembershipRecord) -> dict[str, tuple[UUID, ...]]:
    """By which way each transit address leads to a peer."""
    return {
        str(transit_address(body.network_id, body.peer_id, way[-1])): way
        for body in _bodies(store, scope("paths", membership.machine_id))
        if isinstance(body, PathRecord) and body.network_id == membership.network_id
        for way in reversed(body.ways)
        if way
    }


def _path(
    peer: Peer | None, note: LinkNote | None, ways: dict[str, tuple[UUID, ...]], hostnames: dict[UUID, str]
) -> dict[str, Any]:
    """How a peer is reached: what the interface does, beside what probes last found of the direct path."""
    way = ways.get(str(split_endpoint(peer.endpoint)[0])) if peer and peer.endpoint else None
    path = "transit" if way else note.link.state if note else "unknown"
    return {
        "path": path,
        "through": [hostnames.get(transit, str(transit)) for transit in way or ()],
        "since": datetime.fromtimestamp(note.since, UTC).isoformat() if note else None,
        "rtt_ms": note.link.rtt if note and path == "direct" else None,
        "tried": [{"endpoint": tried, "result": result} for tried, result in note.link.tried] if note else [],
    }


def render(status: dict[str, Any]) -> str:
    """The status as text for people. Pure."""
    lines = [f"machine {status['machine_id']}  {status['hostname'] or 'not registered yet'}"]
    if not status["is_running"]:
        lines.append("the agent does not run: of paths and BGP this is what it knew last")
    for network in status["networks"]:
        state = f"up ({network['backend']})" if network["is_up"] else "down"
        name = network["name"] or network["network_id"]
        lines += ["", f"network {name}  {network['network_cidr']}"]
        lines.append(f"  {network['interface']}  {network['address']}  UDP {network['listen_port'] or '-'}  {state}")
        lines += [f"  {line}" for line in _bgp_lines(network["bgp"])]
        if mapped := network["port_mapping"]:
            since, until = (mapped[name][:19] + "Z" for name in ("since", "until"))
            lines.append(f"  mapped by the router ({mapped['protocol']}): {mapped['endpoint']}, {since} to {until}")
        lines += [f"  {line}" for line in _table(network["peers"])]
    if not status["networks"]:
        lines.append("in no network")
    return "\n".join(lines)


def _bgp_lines(bgp: dict[str, Any] | None) -> list[str]:
    if bgp is None:
        return []
    if bgp["state"] != "running":
        return [f"BGP {bgp['state']}: {bgp['reason']}"]
    announced = ", ".join(bgp["announced"]) or "nothing"
    sessions = f"{bgp['sessions_established']} of {bgp['sessions_planned']} sessions established"
    lines = [f"BGP running: {sessions}, announces {announced}"]
    lines += [f"BGP: {bgp['reason']}"] if bgp["reason"] else []
    for vip in bgp["vips"]:
        health = "healthy" if vip["healthy"] else f"not healthy: {vip['reason']}"
        lines.append(f"virtual IP {vip['address']}: {health}")
    return lines


def _table(peers: list[dict[str, Any]]) -> list[str]:
    if not peers:
        return ["no peers"]
    rows = [("PEER", "ADDRESS", "PATH", "SINCE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT")]
    rows += [
        (
            peer["hostname"],
            peer["address"],
            _in_words(peer),
            peer["since"][:19] + "Z" if peer["since"] else "-",
            peer["endpoint"] or "-",
            "never" if peer["last_handshake_age"] is None else f"{peer['last_handshake_age']:.0f} s ago",
            str(peer["rx_bytes"]),
            str(peer["tx_bytes"]),
        )
        for peer in peers
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    for peer in peers:
        tried = ", ".join(f"{candidate['endpoint']} ({candidate['result']})" for candidate in peer["tried"])
        lines += [f"not reached directly: {peer['hostname']}: {tried or 'no candidates'}"] if _is_apart(peer) else []
    return lines


def _is_apart(peer: dict[str, Any]) -> bool:
    return peer["path"] in {"transit", "unreachable"}


def _in_words(peer: dict[str, Any]) -> str:
    match peer["path"]:
        case "transit":
            return f"through {', '.join(peer['through'])}"
        case "direct":
            return f"direct, ≤ {peer['rtt_ms']} ms"
        case other:
            return str(other)
