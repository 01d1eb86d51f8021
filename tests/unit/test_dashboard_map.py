"""What the map of a network shows, and where; and a path in words."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from events.records import Heartbeat
from services.gateway.http.path_schemas import PathMachine
from services.gateway.http.path_views import PathViews
from services.gateway.pages import path_words
from services.gateway.pages.arrangement import Group, arranged, kept, written
from services.gateway.pages.geometry import Box, Place, Ring, edge, through, turns
from services.gateway.pages.map import EACH, Picture, Sights, counted, whole
from services.gateway.pages.star import sectors, star
from services.gateway.pairs import pairs_of
from services.gateway.presence import Presence
from services.gateway.ways import Way
from tests.support.reach_net import Net, direct, unreachable


def test_machines_stand_evenly_and_groups_have_gaps() -> None:
    one, two = turns([["a", "b"]]).values()
    assert (one, two % 360) == (180, 0), "two stand left and right"
    assert list(turns([["a", "b", "c"]]).values()) == [-90, 30, 150]
    grouped = turns([["a", "b", "c"], ["d"]])
    assert grouped["b"] == 180, "the first group is in the middle of the left side"
    assert grouped["b"] - grouped["a"] < grouped["d"] - grouped["c"]
    assert turns([]) == {}


def test_lines_end_at_the_edge_of_what_they_join() -> None:
    card, dot = Box(50, 20), Box(9, 9, is_round=True)
    assert edge(card, Place(0, 0), Place(400, 0)) == Place(50, 0)
    assert edge(card, Place(0, 0), Place(0, -400)) == Place(0, -20)
    assert edge(dot, Place(0, 0), Place(300, 400)) == Place(5.4, 7.2)


def test_a_line_through_others_passes_beside_their_middles() -> None:
    ring = Ring(0, 0, 300, 300)
    drawn, label = through([ring.at(180), Place(0, 0), ring.at(0)], 10, 0.5)
    points = [tuple(map(float, each.split())) for each in re.findall(r"-?[\d.]+ -?[\d.]+", drawn)]
    assert (points[0], points[-1]) == ((-300, 0), (300, 0))
    assert (0, 10) in points
    assert label.x > 0


def test_who_reaches_the_same_others_stands_together() -> None:
    net = _two_sides()
    a, b, c, d, edge_ = net.machines
    assert arranged(net.machines, _ways(net)) == (
        Group((a, b), "alike"),
        Group((c, d), "alike"),
        Group((edge_,), "inner"),
    )
    full = Net(4)
    assert arranged(full.machines, _ways(full)) == (Group(tuple(full.machines)),)


def test_whom_nobody_reaches_does_not_move_the_others() -> None:
    net = Net(5)
    *others, gone = net.machines
    for each in others:
        net.report(each, unreachable(gone), *(direct(peer) for peer in others if peer != each))
    assert arranged(net.machines, _ways(net)) == (Group((*others, gone)),)


def test_a_browser_keeps_its_order() -> None:
    a, b, c, d, new = (uuid4() for _ in range(5))
    addresses = {a: 1, b: 2, c: 300, d: 4}
    groups = Group((c, a), "alike"), Group((b,)), Group((d,), "inner")
    text = written(groups, addresses)
    assert kept(text, addresses) == groups
    left = {a: 1, b: 2, d: 4}
    assert kept(text, left) == (Group((a,), "alike"), Group((b,)), Group((d,), "inner"))
    assert kept(text, {**addresses, new: 9})[1] == Group((b, new))
    assert {each for group in kept("~12c", {**addresses, new: 9}) for each in group.members} == {a, b, c, d, new}


@pytest.mark.parametrize("text", ["", "_", "...", "zz", "é_\x00", "9" * 5000, "<script>"])
def test_what_is_no_order_is_none(text: str) -> None:
    assert kept(text, {uuid4(): 1, uuid4(): 2}) == ()


@pytest.mark.parametrize("size", [2, 3, 5, 8, 12, 13, 24, 25, 40, 59])
def test_machines_keep_clear_of_each_other(size: int) -> None:
    net = Net(size)
    for number, each in enumerate(net.machines):
        net.report(each, *(direct(peer) for peer in net.machines[number + 1 :]))
    picture = _whole(net)
    assert len(picture.spots) == size
    assert len(picture.lines) == (size * (size - 1) // 2 if size <= EACH else 0)
    assert bool(picture.web) == (size > EACH)
    width, height = picture.box.width, picture.box.height
    for spot in picture.spots:
        for other in picture.spots:
            x, y = abs(spot.place.x - other.place.x), abs(spot.place.y - other.place.y)
            assert spot is other or x > 2 * width or y > 2 * height or (picture.box.is_round and math.hypot(x, y) > 18)
        left, top, across, down = map(float, picture.view.split())
        assert abs(spot.place.x) + width < across / 2 == -left
        assert spot.place.y - top > height
        assert top + down - spot.place.y > height


def test_lines_say_how_machines_reach_each_other() -> None:
    net = _two_sides()
    picture = _whole(net)
    names = {line.name for line in picture.lines}
    assert "m-1 to m-2: direct, 10 ms" in names
    assert "m-1 to m-3: through m-5, 20 ms" in names
    middle = next(spot for spot in picture.spots if spot.carries)
    assert (middle.machine.hostname, middle.carries, middle.is_inner) == ("m-5", 4, True)
    assert (middle.place.x, middle.place.y) == (0, 0)
    assert len(picture.grounds) == 2
    assert counted(_ways(net)) == {"direct": 6, "transit": 4, "none": 0, "unknown": 0}


def test_nothing_moves_when_something_else_is_wanted() -> None:
    net = _two_sides()
    first = net.machines[0]
    every, mine = _whole(net), _whole(net, chosen=first)
    assert {spot.machine.uuid: spot.place for spot in every.spots} == {
        spot.machine.uuid: spot.place for spot in mine.spots
    }
    assert {line.name for line in mine.lines} == {line.name for line in every.lines if first in (line.one, line.other)}


def test_what_is_down_since_a_machine_is_offline_is_told_apart() -> None:
    net = Net(3)
    one, two, gone = net.machines
    net.report(one, direct(two), unreachable(gone))
    machines = {each: _machine(net, each, is_online=each != gone) for each in net.machines}
    sights = Sights(machines, _ways(net))
    lost = {line.name: line.is_lost for line in whole(sights, arranged(net.machines, _ways(net))).lines}
    assert lost == {"m-1 to m-2: direct, 10 ms": False, "m-1 to m-3: down": True, "m-2 to m-3: unknown": False}


def test_of_a_large_network_the_paths_of_one_machine_are_drawn() -> None:
    net = Net(80)
    first, edge_, *others = net.machines
    net.report(first, direct(edge_), *(direct(each) for each in others[:40]), *map(unreachable, others[40:60]))
    net.choose(first, others[40], (edge_,))
    ways = [net.way(first, each) for each in net.machines[1:]]
    shown = sectors(first, ways)
    assert [(each.kind, len(each.peers), each.more) for each in shown] == [
        ("direct", 23, 17),
        ("transit", 1, 0),
        ("none", 12, 7),
        ("unknown", 6, 12),
    ]
    machines = {each: _machine(net, each) for each in net.machines}
    picture = star(Sights(machines, ways, chosen=first), first, shown)
    places = {spot.machine.uuid: spot.place for spot in picture.spots}
    assert (places[first].x, places[first].y) == (0, 0)
    assert 100 < math.hypot(places[edge_].x, places[edge_].y) < 200, "transit machines stand half way"
    assert [(each.kind, each.count) for each in picture.more] == [("direct", 17), ("none", 7), ("unknown", 12)]
    assert len(picture.lines) == 1 + 23 + 1 + 12 + 6


def test_why_there_is_no_direct_path_in_words() -> None:
    net = _two_sides()
    one, _, three, _, edge_ = net.machines
    net.report(one, unreachable(three, "192.0.2.1:1", "192.0.2.2:1"))
    net.report(three, unreachable(one, "192.0.2.3:1"))
    path = _views(net, one, three, edge_).explanation(net.way(one, three))
    assert path_words.how(path).startswith("m-1 and m-3 reach each other through m-5.")
    assert path_words.found(path.reports[0], "m-1", "m-3") == "m-1 tried 2 addresses of m-3: none answered."
    assert path_words.found(path.reports[1], "m-3", "m-1") == "m-3 tried 1 address of m-1: it did not answer."
    first, standby = path_words.better(path, {one: 51820, three: 0})
    assert "UDP port 51820 of m-1." in first
    assert standby.startswith("Nobody stands by: if m-5 fails")
    gone = _views(net, one).explanation(net.way(one, three))
    assert path_words.better(gone, {}) == ("Start m-3, or its agent: the path comes back by itself.",)


def test_one_sided_paths_in_words() -> None:
    net = Net(2)
    one, two = net.machines
    views = _views(net, one, two)
    assert "neither has reported yet" in path_words.how(views.path(net.way(one, two)))
    net.report(one, direct(two))
    net.report(two, unreachable(one))
    path = views.explanation(net.way(one, two))
    assert path_words.found(path.reports[0], "m-1", "m-2") == "m-1 reaches m-2 directly."
    said = path_words.better(path, {})
    assert said[0] == "m-1 reaches m-2 directly, but m-2 does not reach m-1: look at what m-2 may send."
    net.report(two, direct(one))
    assert path_words.better(views.explanation(net.way(one, two)), {}) == ()


def _two_sides() -> Net:
    """Two machines on each side of a wall, and one that reaches all."""
    net = Net(5)
    a, b, c, d, edge_ = net.machines
    for near, far in (((a, b), (c, d)), ((c, d), (a, b))):
        net.report(near[0], direct(near[1]), direct(edge_), *map(unreachable, far))
        net.report(near[1], direct(near[0]), direct(edge_), *map(unreachable, far))
    for one in (a, b):
        for other in (c, d):
            net.choose(one, other, (edge_,))
    return net


def _ways(net: Net) -> list[Way]:
    return [net.way(pair.one[1], pair.other[1]) for pair in pairs_of(net.mirror, [net.id], None, None)]


def _machine(net: Net, machine_id: UUID, *, is_online: bool = True) -> PathMachine:
    member = net.mirror.network(net.id)[0].members[machine_id]
    hostname = net.mirror.name_of(machine_id) or ""
    return PathMachine(uuid=machine_id, hostname=hostname, wg_ip_address=member.address, is_online=is_online)


def _whole(net: Net, chosen: UUID | None = None) -> Picture:
    machines = {each: _machine(net, each) for each in net.machines}
    ways: Sequence[Way] = _ways(net)
    return whole(Sights(machines, ways, chosen=chosen), arranged(net.machines, ways))


def _views(net: Net, *online: UUID) -> PathViews:
    presence = Presence()
    for each in online:
        presence.beat(each, Heartbeat(boot_id=uuid4(), counter=1), net.now)
    return PathViews(net.mirror, presence, net.now)
