"""Where machines may be reached, who says so, and since when they have had their keys."""

from __future__ import annotations

import pytest

from agent.keys import throwaway_public_key
from events.domain import MembershipRegistered
from events.records import PeerRecord
from events.subjects import network_peer
from services.gateway.key_ages import KeyAge, age_of
from services.gateway.sightings import EndpointKind, candidates_of, endpoint_kind
from tests.support.histories import History
from tests.support.reach_net import Net, direct, unreachable


@pytest.mark.parametrize(
    ("endpoint", "kind"),
    [
        ("10.1.2.3:51820", "private"),
        ("172.31.0.1:51820", "private"),
        ("192.168.0.4:40000", "private"),
        ("[fd00::1]:51820", "private"),
        ("100.64.0.9:51820", "shared"),
        ("169.254.3.3:51820", "link-local"),
        ("[fe80::1]:51820", "link-local"),
        ("198.51.100.4:51820", "public"),
        ("[2001:db8::4]:51820", "public"),
        ("198.51.100.4:40000", "mapped"),
        ("172.32.0.1:51820", "public"),
        ("nonsense", "unknown"),
    ],
)
def test_what_an_endpoint_tells_by_itself(endpoint: str, kind: EndpointKind) -> None:
    assert endpoint_kind(endpoint, 51820) == kind
    assert endpoint_kind("198.51.100.4:40000", 0) == "public", "its own port is not known"


def test_who_reaches_a_machine_and_where() -> None:
    net = Net(5)
    one, two, three, four, five = net.machines
    peer = PeerRecord(
        network_id=net.id,
        machine_id=one,
        hostname="m-1",
        address=net.mirror.networks[net.id].members[one].address,
        public_key=throwaway_public_key(),
        endpoints=("10.0.0.1:51820", "198.51.100.4:51820"),
        listen_port=51820,
    )
    net.put(network_peer(net.id, one), peer)
    net.report(two, direct(one, 20, "10.0.0.1:51820"))
    net.report(three, direct(one, 5, "10.0.0.1:51820"))
    net.report(four, direct(one, 10, "203.0.113.7:1024"))
    net.report(five, unreachable(one, "198.51.100.4:51820"))
    net.report(one, direct(two, 20, "192.0.2.9:51820"))
    near, far, found = candidates_of(net.mirror, net.reach, net.id, one)
    assert (near.endpoint, near.announced) == ("10.0.0.1:51820", True)
    assert [(each.peer_id, each.rtt) for each in near.seen_by] == [(three, 5), (two, 20)]
    assert far.seen_by == ()
    assert [(each.peer_id, each.result) for each in far.failed_for] == [(five, "no answer")]
    assert (found.endpoint, found.announced, found.kind) == ("203.0.113.7:1024", False, "mapped")
    assert [each.peer_id for each in found.seen_by] == [four]


def test_since_when_a_key_is_announced() -> None:
    history = History()
    network, machine = history.create_network(), history.register_machine()
    history.assign(network, machine)
    keys = [history.announce(network, machine) for _ in range(3)]
    said = [event for event in reversed(history.events) if isinstance(event, MembershipRegistered)]
    again = said[0].model_copy(update={"time": said[0].time + (said[0].time - said[1].time)})
    newest_first = [again, *said]
    assert age_of(newest_first, keys[2], is_all=False) == KeyAge(said[0].time), "other endpoints are no other key"
    assert age_of(newest_first, keys[1], is_all=True) == KeyAge(said[1].time), "a newer key is announced already"
    assert age_of(said[:1], keys[2], is_all=False) == KeyAge(said[0].time, is_older=True)
    assert age_of([], keys[2], is_all=False) == KeyAge(None, is_older=True)
    assert age_of([], keys[2], is_all=True) == KeyAge()
