"""How a pair shakes hands first: one end begins, when it is known where the other is."""

from __future__ import annotations

from dataclasses import replace

import pytest

from agent.device import Peer, PeerChange
from agent.meeting import AWAIT, TURN, begins
from agent.plan import diff
from agent.recording import RecordingDevices
from agent.view import NetworkView
from tests.support.device_contract import a_key
from tests.unit.test_agent_ways import KEYS, NAME, NORTH, PEER, SOUTH, a_record, a_view, at, towards, ways


@pytest.fixture
def view() -> NetworkView:
    """One that knows of a peer and two transits, of whom nobody is found yet, and that begins with all of them."""
    view = a_view()
    view.public_key = "+" * 43 + "="
    for machine_id in (PEER, NORTH, SOUTH):
        allowed = frozenset({f"172.20.0.{machine_id.int}/32"})
        put = view.put(a_record(machine_id))
        assert put.peers == (PeerChange(KEYS[machine_id], keepalive=25, add_allowed_ips=allowed),), (
            "without an endpoint"
        )
    return view


@pytest.fixture
def patient(view: NetworkView) -> NetworkView:
    """One that leaves it to the others to begin."""
    view.public_key = "z" * 43 + "="
    return view


def anew(key: str, endpoint: str | None, *allowed_ips: str) -> tuple[PeerChange, PeerChange]:
    made = PeerChange(key, endpoint=endpoint, keepalive=25, add_allowed_ips=frozenset(allowed_ips))
    return PeerChange(key, remove=True), made


def test_one_of_two_begins() -> None:
    one, other = a_key(), a_key()
    assert begins(one, other) != begins(other, one)


def test_a_new_peer_is_called_where_it_is_found(view: NetworkView) -> None:
    assert view.found(PEER, "203.0.113.3:40000").peers == anew(KEYS[PEER], "203.0.113.3:40000", "172.20.0.3/32")
    assert view.found(PEER, "192.0.2.3:7").peers == towards(PEER, "192.0.2.3:7"), "from then on it is like the others"


def test_one_that_is_not_found_is_called_by_its_way(view: NetworkView) -> None:
    assert not view.found(PEER, "").changes
    view.found(NORTH, "192.0.2.4:7")
    changes = view.put_path(ways((NORTH,)))
    assert changes.peers[-2:] == anew(KEYS[PEER], f"[{at(PEER, NORTH)}]:51000", "172.20.0.3/32")


def test_a_way_has_to_begin_somewhere(view: NetworkView) -> None:
    view.put_path(ways((NORTH,), (SOUTH,)))
    assert KEYS[PEER] not in {change.public_key for change in view.found(SOUTH, "192.0.2.5:7").peers}
    changes = view.found(NORTH, "192.0.2.4:7").peers
    assert changes[:2] == anew(KEYS[NORTH], "192.0.2.4:7", "172.20.0.4/32", f"{at(PEER, NORTH)}/128")
    assert changes[2:] == anew(KEYS[PEER], f"[{at(PEER, NORTH)}]:51000", "172.20.0.3/32")


def on_the_interface(view: NetworkView) -> dict[str, Peer]:
    return {member.public_key: Peer() for member in view.members.values()}


def test_the_other_end_has_its_turn_first(patient: NetworkView) -> None:
    assert not patient.found(PEER, "203.0.113.3:40000").changes
    assert patient.is_expecting
    peers = on_the_interface(patient)
    assert not patient.watch(1.0, peers).changes
    met = peers | {KEYS[PEER]: Peer(endpoint="203.0.113.3:40000", last_handshake=1.1)}
    assert not patient.watch(1.0 + TURN, met).changes
    assert patient.found(PEER, "192.0.2.3:7").peers == towards(PEER, "192.0.2.3:7")


def test_where_the_other_end_does_not_begin_this_one_does(patient: NetworkView) -> None:
    patient.found(PEER, "203.0.113.3:40000")
    peers = on_the_interface(patient)
    assert not patient.watch(1.0, peers).changes
    late = patient.watch(1.0 + TURN, peers)
    assert late.peers == anew(KEYS[PEER], "203.0.113.3:40000", "172.20.0.3/32")


def test_nobody_is_awaited_for_long(view: NetworkView) -> None:
    peers = on_the_interface(view)
    assert not view.watch(1.0, peers).changes
    assert not view.watch(0.9 + AWAIT, peers).changes
    called = {change.public_key: change.endpoint for change in view.watch(1.0 + AWAIT, peers).peers}
    assert called == {KEYS[m]: f"192.0.2.{m.int}:7" for m in (PEER, NORTH, SOUTH)}
    assert not view.is_expecting
    assert not view.watch(2.0 + AWAIT, peers).changes


def test_who_has_an_endpoint_from_before_is_left_as_it_is(view: NetworkView) -> None:
    devices = RecordingDevices()
    former = a_view()
    former.is_probed = False
    former.put(a_record(PEER))
    devices.apply(NAME, diff(former.desired("k", 1), None, 0.0))
    actual = devices.read(NAME)
    assert actual is not None
    view.present(key for key, peer in actual.peers.items() if peer.endpoint)
    assert KEYS[PEER] not in {change.public_key for change in diff(view.desired("k", 1), actual, 0.0).peers}
    assert view.found(PEER, "203.0.113.3:40000").peers == towards(PEER, "203.0.113.3:40000")


def test_a_comparison_sets_no_endpoint_either(view: NetworkView) -> None:
    devices = RecordingDevices()
    devices.apply(NAME, diff(view.desired("k", 1), None, 0.0))
    assert {peer.endpoint for peer in devices.peers(NAME).values()} == {None}
    assert not diff(view.desired("k", 1), devices.read(NAME), 1000.0)


def test_where_nothing_can_be_probed_nobody_is_awaited(view: NetworkView) -> None:
    view.unprobed()
    made = diff(view.desired("k", 1), None, 0.0).peers
    assert {change.public_key: change.endpoint for change in made} == {
        KEYS[m]: f"192.0.2.{m.int}:7" for m in (PEER, NORTH, SOUTH)
    }


def test_who_never_shook_hands_is_called_anew_elsewhere(view: NetworkView) -> None:
    """WireGuard may have tried the former endpoint just now, and would be quiet for five seconds."""
    view.found(PEER, "203.0.113.3:40000")
    peers = on_the_interface(view) | {KEYS[PEER]: Peer(endpoint="203.0.113.3:40000")}
    view.watch(1.0, peers)
    assert view.found(PEER, "192.0.2.3:7").peers == anew(KEYS[PEER], "192.0.2.3:7", "172.20.0.3/32")
    view.watch(2.0, peers | {KEYS[PEER]: replace(peers[KEYS[PEER]], last_handshake=1.5)})
    assert view.found(PEER, "203.0.113.3:40000").peers == towards(PEER, "203.0.113.3:40000")


def test_and_by_the_patient_end_after_the_others_turn(patient: NetworkView) -> None:
    peers = on_the_interface(patient)
    patient.watch(1.0, peers)
    patient.watch(1.0 + AWAIT, peers)
    patient.watch(2.0 + AWAIT, peers)
    assert patient.found(PEER, "203.0.113.3:40000").peers == anew(KEYS[PEER], None, "172.20.0.3/32")
    patient.watch(3.0 + AWAIT, peers)
    late = patient.watch(3.0 + AWAIT + TURN, peers).peers
    assert late == anew(KEYS[PEER], "203.0.113.3:40000", "172.20.0.3/32")
