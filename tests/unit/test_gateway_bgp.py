"""Which reports of their BGP speakers machines are believed, and what is told of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

import pytest
from pydantic import ValidationError

from events.errors import InvalidInputError, NotFoundError, RateLimitedError
from events.peering import BgpPlan
from events.records import BgpEvent, BgpRequest, RibRoute, RibState, SessionState, SpeakerState, VipHealth
from events.routing import RECOMMENDED_FULL_MESH, SessionKind
from services.gateway.bgp import REPEATED_AFTER, REPORTS, Bgp, tells_of_members
from services.gateway.http.bgp_views import BgpViews
from services.gateway.http.views import recommendation
from services.gateway.peerings import find_sessions, page_of_routes
from services.gateway.presence import Presence
from services.gateway.reporters import StaleReportError
from tests.support.reach_net import START, Net

State = SpeakerState | SessionState | RibState


class Reports:
    """A network whose machines report BGP."""

    def __init__(self, machines: int) -> None:
        self.net = Net(machines)
        self.bgp = Bgp()
        self.counter = 0
        self.sequence = 0

    def ask(
        self, machine: UUID, *states: State, whole: bool = False, counter: int | None = None, boot: UUID | None = None
    ) -> tuple[BgpEvent, ...]:
        """What a report leads to, of which nothing is written."""
        self.net.seconds += 1
        self.counter = self.counter + 1 if counter is None else counter
        request = BgpRequest(
            network_id=self.net.id,
            boot_id=boot or self.net.boots[machine],
            counter=self.counter,
            whole=whole,
            states=states,
        )
        return self.bgp.accept(machine, request, self.net.mirror, self.net.now)

    def say(self, machine: UUID, *states: State, whole: bool = False) -> list[State]:
        """What is written of a report."""
        events = self.ask(machine, *states, whole=whole)
        for event in events:
            self.sequence += 1
            self.bgp.take(self.sequence, event)
        return [event.state for event in events]

    @property
    def views(self) -> BgpViews:
        """What people see."""
        return BgpViews(self.net.mirror, self.bgp, Presence(), self.net.now)


def session(peer: UUID, purpose: SessionKind = "mesh", state: str = "established", **more: object) -> SessionState:
    return SessionState(peer_id=peer, purpose=purpose, state=state, since=START, **more)  # type: ignore[arg-type]


def speaker(state: str = "running", **more: object) -> SpeakerState:
    return SpeakerState(state=state, since=START, **more)  # type: ignore[arg-type]


def route(prefix: str, hop: str | None = "172.16.0.1", **more: object) -> RibRoute:
    fields = {"best": True, "local_pref": 100, "since": START} | more
    return RibRoute(prefix=IPv4Network(prefix), next_hop=hop and IPv4Address(hop), **fields)  # type: ignore[arg-type]


def test_only_what_is_new_is_written_until_it_is_old() -> None:
    reports = Reports(2)
    one, two = reports.net.machines
    said: tuple[State, ...] = (speaker(), session(two), RibState(part=0, parts=1, total=0, routes=()))
    assert reports.say(one, *said) == list(said)
    assert reports.say(one, *said) == []
    assert reports.say(one, *said[:1], session(two, state="active")) == [session(two, state="active")]
    reports.net.seconds += int(REPEATED_AFTER.total_seconds())
    assert reports.say(one, *said[:1]) == [said[0]]


def test_a_whole_report_ends_the_sessions_that_it_does_not_name() -> None:
    reports = Reports(3)
    one, two, three = reports.net.machines
    reports.say(one, speaker(), session(two), session(three), session(three, "client"))
    (end,) = reports.say(one, session(two), session(three), whole=True)
    assert isinstance(end, SessionState)
    assert (end.peer_id, end.purpose, end.state) == (three, "client", "gone")
    assert reports.bgp.sessions(reports.net.id, one).keys() == {(two, "mesh"), (three, "mesh")}
    assert reports.bgp.speaker(reports.net.id, one) == speaker(), "what is no session stays"
    assert reports.say(one, session(two), session(three), whole=True) == [], "it ends once"


def test_who_is_not_in_the_network_is_not_believed_and_not_spoken_of() -> None:
    reports = Reports(2)
    one, two = reports.net.machines
    with pytest.raises(NotFoundError):
        reports.ask(uuid4(), speaker())
    assert reports.say(one, session(uuid4()), session(one), session(two)) == [session(two)]
    request = BgpRequest(network_id=reports.net.id, boot_id=uuid4(), counter=1, states=(session(two),))
    assert tells_of_members(one, request, reports.net.mirror)
    assert not tells_of_members(uuid4(), request, reports.net.mirror)
    unknown = request.model_copy(update={"states": (session(uuid4()),)})
    assert not tells_of_members(one, unknown, reports.net.mirror)


def test_an_old_report_is_refused_also_after_a_restart_of_the_gateway() -> None:
    reports = Reports(2)
    one, two = reports.net.machines
    (event,) = reports.ask(one, speaker(), counter=5)
    with pytest.raises(StaleReportError):
        reports.ask(one, session(two), counter=5)
    reports.bgp = Bgp()
    reports.bgp.take(1, event)
    with pytest.raises(StaleReportError):
        reports.ask(one, session(two), counter=4)
    reports.ask(one, session(two), counter=1, boot=uuid4())
    with pytest.raises(StaleReportError):
        reports.ask(one, session(two), counter=99)


def test_a_machine_reports_so_often_and_no_more() -> None:
    reports = Reports(1)
    (one,) = reports.net.machines
    before = reports.net.seconds
    for _ in range(REPORTS):
        reports.net.seconds = before
        reports.ask(one, speaker())
    reports.net.seconds = before
    with pytest.raises(RateLimitedError):
        reports.ask(one, speaker())


def test_what_cannot_be_shown_is_refused_or_cleaned_and_nothing_comes_from_the_future() -> None:
    reports = Reports(2)
    one, two = reports.net.machines
    late = START + timedelta(days=1)
    vip = VipHealth(vip_id=uuid4(), healthy=False, since=late, reason="no\x1b[2Janswer")
    (said,) = reports.say(one, speaker("off", reason="none\nhere", vips=(vip,)))
    assert isinstance(said, SpeakerState)
    assert (said.reason, said.vips[0].reason, said.vips[0].since) == ("none?here", "no?[2Janswer", reports.net.now)
    (ancient,) = reports.say(one, session(two).model_copy(update={"since": datetime(1, 1, 1, tzinfo=UTC)}))
    assert isinstance(ancient, SessionState)
    assert ancient.since.year == 2000, "a time that every time zone has"
    for bad in (
        RibState(part=1, parts=1, total=0, routes=()),
        RibState(part=0, parts=1, total=1, routes=(route("10.0.0.0/8", communities=("\x1b[2J",)),)),
    ):
        with pytest.raises(InvalidInputError):
            reports.ask(one, bad)


@pytest.mark.parametrize("number", [-1, 1 << 32, 10**400])
def test_a_number_that_nobody_can_read_is_refused(number: int) -> None:
    with pytest.raises(ValidationError):
        session(uuid4(), imported=number)
    with pytest.raises(ValidationError):
        session(uuid4(), exported=number)
    with pytest.raises(ValidationError):
        RibState(part=0, parts=1, total=number, routes=())
    for what in ({"local_pref": number}, {"med": number}, {"as_path": (number,)}):
        with pytest.raises(ValidationError):
            route("10.0.0.0/8", **what)
    with pytest.raises(ValidationError):
        BgpRequest(network_id=uuid4(), boot_id=uuid4(), counter=number << 40, states=())


def test_the_routes_are_those_of_the_newest_parts_page_by_page() -> None:
    reports = Reports(2)
    one, two = reports.net.machines
    first = tuple(route(f"10.{number}.0.0/16") for number in range(3))
    second = (route("10.3.0.0/16", "172.16.0.2", best=False), route("10.3.0.0/16"), route("10.4.0.0/16", None))
    for part, routes in enumerate((first, second)):
        reports.say(one, RibState(part=part, parts=2, total=9, routes=routes))
    found, total = reports.bgp.routes(reports.net.id, one)
    assert (len(found), total) == (6, 9)
    assert [each.best for each in found if str(each.prefix) == "10.3.0.0/16"] == [True, False]
    for limit in (1, 2, 4, 6):
        paged: list[RibRoute] = []
        after: str | None = None
        while True:
            page, after = page_of_routes(found, limit, after)
            paged += page
            if after is None:
                break
        assert tuple(paged) == found
    views = [reports.views.route(reports.net.id, each) for each in found]
    hosts = {(str(view.next_hop), view.machine.hostname if view.machine else None) for view in views}
    assert hosts == {("172.16.0.1", "m-1"), ("172.16.0.2", "m-2"), ("None", None)}
    reports.say(one, RibState(part=0, parts=1, total=1, routes=first[:1]))
    assert reports.bgp.routes(reports.net.id, one) == (first[:1], 1), "the second part counts no more"
    assert reports.bgp.routes(reports.net.id, two) == ((), 0)


@pytest.mark.parametrize("cursor", ["x", "W10", "bnVsbA", "WzEsMiwzLCJhIl0", "e30"])
def test_a_cursor_of_another_list_is_refused(cursor: str) -> None:
    reports = Reports(2)
    with pytest.raises(InvalidInputError):
        page_of_routes((), 1, cursor)
    with pytest.raises(InvalidInputError):
        find_sessions(reports.net.mirror, reports.bgp, reports.net.id, None, None, limit=1, after=cursor)


def test_sessions_are_listed_once_or_as_a_machine_finds_them() -> None:
    reports = Reports(4)
    one, two, three, four = reports.net.machines
    for machine in (one, two, three):
        others = [each for each in (one, two, three) if each != machine]
        kinds = [session(each, "client") for each in others if each == one]
        served = [session(each, "reflector") for each in others if machine == one]
        reports.say(machine, *map(session, others), *kinds, *served)
    reports.say(four, session(one, state="active", error="Hold timer expired"))

    def listed(machine: UUID | None = None, state: str | None = None, limit: int = 100) -> list[tuple[str, str, str]]:
        found: list[tuple[str, str, str]] = []
        after: str | None = None
        while True:
            page, after = find_sessions(
                reports.net.mirror, reports.bgp, reports.net.id, machine, state, limit=limit, after=after
            )
            views = [reports.views.session(reports.net.id, each) for each in page]
            found += [(view.machine.hostname, view.peer.hostname, view.purpose) for view in views]
            if after is None:
                return found

    each_once = [
        ("m-1", "m-2", "mesh"),
        ("m-1", "m-3", "mesh"),
        ("m-2", "m-1", "client"),
        ("m-2", "m-3", "mesh"),
        ("m-3", "m-1", "client"),
    ]
    for limit in (1, 2, 100):
        assert listed(limit=limit) == each_once
    assert listed(one) == [
        ("m-1", "m-2", "mesh"),
        ("m-1", "m-2", "reflector"),
        ("m-1", "m-3", "mesh"),
        ("m-1", "m-3", "reflector"),
    ]
    assert listed(four) == listed(four, "active") == [("m-4", "m-1", "mesh")]
    assert listed(four, "established") == []
    with pytest.raises(NotFoundError):
        listed(uuid4())
    counts = reports.views.network(reports.net.id, BgpPlan("switching", frozenset({one}))).sessions
    assert (counts.established, counts.planned, counts.in_full_mesh, counts.with_reflectors) == (5, 9, 6, 3)
    reports.say(three, session(one, state="idle"), session(two, state="gone"))
    assert reports.views.network(reports.net.id, BgpPlan()).sessions.established == 3


def test_a_networks_speakers_are_counted_and_its_reflectors_named() -> None:
    reports = Reports(4)
    one, two, three, _ = reports.net.machines
    reports.say(one, speaker())
    reports.say(two, speaker("off", reason="BIRD is not installed"))
    reports.say(three, speaker("failed"))
    view = reports.views.network(reports.net.id, BgpPlan("reflectors", frozenset({one, three})))
    assert (view.speakers.running, view.speakers.off, view.speakers.failed, view.speakers.unknown) == (1, 1, 1, 1)
    assert {(each.hostname, each.reason, each.speaker) for each in view.reflectors} == {
        ("m-1", "chosen", "running"),
        ("m-3", "chosen", "failed"),
    }
    plan = BgpPlan("reflectors", frozenset({one}))
    off, silent = (reports.views.speaker(reports.net.id, each, plan) for each in (two, reports.net.machines[3]))
    assert (off.state, off.reason, off.sessions_planned) == ("off", "BIRD is not installed", 1)
    assert (silent.state, silent.since) == ("unknown", None)


def test_only_a_large_network_in_full_mesh_gets_a_recommendation() -> None:
    assert recommendation(RECOMMENDED_FULL_MESH, with_reflectors=False) is None
    assert recommendation(RECOMMENDED_FULL_MESH + 1, with_reflectors=True) is None
    assert recommendation(250, with_reflectors=False) == (
        "Turn on route reflector mode: in full mesh 250 machines keep 31,125 BGP sessions, with 3 reflectors 747."
    )


def test_a_machine_that_died_without_a_word_has_no_sessions() -> None:
    reports = Reports(3)
    one, two, three = reports.net.machines
    reports.say(three, session(one), session(two), session(one, "client"), session(two, "client"))
    reports.say(one, session(three), session(two), session(three, "reflector"))
    reports.say(two, session(three), session(one), session(three, "reflector"))

    def shown(machine: UUID | None = None) -> list[str]:
        found, _ = find_sessions(reports.net.mirror, reports.bgp, reports.net.id, machine, None, limit=100, after=None)
        return [each.state.state for each in found]

    assert reports.views.network(reports.net.id, BgpPlan()).sessions.established == 5
    assert shown() == ["established"] * 5
    for other in (one, two):
        reports.say(other, session(three, state="idle"), session(three, "reflector", "active"))
    assert reports.views.network(reports.net.id, BgpPlan()).sessions.established == 1
    assert sorted(shown()) == ["active", "active", "established", "idle", "idle"]
    assert shown(three) == ["established"] * 4, "as it finds them itself"
    reports.say(one, session(three))
    assert reports.views.network(reports.net.id, BgpPlan()).sessions.established == 2


def test_what_several_reflectors_tell_alike_is_one_route_and_the_one_in_use() -> None:
    reports = Reports(2)
    one = reports.net.machines[0]
    told = [route("10.1.0.0/16", best=best) for best in (True, False, False)]
    reports.say(one, RibState(part=0, parts=1, total=5, routes=tuple(told)))
    assert reports.bgp.routes(reports.net.id, one) == ((told[0],), 3), "two more are not reported"


def test_sessions_with_machines_that_left_do_not_count() -> None:
    reports = Reports(3)
    one, two, three = reports.net.machines
    for machine in (one, two, three):
        others = [each for each in (one, two, three) if each != machine]
        served = [session(each, "reflector") for each in others if machine == one]
        clients = [session(one, "client")] if machine != one else []
        reports.say(machine, *map(session, others), *served, *clients)
    counts = [
        reports.bgp.established(reports.net.id, members) for members in ((one, two, three), (one, two), (two, three))
    ]
    assert counts == [5, 2, 1]
