"""Where packets go when they cannot go directly, by example."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

import pytest

from agent.device import Changes, Peer, PeerChange, Route, merged
from agent.lingering import LINGER, OVERLAP
from agent.members import Increment
from agent.plan import diff
from agent.recording import RecordingDevices
from agent.traffic import QUIET_AFTER, SILENT_AFTER, Silence, Traffic
from agent.view import NetworkView
from events.records import PathRecord, PeerRecord, RelayRecord
from events.transit import transit_address, transit_prefix
from tests.support.device_contract import a_key

NETWORK, OWN, PEER, NORTH, SOUTH = (UUID(int=number) for number in range(1, 6))
KEYS = {machine_id: a_key() for machine_id in (OWN, PEER, NORTH, SOUTH)}
NAME = "wl-00000001"


def at(machine_id: UUID, via: UUID) -> str:
    return str(transit_address(NETWORK, machine_id, via))


def a_record(machine_id: UUID, listen_port: int = 51000) -> PeerRecord:
    return PeerRecord(
        network_id=NETWORK,
        machine_id=machine_id,
        hostname="m",
        address=IPv4Address("172.20.0.0") + machine_id.int,
        public_key=KEYS[machine_id],
        endpoints=(f"192.0.2.{machine_id.int}:7",),
        listen_port=listen_port,
    )


def ways(*ways: tuple[UUID, ...]) -> PathRecord:
    return PathRecord(network_id=NETWORK, machine_id=OWN, peer_id=PEER, ways=ways)


@pytest.fixture
def view() -> NetworkView:
    view = a_view()
    for machine_id in (PEER, NORTH, SOUTH):
        view.put(a_record(machine_id))
        view.found(machine_id, f"192.0.2.{machine_id.int}:7")
    view.present(KEYS.values())
    return view


def a_view() -> NetworkView:
    view = NetworkView(NETWORK, OWN, IPv4Network("172.20.0.0/24"), IPv4Address("172.20.0.2"), KEYS[OWN])
    view.is_probed = True
    return view


def after_a_while(view: NetworkView, increment: Increment) -> Changes:
    """What changes until ways that are named no more are gone."""
    begin = view.looked_at or 0.0
    return merged(increment.changes, *(view.watch(begin + seconds, {}).changes for seconds in (1, 1 + LINGER)))


def towards(machine_id: UUID, endpoint: str) -> tuple[PeerChange, PeerChange]:
    key = KEYS[machine_id]
    return PeerChange(key, endpoint=endpoint, keepalive=0), PeerChange(key, keepalive=25)


def test_two_ways_are_ready_before_they_are_needed(view: NetworkView) -> None:
    assert view.put_path(ways((NORTH,), (SOUTH,))).changes == Changes(
        add_addresses=frozenset({f"{at(OWN, NORTH)}/128", f"{at(OWN, SOUTH)}/128"}),
        add_routes=frozenset(
            {
                Route(f"{at(PEER, NORTH)}/128", source=at(OWN, NORTH)),
                Route(f"{at(PEER, SOUTH)}/128", source=at(OWN, SOUTH)),
                Route(f"172.20.0.{PEER.int}/32", mtu=1328),
            }
        ),
        peers=tuple(
            PeerChange(KEYS[via], add_allowed_ips=frozenset({f"{at(PEER, via)}/128"}))
            for via in sorted((NORTH, SOUTH), key=lambda via: at(PEER, via))
        ),
    )


def test_the_first_way_whose_transit_is_there_is_taken_and_the_direct_path_when_it_is_back(view: NetworkView) -> None:
    view.put_path(ways((NORTH,), (SOUTH,)))
    assert view.found(PEER, "").peers == towards(PEER, f"[{at(PEER, NORTH)}]:51000")
    assert view.found(NORTH, "").peers == towards(PEER, f"[{at(PEER, SOUTH)}]:51000")
    assert view.found(NORTH, "192.0.2.4:7").peers == (
        *towards(NORTH, "192.0.2.4:7"),
        *towards(PEER, f"[{at(PEER, NORTH)}]:51000"),
    )
    assert view.found(PEER, "192.0.2.3:9").peers == towards(PEER, "192.0.2.3:9")
    gone = after_a_while(view, view.put_path(ways()))
    assert gone.remove_addresses == {f"{at(OWN, NORTH)}/128", f"{at(OWN, SOUTH)}/128"}
    assert {change.public_key for change in gone.peers} == {KEYS[NORTH], KEYS[SOUTH]}


def test_without_direct_path_and_way_it_is_tried_where_it_was_last(view: NetworkView) -> None:
    """An agent that is stopped answers no probes, but its tunnel is there."""
    view.found(PEER, "203.0.113.3:40000")
    view.found(PEER, "")
    assert view.desired("k", 1).peers[KEYS[PEER]].endpoints[0] == "203.0.113.3:40000"
    view.put_path(ways((NORTH,)))
    assert after_a_while(view, view.put_path(ways())).peers[-2:] == towards(PEER, "203.0.113.3:40000")


def test_an_address_stays_while_another_way_needs_it(view: NetworkView) -> None:
    view.put_path(ways((NORTH,)))
    other = PathRecord(network_id=NETWORK, machine_id=OWN, peer_id=SOUTH, ways=((NORTH,),))
    assert not view.put_path(other).changes.add_addresses
    assert not after_a_while(view, view.drop_path(PEER)).remove_addresses
    assert after_a_while(view, view.drop_path(SOUTH)).remove_addresses == {f"{at(OWN, NORTH)}/128"}


def test_a_way_through_two_leads_to_the_address_at_the_second(view: NetworkView) -> None:
    changes = view.put_path(ways((NORTH, SOUTH))).changes
    assert changes.peers == (PeerChange(KEYS[NORTH], add_allowed_ips=frozenset({f"{at(PEER, SOUTH)}/128"})),)
    assert Route(f"{at(PEER, SOUTH)}/128", source=at(OWN, NORTH)) in changes.add_routes


def test_ways_that_no_packet_can_take_are_passed_over(view: NetworkView) -> None:
    nonsense = ((), (OWN,), (PEER,), (NORTH, NORTH), tuple(UUID(int=number) for number in range(10, 15)))
    assert not view.put_path(ways(*nonsense)).changes


def test_two_ways_to_one_address_lead_to_the_one_in_use(view: NetworkView) -> None:
    far = UUID(int=9)
    view.put_path(ways((NORTH, far), (SOUTH, far)))
    view.found(PEER, "")
    moved = view.found(NORTH, "").changes
    allowed = f"{at(PEER, far)}/128"
    assert moved.peers[0] == PeerChange(KEYS[SOUTH], add_allowed_ips=frozenset({allowed}))
    assert moved.add_routes == {Route(allowed, source=at(OWN, SOUTH))}
    assert moved.remove_routes == {Route(allowed, source=at(OWN, NORTH))}


def test_the_same_ways_again_leave_the_one_in_use(view: NetworkView) -> None:
    far = UUID(int=9)
    view.put_path(ways((NORTH, far), (SOUTH, far)))
    view.found(PEER, "")
    view.found(NORTH, "")
    assert not view.put_path(ways((NORTH, far), (SOUTH, far))).changes


def test_a_way_that_is_named_no_more_stays_for_a_moment(view: NetworkView) -> None:
    """The other end hears of it at another moment, and packets are under way."""
    view.put_path(ways((NORTH,)))
    view.found(PEER, "")
    view.watch(1.0, {})
    overlapping = view.put_path(ways((SOUTH,))).changes
    assert overlapping.add_addresses == {f"{at(OWN, SOUTH)}/128"}
    assert not overlapping.remove_addresses
    assert not [change for change in overlapping.peers if change.endpoint]
    assert not view.watch(2.0, {}).changes
    assert view.watch(2.0 + OVERLAP, {}).peers == towards(PEER, f"[{at(PEER, SOUTH)}]:51000")
    gone = view.watch(2.0 + LINGER, {}).changes
    assert gone.remove_addresses == {f"{at(OWN, NORTH)}/128"}
    assert view.desired("k", 1).transit_addresses == {f"{at(OWN, SOUTH)}/128"}


def test_ways_that_are_taken_back_stay_until_the_peer_is_found_directly(view: NetworkView) -> None:
    """Who took them back may have heard too late that the direct path is gone again, and may be gone himself."""
    view.put_path(ways((NORTH,), (SOUTH,)))
    view.found(PEER, "")
    view.watch(1.0, {})
    view.drop_path(PEER)
    for now in (2.0, 2.0 + LINGER, 2.0 + 10 * LINGER):
        assert not view.watch(now, {}).changes
    assert view.found(NORTH, "").changes.peers == towards(PEER, f"[{at(PEER, SOUTH)}]:51000")
    view.found(PEER, "192.0.2.7:51820")
    gone = view.watch(2.0 + 11 * LINGER, {}).changes
    assert gone.remove_addresses == {f"{at(OWN, NORTH)}/128", f"{at(OWN, SOUTH)}/128"}


def test_who_has_no_way_any_more_is_not_sent_to_by_one_that_only_lingers(view: NetworkView) -> None:
    """Its routes are given up then: a virtual IP moves to another machine."""
    view.put_path(ways((NORTH,), (SOUTH,)))
    view.found(PEER, "")
    view.watch(1.0, {})
    view.put_path(ways())
    assert not view.watch(2.0, {}).reached_otherwise
    assert view.members[PEER].way is not None
    assert not view.unreached
    assert view.watch(2.0 + OVERLAP, {}).reached_otherwise
    assert view.unreached == {PEER}


def test_a_way_that_is_named_no_more_and_lost_is_left_at_once(view: NetworkView) -> None:
    view.put_path(ways((NORTH,)))
    view.found(PEER, "")
    view.found(NORTH, "")
    assert view.put_path(ways((SOUTH,))).peers[-2:] == towards(PEER, f"[{at(PEER, SOUTH)}]:51000")


def test_what_must_not_be_used_any_more_goes_at_once(view: NetworkView) -> None:
    view.put_path(ways((NORTH,)))
    view.put_path(ways((SOUTH,)))
    removed = {address for increment in view.forget_paths() for address in increment.changes.remove_addresses}
    assert removed == {f"{at(OWN, NORTH)}/128", f"{at(OWN, SOUTH)}/128"}
    assert not view.watch(1.0, {}).changes


def test_a_transit_knows_each_peer_by_its_address_here_and_what_lies_behind(view: NetworkView) -> None:
    view.is_transit = True
    relay = RelayRecord(
        network_id=NETWORK, machine_id=OWN, peer_id=NORTH, behind=((PEER, SOUTH), (OWN, SOUTH), (PEER, OWN))
    )
    expected = PeerChange(KEYS[NORTH], add_allowed_ips=frozenset({f"{at(PEER, SOUTH)}/128"}))
    assert view.put_relay(relay).peers == (expected,)
    desired = view.desired("k", 1)
    assert Route(str(transit_prefix(NETWORK))) in desired.routes
    assert desired.addresses == {"172.20.0.2/32"}, "it needs none itself"
    assert desired.peers[KEYS[NORTH]].allowed_ips == {
        "172.20.0.4/32",
        f"{at(NORTH, OWN)}/128",
        f"{at(PEER, SOUTH)}/128",
    }
    assert view.drop_relay(NORTH).peers[0].remove_allowed_ips == {f"{at(PEER, SOUTH)}/128"}


def test_routes_of_others_stay_and_those_left_over_go(view: NetworkView) -> None:
    devices = RecordingDevices()
    devices.apply(NAME, diff(view.desired("k", 1), None, 0.0))
    foreign = {Route("10.9.0.0/16"), Route("172.20.0.9/32"), Route("2001:db8::/32")}
    left_over = {Route("172.20.0.9/32", mtu=1328), Route(f"{at(NORTH, SOUTH)}/128")}
    devices.apply(NAME, Changes(add_routes=frozenset(foreign | left_over)))
    assert diff(view.desired("k", 1), devices.read(NAME), 0.0) == Changes(remove_routes=frozenset(left_over))


def test_another_port_is_sent_to(view: NetworkView) -> None:
    view.put_path(ways((NORTH,)))
    view.found(PEER, "")
    assert view.put(a_record(PEER, 52000)).peers == towards(PEER, f"[{at(PEER, NORTH)}]:52000")


def test_who_draws_packets_into_a_transit_is_called_back(view: NetworkView) -> None:
    view.put_path(ways((NORTH,)))
    peers = {KEYS[PEER]: Peer(endpoint=f"[{at(PEER, NORTH)}]:51000", last_handshake=1.0)}
    assert not view.watch(1.0, peers).changes, "it may be about to come by itself"
    assert view.watch(2.0, peers).peers == towards(PEER, "192.0.2.3:7")
    assert not view.watch(3.0, {KEYS[PEER]: Peer(endpoint="192.0.2.3:9")}).changes


def test_a_way_that_leads_nowhere_is_left(view: NetworkView) -> None:
    view.put_path(ways((NORTH,), (SOUTH,)))
    view.found(PEER, "")
    turns = []
    for second in range(60):
        peers = {KEYS[PEER]: Peer(rx_bytes=100, tx_bytes=1000 * second)}
        turns += [change.endpoint for change in view.watch(float(second), peers).peers if change.endpoint]
    assert turns == [f"[{at(PEER, via)}]:51000" for via in (SOUTH, NORTH, SOUTH, NORTH)]


def test_who_answers_by_another_way_is_called_back_when_that_is_lost(view: NetworkView) -> None:
    """WireGuard answers where packets came from. Where both ends turn to a way at once, what was under way by the other
    has both go on there, and neither knows."""
    view.put_path(ways((NORTH,), (SOUTH,)))
    view.found(PEER, "")
    assert view.found(SOUTH, "").peers == towards(PEER, f"[{at(PEER, NORTH)}]:51000")
    assert not [change for change in view.found(SOUTH, "192.0.2.5:7").peers if change.public_key == KEYS[PEER]]
    view.found(PEER, "192.0.2.3:7")
    assert not view.found(SOUTH, "").changes, "astray from the direct path it is called back before"
    view.found(PEER, "")
    assert not [change for change in view.found(NORTH, "").peers if change.public_key == KEYS[PEER]], (
        "called to a way that is as broken"
    )


def test_a_way_that_is_silent_and_the_only_one_is_gone_back_to(view: NetworkView) -> None:
    """WireGuard may send by another one, which is dead."""
    view.put_path(ways((NORTH,), (SOUTH,)))
    view.found(PEER, "")
    view.found(SOUTH, "")
    turns = []
    for second in range(40):
        peers = {KEYS[PEER]: Peer(rx_bytes=100, tx_bytes=1000 * second, last_handshake=1.0)}
        turns += [change.endpoint for change in view.watch(float(second), peers).peers if change.endpoint]
    assert turns == [f"[{at(PEER, NORTH)}]:51000"] * 3


def test_silence_on_another_way_is_no_reason_to_leave_the_one_in_use(view: NetworkView) -> None:
    view.put_path(ways((NORTH,), (SOUTH,)))
    view.found(PEER, "")
    endpoint, turns = f"[{at(PEER, SOUTH)}]:51000", []
    for second in range(40):
        peers = {KEYS[PEER]: Peer(endpoint=endpoint, rx_bytes=100, tx_bytes=1000 * second, last_handshake=1.0)}
        turns += [change.endpoint for change in view.watch(float(second), peers).peers if change.endpoint]
        endpoint = turns[-1] if turns else endpoint
    assert turns == [f"[{at(PEER, via)}]:51000" for via in (NORTH, SOUTH, NORTH)]


def test_no_peer_is_sent_to_inside_a_mesh(view: NetworkView) -> None:
    """Two networks whose packets travel in each other's would have them travel for ever."""
    view.is_probed = False
    other = IPv4Network("172.21.0.0/24"), transit_prefix(UUID(int=99))
    view.meshes = {**view.meshes, UUID(int=99): other}
    inside = ("172.20.0.7:7", "172.21.0.7:7", f"[{other[1][5]}]:7", f"[{at(PEER, NORTH)}]:7")
    late = a_record(PEER).model_copy(
        update={"machine_id": UUID(int=7), "address": IPv4Address("172.20.0.9"), "public_key": a_key()}
    )
    late = late.model_copy(update={"endpoints": (*inside, "192.0.2.7:7")})
    assert [change.endpoint for change in view.put(late).peers] == ["192.0.2.7:7"]
    assert [view.may_be(endpoint) for endpoint in (*inside, "192.0.2.7:7")] == [False] * 4 + [True]


def test_traffic_is_more_than_keepalives_and_handshakes() -> None:
    traffic = Traffic()
    assert not traffic.look(0.0, {"a": Peer(), "b": Peer(), "c": Peer()})
    now = {
        "a": Peer(rx_bytes=32, tx_bytes=32),
        "b": Peer(rx_bytes=124, tx_bytes=148, last_handshake=1.0),
        "c": Peer(rx_bytes=128),
    }
    assert traffic.look(1.0, now) == {"c": True}
    assert traffic.look(2.0, now) == {"c": True}
    assert traffic.look(1.0 + QUIET_AFTER, now) == {"c": False}
    assert traffic.look(2.0 + QUIET_AFTER, now) == {}


def test_a_tunnel_is_silent_when_data_is_not_answered_for_long() -> None:
    silence = Silence()
    assert not silence.look(0.0, {"a": Peer(tx_bytes=0), "b": Peer(tx_bytes=0)})
    assert not silence.look(1.0, {"a": Peer(tx_bytes=148), "b": Peer(tx_bytes=32)})
    assert not silence.look(0.9 + SILENT_AFTER, {"a": Peer(tx_bytes=148), "b": Peer(tx_bytes=32)})
    assert silence.look(1.0 + SILENT_AFTER, {"a": Peer(tx_bytes=148), "b": Peer(tx_bytes=32)}) == {"a"}
    assert not silence.look(2.0 + SILENT_AFTER, {"a": Peer(tx_bytes=148), "b": Peer(tx_bytes=32)})
