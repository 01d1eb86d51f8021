"""What every backend of `agent.device.Devices` must do, as an inheritable test case.

A subclass gives the fixture `devices`, and `interface`, a name that no other test uses at the same time.
"""

from __future__ import annotations

import time
from dataclasses import replace
from uuid import uuid4

import pytest

from agent.desired import Desired, DesiredPeer
from agent.device import Changes, Device, DeviceError, Devices, PeerChange, Route
from agent.keys import generate_private_key, public_key
from agent.plan import diff
from events.interfaces import INTERFACE_PREFIX


def a_key() -> str:
    return public_key(generate_private_key())


def a_desired(**changes: object) -> Desired:
    peers = {
        a_key(): DesiredPeer(frozenset({"172.20.0.2/32"}), ("192.0.2.2:51820",)),
        a_key(): DesiredPeer(frozenset({"172.20.0.3/32"}), ("[2001:db8::3]:51821", "192.0.2.3:51821")),
        a_key(): DesiredPeer(frozenset({"172.20.0.4/32"})),
    }
    whole = Desired(generate_private_key(), 51999, 1420, "172.20.0.1/32", "172.20.0.0/24", peers)
    return replace(whole, **changes)  # type: ignore[arg-type]


class DeviceContract:
    """Inherit, and give the fixture `devices`."""

    @pytest.fixture
    def interface(self) -> str:
        return INTERFACE_PREFIX + uuid4().hex[:8]

    def set_right(self, devices: Devices, interface: str, desired: Desired) -> Device:
        """Reconcile, and check that there is nothing left to do."""
        devices.apply(interface, diff(desired, devices.read(interface), time.time()))
        actual = devices.read(interface)
        assert actual is not None
        assert not diff(desired, actual, time.time())
        return actual

    def test_what_is_not_there_reads_as_none(self, devices: Devices, interface: str) -> None:
        assert devices.read(interface) is None
        assert interface not in devices.interfaces()
        devices.remove(interface)

    def test_changing_what_is_not_there_is_refused(self, devices: Devices, interface: str) -> None:
        with pytest.raises(DeviceError):
            devices.apply(interface, Changes(peers=(PeerChange(a_key()),)))

    def test_an_interface_comes_to_be_as_desired(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        actual = self.set_right(devices, interface, desired)
        assert interface in devices.interfaces()
        assert actual.up
        assert actual.private_key == desired.private_key
        assert actual.listen_port == 51999
        assert actual.mtu == 1420
        assert actual.addresses == {"172.20.0.1/32"}
        assert actual.routes == {Route("172.20.0.0/24")}
        assert {key: peer.allowed_ips for key, peer in actual.peers.items()} == {
            key: peer.allowed_ips for key, peer in desired.peers.items()
        }
        assert {peer.endpoint for peer in actual.peers.values()} == {"192.0.2.2:51820", "[2001:db8::3]:51821", None}
        assert {peer.keepalive for peer in actual.peers.values()} == {25}

    def test_its_own_packets_are_marked(self, devices: Devices, interface: str) -> None:
        desired = a_desired(mark=20179)
        assert self.set_right(devices, interface, desired).mark == 20179
        assert self.set_right(devices, interface, replace(desired, mark=0)).mark == 0

    def test_virtual_ips_come_and_go(self, devices: Devices, interface: str) -> None:
        desired = a_desired(vips=frozenset({"10.0.0.1/32"}))
        assert self.set_right(devices, interface, desired).addresses == {"172.20.0.1/32", "10.0.0.1/32"}
        assert self.set_right(devices, interface, replace(desired, vips=frozenset())).addresses == {"172.20.0.1/32"}

    def test_removing_takes_all_away(self, devices: Devices, interface: str) -> None:
        self.set_right(devices, interface, a_desired())
        devices.remove(interface)
        assert devices.read(interface) is None
        assert interface not in devices.interfaces()
        self.set_right(devices, interface, a_desired())

    def test_one_peer_changes_alone(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        before = self.set_right(devices, interface, desired)
        key = next(iter(desired.peers))
        devices.apply(interface, Changes(peers=(PeerChange(key, endpoint="192.0.2.77:4444"),)))
        after = devices.read(interface)
        assert after is not None
        assert after.peers[key].endpoint == "192.0.2.77:4444"
        assert after.peers[key].allowed_ips == before.peers[key].allowed_ips
        assert after.peers[key].keepalive == before.peers[key].keepalive
        for other in set(before.peers) - {key}:
            assert after.peers[other].allowed_ips == before.peers[other].allowed_ips
            assert after.peers[other].endpoint == before.peers[other].endpoint
        assert after.listen_port == before.listen_port

    def test_an_allowed_ip_is_taken_away(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        key = next(iter(desired.peers))
        more = frozenset({"172.20.0.99/32", "172.20.0.128/25"})
        devices.apply(interface, Changes(peers=(PeerChange(key, add_allowed_ips=more),)))
        assert devices.read(interface).peers[key].allowed_ips == more | desired.peers[key].allowed_ips  # type: ignore[union-attr]
        gone = frozenset({"172.20.0.99/32"})
        devices.apply(interface, Changes(peers=(PeerChange(key, remove_allowed_ips=gone),)))
        actual = devices.read(interface)
        assert actual is not None
        assert actual.peers[key].allowed_ips == (more - gone) | desired.peers[key].allowed_ips
        assert set(actual.peers) == set(desired.peers)

    def test_an_allowed_ip_moves_to_another_peer(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        first, second, *_ = desired.peers
        moved = desired.peers[first].allowed_ips
        devices.apply(interface, Changes(peers=(PeerChange(second, add_allowed_ips=moved),)))
        actual = devices.read(interface)
        assert actual is not None
        assert actual.peers[first].allowed_ips == frozenset()
        assert actual.peers[second].allowed_ips == moved | desired.peers[second].allowed_ips
        self.set_right(devices, interface, desired)

    def test_peers_are_removed_and_foreign_ones_too(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        devices.apply(interface, Changes(peers=(PeerChange(a_key(), add_allowed_ips=frozenset({"0.0.0.0/0"})),)))
        kept = dict(list(desired.peers.items())[1:])
        actual = self.set_right(devices, interface, replace(desired, peers=kept))
        assert set(actual.peers) == set(kept)

    def test_changes_may_be_made_twice(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        actual = self.set_right(devices, interface, desired)
        key = next(iter(desired.peers))
        removal = Changes(peers=(PeerChange(key, remove=True),))
        devices.apply(interface, removal)
        devices.apply(interface, removal)
        devices.apply(interface, replace(diff(desired, None, 0.0), create=False))
        assert devices.read(interface) == replace(actual, peers=devices.read(interface).peers)  # type: ignore[union-attr]

    def test_key_port_address_and_mtu_change(self, devices: Devices, interface: str) -> None:
        desired = a_desired()
        self.set_right(devices, interface, desired)
        other = replace(
            desired, private_key=generate_private_key(), listen_port=51998, mtu=1380, address="172.20.0.9/32"
        )
        actual = self.set_right(devices, interface, other)
        assert actual.addresses == {"172.20.0.9/32"}
        assert actual.routes == {Route("172.20.0.0/24")}

    def test_creating_replaces_what_was_there(self, devices: Devices, interface: str) -> None:
        self.set_right(devices, interface, a_desired())
        desired = a_desired()
        devices.apply(interface, diff(desired, None, time.time()))
        actual = devices.read(interface)
        assert actual is not None
        assert set(actual.peers) == set(desired.peers)

    def test_ipv6_addresses_come_and_go(self, devices: Devices, interface: str) -> None:
        before = self.set_right(devices, interface, a_desired())
        more = frozenset({"fd57:4c00:1::1/128", "fd57:4c00:1:0:ff00::2/128"})
        for _ in range(2):
            devices.apply(interface, Changes(add_addresses=more))
            actual = devices.read(interface)
            assert actual is not None
            assert actual == replace(before, addresses=before.addresses | more)
        for _ in range(2):
            devices.apply(interface, Changes(remove_addresses=frozenset({"fd57:4c00:1::1/128"})))
            actual = devices.read(interface)
            assert actual is not None
            assert actual == replace(before, addresses=before.addresses | {"fd57:4c00:1:0:ff00::2/128"})

    def test_routes_with_attributes_are_read_back_as_they_were_set(self, devices: Devices, interface: str) -> None:
        before = self.set_right(devices, interface, a_desired())
        addresses = frozenset({"fd57:4c00:1::1/128", "fd57:4c00:1::2/128"})
        routes = frozenset(
            {
                Route("172.20.0.7/32", mtu=1340),
                Route("172.20.0.8/32", source="172.20.0.1"),
                Route("fd57:4c00:1::/64", mtu=1400),
                Route("fd57:4c00:1::a/128", source="fd57:4c00:1::1"),
                Route("fd57:4c00:1::b/128", mtu=1340, source="fd57:4c00:1::2"),
            }
        )
        changes = Changes(add_addresses=addresses, add_routes=routes)
        expected = replace(before, addresses=before.addresses | addresses, routes=before.routes | routes)
        for _ in range(2):
            devices.apply(interface, changes)
            assert devices.read(interface) == expected
        gone = frozenset(
            {Route("172.20.0.7/32", mtu=1340), Route("fd57:4c00:1::b/128", mtu=1340, source="fd57:4c00:1::2")}
        )
        for _ in range(2):
            devices.apply(interface, Changes(remove_routes=gone))
            assert devices.read(interface) == replace(expected, routes=expected.routes - gone)

    def test_a_route_takes_the_place_of_another_to_the_same_destination(self, devices: Devices, interface: str) -> None:
        addresses = frozenset({"fd57:4c00:1::1/128", "fd57:4c00:1::2/128"})
        before = self.set_right(devices, interface, a_desired())
        old = frozenset({Route("172.20.0.7/32", mtu=1340), Route("fd57:4c00:1::a/128", source="fd57:4c00:1::1")})
        new = frozenset({Route("172.20.0.7/32", mtu=1300), Route("fd57:4c00:1::a/128", source="fd57:4c00:1::2")})
        devices.apply(interface, Changes(add_addresses=addresses, add_routes=old))
        change = Changes(add_routes=new, remove_routes=old)
        for _ in range(2):
            devices.apply(interface, change)
            assert devices.read(interface) == replace(
                before, addresses=before.addresses | addresses, routes=before.routes | new
            )
