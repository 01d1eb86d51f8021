"""The difference between an interface as it should be and as it is, as a value. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

from agent.desired import Desired, DesiredPeer
from agent.device import Changes, Device, Peer, PeerChange, Route

HANDSHAKE_FRESH = 180.0
"""Seconds after a handshake during which a peer's session is good (WireGuard's Reject-After-Time)."""


def diff(desired: Desired, actual: Device | None, now: float) -> Changes:
    """The changes that make `actual` (None: there is no interface) as desired; none where it is so already.

    `now` is in seconds since 1970. Peers that are as they should be are not named, so their handshakes live on. Routes
    of others through the interface stay: they belong to whoever made them.
    """
    is_new = actual is None
    have = actual or Device()
    routes = desired.routes
    destinations = {route.destination for route in routes}
    unwanted = {r for r in have.routes - routes if r.destination in destinations or _is_own(r, desired)}
    return Changes(
        create=is_new,
        private_key=None if have.private_key == desired.private_key else desired.private_key,
        listen_port=None if have.listen_port == desired.listen_port else desired.listen_port,
        mark=None if have.mark == desired.mark else desired.mark,
        mtu=None if have.mtu == desired.mtu else desired.mtu,
        up=not have.up,
        add_addresses=desired.addresses - have.addresses,
        answering=desired.vips - have.addresses,
        remove_addresses=have.addresses - desired.addresses,
        add_routes=routes - have.routes,
        remove_routes=frozenset(unwanted),
        peers=tuple(_peer_changes(desired, have, now)),
    )


def _is_own(route: Route, desired: Desired) -> bool:
    """Whether a route is one that only the agent makes: to transit addresses, or to one peer with an MTU of its own."""
    destination = ip_network(route.destination)
    if isinstance(destination, IPv6Network):
        return bool(desired.transit_prefix) and destination.subnet_of(IPv6Network(desired.transit_prefix))
    is_one = destination.prefixlen == destination.max_prefixlen
    return is_one and route.mtu is not None and destination.subnet_of(IPv4Network(desired.route))


def next_endpoints(desired: Desired, actual: Device, now: float) -> Changes:
    """For every peer that has not answered of late and has several endpoint candidates: its next candidate in turn."""
    changes = []
    for key, want in desired.peers.items():
        have = actual.peers.get(key)
        if have is None or len(want.endpoints) < 2 or _has_fresh_handshake(have, now):
            continue
        if have.endpoint in want.endpoints:
            following = (want.endpoints.index(have.endpoint) + 1) % len(want.endpoints)
            changes.append(PeerChange(key, endpoint=want.endpoints[following]))
    return Changes(peers=tuple(changes))


def _peer_changes(desired: Desired, have: Device, now: float) -> Iterator[PeerChange]:
    for key in have.peers:
        if key not in desired.peers:
            yield PeerChange(key, remove=True)
    claimed = {allowed_ip for want in desired.peers.values() for allowed_ip in want.allowed_ips}
    for key, want in desired.peers.items():
        peer = have.peers.get(key)
        if peer is not None and peer.preshared:
            yield PeerChange(key, remove=True)
            peer = None
        change = _new_peer(key, want, have, now) if peer is None else _peer_change(key, want, peer, claimed, now)
        if change is not None:
            yield change


def _new_peer(key: str, want: DesiredPeer, have: Device, now: float) -> PeerChange:
    endpoint = want.endpoints[0] if want.endpoints and not want.is_awaited else None
    before = have.peers.get(want.formerly)
    if before is not None and _has_fresh_handshake(before, now) and before.endpoint not in {None, *want.withdrawn}:
        endpoint = before.endpoint
    return PeerChange(key, endpoint=endpoint, keepalive=want.keepalive, add_allowed_ips=want.allowed_ips)


def _peer_change(key: str, want: DesiredPeer, have: Peer, claimed: set[str], now: float) -> PeerChange | None:
    change = PeerChange(
        key,
        endpoint=_endpoint_change(want, have, now),
        keepalive=None if have.keepalive == want.keepalive else want.keepalive,
        add_allowed_ips=want.allowed_ips - have.allowed_ips,
        # An allowed IP that another peer should have moves there by being added; taking it away here as well could
        # take it from its new owner.
        remove_allowed_ips=have.allowed_ips - want.allowed_ips - claimed,
    )
    return None if change == PeerChange(key) else change


def _endpoint_change(want: DesiredPeer, have: Peer, now: float) -> str | None:
    """The endpoint to set, or None to leave it. A peer that roams, or whose NAT shows another port, is found by
    WireGuard itself at an endpoint that is no candidate: while its handshake is fresh, that one is right."""
    if not want.endpoints or have.endpoint in want.endpoints or want.is_awaited:
        return None
    if have.endpoint is not None and have.endpoint not in want.withdrawn and _has_fresh_handshake(have, now):
        return None
    return want.endpoints[0]


def _has_fresh_handshake(peer: Peer, now: float) -> bool:
    return now - peer.last_handshake < HANDSHAKE_FRESH
