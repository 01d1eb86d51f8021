"""What is told of every moment of random histories, beside what was live then."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from events.client import Entry
from events.domain import DomainEvent
from events.log import LoggedEvent
from events.records import (
    LinkState,
    MachineRecord,
    PathRecord,
    PeerRecord,
    ReachEvent,
    Record,
    RelayRecord,
    SubjectRecord,
)
from events.state import decode_record, encode_record
from events.subjects import reach
from services.gateway.findings import Findings
from services.gateway.http.views import machine_view, network_view
from services.gateway.mirror import Mirror
from services.gateway.presence import Presence
from services.topology.core import Topology
from services.topology.derived import Derived
from services.topology.past.moment import Moment, moment_of
from services.topology.past.reports import CLOCKS_APART, newest_by, time_of
from services.topology.past.snapshots import DERIVATION, Head, checksum, pack, unpack
from services.topology.past.ways import ways_of
from services.topology.paths_core import Paths
from services.topology.restore import restore
from services.topology.shelf import Shelf
from tests.support.histories import History

NOW = datetime(2027, 1, 1, tzinfo=UTC)


def _history(seed: int, length: int) -> History:
    history = History(seed)
    for _ in range(length):
        history.step()
    return history


histories = st.builds(_history, st.integers(0, 2**32), st.integers(0, 60))
places = st.sets(st.integers(0, 60))


def _logged(events: list[DomainEvent]) -> list[LoggedEvent]:
    return [LoggedEvent(sequence, event, "") for sequence, event in enumerate(events, 1)]


def _through_a_snapshot(moment: Moment) -> Moment:
    """The moment, written and read."""
    parts = pack(moment.shelf.contents())
    head = Head(
        position=moment.position,
        last=moment.position,
        digest="",
        following=moment.position + 1,
        parts=len(parts),
        checksum=checksum(parts),
        derivation=DERIVATION,
    )
    contents = unpack(head, parts)
    assert contents is not None
    return moment_of(moment.position, contents)


def _mirror_of(shelf: Shelf) -> Mirror:
    mirror = Mirror()
    for subject, payload in shelf.contents().items():
        mirror.apply(subject, payload)
    return mirror


def _views(mirror: Mirror) -> dict[UUID, Any]:
    networks = {
        network_id: network_view(mirror, network_id, Findings().plan(network_id)).model_dump_json()
        for network_id, network in mirror.networks.items()
        if network.record is not None
    }
    machines = {
        machine_id: machine_view(mirror, Presence(), machine_id, NOW).model_dump_json()
        for machine_id in mirror.machines
        if mirror.has_machine(machine_id)
    }
    return networks | machines


@given(histories, places, places)
def test_the_state_as_of_every_sequence_is_what_was_live_then(
    history: History, restarts: set[int], snapshots: set[int]
) -> None:
    topology, shelf, mirror = Topology(), Shelf(), Mirror()
    moment = Moment()
    for logged in _logged(history.events):
        if logged.sequence in restarts:
            records = [
                SubjectRecord(subject=subject, record=decode_record(payload))
                for subject, payload in shelf.contents().items()
            ]
            topology, _ = restore(records)
        derived = topology.apply(logged.sequence, logged.event)
        shelf.take(derived)
        _hear(mirror, derived)
        if logged.sequence in snapshots:
            moment = _through_a_snapshot(moment)
        moment.apply([logged])
        assert list(moment.shelf.contents().items()) == list(shelf.contents().items()), "to the byte, in STATE's order"
        assert _views(_mirror_of(moment.shelf)) == _views(mirror)


def _hear(mirror: Mirror, derived: Derived) -> None:
    for entry in derived.records:
        mirror.apply(entry.subject, entry.record.model_dump_json().encode())


@given(histories, st.integers(0, 60), st.integers(0, 60))
def test_what_is_supposed_changes_no_moment_that_is_kept(history: History, at: int, count: int) -> None:
    events = _logged(history.events)
    kept = Moment()
    kept.apply(events[:at])
    before, state = kept.shelf.contents(), Moment()
    state.apply(events[: at + count])
    supposed = moment_of(kept.position, kept.shelf.contents())
    supposed.suppose([logged.event for logged in events[at : at + count]])
    assert supposed.shelf.contents() == state.shelf.contents()
    assert kept.shelf.contents() == before
    kept.apply(events[at:])
    whole = Moment()
    whole.apply(events)
    assert kept.shelf.contents() == whole.shelf.contents()


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(0, 7))
def test_a_snapshot_of_which_a_bit_is_other_or_a_part_missing_is_none(payload: bytes, place: int, bit: int) -> None:
    contents = {f"state.network.{number}.info": payload.hex().encode() for number in range(5)}
    parts = pack(contents)
    head = Head(
        position=1, last=1, digest="", following=2, parts=len(parts), checksum=checksum(parts), derivation=DERIVATION
    )
    assert unpack(head, parts) == contents
    assert unpack(head, parts[:-1]) is None
    damaged = bytearray(parts[0])
    damaged[place % len(damaged)] ^= 1 << bit
    assert unpack(head, [bytes(damaged), *parts[1:]]) is None


class _Live:
    """PATHS as the topology service holds them, of which every report and record is heard as it comes."""

    def __init__(self) -> None:
        self.paths = Paths()
        self.held: dict[str, PathRecord | RelayRecord] = {}

    def hear(self, derived: Derived) -> None:
        for entry in derived.records:
            body = entry.record.body
            match entry.subject.split("."):
                case _, "network", network_id, "info" if body is None:
                    self.paths.network_gone(UUID(network_id))
                    self.held = {subject: held for subject, held in self.held.items() if network_id not in subject}
                case _, "network", network_id, "peer", machine_id:
                    if isinstance(body, PeerRecord):
                        self.paths.member(body.network_id, body.machine_id, body.transit)
                    else:
                        self.paths.gone(UUID(network_id), UUID(machine_id))
                case _, "machine", machine_id, "info" if body is None:
                    self.paths.forget(UUID(machine_id))

    def settle(self) -> None:
        while not self.paths.is_settled:
            for change in self.paths.drain(5):
                if change.body is None:
                    self.held.pop(change.subject, None)
                else:
                    self.held[change.subject] = change.body

    def of(self, network_id: UUID) -> dict[str, PathRecord | RelayRecord]:
        return {subject: body for subject, body in self.held.items() if body.network_id == network_id}


def _report(history: History, chance: random.Random, sequence: int, time: datetime) -> Entry | None:
    """Somebody says something of a link."""
    crowded = {network: members for network, members in history.networks.items() if len(members) > 1}
    if not crowded:
        return None
    network_id = chance.choice(list(crowded))
    machine_id, peer_id = chance.sample(list(crowded[network_id]), 2)
    is_direct = chance.random() < 0.5
    link = LinkState(
        peer_id=peer_id,
        state="direct" if is_direct else "unreachable",
        rtt=chance.choice((1, 5, 20)) if is_direct else None,
    )
    event = ReachEvent(
        network_id=network_id, machine_id=machine_id, boot_id=UUID(int=1), counter=sequence, time=time, link=link
    )
    return Entry(sequence, reach(network_id, machine_id, peer_id), b"", event.model_dump_json().encode())


@given(st.integers(0, 2**32), st.integers(1, 80), places)
def test_paths_as_of_every_position_and_report_are_those_that_were_live_then(
    seed: int, length: int, snapshots: set[int]
) -> None:
    history, chance = History(seed), random.Random(seed)
    network = history.create_network()
    for _ in range(4):
        history.announce(network, history.join(network))
    live, moment, topology, reports = _Live(), Moment(), Topology(), list[Entry]()
    for step in range(length):
        time = NOW + timedelta(seconds=step // 2)  # several in the same moment
        entry = _report(history, chance, len(reports) + 1, time) if chance.random() < 0.7 else None
        if entry is not None:
            reports.append(entry)
            live.paths.link(entry.sequence, ReachEvent.model_validate_json(entry.data))
        elif chance.random() < 0.5:
            history.step()
        for logged in _logged(history.events)[moment.position :]:
            live.hear(topology.apply(logged.sequence, logged.event))
            if logged.sequence in snapshots:
                moment = _through_a_snapshot(moment)
            moment.apply([logged])
        live.settle()
        for network_id in history.networks:
            of_network = [each for each in reports if str(network_id) in each.subject]
            found = ways_of(moment.topology, network_id, newest_by(time, [], of_network))
            assert {subject: decode_record(record).body for subject, record in found} == live.of(network_id)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 600), st.integers(-20, 20)), max_size=60), st.integers(0, 600)
)
def test_reports_by_a_time_are_found_though_clocks_differ(said: list[tuple[int, int, int]], second: int) -> None:
    """Reports are written in order, each with the time of a clock that is a little wrong."""
    entries = [
        Entry(sequence, f"reach.{link}", b"", b'{"time":"%s"}' % _at(passed + wrong).isoformat().encode())
        for sequence, (link, passed, wrong) in enumerate(sorted(said, key=lambda each: each[1]), 1)
    ]
    time = _at(second)
    expected: dict[str, Entry] = {}
    for entry in entries:
        if time_of(entry) <= time:
            expected[entry.subject] = entry
    sure = _bound(entries, time - CLOCKS_APART)
    possible = _bound(entries, time + CLOCKS_APART)
    before = {entry.subject: entry for entry in entries[:sure]}
    assert newest_by(time, before.values(), entries[sure:possible]) == sorted(expected.values())


def _at(second: int) -> datetime:
    return NOW + timedelta(seconds=second)


def _bound(entries: list[Entry], time: datetime) -> int:
    """As it is found in a stream, by looking at few."""
    low, high = 0, len(entries)
    while low < high:
        middle = (low + high) // 2
        if time_of(entries[middle]) > time:
            high = middle
        else:
            low = middle + 1
    return low


def test_a_record_has_one_line() -> None:
    """Which snapshots and answers rely on."""
    body = MachineRecord(machine_id=UUID(int=1), hostname="a\nb\r", agent_version="", created_at=NOW)
    assert b"\n" not in encode_record(Record(revision=1, previous=0, cause=1, time=NOW, body=body))
