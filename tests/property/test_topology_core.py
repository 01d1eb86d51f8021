"""The derivation over random histories, with restarts at random points."""

from __future__ import annotations

import random
from collections import defaultdict
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from events.domain import (
    AccountDeleted,
    ApiTokenIssued,
    ApiTokenRevoked,
    DefaultNetworkSet,
    DomainEvent,
    GatewaySet,
    MachineEnrolled,
    MachineRenamed,
    MachinesAssigned,
    MachinesUnassigned,
    MachineTransitSet,
    MachineUnrouted,
    MembershipRegistered,
    NetworkCreated,
    NetworkDeleted,
    NetworkUnrouted,
    ReflectorsPinned,
)
from events.records import (
    AccountRecord,
    ApiTokenRecord,
    FormerTokenRecord,
    MembershipRecord,
    PeerRecord,
    SubjectRecord,
)
from events.state import decode_record, encode_record
from events.subjects import scope_of
from services.topology.core import Topology
from services.topology.derived import Derived
from services.topology.restore import restore
from services.topology.shelf import Shelf
from tests.support.histories import History
from tests.support.routing_oracle import RoutingOracle, is_about_routing


def _history(seed: int, length: int) -> History:
    history = History(seed)
    for _ in range(length):
        history.step()
    return history


histories = st.builds(_history, st.integers(0, 2**32), st.integers(0, 80))


def _derive(history: History) -> list[Derived]:
    topology = Topology()
    return [topology.apply(sequence, event) for sequence, event in enumerate(history.events, start=1)]


def _restored(shelf: Shelf) -> tuple[Topology, list[str]]:
    records = [
        SubjectRecord(subject=subject, record=decode_record(payload)) for subject, payload in shelf.contents().items()
    ]
    random.Random(len(records)).shuffle(records)
    return restore(records)


@given(histories, st.sets(st.integers(0, 80)))
def test_a_topology_made_from_its_records_goes_on_as_if_it_had_never_stopped(
    history: History, restarts: set[int]
) -> None:
    topology, shelf = Topology(), Shelf()
    for sequence, (event, expected) in enumerate(zip(history.events, _derive(history), strict=True), start=1):
        if sequence in restarts:
            topology, undone = _restored(shelf)
            assert undone == [], "everything was purged before the restart"
            assert topology.position == sequence - 1
        derived = topology.apply(sequence, event)
        assert derived == expected
        assert [encode_record(entry.record) for entry in derived.records] == [
            encode_record(entry.record) for entry in expected.records
        ]
        shelf.take(derived)
        assert topology.apply(sequence, event) == Derived(), "an event comes to something once"


@given(histories, st.sets(st.integers(0, 80)), st.randoms(use_true_random=False))
def test_whatever_a_crash_leaves_or_brings_back_is_purged(
    history: History, crashes: set[int], chance: random.Random
) -> None:
    """A service may die before it purges, and a server that dies may forget a purge: an older record may reappear."""
    shelf, expected = Shelf(), Shelf()
    versions: dict[str, list[SubjectRecord]] = defaultdict(list)
    for sequence, derived in enumerate(_derive(history), start=1):
        before = expected.contents()
        expected.take(derived)
        for entry in derived.records:
            versions[entry.subject].append(entry)
        if sequence in crashes:
            shelf.take(Derived(derived.records))
            purged = (before.keys() | {entry.subject for entry in derived.records}) - expected.contents().keys()
            shelf.take(Derived([chance.choice(versions[subject]) for subject in sorted(purged)]))
            shelf.take(Derived(purges=_restored(shelf)[1]))
        else:
            shelf.take(derived)
        assert shelf.contents() == expected.contents()


@given(histories)
def test_revisions_of_a_scope_have_no_gaps_and_causes_never_go_back(history: History) -> None:
    held: dict[str, int] = {}
    for sequence, derived in enumerate(_derive(history), start=1):
        assert derived.records, "whoever waits for an event's record must not wait for ever"
        for entry in derived.records:
            scope = scope_of(entry.subject)
            assert entry.record.previous == held.get(scope, 0)
            assert entry.record.revision == entry.record.previous + 1
            assert entry.record.cause == sequence
            assert entry.record.time == history.events[sequence - 1].time
            held[scope] = entry.record.revision


@given(histories)
def test_the_number_of_records_follows_what_changed(history: History) -> None:
    keyed: set[tuple[UUID, UUID]] = set()
    for event, derived in zip(history.events, _derive(history), strict=True):
        if isinstance(event, MachineUnrouted | NetworkUnrouted):
            pass  # `test_routing_records_are_those_that_follow_and_only_what_differs_is_written` knows
        elif isinstance(event, NetworkCreated | DefaultNetworkSet):
            assert 1 <= len(derived.records) <= 2, "at most the default network before it as well"
        elif isinstance(event, AccountDeleted):
            issued = [one for one in history.events if isinstance(one, ApiTokenIssued)]
            tokens = sum(one.account_id == event.account_id for one in issued)
            assert 1 <= len(derived.records) <= 1 + tokens, "its tokens are gone as well"
        elif isinstance(event, ApiTokenRevoked):
            issued = [one for one in history.events if isinstance(one, ApiTokenIssued)]
            sessions = sum(one.begun_with == event.token_id for one in issued)
            assert 1 <= len(derived.records) <= 1 + sessions, "the sessions that were begun with it are gone as well"
        else:
            others = [one for one in derived.records if not is_about_routing(one.subject)]
            assert len(others) == _expected_records(event, keyed)


def _expected_records(event: DomainEvent, keyed: set[tuple[UUID, UUID]]) -> int:
    if isinstance(event, MachinesAssigned):
        return len(event.assignments)
    if isinstance(event, MachineEnrolled):
        return 2
    if isinstance(event, MembershipRegistered):
        keyed.add((event.network_id, event.machine_id))
    if isinstance(event, MachinesUnassigned):
        leaving = {(event.network_id, one.machine_id) for one in event.assignments}
        peers = len(leaving & keyed)
        keyed -= leaving
        return len(leaving) + peers
    if isinstance(event, NetworkDeleted):
        keyed -= {pair for pair in keyed if pair[0] == event.network_id}
    if isinstance(event, MachineRenamed | MachineTransitSet):
        return 1 + sum(machine_id == event.machine_id for _, machine_id in keyed)
    if event.kind.startswith("routing.") and not isinstance(event, ReflectorsPinned):
        return 0
    return 1


@given(histories)
def test_routing_records_are_those_that_follow_and_only_what_differs_is_written(history: History) -> None:
    oracle = RoutingOracle()
    for event, derived in zip(history.events, _derive(history), strict=True):
        before = oracle.records()
        oracle.apply(event)
        after = oracle.records()
        written = {one.subject: one.record.body for one in derived.records if is_about_routing(one.subject)}
        purged = {subject for subject in before if any(subject.startswith(one.rstrip("*")) for one in derived.purges)}
        assert len(written) == sum(is_about_routing(one.subject) for one in derived.records), "each is written once"
        for subject in (before.keys() | after.keys()) - purged:
            if before.get(subject) != after.get(subject):
                assert written.pop(subject) == after.get(subject)
        if isinstance(event, MachineUnrouted | NetworkUnrouted | GatewaySet):
            written = {subject: body for subject, body in written.items() if "routing.gateway" not in subject}
        if written:
            assert written.keys() == {oracle.item_of(event)}, "people's own records are written again"


@given(histories)
def test_who_hears_every_record_ends_with_the_peers_that_the_state_has(history: History) -> None:
    heard: dict[str, PeerRecord | MembershipRecord] = {}
    shelf = Shelf()
    for derived in _derive(history):
        shelf.take(derived)
        for entry in derived.records:
            body = entry.record.body
            if isinstance(body, PeerRecord | MembershipRecord):
                heard[entry.subject] = body
            else:
                heard.pop(entry.subject, None)
            if body is None and entry.subject.endswith(".info"):
                _forget(heard, UUID(entry.subject.split(".")[2]))
    bodies = {subject: decode_record(payload).body for subject, payload in shelf.contents().items()}
    live = {
        subject: body
        for subject, body in bodies.items()
        if isinstance(body, PeerRecord | MembershipRecord)
        and bodies[f"state.network.{body.network_id}.info"] is not None
    }
    assert heard == live
    assert {(one.network_id, one.machine_id, one.address) for one in live.values() if one.kind == "membership"} == {
        (network_id, machine_id, address)
        for network_id, members in history.networks.items()
        for machine_id, address in members.items()
    }


@given(histories)
def test_only_the_tokens_that_were_issued_and_not_revoked_speak(history: History) -> None:
    """Whoever keeps to the newest record of each token agrees with whoever knows the whole history, but for tokens
    that have expired."""
    shelf = Shelf()
    for derived in _derive(history):
        shelf.take(derived)
    bodies = [decode_record(payload).body for payload in shelf.contents().values()]
    speaking = {one.token_id: one for one in bodies if isinstance(one, ApiTokenRecord)}
    former = [one for one in bodies if isinstance(one, FormerTokenRecord)]
    issued = {token_id for tokens in history.accounts.values() for token_id in tokens}
    assert speaking.keys() <= issued
    now = history.events[-1].time if history.events else None
    expiries = {one.token_id: one.expires_at for one in history.events if isinstance(one, ApiTokenIssued)}
    for token_id in issued - speaking.keys():
        expires_at = expiries[token_id]
        assert expires_at is not None
        assert now is not None
        assert expires_at <= now
    assert not {one.token_id for one in former} & issued
    assert {one.account_id for one in bodies if isinstance(one, AccountRecord)} == history.accounts.keys()


def _forget(heard: dict[str, PeerRecord | MembershipRecord], gone: UUID) -> None:
    """What a listener does when a network is gone: its peers and memberships go with it."""
    for subject in [subject for subject, body in heard.items() if body.network_id == gone]:
        del heard[subject]


@settings(max_examples=20)
@given(st.integers(0, 2**32), st.sampled_from([1, 100]))
def test_a_change_in_a_large_network_derives_as_much_as_in_a_small_one(seed: int, size: int) -> None:
    history = History(seed)
    network_id = history.create_network()
    for _ in range(size):
        history.join(network_id)
    before = len(history.events)
    machine_id = history.join(network_id)
    history.announce(network_id, machine_id)
    history.unassign(network_id, machine_id)
    assert [len(derived.records) for derived in _derive(history)[before:]] == [1, 1, 1, 1, 2]
