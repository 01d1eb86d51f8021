"""Who held which address: the ledger of any history agrees at every moment with who was in which network then."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection
from ipaddress import IPv4Address
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from events.codec import digest_of
from events.domain import REGISTRY_ID
from events.log import LoggedEvent
from events.state import encode_record
from services.gateway.ledger import Asked, Holding, Roll, lives_of
from services.gateway.mirror import Mirror
from services.topology.core import Topology
from tests.support.histories import History

Held = dict[UUID, dict[UUID, IPv4Address]]


def logged(history: History) -> list[LoggedEvent]:
    return [LoggedEvent(place, event, digest_of(event)) for place, event in enumerate(history.events, 1)]


def holdings(
    events: list[LoggedEvent], asked: Asked, limit: int = 10_000, held: Collection[Holding] = ()
) -> list[Holding]:
    """All that is asked for, page by page."""
    found: list[Holding] = []
    lives = lives_of(each for each in events if each.event.originator_id == REGISTRY_ID)
    for network_id, life in lives.items():
        if not asked.concerns(life):
            continue
        after, more = (0, -1), True
        while more:
            roll = Roll(network_id, asked, limit, after, lambda holding: holding in held)
            for each in events:
                if each.event.originator_id == network_id:
                    roll.take(each)
                    if roll.is_done(each.sequence):
                        break
            else:
                if life.deleted is not None:
                    roll.deleted(life.deleted)
            page = roll.holdings
            assert len(page) <= limit
            found += page
            more = roll.more
            after = page[-1].place if page else after
    return found


def held_at(found: list[Holding], position: int) -> Held:
    then: Held = defaultdict(dict)
    for one in found:
        if one.began.sequence <= position and (one.ended is None or one.ended.sequence > position):
            assert one.machine_id not in then[one.network_id]
            then[one.network_id][one.machine_id] = one.address
    return {network_id: members for network_id, members in then.items() if members}


def members(mirror: Mirror) -> Held:
    return {
        network_id: {machine_id: member.address for machine_id, member in network.members.items()}
        for network_id, network in mirror.networks.items()
        if network.members
    }


def made(seed: int, steps: int) -> History:
    history = History(seed)
    for _ in range(steps):
        history.step()
    return history


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_the_ledger_agrees_with_the_mirror_at_every_moment(seed: int, steps: int) -> None:
    events = logged(made(seed, steps))
    found = holdings(events, Asked())
    topology, mirror = Topology(), Mirror()
    for each in events:
        for told in topology.apply(each.sequence, each.event).records:
            mirror.apply(told.subject, encode_record(told.record))
        assert held_at(found, each.sequence) == members(mirror)


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60), limit=st.integers(1, 3))
def test_pages_and_filters_tell_the_same(seed: int, steps: int, limit: int) -> None:
    events = logged(made(seed, steps))
    found = holdings(events, Asked())
    assert holdings(events, Asked(), limit) == found
    for position in {1, len(events) // 2, len(events)}:
        then = holdings(events, Asked(at=position), limit)
        assert held_at(then, position) == held_at(found, position)
        assert set(then) <= set(found)
    held = [each for each in found if each.ended is None]
    assert holdings(events, Asked(), limit, held) == found
    for one in found[:3]:
        by_address = holdings(events, Asked(address=one.address), limit, held)
        assert by_address == [each for each in found if each.address == one.address]
        by_machine = holdings(events, Asked(machine_id=one.machine_id), limit, held)
        assert by_machine == [each for each in found if each.machine_id == one.machine_id]


@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 60))
def test_no_address_has_two_machines_at_a_time(seed: int, steps: int) -> None:
    by_address: dict[tuple[UUID, IPv4Address], list[Holding]] = defaultdict(list)
    for one in holdings(logged(made(seed, steps)), Asked()):
        by_address[one.network_id, one.address].append(one)
    for held in by_address.values():
        for before, after in itertools.pairwise(held):
            assert before.ended is not None
            assert before.ended.sequence < after.began.sequence
