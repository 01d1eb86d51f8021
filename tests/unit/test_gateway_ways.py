"""How machines reach each other, as the gateway tells it."""

from __future__ import annotations

import base64
from uuid import UUID, uuid4

import pytest

from events.errors import InvalidInputError, NotFoundError
from services.gateway import pairs
from services.gateway.http.path_views import PathViews
from services.gateway.pairs import page, pairs_of
from services.gateway.presence import Presence, Unrecorded
from services.gateway.ways import Kind, Ways
from tests.support.reach_net import Net, direct, unreachable


def test_a_pair_is_direct_where_no_end_says_otherwise() -> None:
    net = Net(2)
    one, two = net.machines
    assert (net.way(one, two).kind, net.way(one, two).since, net.way(one, two).rtt) == ("unknown", None, None)
    net.report(one, direct(two, 10))
    first = net.now
    assert (net.way(two, one).kind, net.way(two, one).rtt, net.way(two, one).since) == ("direct", 10, first)
    net.report(two, direct(one, 20))
    second = net.now
    assert (net.way(one, two).rtt, net.way(one, two).since) == (20, second), "both say so since then"
    net.report(one, direct(two, 50))
    assert (net.way(one, two).rtt, net.way(one, two).since) == (50, second), "another round trip is no other path"
    net.report(two, unreachable(one))
    assert (net.way(one, two).kind, net.way(one, two).rtt, net.way(one, two).since) == ("none", None, net.now)


def test_the_record_names_the_way_through_others() -> None:
    net = Net(5)
    one, two, edge, other, third = net.machines
    net.report(one, unreachable(two), direct(edge, 10))
    net.report(edge, direct(other, 5))
    net.report(other, direct(two, 20))
    net.choose(one, two, (edge, other), (third,))
    way = net.way(one, two)
    assert (way.kind, way.ways, way.rtt, way.since) == ("transit", ((edge, other), (third,)), 35, net.now)
    net.choose(one, two, (third,))
    assert net.way(one, two).rtt is None, "a link's round trip is not known"
    net.choose(one, two)
    assert (net.way(one, two).kind, net.way(one, two).rtt) == ("none", None)
    net.report(one, direct(two))
    net.choose(one, two, gone=True)
    assert net.way(one, two).kind == "direct"


def test_a_pair_whose_ends_both_say_direct_is_direct_before_the_record_is_gone() -> None:
    net = Net(3)
    one, two, edge = net.machines
    net.report(one, unreachable(two))
    net.choose(one, two, (edge,))
    net.report(one, direct(two, 10))
    assert net.way(one, two).kind == "transit"
    net.report(two, direct(one, 20))
    way = net.way(one, two)
    assert (way.kind, way.ways, way.rtt, way.since, way.record) == ("direct", (), 20, net.now, None)


def test_where_reports_may_be_missing_only_what_both_ends_say_is_known() -> None:
    net = Net(3)
    one, two, edge = net.machines
    net.report(one, unreachable(two), direct(edge))
    net.report(edge, direct(one), direct(two))
    net.choose(one, two, (edge,))
    assert {net.way(one, two).kind, net.way(one, edge).kind, net.way(two, edge).kind} == {"transit", "direct"}
    net.ways.doubt()
    assert (net.way(one, edge).kind, net.way(one, edge).rtt) == ("direct", 10)
    for ends in ((one, two), (two, edge)):
        way = net.way(*ends)
        assert (way.kind, way.ways, way.rtt, way.since, way.record) == ("unknown", (), None, None, None)
    assert dict(net.ways.kinds(net.reach, net.id, one, [two, edge])) == {two: "unknown", edge: "direct"}


def test_when_a_way_of_the_past_was_chosen_is_not_told() -> None:
    net = Net(3)
    net.ways = Ways(dated=False)
    one, two, edge = net.machines
    net.report(one, unreachable(two))
    net.choose(one, two, (edge,))
    way = net.way(one, two)
    assert (way.kind, way.since) == ("transit", None)
    choice = PathViews(net.mirror, Unrecorded(), net.now).explanation(way).events[-1]
    assert (choice.kind, choice.time, choice.sequence) == ("choice", None, None)


def test_an_explanation_holds_what_led_to_it() -> None:
    net = Net(3)
    one, two, edge = net.machines
    net.report(one, direct(two, 10))
    net.report(two, direct(one, 10))
    net.report(one, direct(two, 20), unreachable(two, "192.0.2.1:51820", "10.0.0.1:51820"))
    net.choose(one, two, (edge,), (uuid4(),))
    made = PathViews(net.mirror, Presence(), net.now).explanation(net.way(one, two))
    assert (made.kind, made.machine.hostname, made.peer.hostname) == ("transit", "m-1", "m-2")
    assert [machine.hostname for machine in made.via] == ["m-3"]
    assert made.standby[0].wg_ip_address is None, "it is not in the network any more"
    (gone,) = made.standby
    assert [event.text for event in made.events] == [
        "m-2 reported that it reaches m-1 directly at 192.0.2.1:51820, in 10 ms",
        "m-1 reported that it reaches m-2 directly at 192.0.2.1:51820, in 20 ms",
        "m-1 reported that it does not reach m-2 directly: it tried 2 addresses",
        f"chose the way through m-3; through machine {gone.uuid} if that fails",
    ]
    assert [event.kind for event in made.events] == ["report"] * 3 + ["choice"]
    mine, theirs = made.reports
    assert [(tried.endpoint, tried.result) for tried in mine.tried] == [
        ("192.0.2.1:51820", "no answer"),
        ("10.0.0.1:51820", "no answer"),
    ]
    assert (mine.endpoint, theirs.endpoint, theirs.rtt_ms) == (None, "192.0.2.1:51820", 10)
    net.choose(one, two)
    made = PathViews(net.mirror, Presence(), net.now).explanation(net.way(one, two))
    assert made.events[-1].text == "found no way through another machine"


def walk(net: Net, networks: list[UUID], machine: UUID | None, limit: int, kind: Kind | None = None) -> list[set[UUID]]:
    found: list[set[UUID]] = []
    after: str | None = None
    while True:
        part = page(
            pairs_of(net.mirror, networks, machine, after),
            lambda network, one, other: net.ways.way(net.reach, network, one, other),
            kind,
            limit,
        )
        assert len(part.ways) <= limit
        found += [{way.machine_id, way.peer_id} for way in part.ways]
        after = part.next
        if after is None:
            return found


@pytest.mark.parametrize("limit", [1, 2, 3, 9, 10, 11])
def test_every_pair_stands_once_on_the_pages(limit: int) -> None:
    net = Net(5)
    expected = [{one, other} for place, one in enumerate(net.machines) for other in net.machines[place + 1 :]]
    assert walk(net, [net.id], None, limit) == expected
    middle = net.machines[2]
    assert walk(net, [net.id], middle, limit) == [{middle, other} for other in net.machines if other != middle]


def test_a_machines_peers_in_all_its_networks() -> None:
    net = Net(3)
    one = net.machines[0]
    lab = net.network("lab")
    for number, machine in enumerate(net.machines[:2], 1):
        net.join(lab, machine, number)
    for limit in (1, 2, 3):
        assert len(walk(net, [net.id, lab], one, limit)) == 3
    with pytest.raises(NotFoundError, match="is not in lab"):
        walk(net, [lab], net.machines[2], 1)


def test_a_filter_looks_among_so_many_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "LOOKED_AT", 2)
    net = Net(6)
    net.report(net.machines[4], direct(net.machines[5]))
    assert walk(net, [net.id], None, 9, "direct") == [{net.machines[4], net.machines[5]}]
    assert len(walk(net, [net.id], None, 9, "unknown")) == 14


def test_a_page_goes_on_where_a_machine_has_left() -> None:
    net = Net(4)
    _, two, three, four = net.machines
    first = page(pairs_of(net.mirror, [net.id], None, None), lambda n, a, b: net.way(a, b), None, 4)
    net.put(f"state.machine.{two}.network.{net.id}", None)
    rest = page(pairs_of(net.mirror, [net.id], None, first.next), lambda n, a, b: net.way(a, b), None, 4)
    assert [(way.machine_id, way.peer_id) for way in rest.ways] == [(three, four)]
    assert rest.next is None


@pytest.mark.parametrize("cursor", ["", "x", "A", base64.b64encode(b'["a",1,2,3,4]').decode(), "bnVsbA"])
def test_a_foreign_cursor_is_refused(cursor: str) -> None:
    net = Net(2)
    with pytest.raises(InvalidInputError, match="cursor"):
        walk_from(net, cursor)


def walk_from(net: Net, cursor: str) -> None:
    list(pairs_of(net.mirror, [net.id], None, cursor))
