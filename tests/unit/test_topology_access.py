"""The derivation of the access list, by example."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import pytest

from events.domain import ApiTokenIssued, BootstrapTokenCreated, MachineEnrolled
from events.records import (
    AccountRecord,
    ApiTokenRecord,
    BootstrapTokenRecord,
    FormerTokenRecord,
    IdentityRecord,
    SubjectRecord,
)
from events.state import decode_record
from events.subjects import access, machine_info
from services.topology.core import Topology
from services.topology.derived import Derived, InconsistentLogError, is_covered
from services.topology.restore import DamagedStateError, restore
from services.topology.shelf import Shelf
from tests.support.histories import History


class Run:
    """A history with a topology that follows it, and the STATE that comes of it."""

    def __init__(self) -> None:
        self.history = History()
        self.topology = Topology()
        self.shelf = Shelf()

    def derived(self) -> Derived:
        """What follows from the events since the last call."""
        records: list[SubjectRecord] = []
        purges: list[str] = []
        for sequence, event in enumerate(self.history.events, start=1):
            derived = self.topology.apply(sequence, event)
            self.shelf.take(derived)
            records += derived.records
            purges += derived.purges
        return Derived(records, purges)

    def state(self) -> list[SubjectRecord]:
        """All records that stand."""
        self.derived()
        contents = self.shelf.contents().items()
        return [SubjectRecord(subject=subject, record=decode_record(payload)) for subject, payload in contents]

    def subjects(self) -> set[str]:
        """The subjects of the API tokens' records."""
        return {entry.subject for entry in self.state() if entry.subject.startswith("state.access.token.")}


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_bootstrap_token_s_record_says_who_made_it_and_how_often_it_was_used(run: Run) -> None:
    network_id = run.history.create_network()
    token_id = run.history.create_bootstrap_token(uses=5, network_id=network_id)
    (_, created) = run.derived().records
    event = run.history.events[-1]
    assert isinstance(event, BootstrapTokenCreated)
    assert created.subject == access("bootstrap", token_id)
    assert created.record.body == BootstrapTokenRecord(
        token_id=token_id,
        secret_hash=event.secret_hash,
        created_at=event.time,
        created_by="cli:test",
        expires_at=event.expires_at,
        uses=5,
        used=0,
        network_id=network_id,
    )

    machine_id = run.history.enrol(token_id)
    identity, token, registered = run.derived().records
    enrolled = run.history.events[-2]
    assert isinstance(enrolled, MachineEnrolled)
    assert (identity.subject, registered.subject) == (access("identity", machine_id), machine_info(machine_id))
    assert identity.record.body == IdentityRecord(
        machine_id=machine_id, identity_key=enrolled.identity_key, enrolled_at=enrolled.time, token_id=token_id
    )
    assert token.record.body == created.record.body.model_copy(update={"used": 1})
    assert (token.record.previous, token.record.revision) == (1, 2), "the two parts of the list are scopes of their own"
    assert (identity.record.previous, identity.record.revision) == (0, 1)

    run.history.revoke_bootstrap_token(token_id)
    (revoked,) = run.derived().records
    assert revoked.record.body == token.record.body.model_copy(update={"revoked_at": run.history.events[-1].time})


def test_an_identity_that_was_revoked_stays_and_says_when(run: Run) -> None:
    machine_id = run.history.enrol(run.history.create_bootstrap_token())
    run.derived()
    run.history.revoke_machine(machine_id)
    (revoked,) = run.derived().records
    assert revoked.subject == access("identity", machine_id)
    assert isinstance(revoked.record.body, IdentityRecord)
    assert revoked.record.body.revoked_at == run.history.events[-1].time

    run.history.delete_machine(machine_id)
    (deleted,) = run.derived().records
    assert deleted.subject == machine_info(machine_id), "what was revoked is not revoked again"


def test_the_identity_of_a_machine_that_is_deleted_counts_no_more(run: Run) -> None:
    machine_id = run.history.enrol(run.history.create_bootstrap_token())
    run.derived()
    run.history.identities.clear()  # so that the machine is deleted without being revoked
    run.history.delete_machine(machine_id)
    deleted, revoked = run.derived().records
    assert (deleted.subject, revoked.subject) == (machine_info(machine_id), access("identity", machine_id))
    assert isinstance(revoked.record.body, IdentityRecord)
    assert revoked.record.body.revoked_at == run.history.events[-1].time


def test_an_account_has_a_record_until_it_is_deleted_with_all_its_tokens(run: Run) -> None:
    account_id, other = run.history.create_account("viewer"), run.history.create_account()
    run.history.set_account_role(account_id, "admin")
    tokens = [run.history.issue_api_token(account_id, is_session=one) for one in (False, True)]
    kept = run.history.issue_api_token(other)
    *_, last = [entry for entry in run.state() if entry.subject == access("account", account_id)]
    assert isinstance(last.record.body, AccountRecord)
    assert (last.record.body.role, last.record.body.created_at) == ("admin", run.history.events[0].time)

    run.history.delete_account(account_id)
    gone, *former = run.derived().records
    assert (gone.subject, gone.record.body) == (access("account", account_id), None)
    assert [entry.subject for entry in former] == [access("token", one) for one in sorted(tokens)]
    assert all(isinstance(entry.record.body, FormerTokenRecord) for entry in former)
    bodies = {entry.subject: entry.record.body for entry in run.state()}
    assert isinstance(bodies[access("token", kept)], ApiTokenRecord)


def test_a_token_that_was_revoked_has_no_secret_left_and_says_when_it_would_have_expired(run: Run) -> None:
    account_id = run.history.create_account()
    token_id = run.history.issue_api_token(account_id, is_session=True)
    *_, issued = run.derived().records
    event = run.history.events[-1]
    assert isinstance(event, ApiTokenIssued)
    assert issued.record.body == ApiTokenRecord(
        token_id=token_id,
        account_id=account_id,
        name=event.name,
        role="viewer",
        use="session",
        secret_hash=event.secret_hash,
        created_at=event.time,
        expires_at=event.expires_at,
    )
    run.history.revoke_api_token(account_id, token_id)
    (revoked,) = run.derived().records
    assert revoked.subject == access("token", token_id)
    assert revoked.record.body == FormerTokenRecord(
        token_id=token_id, expires_at=event.expires_at, account_id=account_id
    )


def test_a_session_ends_with_the_token_that_began_it(run: Run) -> None:
    account_id = run.history.create_account()
    token_id = run.history.issue_api_token(account_id)
    session = run.history.issue_api_token(account_id, is_session=True, begun_with=token_id)
    kept = run.history.issue_api_token(account_id, is_session=True, begun_with=run.history.issue_api_token(account_id))
    issued = {record.subject: record.record.body for record in run.derived().records}[access("token", session)]
    assert isinstance(issued, ApiTokenRecord)
    assert issued.begun_with == token_id
    again = Run()
    again.topology = restore(run.state())[0]
    run.history.revoke_api_token(account_id, token_id)
    records = run.derived().records
    assert {record.subject for record in records} == {access("token", token_id), access("token", session)}
    assert all(isinstance(record.record.body, FormerTokenRecord) for record in records)
    assert access("token", kept) in run.subjects()
    assert again.topology.apply(len(run.history.events), run.history.events[-1]).records == records, (
        "as after a restart"
    )


def test_sessions_do_not_pile_up_and_what_was_revoked_is_told_until_it_would_have_expired(run: Run) -> None:
    account_id = run.history.create_account()
    forever = run.history.issue_api_token(account_id)
    run.history.revoke_api_token(account_id, forever)
    today = [_session(run, account_id, signs_out=number % 2 == 0) for number in range(6)]
    run.history.let_pass(timedelta(hours=11))
    later = _session(run, account_id)
    assert run.subjects() == {access("token", one) for one in (forever, *today, later)}
    run.history.let_pass(timedelta(hours=2))
    last = _session(run, account_id)
    assert run.subjects() == {access("token", one) for one in (forever, later, last)}
    assert restore(run.state())[1] == []


def test_nothing_is_written_under_the_subject_of_a_token_that_was_purged(run: Run) -> None:
    account_id = run.history.create_account()
    expired = _session(run, account_id)
    run.history.let_pass(timedelta(hours=13))
    _session(run, account_id)
    assert access("token", expired) in run.derived().purges
    run.history.revoke_api_token(account_id, expired)
    (said,) = run.derived().records
    assert said.subject == access("account", account_id), "whoever waits for the event's record hears one"
    assert isinstance(said.record.body, AccountRecord)


def test_a_purge_of_tokens_that_was_left_undone_is_found_in_the_records(run: Run) -> None:
    account_id = run.history.create_account()
    expired = [_session(run, account_id, signs_out=one) for one in (False, True)]
    before = run.state()
    run.history.let_pass(timedelta(hours=13))
    run.history.issue_api_token(account_id)
    after = {entry.subject: entry for entry in (*before, *run.derived().records)}
    topology, undone = restore(after.values())
    assert sorted(undone) == sorted(access("token", one) for one in expired)
    assert topology.access.tokens == run.topology.access.tokens


def test_a_token_without_its_account_is_a_hole_in_the_state(run: Run) -> None:
    account_id = run.history.create_account()
    run.history.issue_api_token(account_id)
    damaged = [entry for entry in run.state() if entry.subject != access("account", account_id)]
    with pytest.raises(DamagedStateError, match=str(account_id)):
        restore(damaged)


def test_an_event_about_somebody_who_is_not_there_is_refused(run: Run) -> None:
    account_id = run.history.create_account()
    run.derived()
    run.history.delete_account(account_id)
    run.history.accounts[account_id] = set()
    run.history.issue_api_token(account_id)
    with pytest.raises(InconsistentLogError, match=r"\(access.api_token_issued\) speaks of " + str(account_id)):
        run.derived()


def test_what_a_purge_is_for() -> None:
    filters = {"state.network.a.peer.*", "state.machine.b.network.c"}
    assert is_covered("state.network.a.peer.d", filters)
    assert is_covered("state.machine.b.network.c", filters)
    assert not is_covered("state.network.a.info", filters)
    assert not is_covered("state.machine.b.network.d", filters)


def _session(run: Run, account_id: UUID, signs_out: bool = False) -> UUID:
    token_id = run.history.issue_api_token(account_id, is_session=True)
    if signs_out:
        run.history.revoke_api_token(account_id, token_id)
    return token_id
