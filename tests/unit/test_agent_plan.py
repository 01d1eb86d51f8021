"""What differs between an interface as it should be and as it is, by example."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, ip_interface
from uuid import UUID, uuid4

import pytest

from agent.desired import DesiredPeer, Locality
from agent.device import Changes, Device, Peer, PeerChange, Route
from agent.keys import generate_private_key, is_due
from agent.members import Increment
from agent.plan import diff, next_endpoints
from agent.recording import RecordingDevices
from agent.surroundings import candidates
from agent.view import NetworkView
from events.records import PeerRecord
from tests.support.device_contract import a_desired, a_key

NOW = 1_800_000_000.0
OWN = uuid4()
NETWORK = uuid4()
HERE = Locality((ip_interface("192.0.2.10/24"), ip_interface("172.17.0.1/16")), frozenset({4}))


def a_view() -> NetworkView:
    view = NetworkView(NETWORK, OWN, IPv4Network("172.20.0.0/24"), IPv4Address("172.20.0.1"), a_key())
    view.locality = HERE
    return view


def a_record(address: str, machine_id: UUID | None = None, key: str = "", *endpoints: str) -> PeerRecord:
    return PeerRecord(
        network_id=NETWORK,
        machine_id=machine_id or uuid4(),
        hostname="db-1",
        address=IPv4Address(address),
        public_key=key or a_key(),
        endpoints=endpoints,
    )


def test_as_it_should_be_needs_nothing() -> None:
    devices, desired = RecordingDevices(), a_desired()
    devices.apply("wl-1", diff(desired, None, NOW))
    assert not diff(desired, devices.read("wl-1"), NOW)


def test_only_the_peer_that_differs_is_named() -> None:
    devices, desired = RecordingDevices(), a_desired()
    devices.apply("wl-1", diff(desired, None, NOW))
    key = next(iter(desired.peers))
    changed = {**desired.peers, key: DesiredPeer(frozenset({"172.20.0.9/32"}), desired.peers[key].endpoints)}
    changes = diff(replace(desired, peers=changed), devices.read("wl-1"), NOW)
    assert changes == Changes(
        peers=(
            PeerChange(
                key,
                add_allowed_ips=frozenset({"172.20.0.9/32"}),
                remove_allowed_ips=frozenset({"172.20.0.2/32"}),
            ),
        )
    )


def device_with(peer: Peer, key: str, like: Device) -> Device:
    return replace(like, peers={**like.peers, key: peer})


@pytest.mark.parametrize(
    ("endpoint", "age", "expected"),
    [
        ("192.0.2.2:51820", 9999.0, None),  # a candidate
        ("198.51.100.7:1234", 179.0, None),  # it roamed there, and answers
        ("198.51.100.7:1234", 181.0, "192.0.2.2:51820"),  # it does no longer
        (None, 1.0, "192.0.2.2:51820"),
        ("192.0.2.3:51820", 1.0, "192.0.2.2:51820"),  # it has said that it left there
    ],
)
def test_an_endpoint_is_repaired_unless_the_peer_answers_there(
    endpoint: str | None, age: float, expected: str | None
) -> None:
    key = a_key()
    wanted = DesiredPeer(frozenset({"172.20.0.2/32"}), ("192.0.2.2:51820",), frozenset({"192.0.2.3:51820"}))
    desired = a_desired(peers={key: wanted})
    actual = Device(
        desired.private_key,
        desired.listen_port,
        desired.mtu,
        True,
        frozenset({desired.address}),
        frozenset({Route(desired.route)}),
        {key: Peer(wanted.allowed_ips, endpoint, 25, last_handshake=NOW - age)},
    )
    changes = diff(desired, actual, NOW)
    assert changes == (Changes(peers=(PeerChange(key, endpoint=expected),)) if expected else Changes())


@pytest.mark.parametrize(
    ("endpoint", "age", "expected"),
    [
        ("192.0.2.3:51820", 179.0, "192.0.2.3:51820"),  # another of its candidates
        ("198.51.100.7:1234", 179.0, "198.51.100.7:1234"),  # behind a NAT
        ("198.51.100.7:1234", 181.0, "192.0.2.2:51820"),
        ("192.0.2.4:51820", 1.0, "192.0.2.2:51820"),  # it has said that it left there
        (None, 1.0, "192.0.2.2:51820"),
    ],
)
def test_a_peer_with_a_new_key_is_where_it_was(endpoint: str | None, age: float, expected: str) -> None:
    old, new = a_key(), a_key()
    allowed_ips, endpoints = frozenset({"172.20.0.2/32"}), ("192.0.2.2:51820", "192.0.2.3:51820")
    desired = a_desired(peers={new: DesiredPeer(allowed_ips, endpoints, frozenset({"192.0.2.4:51820"}), formerly=old)})
    actual = Device(
        desired.private_key,
        desired.listen_port,
        desired.mtu,
        True,
        frozenset({desired.address}),
        frozenset({Route(desired.route)}),
        {old: Peer(allowed_ips, endpoint, 25, last_handshake=NOW - age)},
    )
    assert diff(desired, actual, NOW) == Changes(
        peers=(
            PeerChange(old, remove=True),
            PeerChange(new, endpoint=expected, keepalive=25, add_allowed_ips=allowed_ips),
        )
    )


def test_another_private_key_changes_nothing_else() -> None:
    devices, desired = RecordingDevices(), a_desired()
    devices.apply("wl-1", diff(desired, None, NOW))
    following = generate_private_key()
    changes = diff(replace(desired, private_key=following), devices.read("wl-1"), NOW)
    assert changes == Changes(private_key=following)


def test_keys_give_way_when_they_are_old_but_not_all_at_once() -> None:
    keys = [a_key() for _ in range(50)]
    day = 86400.0
    assert not any(is_due(key, NOW, 90 * day, NOW + 80.9 * day) for key in keys)
    assert 0 < sum(is_due(key, NOW, 90 * day, NOW + 85.5 * day) for key in keys) < 50
    assert all(is_due(key, NOW, 90 * day, NOW + 90 * day) for key in keys)
    assert not any(is_due(key, 0, 0, NOW) for key in keys), "never"
    assert not any(is_due(key, NOW, 90 * day, 0) for key in keys), "a clock that is behind"


def test_a_silent_peer_is_tried_at_its_next_candidate() -> None:
    key = a_key()
    desired = a_desired(peers={key: DesiredPeer(frozenset(), ("192.0.2.2:1", "192.0.2.3:1"))})
    silent = Device(peers={key: Peer(endpoint="192.0.2.3:1")})
    assert next_endpoints(desired, silent, NOW).peers == (PeerChange(key, endpoint="192.0.2.2:1"),)
    heard = Device(peers={key: Peer(endpoint="192.0.2.3:1", last_handshake=NOW - 60)})
    assert not next_endpoints(desired, heard, NOW)


def test_endpoints_are_chosen_by_where_this_machine_stands() -> None:
    offered = ("[2001:db8::1]:1", "198.51.100.1:1", "172.17.0.1:1", "192.0.2.77:1")
    assert HERE.usable(offered) == ("192.0.2.77:1", "198.51.100.1:1")
    with_ipv6 = replace(HERE, families=frozenset({4, 6}))
    assert with_ipv6.usable(offered)[1] == "[2001:db8::1]:1"


def test_candidates_are_those_by_hand_first_and_at_most_16() -> None:
    found = candidates(("203.0.113.5:7", "203.0.113.6", "[2001:db8::5]:9"), HERE, 51820)
    assert found == (
        "203.0.113.5:7",
        "203.0.113.6:51820",
        "[2001:db8::5]:9",
        "192.0.2.10:51820",
        "172.17.0.1:51820",
    )
    crowd = Locality(tuple(ip_interface(f"10.1.{n}.1/24") for n in range(40)))
    assert len(candidates(("203.0.113.5:7",), crowd, 1)) == 16


class TestNetworkView:
    def test_a_new_member_is_one_change(self) -> None:
        view, key = a_view(), a_key()
        increment = view.put(a_record("172.20.0.2", None, key, "198.51.100.1:5"))
        expected = PeerChange(
            key, endpoint="198.51.100.1:5", keepalive=25, add_allowed_ips=frozenset({"172.20.0.2/32"})
        )
        assert increment == Increment(Changes(peers=(expected,)))

    def test_the_own_record_changes_nothing(self) -> None:
        view = a_view()
        assert view.put(a_record("172.20.0.1", OWN)) == Increment()
        assert view.own is not None
        assert not view.desired("k", 1).peers

    @pytest.mark.parametrize("address", ["172.20.0.1", "172.20.1.2", "10.0.0.1"])
    def test_a_wrong_address_is_refused_and_the_member_dropped(self, address: str) -> None:
        view, machine_id, key = a_view(), uuid4(), a_key()
        view.put(a_record("172.20.0.2", machine_id, key))
        increment = view.put(a_record(address, machine_id, key))
        assert increment.refusal
        assert increment.peers == (PeerChange(key, remove=True),)
        assert not view.members

    def test_keys_of_others_are_refused(self) -> None:
        view, key = a_view(), a_key()
        view.put(a_record("172.20.0.2", None, key))
        assert view.put(a_record("172.20.0.3", None, key)).refusal
        assert view.put(a_record("172.20.0.4", None, view.public_key)).refusal
        assert len(view.members) == 1

    def test_a_new_key_replaces_the_old_one(self) -> None:
        view, machine_id, old, new = a_view(), uuid4(), a_key(), a_key()
        view.put(a_record("172.20.0.2", machine_id, old))
        assert view.put(a_record("172.20.0.2", machine_id, new)) == Increment(compare=True)
        (peer,) = view.desired("k", 1).peers.items()
        assert peer == (new, DesiredPeer(frozenset({"172.20.0.2/32"}), formerly=old))
        assert not view.put(a_record("172.20.0.3", None, old)).refusal, "the old key is free again"
        assert view.drop(machine_id).peers == (PeerChange(new, remove=True),)

    def test_a_new_key_comes_with_another_address(self) -> None:
        view, machine_id = a_view(), uuid4()
        view.put(a_record("172.20.0.2", machine_id))
        assert view.put(a_record("172.20.0.9", machine_id, a_key(), "198.51.100.1:5")).compare
        (peer,) = view.desired("k", 1).peers.values()
        assert (peer.allowed_ips, peer.endpoints) == ({"172.20.0.9/32"}, ("198.51.100.1:5",))
        view.put(a_record("172.20.0.2"))
        assert len(view.desired("k", 1).peers) == 2

    def test_this_machines_key_to_come_is_its_own_too(self) -> None:
        view = a_view()
        view.next_public_key = a_key()
        assert "own public key" in view.put(a_record("172.20.0.4", None, view.next_public_key)).refusal
        assert not view.members

    def test_an_address_goes_to_whom_it_was_given_last(self) -> None:
        view, first, second = a_view(), uuid4(), uuid4()
        view.put(a_record("172.20.0.2", first, a_key()))
        view.put(a_record("172.20.0.2", second, a_key()))
        assert view.members[first].allowed_ip is None
        key = view.members[first].public_key
        assert view.put(a_record("172.20.0.3", first, key)).peers == (
            PeerChange(key, add_allowed_ips=frozenset({"172.20.0.3/32"})),
        )
        view.drop(second)
        assert set(view.members) == {first}

    def test_other_endpoints_ask_for_a_comparison(self) -> None:
        view, machine_id, key = a_view(), uuid4(), a_key()
        view.put(a_record("172.20.0.2", machine_id, key, "198.51.100.1:5"))
        assert view.put(a_record("172.20.0.2", machine_id, key, "198.51.100.2:5")) == Increment(compare=True)
        assert view.members[machine_id].withdrawn == {"198.51.100.1:5"}
        assert view.put(a_record("172.20.0.2", machine_id, key, "198.51.100.2:5")) == Increment()
