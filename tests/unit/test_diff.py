"""The difference of two moments, category by category."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from uuid import UUID

import pytest

from events.peering import BgpPlan
from services.gateway.diff import MOST, difference, effects
from services.gateway.differences import Change, Difference
from tests.support.histories import History
from tests.support.moments import Tale

DB_WEB = "db and web in office"
Happen = Callable[["Story"], object]


class Story(Tale):
    """A network `office` of three machines: db, gw and web."""

    def __init__(self) -> None:
        super().__init__(members=0)
        self.history.rename_network(self.home, "office")
        self.db, self.gw, self.web = [self.join(name) for name in ("db", "gw", "web")]

    def join(self, hostname: str) -> UUID:
        """A machine more."""
        return self.join_to(self.home, hostname)

    def both(self, one: UUID, other: UUID, rtt: int | None) -> None:
        """Both ends report a link."""
        self.link(self.home, one, other, rtt)
        self.link(self.home, other, one, rtt)

    def since(self, happen: Happen, *, network_id: UUID | None = None, whole: bool = False) -> Difference:
        """What something that happens changes."""
        before = self.moment()
        happen(self)
        return difference(before, self.moment(), network_id, whole=whole)


@pytest.fixture
def story() -> Story:
    return Story()


def only(found: Difference, what: str) -> list[Change]:
    return [change for change in found.changes if change.what == what]


def texts(found: Difference, what: str) -> list[str]:
    return [change.text for change in only(found, what)]


@pytest.mark.parametrize(
    ("happen", "what", "expected"),
    [
        (lambda s: s.history.create_network(), "network", ["there is a network net-1 with 10.1.0.0/16"]),
        (lambda s: s.history.rename_network(s.home, "lab"), "network", ["network office is called lab"]),
        (lambda s: s.history.set_default(s.home), "network", ["office is the default network"]),
        (lambda s: s.history.delete_network(s.home), "network", ["there is no network office any more"]),
        (
            lambda s: s.history.set_route_reflector_mode(s.home, True),
            "network",
            ["route reflector mode is on in office"],
        ),
        (
            lambda s: s.history.pin_reflectors(s.home, s.db, s.gw),
            "network",
            ["the route reflectors of office are pinned to db and gw, before chosen automatically"],
        ),
        (lambda s: s.history.register_machine("nas"), "machine", ["there is a machine nas"]),
        (lambda s: s.history.rename_machine(s.db, "db-1"), "machine", ["machine db is called db-1"]),
        (lambda s: s.history.set_transit(s.db), "machine", ["transit through db is never, before auto"]),
        (lambda s: s.history.update_agent(s.db), "machine", ["db has agent 2, before 1"]),
        (lambda s: s.history.delete_machine(s.db), "machine", ["there is no machine db any more"]),
        (lambda s: s.join("nas"), "address", ["nas has 10.0.0.4 in office"]),
        (lambda s: s.history.unassign(s.home, s.db), "address", ["db has 10.0.0.1 in office no more"]),
        (lambda s: s.history.rename_machine(s.db, "db-1"), "peer", ["its peers in office know db as db-1"]),
        (
            lambda s: s.history.set_transit(s.db),
            "peer",
            ["peers in office know transit through db as never, before auto"],
        ),
        (lambda s: s.history.unassign(s.home, s.db), "peer", ["db is a peer in office no more"]),
        (
            lambda s: s.history.rotate_key(s.home, s.db),
            "peer",
            ["db is told to make key 1 in office, before key 0"],
        ),
        (lambda s: s.both(s.db, s.web, 10), "path", [f"{DB_WEB} reach each other directly, before not known"]),
        (lambda s: s.both(s.db, s.web, None), "path", [f"{DB_WEB} do not reach each other, before not known"]),
        (
            lambda s: s.history.unassign(s.home, s.db),
            "path",
            [
                "db and gw in office have a path no more, before not known",
                "db and web in office have a path no more, before not known",
            ],
        ),
        (
            lambda s: s.join("nas"),
            "session",
            [f"{pair} are to speak BGP in office" for pair in ("db and nas", "gw and nas", "nas and web")],
        ),
        (
            lambda s: s.session(s.home, s.db, s.web, "active"),
            "session",
            ["the BGP session of db and web in office is active, before not reported"],
        ),
        (
            lambda s: s.history.set_gateway(s.db, s.home, s.history.create_network()),
            "gateway",
            ["db is a gateway between office and net-1"],
        ),
    ],
)
def test_a_change_in_words(story: Story, happen: Happen, what: str, expected: list[str]) -> None:
    assert texts(story.since(happen), what) == expected


def test_an_address_that_went_from_one_machine_to_another(story: Story) -> None:
    def happen(story: Story) -> None:
        story.history.unassign(story.home, story.db, story.gw)
        story.history.assign(story.home, story.gw)
        story.history.assign(story.home, story.db)

    changes = only(story.since(happen), "address")
    assert [(change.field, change.text) for change in changes] == [
        ("holder", "10.0.0.1 in office is gw's, before db's"),
        ("holder", "10.0.0.2 in office is db's, before gw's"),
        ("address", "db has 10.0.0.2 in office, before 10.0.0.1"),
        ("address", "gw has 10.0.0.1 in office, before 10.0.0.2"),
    ]

    def replace(story: Story) -> None:
        story.history.unassign(story.home, story.web)
        story.join("nas")

    swapped = only(story.since(replace), "address")
    assert [change.text for change in swapped] == ["10.0.0.3 in office is nas's, before web's"]


def test_of_a_new_key_only_fingerprints_are_told(story: Story) -> None:
    keys = [story.moment().mirror.networks[story.home].peers[story.db].public_key]
    found = story.since(lambda s: keys.append(s.history.announce(s.home, s.db)))
    (key, endpoints) = only(found, "peer")
    assert (key.field, endpoints.field) == ("public_key", "endpoints")
    assert key.before != key.after
    assert not any(str(each) in change.text for each in keys for change in found.changes)


def test_a_path_through_others_who_stands_by_and_what_it_takes(story: Story) -> None:
    story.both(story.db, story.gw, 10)
    story.both(story.web, story.gw, 10)
    lost = story.since(lambda s: s.both(s.db, s.web, None))
    assert texts(lost, "path") == ["db and web in office reach each other through gw, before not known"]
    spare = story.join("spare")
    story.both(story.db, spare, 20)
    joined = story.since(lambda s: s.both(s.web, spare, 20))
    assert texts(joined, "path") == [
        "db and web in office reach each other through spare if the way through gw fails, before nobody",
        "spare and web in office reach each other directly, before not known",
    ]
    slower = only(story.since(lambda s: s.both(s.db, s.gw, 2)), "path")
    assert [change.text for change in slower] == [
        "db and gw in office reach each other in 2 ms, before in 10 ms",
        "db and web in office reach each other in 12 ms, before in 20 ms",
    ]
    assert all(change.is_lesser for change in slower)
    again = story.since(lambda s: s.both(s.db, s.web, 50))
    assert texts(again, "path") == ["db and web in office reach each other directly, before through gw"]


def test_a_machine_that_joins_many_is_told_once(story: Story) -> None:
    for number in range(8):
        story.join(f"node-{number}")
    found = story.since(lambda s: s.join("late"))
    assert [(change.count, change.text) for change in (*only(found, "path"), *only(found, "session"))] == [
        (11, "late and 11 others in office have not told yet how they reach each other"),
        (11, "late and 11 others are to speak BGP in office"),
    ]
    assert {tally.what: tally.added for tally in found.tallies}["path"] == 11
    whole = story.since(lambda s: s.history.unassign(s.home, s.history.machines[-1]), whole=True)
    assert [change.count for change in only(whole, "path")] == [1] * 11
    assert len(only(whole, "session")) == 11


def test_a_network_that_goes_takes_all_with_it(story: Story) -> None:
    for number in range(8):
        story.join(f"node-{number}")
    found = story.since(lambda s: s.history.delete_network(s.home))
    assert [change.text for change in found.changes] == [
        "there is no network office any more",
        "11 machines have an address in office no more",
        "11 machines are peers in office no more",
        "55 pairs in office have paths no more, before not known",
        "55 pairs are not to speak BGP in office any more",
    ]


def test_sessions_follow_the_plan(story: Story) -> None:
    def plan(*reflectors: UUID, stage: str) -> Happen:
        made = BgpPlan(stage, frozenset(reflectors))  # type: ignore[arg-type]
        return lambda s: s.plans.update({s.home: made})

    switching = story.since(plan(story.gw, stage="switching"))
    assert [change.text for change in switching.changes] == [
        "BGP sessions in office are in full mesh and with reflectors, before in full mesh",
        "the reflectors in office are gw, before none",
        "db and gw are to speak BGP in office, gw as reflector",
        "gw and web are to speak BGP in office, gw as reflector",
    ]
    switched = story.since(plan(story.gw, stage="reflectors"))
    assert [change.text for change in switched.changes][1:] == [
        f"{pair} are not to speak BGP in office any more" for pair in ("db and gw", "db and web", "gw and web")
    ]
    story.session(story.home, story.db, story.gw, "established", "client")
    broken = story.since(lambda s: s.session(s.home, s.gw, s.db, "idle", "reflector"))
    assert texts(broken, "session") == [
        "the BGP session of db with its reflector gw in office is idle, before established"
    ]
    other = story.since(plan(story.web, stage="reflectors"))
    assert {(change.kind, change.text) for change in other.changes if change.kind != "changed"} == {
        ("added", "db and web are to speak BGP in office, web as reflector"),
        ("added", "gw and web are to speak BGP in office, web as reflector"),
        ("removed", "db and gw are not to speak BGP in office any more, gw as reflector"),
        ("removed", "gw and web are not to speak BGP in office any more, gw as reflector"),
    }


def test_routes_and_the_like(story: Story) -> None:
    history = story.history
    made = story.since(lambda s: history.set_route(s.db, prefixes=("10.20.0.0/16",)))
    route = next(iter(history.routes))
    name = only(made, "route")[0].item
    assert name is not None
    assert texts(made, "route") == [f"there is a route {name.name}: 10.20.0.0/16 behind db"]
    assert texts(made, "announcement") == ["db in office may announce 10.20.0.0/16"]
    moved = story.since(
        lambda s: history.set_route(s.gw, route_id=route, prefixes=("10.20.0.0/16", "10.21.0.0/16"), enabled=False)
    )
    assert [(change.field, change.before, change.after) for change in only(moved, "route")] == [
        ("enabled", "enabled", "disabled"),
        ("prefixes", "10.20.0.0/16", "10.20.0.0/16, 10.21.0.0/16"),
        ("machine_ids", "db", "gw"),
    ]
    assert texts(moved, "announcement") == ["db in office may not announce 10.20.0.0/16 any more"]
    assert texts(story.since(lambda s: history.delete_route(route)), "route") == [
        f"there is no route {name.name} any more"
    ]


def test_what_has_to_do_with_one_network(story: Story) -> None:
    lab = story.history.create_network()
    far = story.join_to(lab, "far")

    def happen(story: Story) -> None:
        story.history.rename_machine(far, "farther")
        story.history.rename_machine(story.db, "db-1")
        story.history.set_route(far, prefixes=("10.20.0.0/16",))

    before = story.moment()
    happen(story)
    after = story.moment()
    assert [change.what for change in difference(before, after, story.home).changes] == ["machine", "peer"]
    assert [change.what for change in difference(before, after, lab).changes] == [
        "machine", "peer", "route", "announcement",
    ]  # fmt: skip
    assert difference(before, after).total == 6


def test_what_is_undone_by_hand_is_no_difference(story: Story) -> None:
    def happen(story: Story) -> None:
        story.history.rename_network(story.home, "lab")
        story.history.rename_network(story.home, "office")
        story.history.set_transit(story.db, "never")
        story.history.set_transit(story.db, "auto")
        story.history.delete_machine(story.join("guest"))
        story.both(story.db, story.web, 10)
        story.both(story.db, story.web, None)

    story.both(story.db, story.web, None)
    assert not story.since(happen)


def test_only_the_first_are_kept_and_all_are_counted(story: Story) -> None:
    before = story.moment()
    for number in range(5):
        story.join(f"node-{number}")
    found = difference(before, story.moment(), most=2)
    assert len(found.changes) == 2
    assert found.total == difference(before, story.moment()).total > 2
    assert {tally.what: tally.added for tally in found.tallies}["machine"] == 5


async def test_effects_lets_others_run(story: Story) -> None:
    before = story.moment()
    for number in range(40):
        story.join(f"node-{number}")
    after = story.moment()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    assert await effects(before, after, [story.home]) == difference(before, after)
    counting.cancel()
    assert turns > 5
    nowhere = await effects(before, after, [], most=MOST)
    assert not {"path", "session"} & {tally.what for tally in nowhere.tallies}


def test_two_thousand_machines_take_well_below_a_second() -> None:
    tale = Tale(members=0)
    history: History = tale.history
    machines = [history.register_machine(f"m-{number}") for number in range(2000)]
    history.assign(tale.home, *machines)
    for number, machine in enumerate(machines):
        history.announce(tale.home, machine)
        tale.link(tale.home, machine, machines[number - 1], 10)
    before = tale.moment()
    late = history.register_machine("late")
    history.assign(tale.home, late)
    tale.link(tale.home, machines[7], machines[6], None)
    after = tale.moment()
    began = time.process_time()
    found = difference(before, after)
    assert time.process_time() - began < 0.7
    assert [(change.what, change.count) for change in found.changes] == [
        ("machine", 1), ("address", 1), ("path", 2000), ("path", 1), ("session", 2000),
    ]  # fmt: skip
