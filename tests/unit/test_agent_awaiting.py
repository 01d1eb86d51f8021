"""When WireGuard is told of a new peer: its first handshake goes where the peer is."""

from __future__ import annotations

from ipaddress import IPv4Address

import pytest

from agent.device import Peer, PeerChange
from agent.plan import diff
from agent.recording import RecordingDevices
from agent.view import AWAIT, NetworkView
from tests.unit.test_agent_ways import KEYS, NAME, NORTH, PEER, SOUTH, a_record, a_view, at, towards, ways


@pytest.fixture
def view() -> NetworkView:
    view = a_view()
    for machine_id in (PEER, NORTH, SOUTH):
        assert not view.put(a_record(machine_id)).changes, "nobody is told of it yet"
    return view


def told(key: str, endpoint: str, *allowed_ips: str) -> PeerChange:
    return PeerChange(key, endpoint=endpoint, keepalive=25, add_allowed_ips=frozenset(allowed_ips))


def test_a_new_peer_is_told_of_when_it_is_found(view: NetworkView) -> None:
    found = view.found(PEER, "203.0.113.3:40000")
    assert found.peers == (told(KEYS[PEER], "203.0.113.3:40000", "172.20.0.3/32"),)
    assert view.found(PEER, "192.0.2.3:7").peers == towards(PEER, "192.0.2.3:7"), "from then on it is like the others"


def test_one_that_is_not_found_is_told_of_with_its_way(view: NetworkView) -> None:
    assert not view.found(PEER, "").changes
    view.found(NORTH, "192.0.2.4:7")
    assert told(KEYS[PEER], f"[{at(PEER, NORTH)}]:51000", "172.20.0.3/32") in view.put_path(ways((NORTH,))).peers


def test_a_way_has_to_begin_somewhere(view: NetworkView) -> None:
    view.put_path(ways((NORTH,), (SOUTH,)))
    assert KEYS[PEER] not in {change.public_key for change in view.found(SOUTH, "192.0.2.5:7").peers}
    changes = view.found(NORTH, "192.0.2.4:7").peers
    assert [change.public_key for change in changes] == [KEYS[NORTH], KEYS[PEER]]
    assert f"{at(PEER, NORTH)}/128" in changes[0].add_allowed_ips


def test_nobody_is_awaited_for_long(view: NetworkView) -> None:
    assert not view.watch(1.0, {}).changes
    assert not view.watch(0.9 + AWAIT, {}).changes
    late = view.watch(1.0 + AWAIT, {}).peers
    assert {change.public_key: change.endpoint for change in late} == {
        KEYS[machine_id]: f"192.0.2.{machine_id.int}:7" for machine_id in (PEER, NORTH, SOUTH)
    }
    assert not view.watch(2.0 + AWAIT, {}).changes


def test_who_is_on_the_interface_already_stays_and_is_not_made_anew(view: NetworkView) -> None:
    devices, former = RecordingDevices(), a_view()
    former.is_probed = False
    former.put(a_record(PEER))
    devices.apply(NAME, diff(former.desired("k", 1), None, 0.0))
    present = devices.read(NAME)
    assert present is not None
    view.present(present.peers)
    assert not diff(view.desired("k", 1), present, 0.0)
    assert view.found(PEER, "192.0.2.3:7").peers == towards(PEER, "192.0.2.3:7")


def test_whose_address_was_anothers_is_told_of_at_once(view: NetworkView) -> None:
    view.found(NORTH, "192.0.2.4:7")
    heir = a_record(PEER).model_copy(update={"address": IPv4Address("172.20.0.4")})
    changes = view.put(heir).peers
    assert [(change.public_key, change.add_allowed_ips) for change in changes] == [
        (KEYS[PEER], frozenset({"172.20.0.4/32"}))
    ]


def test_where_nothing_can_be_probed_nobody_is_awaited(view: NetworkView) -> None:
    view.unprobed()
    assert set(diff(view.desired("k", 1), None, 0.0).peers) == {
        told(KEYS[m], f"192.0.2.{m.int}:7", f"172.20.0.{m.int}/32") for m in (PEER, NORTH, SOUTH)
    }


def test_who_never_shook_hands_is_made_anew_elsewhere(view: NetworkView) -> None:
    """WireGuard may have tried the former endpoint just now, and would be quiet for five seconds."""
    view.found(PEER, "203.0.113.3:40000")
    view.watch(1.0, {KEYS[PEER]: Peer(endpoint="203.0.113.3:40000")})
    anew = told(KEYS[PEER], "192.0.2.3:7", "172.20.0.3/32")
    assert view.found(PEER, "192.0.2.3:7").peers == (PeerChange(KEYS[PEER], remove=True), anew)
    view.watch(2.0, {KEYS[PEER]: Peer(endpoint="192.0.2.3:7", last_handshake=1.5)})
    assert view.found(PEER, "203.0.113.3:40000").peers == towards(PEER, "203.0.113.3:40000")
