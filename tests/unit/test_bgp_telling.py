"""What there is to tell of a BGP speaker, and how much goes into one report."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID

from agent.bgp.intent import Announced, NetworkIntent
from agent.bgp.observed import NetworkObservation, Observation
from agent.bgp.telling import MAX_BYTES, State, established, gone, key_of, packed, states_of
from events.records import BgpRequest, RibRoute, RibState, SessionState, SpeakerState, VipHealth

NET = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUNNING = SpeakerState(state="running", version="2.0.12", since=NOW)
INTENT = NetworkIntent(
    network_id=NET,
    asn=4_200_000_001,
    cidr=IPv4Network("172.16.0.0/24"),
    interface="wl-1",
    address=IPv4Address("172.16.0.1"),
    stage="mesh",
    is_reflector=False,
    reflectors=(),
    members=(),
    owners=(),
    announced=(Announced(IPv4Network("10.1.0.0/16")),),
)


def session(number: int, **changes: object) -> SessionState:
    made = SessionState(peer_id=UUID(int=number), purpose="mesh", state="established", since=NOW)
    return made.model_copy(update=changes)


def route(number: int) -> RibRoute:
    prefix = IPv4Network((0x0A000000 + number * 256, 24))
    return RibRoute(prefix=prefix, next_hop=None, best=True, local_pref=100, since=NOW)


def test_what_is_told_of_a_speaker_that_runs() -> None:
    vip = VipHealth(vip_id=UUID(int=9), healthy=True, since=NOW)
    seen = Observation(RUNNING, {NET: NetworkObservation((session(2),), (route(1),))})
    speaker, said, rib = states_of(INTENT, seen, (vip,))
    assert isinstance(speaker, SpeakerState)
    assert (speaker.announced, speaker.vips, speaker.reason) == ((IPv4Network("10.1.0.0/16"),), (vip,), "")
    assert said == session(2)
    assert rib == RibState(part=0, parts=1, total=1, routes=(route(1),))
    assert established(NET, seen) == 1


def test_a_speaker_that_is_off_announces_nothing_and_says_why() -> None:
    off = SpeakerState(state="off", reason="BIRD 2 is not installed.", since=NOW)
    (speaker,) = states_of(INTENT, Observation(off), ())
    assert speaker == off
    (hindered,) = states_of(INTENT, Observation(RUNNING), (), "It announces no routes.")
    assert isinstance(hindered, SpeakerState)
    assert hindered.reason == "It announces no routes."


def test_a_large_rib_is_told_in_parts_that_a_message_can_hold() -> None:
    seen = Observation(RUNNING, {NET: NetworkObservation(rib=tuple(map(route, range(2500))))})
    parts = [state for state in states_of(INTENT, seen, ()) if isinstance(state, RibState)]
    assert [part.part for part in parts] == list(range(20))
    assert {part.total for part in parts} == {2500}
    assert max(len(part.model_dump_json()) for part in parts) < MAX_BYTES


def test_no_machine_fills_the_reports_of_another_with_what_its_routes_carry() -> None:
    laden = {"as_path": (4_294_967_295,) * 50, "communities": ("65535:65535",) * 50}
    routes = tuple(route(number).model_copy(update=laden) for number in range(300))
    seen = Observation(RUNNING, {NET: NetworkObservation(rib=routes)})
    states = {key_of(state): state for state in states_of(INTENT, seen, ())}
    parts = [state for state in states.values() if isinstance(state, RibState)]
    assert sum(len(part.routes) for part in parts) == 300
    assert {part.parts for part in parts} == {len(parts)}
    while states:
        chosen, _ = packed(states, is_whole=False)
        assert sum(len(state.model_dump_json()) for state in chosen.values()) <= MAX_BYTES
        states = {key: state for key, state in states.items() if key not in chosen}


def test_a_speaker_fits_into_a_report_also_if_nothing_is_healthy_and_much_is_announced() -> None:
    vips = tuple(VipHealth(vip_id=UUID(int=n), healthy=False, since=NOW, reason="x" * 300) for n in range(200))
    much = replace(INTENT, announced=tuple(Announced(route(number).prefix) for number in range(500)))
    (speaker,) = states_of(much, Observation(RUNNING), vips)
    assert len(speaker.model_dump_json()) < MAX_BYTES


def test_only_of_a_session_the_end_is_told() -> None:
    assert gone(session(2)) == session(2, state="gone")
    assert gone(RUNNING) is None


def test_a_report_is_whole_if_all_sessions_are_in_it() -> None:
    states: list[State] = [RUNNING, *(session(number) for number in range(2, 20))]
    chosen, is_whole = packed({key_of(state): state for state in states}, is_whole=True)
    assert is_whole
    assert len(chosen) == len(states)
    assert not packed(chosen, is_whole=False)[1]


def test_a_report_fits_into_a_message_and_the_rest_comes_later() -> None:
    long = [session(number, error="x" * 200) for number in range(2, 252)]
    due = {key_of(state): state for state in (RUNNING, *long)}
    sizes, wholes = [], []
    while due:
        chosen, is_whole = packed(due, is_whole=True)
        wholes.append(is_whole)
        request = BgpRequest(network_id=NET, boot_id=NET, counter=1, states=tuple(chosen.values()))
        sizes.append(len(request.model_dump_json()))
        due = {key: state for key, state in due.items() if key not in chosen}
    assert max(sizes) < 64 * 1024
    assert wholes[0] is False


def test_sessions_of_each_purpose_stand_side_by_side() -> None:
    both = (session(2), session(2, purpose="client"))
    seen = Observation(RUNNING, {NET: NetworkObservation(both)})
    assert len({key_of(state) for state in states_of(replace(INTENT, stage="switching"), seen, ())}) == 4


def test_two_reflectors_sessions_with_each_other_count_as_one() -> None:
    both = (session(2, purpose="client"), session(2, purpose="reflector"), session(2), session(3, state="active"))
    assert established(NET, Observation(RUNNING, {NET: NetworkObservation(both)})) == 2
