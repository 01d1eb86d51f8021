"""The derivation, by example: which records follow from which event."""

from __future__ import annotations

from uuid import UUID

import pytest

from events.records import MachineRecord, MembershipRecord, NetworkRecord, PeerRecord, SubjectRecord
from events.subjects import machine_info, machine_membership, network_info, network_peer
from services.topology.core import Topology
from services.topology.derived import Derived, InconsistentLogError
from services.topology.restore import DamagedStateError, restore
from tests.support.histories import History


class Run:
    """A history with a topology that follows it."""

    def __init__(self) -> None:
        self.history = History()
        self.topology = Topology()

    def derived(self) -> Derived:
        """What follows from the events since the last call."""
        records: list[SubjectRecord] = []
        purges: list[str] = []
        for sequence, event in enumerate(self.history.events, start=1):
            derived = self.topology.apply(sequence, event)
            records += derived.records
            purges += derived.purges
        return Derived(records, purges)

    def subjects(self) -> list[str]:
        """The subjects of the records since the last call."""
        return [entry.subject for entry in self.derived().records]


@pytest.fixture
def run() -> Run:
    return Run()


@pytest.fixture
def joined(run: Run) -> tuple[Run, UUID, UUID]:
    """A network with one machine that has announced its key."""
    network_id = run.history.create_network()
    machine_id = run.history.join(network_id)
    run.derived()
    return run, network_id, machine_id


def test_a_join_is_one_private_record_and_then_one_that_all_peers_hear(run: Run) -> None:
    network_id = run.history.create_network()
    machine_id = run.history.register_machine("db-1")
    run.derived()

    run.history.assign(network_id, machine_id)
    (assigned,) = run.derived().records
    assert assigned.subject == machine_membership(machine_id, network_id)
    assert isinstance(assigned.record.body, MembershipRecord)
    assert str(assigned.record.body.address) == "10.0.0.1"
    assert str(assigned.record.body.network_cidr) == "10.0.0.0/16"
    assert assigned.record.body.assigned_at == assigned.record.time == run.history.events[-1].time

    key = run.history.announce(network_id, machine_id)
    (announced,) = run.derived().records
    assert announced.subject == network_peer(network_id, machine_id)
    peer = announced.record.body
    assert isinstance(peer, PeerRecord)
    assert (peer.hostname, str(peer.address), peer.public_key) == ("db-1", "10.0.0.1", key)
    assert (announced.record.previous, announced.record.revision, announced.record.cause) == (1, 2, 4)


def test_a_new_key_or_endpoint_is_one_record(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    key = run.history.announce(network_id, machine_id)
    (record,) = run.derived().records
    assert record.subject == network_peer(network_id, machine_id)
    assert isinstance(record.record.body, PeerRecord)
    assert record.record.body.public_key == key
    assert (record.record.previous, record.record.revision) == (2, 3)


def test_leaving_takes_membership_and_peer_away(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    run.history.unassign(network_id, machine_id)
    membership, peer = run.derived().records
    assert (membership.subject, peer.subject) == (
        machine_membership(machine_id, network_id),
        network_peer(network_id, machine_id),
    )
    assert membership.record.body is None
    assert peer.record.body is None


def test_who_leaves_without_a_key_was_never_a_peer(run: Run) -> None:
    network_id, machine_id = run.history.create_network(), run.history.register_machine()
    run.history.assign(network_id, machine_id)
    run.derived()
    run.history.unassign(network_id, machine_id)
    assert run.subjects() == [machine_membership(machine_id, network_id)]


def test_a_key_from_an_earlier_membership_does_not_come_back(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    run.history.unassign(network_id, machine_id)
    run.history.assign(network_id, machine_id)
    run.derived()
    run.history.rename_machine(machine_id)
    assert run.subjects() == [machine_info(machine_id)], "it is no peer before it announces a key"
    key = run.history.announce(network_id, machine_id)
    (record,) = run.derived().records
    assert isinstance(record.record.body, PeerRecord)
    assert (record.record.body.public_key, record.record.body.hostname) == (key, "other")


def test_a_request_for_a_new_key_is_the_machine_s_own_matter(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    before = restore(_written(run))[0].networks[network_id].members[machine_id]
    run.history.rotate_key(network_id, machine_id)
    run.history.rotate_key(network_id, machine_id)
    *_, requested = run.derived().records
    assert requested.subject == machine_membership(machine_id, network_id)
    assert isinstance(requested.record.body, MembershipRecord)
    assert requested.record.body.key_generation == 2
    assert (requested.record.body.address, requested.record.body.assigned_at) == (before.address, before.assigned_at)


def test_the_key_generation_begins_anew_with_each_assignment(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    run.history.rotate_key(network_id, machine_id)
    run.history.unassign(network_id, machine_id)
    run.history.assign(network_id, machine_id)
    *_, assigned = run.derived().records
    assert isinstance(assigned.record.body, MembershipRecord)
    assert assigned.record.body.key_generation == 0


def test_a_new_hostname_reaches_the_peers_in_every_network(run: Run) -> None:
    networks = [run.history.create_network() for _ in range(3)]
    machine_id = run.history.join(networks[0])
    run.history.assign(networks[1], machine_id)
    run.history.announce(networks[1], machine_id)
    run.history.assign(networks[2], machine_id)
    run.derived()
    run.history.rename_machine(machine_id, "new")
    records = run.derived().records
    assert [entry.subject for entry in records] == [
        machine_info(machine_id),
        *(network_peer(one, machine_id) for one in sorted(networks[:2])),
    ]
    assert {entry.record.body.hostname for entry in records if isinstance(entry.record.body, PeerRecord)} == {"new"}


def test_being_a_transit_reaches_the_peers_in_every_network_also_those_joined_later(run: Run) -> None:
    networks = [run.history.create_network() for _ in range(2)]
    machine_id = run.history.join(networks[0])
    run.history.announce(networks[0], machine_id)
    run.derived()
    run.history.set_transit(machine_id, "always")
    told = run.derived().records
    assert [entry.subject for entry in told] == [machine_info(machine_id), network_peer(networks[0], machine_id)]
    restored, _ = restore(_written(run))
    assert restored.machines[machine_id].record.transit == "always", "it is kept over a restart"
    run.history.assign(networks[1], machine_id)
    run.history.announce(networks[1], machine_id)
    told += run.derived().records
    bodies = [entry.record.body for entry in told]
    assert {body.transit for body in bodies if isinstance(body, MachineRecord | PeerRecord)} == {"always"}


def test_a_new_agent_version_is_the_machine_s_own_matter(joined: tuple[Run, UUID, UUID]) -> None:
    run, _, machine_id = joined
    run.history.update_agent(machine_id, "3")
    (record,) = run.derived().records
    assert isinstance(record.record.body, MachineRecord)
    assert record.record.body.agent_version == "3"


def test_a_new_default_network_clears_the_one_before(run: Run) -> None:
    first = run.history.create_network(is_default=True)
    run.derived()
    second = run.history.create_network(is_default=True)
    cleared, created = run.derived().records
    assert (cleared.subject, created.subject) == (network_info(first), network_info(second))
    assert _is_default(cleared) is False
    assert _is_default(created) is True

    run.history.set_default(first)
    assert [(entry.subject, _is_default(entry)) for entry in run.derived().records] == [
        (network_info(second), False),
        (network_info(first), True),
    ]
    run.history.set_default(None)
    assert [_is_default(entry) for entry in run.derived().records] == [False]


def test_a_deleted_default_network_is_not_cleared_again(run: Run) -> None:
    run.history.delete_network(run.history.create_network(is_default=True))
    run.derived()
    network_id = run.history.create_network(is_default=True)
    assert run.subjects() == [network_info(network_id)]


def test_name_and_reflector_mode_are_the_network_s_record(run: Run) -> None:
    network_id = run.history.create_network()
    run.history.rename_network(network_id, "office")
    run.history.set_route_reflector_mode(network_id, True)
    last = run.derived().records[-1]
    assert isinstance(last.record.body, NetworkRecord)
    assert (last.record.body.name, last.record.body.route_reflector_mode, last.record.revision) == ("office", True, 3)


def test_a_deleted_network_is_one_tombstone_whatever_its_size(run: Run) -> None:
    network_id = run.history.create_network()
    for _ in range(5):
        run.history.join(network_id)
    run.derived()
    run.history.delete_network(network_id)
    derived = run.derived()
    (tombstone,) = derived.records
    assert (tombstone.subject, tombstone.record.body, tombstone.record.revision) == (network_info(network_id), None, 7)
    assert derived.purges == [f"state.network.{network_id}.{each}.*" for each in ("peer", "announcement", "policy")]


def test_a_membership_of_a_deleted_network_stays_until_its_machine_has_a_newer_record(
    joined: tuple[Run, UUID, UUID],
) -> None:
    run, network_id, machine_id = joined
    run.history.delete_network(network_id)
    assert machine_membership(machine_id, network_id) not in run.derived().purges
    run.history.update_agent(machine_id)
    derived = run.derived()
    assert derived.records[0].record.revision == 3
    assert derived.purges == [machine_membership(machine_id, network_id)]
    run.history.update_agent(machine_id)
    assert run.derived().purges == []


def test_a_deleted_machine_leaves_one_tombstone(joined: tuple[Run, UUID, UUID]) -> None:
    run, _, machine_id = joined
    run.history.delete_machine(machine_id)
    derived = run.derived()
    last = derived.records[-1]
    assert (last.subject, last.record.body, last.record.revision) == (machine_info(machine_id), None, 4)
    assert derived.purges == [f"state.machine.{machine_id}.network.*", f"state.machine.{machine_id}.routing"]


def test_an_event_is_applied_once(joined: tuple[Run, UUID, UUID]) -> None:
    run, _, _ = joined
    for sequence, event in enumerate(run.history.events, start=1):
        assert run.topology.apply(sequence, event) == Derived()
    assert run.topology.position == len(run.history.events)


def test_an_event_about_what_is_not_there_is_refused(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    run.history.unassign(network_id, machine_id)
    late = run.history.events[3]
    run.derived()
    with pytest.raises(InconsistentLogError, match=r"Event 9 of the log \(network.membership_registered\)"):
        run.topology.apply(9, late)


def test_a_machine_that_is_assigned_cannot_be_deleted(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    run.history.networks[network_id].pop(machine_id)
    run.history.delete_machine(machine_id)
    with pytest.raises(InconsistentLogError, match="while it is assigned"):
        run.derived()


def test_purges_left_undone_are_found_in_the_records(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    other = run.history.create_network()
    leaver = run.history.join(other)
    run.history.delete_machine(leaver)
    run.history.delete_network(network_id)
    run.history.update_agent(machine_id)
    fresh = Topology()
    written = [
        entry for sequence, event in enumerate(run.history.events, 1) for entry in fresh.apply(sequence, event).records
    ]
    newest = {entry.subject: entry for entry in written}
    _, undone = restore(newest.values())
    assert sorted(undone) == sorted(
        [
            f"state.network.{network_id}.peer.*",
            f"state.machine.{leaver}.network.*",
            machine_membership(machine_id, network_id),
        ]
    )


def test_a_state_with_a_hole_is_refused(joined: tuple[Run, UUID, UUID]) -> None:
    run, network_id, machine_id = joined
    fresh = Topology()
    records = [
        entry for sequence, event in enumerate(run.history.events, 1) for entry in fresh.apply(sequence, event).records
    ]
    damaged = [entry for entry in records if entry.subject != machine_membership(machine_id, network_id)]
    with pytest.raises(DamagedStateError, match="Delete the stream STATE"):
        restore(damaged)


def _written(run: Run) -> list[SubjectRecord]:
    """All records of the history so far."""
    topology = Topology()
    events = enumerate(run.history.events, start=1)
    return [entry for sequence, event in events for entry in topology.apply(sequence, event).records]


def _is_default(entry: SubjectRecord) -> bool:
    assert isinstance(entry.record.body, NetworkRecord)
    return entry.record.body.is_default
