"""How soon machines apply what changes, and who lags."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.records import Heartbeat
from services.gateway.acknowledging import Acknowledging
from services.gateway.convergence import KEPT, Convergences, percentile
from services.gateway.network_status import NetworkStatus, status_of
from services.gateway.presence import ONLINE_FOR, Presence
from tests.unit.test_gateway_mirror import START, Story

SECOND = timedelta(seconds=1)
BOOT = UUID(int=1)


class World:
    """A network of two machines, and what they acknowledge."""

    def __init__(self) -> None:
        self.story = Story()
        self.network = self.story.network("office", "172.16.0.0/24")
        self.one, self.two = (self.story.machine(name) for name in ("one", "two"))
        self.presence = Presence()
        self.heard = Acknowledging(self.story.mirror, self.presence)
        self.now = START
        self.counters = dict.fromkeys((self.one, self.two), 0)
        for number, machine in enumerate((self.one, self.two), 1):
            self.story.assign(self.network, machine, f"172.16.0.{number}")

    def change(self, machine: UUID) -> int:
        """A record of the network; its revision."""
        self.story.peer(self.network, machine, "172.16.0.1")
        self.heard.record(f"state.network.{self.network}.peer.{machine}")
        revision, said_at = self.story.mirror.revision_of(self.network)
        assert said_at is not None
        self.now = max(self.now, said_at)
        return revision

    def beat(self, machine: UUID, revision: int, ago: int = 0, boot: UUID = BOOT) -> None:
        """A heartbeat."""
        self.counters[machine] += 1
        heartbeat = Heartbeat(
            boot_id=boot,
            counter=self.counters[machine],
            applied={self.network: revision},
            applied_ago={self.network: ago},
        )
        assert self.presence.beat(machine, heartbeat, self.now)
        self.heard.beat(machine, heartbeat, self.now)

    def status(self) -> NetworkStatus:
        """How it stands."""
        return status_of(self.story.mirror, self.presence, self.heard.convergences, self.network, self.now)


@pytest.fixture
def world() -> World:
    return World()


def test_who_has_applied_what(world: World) -> None:
    first = world.change(world.one)
    world.beat(world.one, first)
    status = world.status()
    assert (status.revision, status.revisions, status.machine_count, status.online_count) == (
        first,
        ((first, 1),),
        2,
        1,
    )
    (laggard,) = status.laggards
    assert (laggard.hostname, laggard.revision, laggard.since, laggard.is_online) == ("two", None, None, False)


def test_who_lags_lags_since_the_first_change_that_it_lacks(world: World) -> None:
    first = world.change(world.one)
    world.beat(world.one, first)
    world.beat(world.two, first)
    world.change(world.one)
    since = world.story.mirror.revision_of(world.network)[1]
    world.change(world.one)
    world.now += 5 * SECOND
    world.beat(world.one, first + 2)
    (laggard,) = world.status().laggards
    assert (laggard.hostname, laggard.revision, laggard.since, laggard.is_online) == ("two", first, since, True)


def test_how_soon_it_was_applied(world: World) -> None:
    for machine in (world.one, world.two):
        world.beat(machine, 0)
    revision = world.change(world.one)
    world.now += 3 * SECOND
    world.beat(world.one, revision, ago=2500)
    world.beat(world.two, revision)
    (change,) = [change for change in world.status().changes if change.revision == revision]
    assert list(change.seconds) == [0.5, 3.0]
    assert (change.percentile(50), change.percentile(99), world.status().percentile(99)) == (0.5, 3.0, 3.0)


def test_who_was_away_tells_nothing_about_what_was_said_meanwhile(world: World) -> None:
    revision = world.change(world.one)
    world.now += SECOND
    world.beat(world.one, revision)
    assert not world.status().changes[0].seconds
    following = world.change(world.one)
    world.now += ONLINE_FOR + SECOND
    world.beat(world.one, following)
    assert not world.status().changes[0].seconds
    last = world.change(world.one)
    world.beat(world.one, last, boot=uuid4())
    assert not world.status().changes[0].seconds


def test_what_cannot_be_is_not_believed(world: World) -> None:
    revision = world.change(world.one)
    world.beat(world.one, revision)
    world.beat(world.one, revision + 1000, ago=1 << 52)
    following = world.change(world.one)
    world.now += SECOND
    world.beat(world.one, following, ago=-(1 << 52))
    assert list(world.status().changes[0].seconds) == [1.0]


def test_nobody_is_at_a_revision_that_there_is_not(world: World) -> None:
    revision = world.change(world.one)
    world.beat(world.one, 10**30)
    world.beat(world.two, -(10**30))
    status = world.status()
    assert status.revisions == ((revision, 1),)
    assert [(each.machine_id, each.revision) for each in status.laggards] == [(world.two, None)]


def test_a_machine_that_says_less_and_then_more_again_counts_once(world: World) -> None:
    before = world.change(world.one)
    world.beat(world.one, before)
    revision = world.change(world.one)
    world.now += SECOND
    for said in (revision, before, revision, before, revision):
        world.beat(world.one, said)
    (change,) = [change for change in world.status().changes if change.revision == revision]
    assert list(change.seconds) == [1.0]


def test_a_network_that_is_gone_is_forgotten(world: World) -> None:
    revision = world.change(world.one)
    world.beat(world.one, revision)
    world.story.put(f"state.network.{world.network}.info", None)
    world.heard.record(f"state.network.{world.network}.info")
    assert world.heard.convergences.of(world.network) == ()


def test_only_the_newest_changes_are_kept() -> None:
    known, network = Convergences(), uuid4()
    for revision in range(1, 2 * KEPT):
        known.changed(network, revision, START + revision * SECOND)
    assert [change.revision for change in known.of(network)] == list(range(KEPT, 2 * KEPT))
    assert known.first_after(network, 3) is None
    assert known.first_after(network, KEPT) == START + (KEPT + 1) * SECOND
    assert known.first_after(network, 2 * KEPT) is None


@given(st.lists(st.floats(0, 100), min_size=1), st.integers(1, 100))
def test_percentiles(values: list[float], percent: int) -> None:
    found = percentile(values, percent)
    assert found in values
    assert found is not None
    assert sum(value <= found for value in values) * 100 >= percent * len(values)
    assert sum(value < found for value in values) * 100 < percent * len(values)


def test_of_nothing_there_is_no_percentile() -> None:
    assert percentile([], 50) is None
