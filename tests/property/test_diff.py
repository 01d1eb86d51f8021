"""The difference of two moments of random stories."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from events.state import decode_record
from services.gateway.diff import difference
from services.gateway.differences import Change
from tests.support.moments import Moment, Tale

STEPS = st.integers(0, 25)
BACKWARDS = {"added": "removed", "removed": "added", "changed": "changed"}


def two(seed: int, first: int, more: int) -> tuple[Moment, Moment]:
    """A moment, and a later one."""
    tale = Tale(seed)
    for _ in range(first):
        tale.step()
    before = tale.moment()
    for _ in range(more):
        tale.step()
    return before, tale.moment()


pairs = st.builds(two, st.integers(0, 2**32), STEPS, STEPS)


@settings(max_examples=60)
@given(pairs)
def test_a_moment_does_not_differ_from_itself(moments: tuple[Moment, Moment]) -> None:
    for moment in moments:
        assert not difference(moment, moment)


@settings(max_examples=100)
@given(pairs, st.booleans())
def test_the_way_back_is_told_the_other_way_round(moments: tuple[Moment, Moment], whole: bool) -> None:
    before, after = moments
    there, back = (difference(*each, whole=whole, most=10_000) for each in ((before, after), (after, before)))
    assert Counter(map(essence, there.changes)) == Counter(map(mirrored, back.changes))
    assert {(each.what, each.added, each.removed, each.changed) for each in there.tallies} == {
        (each.what, each.removed, each.added, each.changed) for each in back.tallies
    }


@settings(max_examples=150)
@given(pairs)
def test_nothing_differs_just_where_all_is_seen_alike(moments: tuple[Moment, Moment]) -> None:
    before, after = moments
    assert bool(difference(before, after)) == (everything(before) != everything(after))


@settings(max_examples=60)
@given(pairs)
def test_together_or_one_by_one_as_much_has_changed(moments: tuple[Moment, Moment]) -> None:
    short, whole = difference(*moments), difference(*moments, whole=True, most=10_000)
    assert short.tallies == whole.tallies
    assert all(change.count == 1 for change in whole.changes)
    assert sum(change.count for change in short.changes) == whole.total


@settings(max_examples=60)
@given(pairs)
def test_a_networks_difference_is_a_part_of_the_whole_and_nothing_of_it_is_missing(
    moments: tuple[Moment, Moment],
) -> None:
    before, after = moments
    everywhere = Counter(difference(before, after, whole=True, most=10_000).changes)
    for network_id in before.mirror.networks.keys() | after.mirror.networks.keys():
        here = Counter(difference(before, after, network_id, whole=True, most=10_000).changes)
        assert here <= everywhere
        inside = {change for change in everywhere if change.network and change.network.uuid == network_id}
        assert inside <= here.keys()


def essence(change: Change) -> tuple[Any, ...]:
    """A change without its words, which are as of the later side."""
    ends = frozenset(each.uuid for each in change.machines)
    network, item = (each.uuid if each else None for each in (change.network, change.item))
    return change.what, change.kind, network, ends, item, change.field, change.count, change.is_lesser


def mirrored(change: Change) -> tuple[Any, ...]:
    """As `essence`, of the same change the other way round."""
    what, kind, *rest = essence(change)
    return what, BACKWARDS[kind], *rest


def everything(moment: Moment) -> dict[Any, Any]:
    """All that a difference compares, read out plainly, pair by pair."""
    mirror, tracks = moment.mirror, moment.tracks
    routing, kept = mirror.routing, {"created_at", "updated_at"}
    found: dict[Any, Any] = {}
    for machine_id, machine in mirror.machines.items():
        identity = mirror.access.identity(machine_id)
        revoked = identity is not None and identity.revoked_at is not None
        found["machine", machine_id] = machine.record and machine.record.model_dump(exclude=kept), revoked
    for items in (routing.routes, routing.vips, routing.policies):
        found |= {item_id: item.model_dump(exclude=kept) for item_id, item in items.items()}
    found |= {("gateway", each): record.network_ids for each, record in routing.gateways.items() if record.network_ids}
    for network_id, network in mirror.networks.items():
        if network.record is None:
            continue
        plan = tracks.plan(network_id)
        found["network", network_id] = network.record.model_dump(exclude=kept), plan
        for machine_id, member in network.members.items():
            found["address", network_id, machine_id] = member.address, member.key_generation
            found["speaks", network_id, machine_id] = plan.sessions(machine_id, network.members)
        found |= {("peer", network_id, each): peer for each, peer in network.peers.items()}
        for machine_id, payload in mirror.announcements(network_id).items():
            if (body := decode_record(payload.encode()).body) is not None:
                found["announced", network_id, machine_id] = body
        for one, other in itertools.combinations(sorted(network.members), 2):
            way = tracks.way(network_id, one, other)
            found["path", network_id, one, other] = way.kind, way.ways[:2], way.rtt
        found |= sessions(moment, network_id)
    return found


def sessions(moment: Moment, network_id: UUID) -> dict[Any, Any]:
    """The states of the sessions that are meant to be, as both ends find them."""
    members, bgp, found = moment.mirror.networks[network_id].members, moment.tracks.bgp, {}
    plan = moment.tracks.plan(network_id)
    for one in members:
        for other, purpose in plan.sessions(one, members):
            if purpose == "reflector":
                continue
            first, second = sorted((one, other)) if purpose == "mesh" else (one, other)
            mine = bgp.sessions(network_id, first).get((second, purpose))
            theirs = bgp.other_end(network_id, first, second, purpose)
            said = theirs if mine is None or (mine.state == "established" and theirs) else mine
            found["session", network_id, first, second, purpose] = said.state if said else None
    return found
