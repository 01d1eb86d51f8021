"""The gateway's read model: what it makes of records, and what it tells agents that missed some."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from uuid import UUID, uuid4

import pytest

from events.errors import NotFoundError
from events.records import (
    Body,
    MachineRecord,
    MembershipRecord,
    NetworkRecord,
    PeerRecord,
    Record,
    SignedRecord,
    SubjectRecord,
)
from events.state import decode_record, encode_record
from events.subjects import machine_info, machine_membership, network_info, network_peer, scope_of
from services.gateway.mirror import Mirror
from services.gateway.scopes import PAGE, Scope

START = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
KEY = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="


class Story:
    """Makes records as the topology does, applies them, and keeps what STATE would hold."""

    def __init__(self) -> None:
        self.mirror = Mirror()
        self.state: dict[str, SubjectRecord] = {}
        self.cause = 0
        self._revisions: dict[str, int] = defaultdict(int)

    def put(self, subject: str, body: Body | None) -> Record:
        self.cause += 1
        previous = self._revisions[scope_of(subject)]
        self._revisions[scope_of(subject)] += 1
        time = START + timedelta(seconds=self.cause)
        record = Record(revision=previous + 1, previous=previous, cause=self.cause, time=time, body=body)
        self.state.pop(subject, None)
        self.state[subject] = SubjectRecord(subject=subject, record=record)
        self.mirror.apply(subject, encode_record(record))
        return record

    def network(self, name: str, cidr: str = "172.16.0.0/24", network_id: UUID | None = None) -> UUID:
        network_id = network_id or uuid4()
        body = NetworkRecord(
            network_id=network_id,
            name=name,
            network_cidr=IPv4Network(cidr),
            is_default=False,
            route_reflector_mode=False,
            created_at=START,
        )
        self.put(network_info(network_id), body)
        return network_id

    def machine(self, hostname: str, machine_id: UUID | None = None) -> UUID:
        machine_id = machine_id or uuid4()
        body = MachineRecord(machine_id=machine_id, hostname=hostname, agent_version="1", created_at=START)
        self.put(machine_info(machine_id), body)
        return machine_id

    def assign(self, network_id: UUID, machine_id: UUID, address: str) -> Record:
        body = MembershipRecord(
            machine_id=machine_id,
            network_id=network_id,
            network_cidr=IPv4Network("172.16.0.0/24"),
            address=IPv4Address(address),
            assigned_at=START,
        )
        return self.put(machine_membership(machine_id, network_id), body)

    def peer(self, network_id: UUID, machine_id: UUID, address: str) -> Record:
        body = PeerRecord(
            network_id=network_id,
            machine_id=machine_id,
            hostname="h",
            address=IPv4Address(address),
            public_key=KEY,
            endpoints=("192.0.2.1:51820",),
        )
        return self.put(network_peer(network_id, machine_id), body)

    def reloaded(self) -> Mirror:
        """A mirror that was loaded from what STATE holds now."""
        mirror = Mirror()
        for entry in self.state.values():
            mirror.apply(entry.subject, encode_record(entry.record))
        return mirror


def record(entry: SignedRecord) -> Record:
    return decode_record(entry.payload.encode())


def put(scope: Scope, subject: str, revision: int) -> None:
    tombstone = Record(revision=revision, previous=revision - 1, cause=1, time=START, body=None)
    scope.put(subject, tombstone, encode_record(tombstone))


@pytest.fixture
def story() -> Story:
    return Story()


def test_counts_members_and_free_addresses(story: Story) -> None:
    office = story.network("office")
    one, two = story.machine("db-1"), story.machine("db-2")
    story.assign(office, one, "172.16.0.1")
    story.assign(office, two, "172.16.0.2")
    network, record = story.mirror.network(office)
    assert (len(network.members), network.available_ip_count, record.name) == (2, 252, "office")
    story.put(machine_membership(one, office), None)
    assert (len(network.members), network.available_ip_count) == (1, 253)
    assert [row[1] for row in network.by_address.rows] == [two]
    assert office not in story.mirror.machine(one)[0].networks


def test_position_is_the_highest_cause(story: Story) -> None:
    story.network("office")
    story.machine("db-1")
    assert story.mirror.position == 2


def test_a_renamed_network_frees_its_name(story: Story) -> None:
    office = story.network("office")
    story.network("home", "10.0.0.0/24", office)
    lab = story.network("office", "10.1.0.0/24")
    assert story.mirror.network_ids == {"home": office, "office": lab}


def test_a_deleted_network_takes_memberships_and_peers_with_it(story: Story) -> None:
    office, lab = story.network("office"), story.network("lab", "10.0.0.0/24")
    one = story.machine("db-1")
    for network_id, address in ((office, "172.16.0.1"), (lab, "10.0.0.1")):
        story.assign(network_id, one, address)
        story.peer(network_id, one, address)
    story.put(network_info(office), None)
    with pytest.raises(NotFoundError, match="no mesh network"):
        story.mirror.network(office)
    machine, _ = story.mirror.machine(one)
    assert list(machine.networks) == [lab]
    assert story.mirror.name_of(office) == "office"
    subjects = [entry.subject for entry in story.mirror.sync(one, f"machine:{one}", 0).records]
    assert subjects == [machine_info(one), machine_membership(one, lab)]


def test_a_membership_of_a_deleted_network_that_is_signed_anew_is_not_one_again(story: Story) -> None:
    network_id, machine_id = story.network("office"), story.machine("web-1")
    assigned = story.assign(network_id, machine_id, "172.16.0.1")
    story.put(network_info(network_id), None)
    for mirror in (story.mirror, story.reloaded()):
        mirror.apply(machine_membership(machine_id, network_id), encode_record(assigned), "new signature")
        assert not mirror.machine(machine_id)[0].networks
        assert network_id not in mirror.networks
        reply = mirror.sync(machine_id, f"machine:{machine_id}", 0)
        assert [entry.subject for entry in reply.records] == [machine_info(machine_id)]


def test_a_deleted_machine_is_gone(story: Story) -> None:
    office, one = story.network("office"), story.machine("db-1")
    story.assign(office, one, "172.16.0.1")
    story.put(machine_membership(one, office), None)
    story.put(machine_info(one), None)
    with pytest.raises(NotFoundError, match="no machine"):
        story.mirror.machine(one)
    assert story.mirror.by_hostname.rows == []
    assert story.mirror.name_of(one) == "db-1"
    assert story.mirror.sync(one, f"machine:{one}", 0).gone


def test_updated_at_follows_the_newest_record(story: Story) -> None:
    office, one = story.network("office"), story.machine("db-1")
    network, machine = story.mirror.network(office)[0], story.mirror.machine(one)[0]
    story.assign(office, one, "172.16.0.1")
    assert network.updated_at == machine.updated_at == START + timedelta(seconds=3)
    story.peer(office, one, "172.16.0.1")
    assert network.updated_at == machine.updated_at == START + timedelta(seconds=4)
    story.put(network_peer(office, one), None)
    story.put(machine_membership(one, office), None)
    assert network.updated_at == machine.updated_at == START + timedelta(seconds=6)


def test_a_reloaded_mirror_says_the_same(story: Story) -> None:
    office, one, two = story.network("office"), story.machine("db-1"), story.machine("db-2")
    story.assign(office, one, "172.16.0.1")
    story.peer(office, one, "172.16.0.1")
    story.assign(office, two, "172.16.0.2")
    story.put(machine_membership(two, office), None)
    story.machine("db-one", one)
    story.network("headquarters", network_id=office)
    again = story.reloaded()
    assert again.position == story.mirror.position
    for machine_id in (one, two):
        assert again.machine(machine_id)[0].updated_at == story.mirror.machine(machine_id)[0].updated_at
        assert again.machine(machine_id)[0].networks == story.mirror.machine(machine_id)[0].networks
    assert again.network(office)[0].members == story.mirror.network(office)[0].members
    assert again.network(office)[0].updated_at == story.mirror.network(office)[0].updated_at
    assert again.by_hostname.rows == story.mirror.by_hostname.rows
    assert again.sync(one, f"network:{office}", 0) == story.mirror.sync(one, f"network:{office}", 0)


def test_sync_gives_what_is_newer_with_tombstones(story: Story) -> None:
    office, one, two = story.network("office"), story.machine("db-1"), story.machine("db-2")
    for machine_id, address in ((one, "172.16.0.1"), (two, "172.16.0.2")):
        story.assign(office, machine_id, address)
        story.peer(office, machine_id, address)
    name = f"network:{office}"
    everything = story.mirror.sync(one, name, 0)
    assert [record(entry).revision for entry in everything.records] == [1, 2, 3]
    assert (everything.revision, everything.more, everything.reset, everything.gone) == (3, False, False, False)
    story.put(network_peer(office, two), None)
    newer = story.mirror.sync(one, name, 3)
    assert [(entry.subject, record(entry).body) for entry in newer.records] == [(network_peer(office, two), None)]
    assert newer.revision == 4
    assert story.mirror.sync(one, name, 4).records == ()


def test_a_revision_from_nowhere_is_reset(story: Story) -> None:
    office, one = story.network("office"), story.machine("db-1")
    story.assign(office, one, "172.16.0.1")
    for since in (7, -1):
        reply = story.mirror.sync(one, f"network:{office}", since)
        assert reply.reset
        assert [record(entry).revision for entry in reply.records] == [1]


def test_only_members_hear_a_network_and_only_itself_a_machine(story: Story) -> None:
    office, one, two = story.network("office"), story.machine("db-1"), story.machine("db-2")
    story.assign(office, one, "172.16.0.1")
    mirror = story.mirror
    assert not mirror.sync(one, f"network:{office}", 0).gone
    assert mirror.sync(two, f"network:{office}", 0).gone
    assert mirror.sync(two, f"machine:{one}", 0).gone
    assert mirror.sync(uuid4(), f"network:{office}", 0).gone
    assert mirror.sync(one, "network:nonsense", 0).gone
    story.put(machine_membership(one, office), None)
    assert mirror.sync(one, f"network:{office}", 0).gone


def test_a_large_scope_comes_in_pages() -> None:
    scope, count = Scope(), 2 * PAGE + 10
    for number in range(1, count + 1):
        put(scope, f"s{number}", number)
    put(scope, "s5", count + 1)
    since, pages, revisions = 0, 0, []
    while True:
        reply = scope.reply("x", since)
        revisions += [record(entry).revision for entry in reply.records]
        since, pages = reply.revision, pages + 1
        if not reply.more:
            break
    assert pages == 3
    assert since == count + 1
    assert revisions == [number for number in range(1, count + 2) if number != 5]


def test_long_records_come_a_few_at_once() -> None:
    scope = Scope()
    for number in range(1, 11):
        tombstone = Record(revision=number, previous=number - 1, cause=1, time=START, body=None)
        scope.put(f"s{number}", tombstone, b" " * 200_000)
    sizes, since = [], 0
    while since < 10:
        reply = scope.reply("x", since)
        sizes.append(len(reply.records))
        since = reply.revision
    assert sizes == [2] * 5


def test_a_scope_forgets_what_it_replaced() -> None:
    scope = Scope()
    for number in range(1, 5001):
        put(scope, f"s{number % 7}", number)
    assert [record(entry).revision for entry in scope.reply("x", 0).records] == list(range(4994, 5001))
    assert len(scope._revisions) < 100


def test_an_old_record_changes_nothing(story: Story) -> None:
    office = story.network("office")
    old = story.state[network_info(office)]
    story.network("home", network_id=office)
    story.mirror.apply(old.subject, encode_record(old.record))
    assert story.mirror.network(office)[1].name == "home"


def test_records_keep_their_bytes_and_signatures(story: Story) -> None:
    """A newer topology may write fields that this gateway does not know: they are signed too."""
    office, one = story.network("office"), story.machine("db-1")
    story.assign(office, one, "172.16.0.1")
    tombstone = Record(revision=2, previous=1, cause=9, time=START, body=None)
    payload = encode_record(tombstone)[:-1] + b', "new": "\xc3\xa4"}'
    subject = network_peer(office, uuid4())
    story.mirror.apply(subject, payload, "aaaa c2ln")
    entry = story.mirror.sync(one, f"network:{office}", 1).records[0]
    assert (entry.subject, entry.payload.encode(), entry.signature) == (subject, payload, "aaaa c2ln")
    assert story.mirror.signed_with() == {"": 3, "aaaa": 1}

    before = story.mirror.sync(one, f"network:{office}", 0)
    story.mirror.apply(subject, payload, "bbbb c2ln")
    after = story.mirror.sync(one, f"network:{office}", 0)
    assert (after.revision, len(after.records)) == (before.revision, len(before.records))
    assert after.records[-1].signature == "bbbb c2ln"
    assert story.mirror.signed_with() == {"": 3, "bbbb": 1}
    story.mirror.apply(subject, encode_record(tombstone.model_copy(update={"revision": 1})), "cccc c2ln")
    assert story.mirror.signed_with() == {"": 3, "bbbb": 1}


def test_what_a_deleted_machine_leaves_behind_is_not_counted(story: Story) -> None:
    """What stood below it is purged from STATE, and nobody signs it anew."""
    office, one = story.network("office"), story.machine("db-1")
    story.assign(office, one, "172.16.0.1")
    story.put(machine_membership(one, office), None)
    story.put(machine_info(one), None)
    assert story.mirror.signed_with() == {"": 2}


def test_the_networks_that_a_machine_may_hear(story: Story) -> None:
    one, unknown = story.machine("db-1"), uuid4()
    office, lab = story.network("office"), story.network("lab", "10.0.0.0/24")
    assert story.mirror.networks_of(unknown) == story.mirror.networks_of(one) == ()
    story.assign(office, one, "172.16.0.1")
    story.assign(lab, one, "10.0.0.1")
    assert story.mirror.networks_of(one) == tuple(sorted((office, lab)))
    story.put(network_info(lab), None)
    assert story.mirror.networks_of(one) == (office,)
    story.put(machine_membership(one, office), None)
    assert story.mirror.networks_of(one) == ()
