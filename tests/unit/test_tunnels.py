"""What is told of tunnels: that it fits, arrives whole, and is believed no further than it may be."""

from __future__ import annotations

import time
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agent.device import Device, Peer
from agent.tunnel_parts import described, parted
from events import subjects
from events.errors import RateLimitedError
from events.subjects import look
from events.trust.permissions import MACHINE
from events.tunnels import APART, MAX_ITEMS, MAX_PARTS, Tunnel, TunnelPart, TunnelPeer
from services.gateway.tunnel_reports import (
    FRESH_FOR,
    HINT_APART,
    MOST_ASKED,
    MOST_KEPT,
    MOST_READ,
    WANTED_FOR,
    Report,
    TunnelReports,
)
from tests.support.device_contract import a_key
from tests.support.reach_net import START, Net

BOOT = uuid4()
LONGEST = TunnelPeer(
    machine_id=uuid4(),
    endpoint="[2001:db8:1111:2222:3333:4444:5555:6666]:51820",
    handshake=3999999999.123,
    rx_bytes=(1 << 63) - 1,
    tx_bytes=(1 << 63) - 1,
)


def bare(network_id: UUID | None = None) -> Tunnel:
    return Tunnel(network_id=network_id or uuid4(), interface="wl-01234567", backend="wireguard-go")


def part(*tunnels: Tunnel, counter: int = 1, boot_id: UUID = BOOT, **fields: int | float) -> TunnelPart:
    return TunnelPart.model_validate({"boot_id": boot_id, "counter": counter, "tunnels": tunnels} | fields)


def peers_of(*machine_ids: UUID) -> tuple[TunnelPeer, ...]:
    return tuple(TunnelPeer(machine_id=each) for each in machine_ids)


def asked(net: Net, machine_id: UUID, now: float = 0.0) -> TunnelReports:
    reports = TunnelReports()
    assert reports.ask(machine_id, now)
    return reports


def take(reports: TunnelReports, net: Net, said: TunnelPart, machine_id: UUID | None = None) -> Report | None:
    return reports.take(machine_id or net.machines[0], said, net.mirror, 0.0, START)


# -- what an agent tells


def test_an_interface_is_told_without_its_keys() -> None:
    one, other, stranger = a_key(), a_key(), a_key()
    member, other_member, now = uuid4(), uuid4(), 1000.0
    device = Device(
        private_key=a_key(),
        listen_port=51820,
        mtu=1420,
        up=True,
        peers={
            one: Peer(endpoint="192.0.2.1:51820", last_handshake=988.5, rx_bytes=1, tx_bytes=2),
            other: Peer(endpoint="[fe80::1%eth0]:51820", last_handshake=1001.0),
            stranger: Peer(),
        },
    )
    told, peers = described(bare(), device, {one: member, other: other_member}, now)
    assert (told.state, told.listen_port, told.mtu) == ("up", 51820, 1420)
    assert peers == (
        TunnelPeer(machine_id=member, endpoint="192.0.2.1:51820", handshake=11.5, rx_bytes=1, tx_bytes=2),
        TunnelPeer(machine_id=other_member, endpoint="[fe80::1]:51820", handshake=0.0),
    )
    said = TunnelPart(boot_id=BOOT, counter=1, tunnels=parted([(told, peers)])[0][0]).model_dump_json()
    assert not [key for key in (device.private_key, one, other, stranger) if str(key) in said]
    assert described(bare(), None, {}, now)[0].state == "missing"
    assert described(bare(), Device(), {}, now)[0].state == "down"
    assert described(bare(), Device(peers={one: Peer()}), {one: member}, now)[1] == peers_of(member)


@given(st.lists(st.integers(0, 3 * MAX_ITEMS), max_size=12))
def test_parts_are_small_and_hold_everything(sizes: list[int]) -> None:
    tunnels = [(bare(), peers_of(*(UUID(int=number) for number in range(size)))) for size in sizes]
    parts, left_out = parted(tunnels)
    assert 1 <= len(parts) <= MAX_PARTS
    assert left_out == 0
    found: dict[UUID, list[TunnelPeer]] = {}
    for tunnels_of in parts:
        assert sum(1 + len(tunnel.peers) for tunnel in tunnels_of) <= MAX_ITEMS
        for tunnel in tunnels_of:
            found.setdefault(tunnel.network_id, []).extend(tunnel.peers)
    assert found == {tunnel.network_id: list(peers) for tunnel, peers in tunnels}


def test_what_is_too_much_is_left_out_and_counted() -> None:
    many = peers_of(*(UUID(int=number) for number in range(MAX_ITEMS * MAX_PARTS)))
    parts, left_out = parted([(bare(), many), (bare(), ()), (bare(), many[:5])])
    assert len(parts) == MAX_PARTS
    told = sum(len(tunnel.peers) for tunnels in parts for tunnel in tunnels)
    assert left_out == len(many) - told + 1 + 6


def test_a_part_fits_into_what_a_machine_may_say_at_once() -> None:
    most, age = (1 << 63) - 1, 3999999999.123
    fields = {"boot_id": BOOT, "counter": most, "part": 48, "parts": 50, "age": age, "left_out": (1 << 32) - 1}
    full = Tunnel(
        network_id=uuid4(), interface="wl-0123456789ab", backend="x" * 32, state="unreadable", listen_port=65535,
        mtu=100_000,
    )  # fmt: skip
    peers = full.model_copy(update={"peers": (LONGEST,) * (MAX_ITEMS - 1)})
    for tunnels in ((peers,), (full,) * MAX_ITEMS):
        said = TunnelPart.model_validate(fields | {"tunnels": tunnels}).model_dump_json()
        assert len(said) < MACHINE.payload


@pytest.mark.parametrize(
    "fault",
    [
        {"part": 1},
        {"parts": 0},
        {"parts": MAX_PARTS + 1},
        {"age": -1},
        {"age": float("inf")},
        {"tunnels": [bare()] * (MAX_ITEMS + 1)},
        {"tunnels": [bare().model_copy(update={"peers": (LONGEST,) * 101})] * 2},
        *(
            {"tunnels": [bare().model_dump() | fault]}
            for fault in ({"interface": "wl\n"}, {"interface": ""}, {"backend": "<b>"}, {"mtu": -1}, {"state": "x"})
        ),
        *(
            {"tunnels": [bare().model_dump() | {"peers": [LONGEST.model_dump() | fault]}]}
            for fault in ({"endpoint": "x"}, {"endpoint": "[fe80::1%\x1b]:1"}, {"rx_bytes": 1 << 63}, {"handshake": -1})
        ),
    ],
)
def test_what_is_out_of_bounds_is_refused(fault: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        TunnelPart.model_validate({"boot_id": BOOT, "counter": 1} | fault)


def test_a_hint_is_said_where_no_record_stands() -> None:
    machine, other = uuid4(), uuid4()
    records = (
        subjects.machine_info(machine),
        subjects.machine_membership(machine, other),
        subjects.machine_routing(machine),
    )
    assert look(machine) not in {subjects.live_of(subject) for subject in records}
    assert look(machine).startswith(subjects.live_scope("machine", machine).removesuffix(">"))


# -- what a gateway takes


@given(st.data())
def test_parts_in_any_order_with_repetitions_are_a_report(data: st.DataObject) -> None:
    net = Net(6)
    one, *others = net.machines
    parts, _ = parted([(bare(net.id), peers_of(*others) * 100)])
    said = [part(*tunnels, part=number, parts=len(parts)) for number, tunnels in enumerate(parts)]
    order = data.draw(st.permutations(range(len(said))))
    reports = asked(net, one)
    for number in order[:-1]:
        for _ in range(data.draw(st.integers(1, 2))):
            assert take(reports, net, said[number]) is None
    report = take(reports, net, said[order[-1]])
    assert report is not None
    assert {peer.machine_id for peer in report.tunnels[net.id].peers} == set(others)
    assert len(report.tunnels[net.id].peers) == len(others)
    assert reports.newest(one, FRESH_FOR) == report
    assert reports.newest(one, FRESH_FOR + 0.1) is None


def test_parts_of_different_reports_are_not_mixed() -> None:
    net = Net(2)
    one, two = net.machines
    reports = asked(net, one)
    half = bare(net.id).model_copy(update={"peers": peers_of(two)})
    assert take(reports, net, part(half, counter=2, parts=2)) is None
    assert take(reports, net, part(counter=1, part=1, parts=2)) is None, "an older report's"
    assert take(reports, net, part(counter=2, part=2, parts=3)) is None, "of another number of parts"
    assert take(reports, net, part(counter=3, part=1, parts=2)) is None, "a newer report's, which begins anew"
    report = take(reports, net, part(bare(net.id), counter=3, part=0, parts=2, age=2.5))
    assert report is not None
    assert report.tunnels[net.id].peers == ()
    assert report.read_at == START - timedelta(seconds=2.5)
    reports.ask(one, 0.0)
    assert take(reports, net, part(boot_id=uuid4(), counter=1)) is not None, "an agent that started again"


def test_a_machine_tells_of_its_own_networks_and_their_members_only() -> None:
    net = Net(3)
    one, two, three = net.machines
    elsewhere = net.network("lab")
    told = bare(net.id).model_copy(update={"peers": peers_of(two, one, uuid4(), two, three)})
    foreign = bare(elsewhere).model_copy(update={"peers": peers_of(two)})
    reports = asked(net, one)
    report = take(reports, net, part(told, foreign, bare()))
    assert report is not None
    assert {key: [peer.machine_id for peer in each.peers] for key, each in report.tunnels.items()} == {
        net.id: [two, three]
    }
    net.put(subjects.machine_membership(two, net.id), None)
    assert [peer.machine_id for peer in report.among_members(one, net.mirror).tunnels[net.id].peers] == [three]
    net.put(subjects.machine_membership(one, net.id), None)
    assert report.among_members(one, net.mirror).tunnels == {}


def test_only_who_was_asked_is_read_and_not_without_end() -> None:
    net = Net(2)
    one, two = net.machines
    reports = asked(net, one)
    assert not reports.wants(two, 0.0)
    assert take(reports, net, part(), two) is None
    assert sum(reports.wants(one, 0.5) for _ in range(10 * MOST_READ)) == MOST_READ
    assert not reports.ask(one, HINT_APART / 2)
    assert reports.ask(one, HINT_APART)
    assert not reports.wants(one, APART - 0.01), "another hint has no more read"
    assert reports.wants(one, APART)
    reports.refuse(one)
    assert not reports.wants(one, APART)
    assert reports.wants(one, 2 * APART)
    assert not reports.wants(one, HINT_APART + WANTED_FOR + 0.1)
    assert take(reports, net, part()) is not None
    assert not reports.wants(one, APART), "it has answered"


def test_nothing_is_held_for_long_nor_of_many() -> None:
    net, reports = Net(MOST_KEPT + 1), TunnelReports()
    for machine_id in net.machines:
        assert reports.ask(machine_id, 0.0)
        assert take(reports, net, part(), machine_id) is not None
    assert [reports.newest(each, 0.0) is not None for each in net.machines] == [False] + [True] * MOST_KEPT
    for _ in range(MOST_ASKED):
        assert reports.ask(uuid4(), 0.0)
    with pytest.raises(RateLimitedError):
        reports.ask(uuid4(), WANTED_FOR)
    assert reports.ask(uuid4(), WANTED_FOR + 0.1), "who owes an answer for too long is forgotten"
    reports.forget(net.machines[-1])
    assert reports.newest(net.machines[-1], 0.0) is None
    assert reports
    reports.sweep(100.0)
    assert not reports


def test_a_report_of_2000_peers_costs_little() -> None:
    net = Net(0)
    net.machines = [net.machine(f"m-{number}", number) for number in range(1, 2002)]
    one, *others = net.machines
    peers = tuple(LONGEST.model_copy(update={"machine_id": each}) for each in others)
    parts, left_out = parted([(bare(net.id), peers)])
    said = [
        part(*tunnels, part=number, parts=len(parts)).model_dump_json().encode() for number, tunnels in enumerate(parts)
    ]
    reports = asked(net, one)
    begun = time.perf_counter()
    for each in said:
        report = take(reports, net, TunnelPart.model_validate_json(each))
    assert time.perf_counter() - begun < 1
    assert left_out == 0
    assert report is not None
    assert len(report.tunnels[net.id].peers) == 2000
    assert len(said) * max(map(len, said)) < 600_000
    assert 2 * len(said) <= MOST_READ
