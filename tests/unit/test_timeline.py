"""The time line of a page, and links that keep its moment."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from events.domain import Assignment, MachinesAssigned, NetworkRenamed
from events.log import LoggedEvent
from services.gateway.pages.keeping import keep_moment, with_moment
from services.gateway.pages.timeline import Moment, Timeline, at_of, changes_of, kind_of, moments_of, timeline_of
from services.gateway.ways import Kind, Way

NOON = datetime(2026, 5, 3, 12, 0, tzinfo=UTC)
NETWORK, ONE, OTHER, VIA = (UUID(int=number) for number in range(1, 5))
NAMES = {ONE: "one", OTHER: "two", VIA: "via"}


def moment(sequence: int, minutes: float) -> Moment:
    return Moment(str(sequence), NOON + timedelta(minutes=minutes), f"event {sequence}", "network", sequence)


def change(minutes: float) -> Moment:
    time = NOON + timedelta(minutes=minutes)
    return Moment(at_of(time), time, "a path", "paths")


def way(minutes: float | None, kind: Kind = "direct", other: UUID = OTHER) -> Way:
    since = None if minutes is None else NOON + timedelta(minutes=minutes)
    return Way(NETWORK, ONE, other, kind, ((VIA,),) if kind == "transit" else (), None, since, (None, None), None)


EVENTS = [moment(3, 0), moment(7, 10), moment(9, 20)]


def seen(at: tuple[int, float] | None, *, changes: list[Moment] | None = None) -> Timeline:
    when = None if at is None else (at[0], NOON + timedelta(minutes=at[1]))
    return timeline_of(EVENTS, changes or [], when)


def told(line: Timeline) -> tuple[int, str | None, str | None]:
    return line.here, line.previous and line.previous.at, line.next and line.next.at


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        (None, (3, "9", None)),
        ((9, 20), (2, "7", None)),
        ((7, 10), (1, "3", "9")),
        ((3, 0), (0, None, "7")),
        ((8, 12), (1, "7", "9")),
        ((2, -1), (-1, None, "3")),
        ((12, 50), (2, "9", None)),
    ],
)
def test_one_steps_from_moment_to_moment(
    at: tuple[int, float] | None, expected: tuple[int, str | None, str | None]
) -> None:
    assert told(seen(at)) == expected


def test_paths_change_between_events() -> None:
    line = seen((7, 10), changes=[change(5), change(15), change(-1)])
    assert [each.kind for each in line.moments] == ["network", "paths", "network", "paths", "network"]
    assert told(line) == (2, at_of(NOON + timedelta(minutes=5)), at_of(NOON + timedelta(minutes=15)))
    assert told(seen((7, 15), changes=[change(15)])) == (2, "7", "9")


def test_one_steps_back_to_changes_that_only_the_reports_of_then_tell_of() -> None:
    line = timeline_of(EVENTS, [], (7, NOON + timedelta(minutes=10)), [change(4), change(6), change(10)])
    assert line.previous == change(6)
    assert len(line.moments) == 3


def test_events_keep_the_order_of_the_log_whatever_their_clocks_say() -> None:
    line = timeline_of([moment(3, 5), moment(4, 0), moment(5, 6)], [], None)
    assert [each.sequence for each in line.moments] == [3, 4, 5]


def test_a_line_of_nothing_is_the_present() -> None:
    line = timeline_of([], [], None)
    assert line.is_now
    assert (line.marks, line.labels, line.bands, line.shown) == ((), (), (), None)


def test_places_are_even_and_the_present_is_at_the_end() -> None:
    assert [mark.x for mark in seen(None).marks] == ["0%", "33.33%", "66.67%"]
    assert {label.text for label in seen(None).labels} == {"12:00:00", "12:10:00", "12:20:00"}


def test_days_are_told_apart() -> None:
    line = timeline_of([moment(1, 0), moment(2, 24 * 60), moment(3, 24 * 60 + 1), moment(4, 48 * 60)], [], None)
    assert [(band.x, band.width) for band in line.bands] == [("12.5%", "50%")]
    assert line.labels[0].text == "3 May 12:00"


def test_what_one_command_caused_is_one_moment() -> None:
    command, fields = uuid4(), {"originator_id": NETWORK, "previous_hash": "", "time": NOON, "actor": "cli:anna"}
    places = tuple(Assignment(machine_id=each, address="10.0.0.1") for each in (ONE, OTHER))
    renamed = NetworkRenamed(
        **fields, originator_version=1, command_id=command, network_id=NETWORK, name="b", previous_name="a"
    )
    assigned = MachinesAssigned(
        **fields, originator_version=2, command_id=command, network_id=NETWORK, assignments=places
    )
    logged = [LoggedEvent(5, renamed, ""), LoggedEvent(6, assigned, "")]
    (found,) = moments_of(logged, lambda each: each.event.kind)
    assert (found.at, found.text, found.weight) == ("6", "network.renamed, and 1 more", 2)


def test_paths_that_change_together_are_one_moment() -> None:
    found = changes_of([way(1), way(1.01, "transit", VIA), way(3, "none"), way(None)], NAMES.get)
    assert [each.text for each in found] == [
        "one and two reach each other directly and one and via reach each other through via",
        "one and two reach each other no more",
    ]
    many = changes_of([way(1) for _ in range(9)], NAMES.get)
    assert many[0].text == "one and two reach each other directly, and 8 other paths changed"


def test_kinds_of_events_are_few() -> None:
    assert kind_of("network.renamed") == "network"
    assert kind_of("network.machines_assigned") == "members"
    assert kind_of("network.membership_registered") == "members"
    assert kind_of("machine.renamed") == kind_of("access.machine_revoked") == "machines"
    assert kind_of("routing.route_created") == "routing"
    assert kind_of("access.account_created") == "access"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("/networks", "/networks?at=7"),
        ("/machines?search=a", "/machines?search=a&at=7"),
        ("/networks/1/map#paths", "/networks/1/map?at=7#paths"),
        ("paths/1/2", "paths/1/2?at=7"),
        ("/events/4", "/events/4"),
        ("/networksx", "/networksx"),
        ("https://example.com/networks", "https://example.com/networks"),
    ],
)
def test_an_address_at_a_moment(address: str, expected: str) -> None:
    assert with_moment(address, "7") == expected


def test_links_and_forms_of_a_page_keep_its_moment() -> None:
    html = keep_moment(
        '<a class="name" href="/networks/1?kind=none">x</a><a data-now href="/networks/1">now</a>'
        '<a href="/events/3">e</a><button hx-get="/machines/1/seen?endpoint=a">s</button>'
        '<form action="/machines" method="get" hx-get="/machines"><input hx-get="/machines" hx-include="closest form">'
        '</form><p>&lt;a href=&#34;/networks&#34;&gt;</p><time datetime="/networks">',
        "2026-05-03T12:00:00Z",
    )
    at = "at=2026-05-03T12:00:00Z"
    assert html == (
        f'<a class="name" href="/networks/1?kind=none&amp;{at}">x</a><a data-now href="/networks/1">now</a>'
        f'<a href="/events/3">e</a><button hx-get="/machines/1/seen?endpoint=a&amp;{at}">s</button>'
        '<form action="/machines" method="get" hx-get="/machines">'
        '<input type="hidden" name="at" value="2026-05-03T12:00:00Z">'
        '<input hx-get="/machines" hx-include="closest form">'
        '</form><p>&lt;a href=&#34;/networks&#34;&gt;</p><time datetime="/networks">'
    )
