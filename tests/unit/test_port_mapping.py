"""What is asked of routers for port mappings: the bytes, when, and what is believed."""

from __future__ import annotations

from ipaddress import IPv4Address, ip_interface
from pathlib import Path
from random import Random
from uuid import uuid4

import pytest

from agent.desired import Locality
from agent.port_mapping import wire
from agent.port_mapping.asking import LIFETIME, REST, Asking, Protocol, Send
from agent.port_mapping.notes import Note, Notes
from agent.port_mapping.place import router_to_ask
from agent.port_mapping.upnp import location_in
from tests.support.granting_router import OWN, Play, Router

PORT = 51820
NONCE = bytes(range(12))
BOTH = frozenset({"pcp", "pmp"})


def playing(router: Router, *, upnp: str | None = None, suggested: str = "") -> Play:
    play = Play(Asking(OWN, Random(1), has_upnp=upnp is not None), router, upnp=upnp or "")
    play.asking.want(play.now, PORT, NONCE, suggested)
    return play


# -- bytes


def test_a_pcp_request_is_as_rfc_6887_draws_it() -> None:
    packet = wire.pcp_request(OWN, NONCE, PORT, 3600, (IPv4Address("192.0.2.9"), 4000))
    mapped = "00000000000000000000ffff"
    header = "0201" + "0000" + "00000e10" + mapped + "c0a80102"
    assert packet.hex() == header + NONCE.hex() + "11000000" + "ca6c" + "0fa0" + mapped + "c0000209"


def test_deleting_by_pcp_suggests_nothing() -> None:
    packet = wire.pcp_request(OWN, NONCE, PORT, 0, (IPv4Address("192.0.2.9"), 4000))
    assert packet[4:8] == bytes(4)
    assert packet[42:].hex() == "0000" + "00000000000000000000ffff" + "00000000"


def test_nat_pmp_requests_are_as_rfc_6886_draws_them() -> None:
    assert wire.pmp_address_request().hex() == "0000"
    assert wire.pmp_request(PORT, 3600, 4000).hex() == "0001" + "0000" + "ca6c" + "0fa0" + "00000e10"
    assert wire.pmp_request(PORT, 0, 4000).hex() == "0001" + "0000" + "ca6c" + "0000" + "00000000"


# -- asking


def test_pcp_is_asked_first_and_renewed_at_half_of_what_was_granted() -> None:
    play = playing(Router(lifetime=1000))
    play.run(0)
    mapping = play.asking.mapping(PORT)
    assert mapping is not None
    assert (mapping.protocol, mapping.endpoint) == (Protocol.PCP, f"192.0.2.1:{PORT}")
    assert mapping.until == play.now + 1000
    play.run(499)
    assert len(play.sent) == 1
    play.run(2)
    assert len(play.sent) == 2
    again = play.asking.mapping(PORT)
    assert again is not None
    assert again.until == 1000.0 + 500 + 1000


@pytest.mark.parametrize("speaks", [{"pmp"}, set()])
def test_who_does_not_speak_pcp_is_asked_otherwise(speaks: set[str]) -> None:
    play = playing(Router(speaks=frozenset(speaks)), upnp="192.0.2.7:4000")
    play.run(5)
    mapping = play.asking.mapping(PORT)
    assert mapping is not None
    assert mapping.protocol is (Protocol.NAT_PMP if speaks else Protocol.UPNP)
    assert mapping.endpoint == (f"192.0.2.1:{PORT}" if speaks else "192.0.2.7:4000")
    before = len(play.sent)
    play.run(LIFETIME / 2)
    assert [packet[0] for _, packet in play.sent[before:]] == ([0, 0] if speaks else [])
    assert len(play.calls) == (0 if speaks else 2)


def test_where_nobody_answers_there_are_few_packets_and_long_silence() -> None:
    play = playing(Router(speaks=frozenset()), upnp="")
    play.run(60)
    assert [round(at - 1000.0, 2) for at, _ in play.sent] == [0, 0.25, 0.75, 1.75, 2.0, 2.5]
    assert len(play.calls) == 1
    play.run(REST - 100)
    assert len(play.sent) == 6
    play.run(24 * 3600)
    assert len(play.sent) <= 6 * (24 * 3600 / REST + 2)


def test_several_networks_do_not_ask_more_where_nobody_answers() -> None:
    play = playing(Router(speaks=frozenset()))
    for port in range(PORT + 1, PORT + 20):
        play.asking.want(play.now, port, NONCE)
    play.run(300)
    assert len(play.sent) == 6


def test_where_nobody_listens_that_is_known_at_once() -> None:
    play = playing(Router(speaks=frozenset()), upnp="192.0.2.7:4000")
    play.asking.tick(play.now)
    play.asking.unreachable(play.now)
    play.run(0)
    assert not play.sent
    assert len(play.calls) == 1


def test_a_mapping_outlives_a_routers_silence_until_its_end() -> None:
    play = playing(Router(lifetime=1000))
    play.run(0)
    play.router.speaks = frozenset()
    play.run(999)
    assert play.asking.mapping(PORT) is not None
    assert 4 <= len(play.sent) <= 1 + 3 * 5
    play.run(2)
    assert play.asking.mapping(PORT) is None
    assert play.news[-1].mapping is None
    play.router.speaks = BOTH
    play.run(1.2 * REST)
    assert play.asking.mapping(PORT) is not None


def test_a_router_that_began_anew_is_asked_for_everything_again() -> None:
    play = playing(Router())
    play.asking.want(play.now, PORT + 1, NONCE)
    play.run(100)
    play.router.reboot(play.now)
    play.asking.drop(PORT)  # any answer shows the epoch
    play.asking.want(play.now, PORT, NONCE)
    play.run(0)
    assert set(play.router.table) == {PORT, PORT + 1}


def test_an_announcement_is_heeded_once_and_not_at_once() -> None:
    play = playing(Router(speaks=frozenset()))
    play.run(30)
    play.router.speaks = BOTH
    play.router.reboot(play.now)
    for _ in range(10):
        play.asking.announced(play.now, play.router.announcement(play.now))
        play.run(0.5)
    play.run(10)
    assert play.asking.mapping(PORT) is not None
    assert len(play.sent) == 7
    play.asking.announced(play.now, play.router.announcement(play.now))
    play.run(60)
    assert len(play.sent) == 7


def test_who_announces_all_the_time_is_not_asked_all_the_time() -> None:
    play = playing(Router())
    play.run(0)
    for _ in range(300):
        play.router.reboot(play.now - 1000 * play.asking.random.random())
        play.asking.announced(play.now, play.router.announcement(play.now))
        play.run(0.2)
    assert 3 <= len(play.sent) <= 7


def test_a_router_whose_clock_jumps_all_the_time_is_not_asked_all_the_time() -> None:
    play = playing(Router())
    for port in range(PORT + 1, PORT + 4):
        play.asking.want(play.now, port, NONCE)
    rng, answer = Random(3), play.router.answer

    def jumping(now: float, packet: bytes) -> bytes | None:
        play.router.started = now - rng.randrange(10**6)
        return answer(now, packet)

    play.router.answer = jumping  # type: ignore[method-assign]
    for _ in range(300):
        play.run(1)
        assert len(play.sent) <= 4 * (2 + (play.now - 1000) / 60)


def test_another_external_address_is_heard_of() -> None:
    play = playing(Router())
    play.run(0)
    play.asking.announced(play.now, play.router.announcement(play.now))
    play.run(60)
    play.router.address = "192.0.2.2"
    play.asking.announced(play.now, play.router.announcement(play.now))
    play.run(60)
    mapping = play.asking.mapping(PORT)
    assert mapping is not None
    assert mapping.endpoint == f"192.0.2.2:{PORT}"


def test_what_somebody_else_mapped_stays_his() -> None:
    router = Router(table={PORT: b"x" * 12}, speaks=frozenset({"pcp"}))
    play = playing(router)
    play.run(60)
    assert play.asking.mapping(PORT) is None
    assert router.table == {PORT: b"x" * 12}


@pytest.mark.parametrize("speaks", [{"pcp", "pmp"}, {"pmp"}, set()])
def test_a_port_that_is_dropped_is_released(speaks: set[str]) -> None:
    play = playing(Router(speaks=frozenset(speaks)), upnp="192.0.2.7:4000")
    play.run(10)
    play.asking.drop(PORT)
    assert play.asking.is_releasing
    play.run(0)
    assert not play.asking.is_releasing
    assert not play.router.table
    assert [call.lifetime for call in play.calls] == ([] if speaks else [LIFETIME, 0])


def test_what_may_have_been_granted_meanwhile_is_released_too() -> None:
    play = playing(Router())
    (send,) = play.asking.tick(play.now)
    assert isinstance(send, Send)
    assert play.router.answer(play.now, send.packet)  # which is still on its way
    play.asking.drop(PORT)
    play.run(0)
    assert not play.router.table


def test_the_end_of_a_mapping_is_not_asked_for_without_end() -> None:
    play = playing(Router())
    play.run(0)
    play.router.speaks = frozenset()
    play.asking.drop(PORT)
    play.run(10)
    assert not play.asking.is_releasing
    assert len(play.sent) == 4


@pytest.mark.parametrize(
    ("address", "is_offered"),
    [
        ("192.0.2.1", True),
        ("100.64.0.9", True),
        ("192.168.0.2", True),
        ("0.0.0.0", False),
        ("127.0.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        (str(OWN), False),
    ],
)
def test_what_nobody_could_send_to_is_not_offered(address: str, is_offered: bool) -> None:
    play = playing(Router(address=address, speaks=frozenset({"pcp"})))
    play.run(30)
    assert (play.asking.mapping(PORT) is not None) == is_offered


def test_mappings_for_a_moment_are_worth_nothing() -> None:
    play = playing(Router(lifetime=30))
    play.run(60)
    assert play.asking.mapping(PORT) is None
    assert len(play.sent) <= 6


def test_answers_with_another_nonce_or_port_or_to_nothing_are_not_heard() -> None:
    asking = Asking(OWN, Random(1))
    asking.want(0.0, PORT, NONCE)
    router = Router()
    right = router.answer(0.0, wire.pcp_request(OWN, NONCE, PORT, 3600))
    other_nonce = Router().answer(0.0, wire.pcp_request(OWN, b"x" * 12, PORT, 3600))
    other_port = Router().answer(0.0, wire.pcp_request(OWN, NONCE, PORT + 1, 3600))
    other_protocol = Router().answer(0.0, wire.pmp_request(PORT, 3600, PORT))
    assert right
    assert other_nonce
    assert other_port
    assert other_protocol
    asking.received(0.0, right)
    assert asking.mapping(PORT) is None  # nothing was asked yet
    asking.tick(0.0)
    for wrong in (other_nonce, other_port, other_protocol, wire.pcp_request(OWN, NONCE, PORT, 3600)):
        asking.received(0.1, wrong)
        assert asking.mapping(PORT) is None
    asking.received(0.2, right)
    assert asking.mapping(PORT) is not None


def test_what_was_mapped_before_is_suggested() -> None:
    play = playing(Router(), suggested="192.0.2.1:4000")
    play.run(0)
    assert play.sent[0][1][42:44] == (4000).to_bytes(2, "big")


# -- who is asked


@pytest.mark.parametrize(
    ("addresses", "router"),
    [
        (["192.168.1.2/24"], "192.168.1.1"),
        (["192.168.1.2/24", "2001:db8::2/64"], "192.168.1.1"),
        (["192.168.1.2/24", "198.51.100.2/24"], ""),
        (["198.51.100.2/24"], ""),
        (["2001:db8::2/64"], ""),
        ([], ""),
    ],
)
def test_a_machine_that_others_can_send_to_asks_nobody(addresses: list[str], router: str) -> None:
    locality = Locality(tuple(map(ip_interface, addresses)), frozenset({4, 6}), "192.168.1.1")
    assert router_to_ask(locality) == router


@pytest.mark.parametrize(
    ("answer", "location"),
    [
        (b"HTTP/1.1 200 OK\r\nST: x\r\nLoCation:  http://192.0.2.1:5000/d.xml \r\n\r\n", "http://192.0.2.1:5000/d.xml"),
        (b"HTTP/1.1 200 OK\r\nLOCATION: file:///etc/passwd\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\nLOCATION: http://[::1\r\n\r\n", ""),
        (b"HTTP/1.1 200 OK\r\n\r\n", ""),
        (b"NOTIFY * HTTP/1.1\r\nLOCATION: http://192.0.2.1/\r\n\r\n", ""),
        (b"\xff\x00", ""),
    ],
)
def test_where_a_router_describes_itself(answer: bytes, location: str) -> None:
    assert location_in(answer) == location


# -- notes


def test_notes_last_and_what_is_damaged_counts_for_nothing(tmp_path: Path) -> None:
    notes, network_id = Notes(tmp_path), uuid4()
    note = Note("192.168.1.1", str(OWN), PORT, NONCE.hex(), Protocol.PCP, "192.0.2.1:4000", 1.0, 2.0)
    notes.write({network_id: note})
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert Notes(tmp_path).read() == {network_id: note}
    for damaged in (file.read_text()[:-5], file.read_text().replace(NONCE.hex(), "zz"), "[]"):
        file.write_text(damaged)
        assert notes.read() == {}
    notes.write({})
    assert not list(tmp_path.iterdir())
