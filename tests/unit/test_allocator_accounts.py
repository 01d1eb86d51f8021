"""People and programs: accounts, the API tokens that speak for them, and that there is always an admin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from events import codec
from events.commands import (
    LIFETIMES,
    SESSION_LIFETIME,
    CreateAccount,
    CreateBootstrapToken,
    CreateFirstAccount,
    CreateNetwork,
    DeleteAccount,
    EnrolMachine,
    IssueApiToken,
    RegisterMachine,
    RevokeApiToken,
    RevokeMachine,
    SetAccountRole,
)
from events.domain import (
    ACCESS_ID,
    REGISTRY_ID,
    AccountCreated,
    AccountDeleted,
    AccountRoleSet,
    ApiTokenIssued,
    ApiTokenRevoked,
    DomainEvent,
)
from events.errors import (
    CommandIdReusedError,
    ConflictError,
    ForbiddenError,
    IdTakenError,
    InvalidInputError,
    InvalidNameError,
    LastAdminError,
    NameTakenError,
    NotFoundError,
    UnauthenticatedError,
)
from events.trust.keys import generate
from services.allocator import snapshots
from services.allocator.access import Access
from services.allocator.accounts import SWEPT_AT_ONCE
from tests.support.allocators import MOMENT, MemoryAllocator, PositionedRecorder

ROLES = ("viewer", "operator", "admin")


@pytest.fixture
def recorder() -> PositionedRecorder:
    return PositionedRecorder()


@pytest.fixture
def allocator(recorder: PositionedRecorder) -> Iterator[MemoryAllocator]:
    with MemoryAllocator(recorder) as allocator:
        yield allocator


def log(recorder: PositionedRecorder) -> list[DomainEvent]:
    return [
        codec.decode(UUID(str(each.originator_id)), each.originator_version, each.topic, each.state)
        for each in recorder.stored_events
    ]


def a_secret() -> str:
    return uuid4().hex * 2


def an_account(allocator: MemoryAllocator, name: str = "alice", role: str = "admin") -> UUID:
    account_id = uuid4()
    allocator.do(CreateAccount, account_id=account_id, name=name, role=role)
    return account_id


def token_fields(account_id: UUID, name: str = "ci", role: str = "viewer", **more: Any) -> dict[str, Any]:
    fields = {"token_id": uuid4(), "account_id": account_id, "name": name, "role": role, "secret_hash": a_secret()}
    return fields | more


def a_token(allocator: MemoryAllocator, account_id: UUID, *arguments: str, **more: Any) -> UUID:
    fields = token_fields(account_id, *arguments, **more)
    allocator.do(IssueApiToken, **fields)
    token_id: UUID = fields["token_id"]
    return token_id


def access(allocator: MemoryAllocator) -> Access:
    found = allocator.find(Access, ACCESS_ID)
    assert isinstance(found, Access)
    return found


class TestAccounts:
    def test_names_are_unique_whatever_their_case(self, allocator: MemoryAllocator) -> None:
        alice = an_account(allocator)
        an_account(allocator, "bob")
        allocator.refuses(NameTakenError, CreateAccount, account_id=uuid4(), name="Alice", role="viewer")
        allocator.do(SetAccountRole, account_id=an_account(allocator, "carol", "viewer"), role="admin")
        allocator.do(DeleteAccount, account_id=alice)
        an_account(allocator, "ALICE")

    @pytest.mark.parametrize("name", ["", "a b", "a/b", "<b>", "x" * 64, "\u0430lice", "a\n", "-a"])
    def test_a_name_that_cannot_be_is_refused(self, allocator: MemoryAllocator, name: str) -> None:
        account_id = an_account(allocator)
        allocator.refuses(InvalidNameError, CreateAccount, account_id=uuid4(), name=name, role="viewer")
        allocator.refuses(InvalidNameError, IssueApiToken, **token_fields(account_id, name))

    def test_an_id_is_used_once_also_when_its_account_is_gone(self, allocator: MemoryAllocator) -> None:
        an_account(allocator)
        network_id, bob = uuid4(), an_account(allocator, "bob")
        token_id = a_token(allocator, bob)
        allocator.do(CreateNetwork, network_id=network_id, name="office", network_cidr="10.0.0.0/24")

        def is_refused(*ids: UUID) -> None:
            for taken in ids:
                allocator.refuses(IdTakenError, CreateAccount, account_id=taken, name="new", role="viewer")

        is_refused(bob, token_id, network_id, REGISTRY_ID, ACCESS_ID)
        allocator.do(DeleteAccount, account_id=bob)
        is_refused(bob, token_id)

    def test_a_role_is_set_once(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        an_account(allocator)
        bob = an_account(allocator, "bob", "viewer")
        assert allocator.do(SetAccountRole, account_id=bob, role="operator").changed
        assert isinstance(event := log(recorder)[-1], AccountRoleSet)
        assert (event.previous_role, event.role) == ("viewer", "operator")
        assert not allocator.do(SetAccountRole, account_id=bob, role="operator").changed
        allocator.refuses(NotFoundError, SetAccountRole, account_id=uuid4(), role="operator")

    def test_there_is_always_an_admin(self, allocator: MemoryAllocator) -> None:
        alice, bob = an_account(allocator), an_account(allocator, "bob", "operator")
        for role in ("viewer", "operator"):
            allocator.refuses(LastAdminError, SetAccountRole, account_id=alice, role=role)
        allocator.refuses(LastAdminError, DeleteAccount, account_id=alice)
        allocator.do(SetAccountRole, account_id=bob, role="admin")
        allocator.do(SetAccountRole, account_id=alice, role="viewer")
        allocator.refuses(LastAdminError, DeleteAccount, account_id=bob)
        allocator.do(DeleteAccount, account_id=alice)
        allocator.refuses(NotFoundError, DeleteAccount, account_id=alice)

    def test_two_that_are_demoted_at_once_leave_one(self, recorder: PositionedRecorder) -> None:
        with MemoryAllocator(recorder) as one, MemoryAllocator(recorder) as two:
            alice, bob = an_account(one), an_account(one, "bob")
            assert access(two).accounts.keys() == access(one).accounts.keys()
            one.do(DeleteAccount, account_id=alice)
            two.refuses(LastAdminError, DeleteAccount, account_id=bob)

    def test_its_tokens_go_with_it(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        an_account(allocator)
        bob = an_account(allocator, "bob")
        tokens = [a_token(allocator, bob, f"t{number}") for number in range(3)]
        allocator.do(DeleteAccount, account_id=bob)
        assert isinstance(log(recorder)[-1], AccountDeleted)
        assert not access(allocator).api_tokens
        for token_id in tokens:
            assert not allocator.do(RevokeApiToken, token_id=token_id).changed
            again = token_fields(an_account(allocator, f"a{token_id.hex[:8]}"), token_id=token_id)
            allocator.refuses(IdTakenError, IssueApiToken, **again)
        allocator.refuses(NotFoundError, IssueApiToken, **token_fields(bob))


class TestTheFirstAccount:
    def fields(self) -> dict[str, Any]:
        return {"account_id": uuid4(), "name": "admin", "token_id": uuid4(), "secret_hash": a_secret()}

    def test_it_is_an_admin_with_a_token(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        fields = self.fields()
        assert allocator.do(CreateFirstAccount, **fields).changed
        created, issued = log(recorder)
        assert isinstance(created, AccountCreated)
        assert isinstance(issued, ApiTokenIssued)
        assert (created.name, created.role) == ("admin", "admin")
        assert (issued.role, issued.use, issued.expires_at) == ("admin", "api", None)
        assert (issued.token_id, issued.secret_hash) == (fields["token_id"], fields["secret_hash"])
        assert issued.account_id == created.account_id == fields["account_id"]

    def test_where_there_is_one_nothing_happens(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        an_account(allocator, role="viewer")
        assert not allocator.do(CreateFirstAccount, **self.fields()).changed
        assert len(recorder.stored_events) == 1

    def test_of_two_at_once_one_is_made(self, recorder: PositionedRecorder) -> None:
        with MemoryAllocator(recorder) as one, MemoryAllocator(recorder) as two:
            for each in (one, two):
                each.do(RegisterMachine, machine_id=uuid4(), hostname="x")
            made = [each.do(CreateFirstAccount, **self.fields()).changed for each in (one, two)]
        assert made == [True, False]

    def test_one_that_cannot_be_changes_nothing(self, allocator: MemoryAllocator) -> None:
        fields = self.fields()
        allocator.refuses(InvalidNameError, CreateFirstAccount, **(fields | {"name": "a b"}))
        allocator.refuses(IdTakenError, CreateFirstAccount, **(fields | {"token_id": fields["account_id"]}))
        allocator.refuses(IdTakenError, CreateFirstAccount, **(fields | {"account_id": ACCESS_ID}))


class TestApiTokens:
    @pytest.mark.parametrize("own", ROLES)
    @pytest.mark.parametrize("asked", ROLES)
    def test_one_never_has_more_than_its_account(self, allocator: MemoryAllocator, own: str, asked: str) -> None:
        account_id = an_account(allocator, role=own)
        fields = token_fields(account_id, role=asked)
        if ROLES.index(asked) <= ROLES.index(own):
            assert allocator.do(IssueApiToken, **fields).changed
        else:
            refusal = allocator.refuses(ForbiddenError, IssueApiToken, **fields)
            assert refusal.detail == f"The account alice is {own}: its tokens cannot be {asked}."

    @pytest.mark.parametrize(
        ("asked", "duration"),
        [
            ({}, None),
            *(({"lifetime": lifetime}, duration) for lifetime, duration in LIFETIMES.items()),
            ({"use": "session"}, SESSION_LIFETIME),
            ({"use": "session", "lifetime": "365d"}, SESSION_LIFETIME),
        ],
    )
    def test_one_counts_for_as_long_as_was_asked_and_a_session_for_its_time(
        self,
        allocator: MemoryAllocator,
        recorder: PositionedRecorder,
        asked: dict[str, str],
        duration: timedelta | None,
    ) -> None:
        a_token(allocator, an_account(allocator), **asked)
        assert isinstance(issued := log(recorder)[-1], ApiTokenIssued)
        assert issued.expires_at == (None if duration is None else MOMENT + duration)

    def test_ids_and_secrets_are_used_once(self, allocator: MemoryAllocator) -> None:
        alice, machine_id, network_id = an_account(allocator), uuid4(), uuid4()
        allocator.do(RegisterMachine, machine_id=machine_id, hostname="x")
        allocator.do(CreateNetwork, network_id=network_id, name="office", network_cidr="10.0.0.0/24")
        first, bootstrap = token_fields(alice), {"token_id": uuid4(), "secret_hash": a_secret()}
        allocator.do(IssueApiToken, **first)
        allocator.do(CreateBootstrapToken, **bootstrap)
        new = token_fields(alice, "new")
        for taken in (first["token_id"], bootstrap["token_id"], alice, machine_id, network_id, ACCESS_ID):
            allocator.refuses(IdTakenError, IssueApiToken, **(new | {"token_id": taken}))
        for known in (first["secret_hash"], bootstrap["secret_hash"]):
            allocator.refuses(ConflictError, IssueApiToken, **(new | {"secret_hash": known}))
        allocator.do(RevokeApiToken, token_id=first["token_id"])
        allocator.refuses(IdTakenError, IssueApiToken, **(new | {"token_id": first["token_id"]}))

    def test_an_account_s_names_are_unique_as_long_as_they_count(self, allocator: MemoryAllocator) -> None:
        alice, bob = an_account(allocator), an_account(allocator, "bob")
        first = a_token(allocator, alice, lifetime="1d")
        allocator.refuses(NameTakenError, IssueApiToken, **token_fields(alice, "CI"))
        a_token(allocator, bob)
        a_token(allocator, alice, use="session")
        a_token(allocator, alice, use="session")
        allocator.do(RevokeApiToken, token_id=first)
        a_token(allocator, alice, lifetime="1d")
        allocator.moment += timedelta(days=1)
        a_token(allocator, alice)
        allocator.refuses(NameTakenError, IssueApiToken, **token_fields(alice))

    def test_a_new_one_sweeps_up_some_that_have_expired(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        alice, bob = an_account(allocator), an_account(allocator, "bob")
        kept = {a_token(allocator, bob, use="session"), a_token(allocator, alice)}
        expired = {a_token(allocator, alice, use="session") for _ in range(SWEPT_AT_ONCE + 3)}
        allocator.moment += SESSION_LIFETIME
        for left in (3, 0):
            written = len(recorder.stored_events)
            outcome = allocator.do(IssueApiToken, **token_fields(alice, f"t{left}"))
            issued, *swept = log(recorder)[written:]
            assert isinstance(issued, ApiTokenIssued)
            assert all(isinstance(event, ApiTokenRevoked) and event.account_id == alice for event in swept)
            assert outcome.sequence == len(recorder.stored_events)
            assert len(expired & set(access(allocator).api_tokens)) == left
        assert kept <= set(access(allocator).api_tokens)

    def test_one_that_was_revoked_is_gone(self, allocator: MemoryAllocator, recorder: PositionedRecorder) -> None:
        token_id = a_token(allocator, an_account(allocator))
        allocator.refuses(NotFoundError, RevokeApiToken, token_id=uuid4())
        assert allocator.do(RevokeApiToken, token_id=token_id).changed
        assert isinstance(log(recorder)[-1], ApiTokenRevoked)
        assert not allocator.do(RevokeApiToken, token_id=token_id).changed
        assert not access(allocator).api_tokens

    def test_a_session_ends_with_the_token_that_began_it(
        self, allocator: MemoryAllocator, recorder: PositionedRecorder
    ) -> None:
        alice = an_account(allocator)
        token_id, other = a_token(allocator, alice), a_token(allocator, alice, "other")
        sessions = [a_token(allocator, alice, use="session", begun_with=token_id) for _ in range(2)]
        kept = a_token(allocator, alice, use="session", begun_with=other)
        allocator.do(RevokeApiToken, token_id=token_id)
        assert isinstance(log(recorder)[-2], ApiTokenIssued), "one event says it all"
        assert set(access(allocator).api_tokens) == {other, kept}
        assert not allocator.do(RevokeApiToken, token_id=sessions[0]).changed
        allocator.refuses(IdTakenError, IssueApiToken, **token_fields(alice, "new", token_id=sessions[1]))

    def test_a_session_is_begun_with_a_token_of_the_same_account_that_counts(self, allocator: MemoryAllocator) -> None:
        alice, bob = an_account(allocator), an_account(allocator, "bob")
        bobs, short = a_token(allocator, bob), a_token(allocator, alice, lifetime="10m")
        revoked = a_token(allocator, alice, "gone")
        session = a_token(allocator, alice, use="session", begun_with=short)
        allocator.do(RevokeApiToken, token_id=revoked)
        for wrong in (bobs, revoked, session, uuid4()):
            fields = token_fields(alice, "s", use="session", begun_with=wrong)
            allocator.refuses(UnauthenticatedError, IssueApiToken, **fields)
        allocator.refuses(InvalidInputError, IssueApiToken, **token_fields(alice, "s", begun_with=short))
        assert access(allocator).api_tokens[session].expires_at == MOMENT + timedelta(minutes=10), "no longer than it"
        allocator.moment += timedelta(minutes=10)
        allocator.refuses(
            UnauthenticatedError, IssueApiToken, **token_fields(alice, "s", use="session", begun_with=short)
        )

    def test_a_token_and_its_sessions_that_have_expired_are_swept_up_together(self, allocator: MemoryAllocator) -> None:
        alice = an_account(allocator)
        for number in range(3):
            begun_with = a_token(allocator, alice, f"t{number}", lifetime="10m")
            for _ in range(2):
                a_token(allocator, alice, use="session", begun_with=begun_with)
        allocator.moment += timedelta(minutes=10)
        kept = a_token(allocator, alice)
        assert set(access(allocator).api_tokens) == {kept}


def test_nobody_gets_the_answer_to_another_s_command_by_its_id(
    allocator: MemoryAllocator, recorder: PositionedRecorder
) -> None:
    """The answer may be worth a token: who knows only a command's id must not get it, also after a restart."""
    alice, mallory, command_id = an_account(allocator), an_account(allocator, "mallory", "viewer"), uuid4()
    fields = token_fields(alice, role="admin", command_id=command_id)
    outcome = allocator.do(IssueApiToken, **fields)
    with MemoryAllocator(recorder) as restarted:
        for each in (allocator, restarted):
            assert each.do(IssueApiToken, **fields) == outcome
            for change in ({"account_id": mallory}, {"token_id": uuid4()}, {"role": "viewer"}, {"use": "session"}):
                each.refuses(CommandIdReusedError, IssueApiToken, **(fields | change))
            each.refuses(CommandIdReusedError, RevokeApiToken, command_id=command_id, token_id=fields["token_id"])


def test_a_snapshot_is_the_access_list_as_it_was(allocator: MemoryAllocator) -> None:
    alice, bob = an_account(allocator), an_account(allocator, "Bob", "operator")
    a_token(allocator, alice, use="session", begun_with=a_token(allocator, alice, lifetime="7d"))
    allocator.do(RevokeApiToken, token_id=a_token(allocator, bob))
    allocator.do(DeleteAccount, account_id=an_account(allocator, "carol"))
    secret_hash, network_id = a_secret(), uuid4()
    allocator.do(CreateNetwork, network_id=network_id, name="office", network_cidr="10.0.0.0/24")
    allocator.do(CreateBootstrapToken, token_id=uuid4(), secret_hash=a_secret(), uses=None)
    allocator.do(CreateBootstrapToken, token_id=uuid4(), secret_hash=secret_hash, uses=5, network_id=network_id)
    for _ in range(2):
        machine_id, identity_key = uuid4(), generate("user").public
        fields = {"machine_id": machine_id, "identity_key": identity_key, "hostname": "x", "secret_hash": secret_hash}
        allocator.do(EnrolMachine, **fields)
    allocator.do(RevokeMachine, machine_id=machine_id)
    before = access(allocator)
    assert before.size == 2 + 2 + 2 + 2 + 1
    assert snapshots.restore(snapshots.take(before)) == before
