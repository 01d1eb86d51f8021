"""The same two allocators, and who is let in: no token lets in too many, no key is two machines', an admin remains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, initialize, invariant, multiple, precondition, rule

from events import cidr, codec
from events.commands import (
    CreateAccount,
    CreateBootstrapToken,
    DeleteAccount,
    EnrolMachine,
    IssueApiToken,
    Outcome,
    RevokeApiToken,
    RevokeBootstrapToken,
    RevokeMachine,
    RotateKeys,
    SetAccountRole,
)
from events.domain import ACCESS_ID, MachineEnrolled
from events.errors import (
    ConflictError,
    ForbiddenError,
    IdentityTakenError,
    LastAdminError,
    MachineDeletedError,
    MachineRevokedError,
    NameTakenError,
    NetworkFullError,
    NotFoundError,
    TokenRefusedError,
)
from events.trust.keys import generate
from services.allocator.access import Access
from services.allocator.aggregates import Network
from tests.property.test_allocator import AllocatorMachine
from tests.support.allocators import MemoryAllocator

KEYS = [generate("user").public for _ in range(3)]
ROLES = ["viewer", "operator", "admin"]
WHICH = st.integers(0, 1)


@dataclass
class Token:
    """A bootstrap token of the model."""

    secret_hash: str
    uses: int | None
    network_id: UUID | None
    used: int = 0
    revoked: bool = False

    @property
    def is_left(self) -> bool:
        return self.uses is None or self.used < self.uses


class AccessMachine(AllocatorMachine):
    """The model: tokens and their uses, who has which key, which account has which role and tokens."""

    bootstrap_tokens = Bundle("bootstrap_tokens")
    accounts = Bundle("accounts")
    api_tokens = Bundle("api_tokens")

    def __init__(self) -> None:
        super().__init__()
        self.tokens: dict[UUID, Token] = {}
        self.keys: dict[UUID, str] = {}
        self.deleted: set[UUID] = set()
        self.roles: dict[UUID, str] = {}
        self.account_names: dict[UUID, str] = {}
        self.owners: dict[UUID, UUID] = {}
        self.was_admin = False

    @initialize(target=AllocatorMachine.networks)
    def a_default_network(self) -> Any:
        """There at once, so that fewer steps lead to where it becomes interesting."""
        return self.create_network(0, "a", "10.0.0.0/28", is_default=True)

    @initialize(target=bootstrap_tokens, uses=st.sampled_from([1, None]))
    def a_bootstrap_token(self, uses: int | None) -> Any:
        return self.create_bootstrap_token(0, uses, None)

    def gone(self, machine_id: UUID) -> None:
        self.deleted.add(machine_id)
        if machine_id in self.keys:
            self.revoked.add(machine_id)

    @rule(
        target=bootstrap_tokens,
        which=WHICH,
        uses=st.sampled_from([1, 1, 2, None]),
        network_id=st.none() | AllocatorMachine.networks,
    )
    def create_bootstrap_token(self, which: int, uses: int | None, network_id: UUID | None) -> Any:
        token_id, secret_hash = uuid4(), uuid4().hex * 2
        fields = {"token_id": token_id, "secret_hash": secret_hash, "uses": uses, "network_id": network_id}
        answer = self.do(which, CreateBootstrapToken, **fields)
        if network_id is not None and network_id not in self.cidrs:
            assert isinstance(answer, NotFoundError)
            return multiple()
        assert isinstance(answer, Outcome)
        self.tokens[token_id] = Token(secret_hash, uses, network_id)
        return token_id

    @rule(which=WHICH, token_id=bootstrap_tokens)
    def revoke_bootstrap_token(self, which: int, token_id: UUID) -> None:
        answer = self.do(which, RevokeBootstrapToken, token_id=token_id)
        assert isinstance(answer, Outcome)
        assert answer.changed != self.tokens[token_id].revoked
        self.tokens[token_id].revoked = True

    @rule(
        target=AllocatorMachine.machines,
        which=WHICH,
        token_id=bootstrap_tokens,
        machine=st.none() | AllocatorMachine.machines,
        key=st.sampled_from(KEYS),
        is_own_key=st.booleans(),
    )
    def enrol(self, which: int, token_id: UUID, machine: UUID | None, key: str, is_own_key: bool) -> Any:
        machine_id = machine or uuid4()
        key = self.keys.get(machine_id, key) if is_own_key else key
        token = self.tokens[token_id]
        answer = self.do(
            which,
            EnrolMachine,
            machine_id=machine_id,
            identity_key=key,
            hostname="m",
            secret_hash=token.secret_hash,
        )
        refusal = self._refusal(token, machine_id, key)
        target = self._target(token, machine_id)
        if refusal is None and target is not None and self._is_full(target):
            refusal = NetworkFullError
        if refusal is not None:
            assert type(answer) is refusal, (answer, refusal)
            return multiple()
        assert isinstance(answer, Outcome)
        if target is not None or self.keys.get(machine_id) != key:
            token.used += 1
        self.keys[machine_id] = key
        self.alive.add(machine_id)
        assert len(answer.assignments) == (target is not None)
        for each in answer.assignments:
            assert target is not None
            self.members[target][machine_id] = int(each.address) - int(self.cidrs[target].network_address)
        return machine_id if machine is None else multiple()

    @precondition(lambda self: self.keys)
    @rule(which=WHICH, token_id=bootstrap_tokens, key=st.none() | st.sampled_from(KEYS), data=st.data())
    def enrol_again(self, which: int, token_id: UUID, key: str | None, data: st.DataObject) -> None:
        machine_id = data.draw(st.sampled_from(list(self.keys)))
        self.enrol(which, token_id, machine_id, key or KEYS[0], is_own_key=key is None)

    @precondition(lambda self: self.keys)
    @rule(which=WHICH, network_id=AllocatorMachine.networks, data=st.data())
    def revoke_and_assign(self, which: int, network_id: UUID, data: st.DataObject) -> None:
        machine_id = data.draw(st.sampled_from(list(self.keys)))
        self.assign(which, network_id, machine_id, None)
        self.revoke_machine(which, machine_id)
        self.assign(1 - which, network_id, machine_id, None)
        self.assign_many(which, network_id, [machine_id])

    def _refusal(self, token: Token, machine_id: UUID, key: str) -> type[Exception] | None:
        owner = next((each for each, known in self.keys.items() if known == key), None)
        if owner in self.revoked:
            return MachineRevokedError if owner in self.alive else MachineDeletedError
        if token.revoked or (token.network_id is not None and token.network_id not in self.cidrs):
            return TokenRefusedError
        if owner == machine_id:
            return None
        if not token.is_left:
            return TokenRefusedError
        if machine_id in self.deleted:
            return MachineDeletedError
        if machine_id in self.revoked:
            return MachineRevokedError
        return IdentityTakenError if owner is not None or machine_id in self.keys else None

    def _target(self, token: Token, machine_id: UUID) -> UUID | None:
        network_id = token.network_id or self.default
        if not token.is_left or network_id is None or machine_id in self.members.get(network_id, {}):
            return None
        return network_id

    def _is_full(self, network_id: UUID) -> bool:
        return len(self.members[network_id]) == cidr.capacity(self.cidrs[network_id])

    @rule(which=WHICH, machine_id=AllocatorMachine.machines)
    def revoke_machine(self, which: int, machine_id: UUID) -> None:
        answer = self.do(which, RevokeMachine, machine_id=machine_id)
        if machine_id not in self.alive:
            assert isinstance(answer, MachineDeletedError)
        elif machine_id not in self.keys:
            assert type(answer) is ConflictError
        else:
            assert isinstance(answer, Outcome)
            assert answer.changed == (machine_id not in self.revoked)
            self.revoked.add(machine_id)
            for members in self.members.values():
                members.pop(machine_id, None)

    @rule(which=WHICH, machine_id=AllocatorMachine.machines)
    def rotate_keys(self, which: int, machine_id: UUID) -> None:
        before = self._generations(machine_id)
        answer = self.do(which, RotateKeys, machine_id=machine_id)
        if machine_id not in self.alive:
            assert isinstance(answer, MachineDeletedError)
        elif machine_id in self.revoked:
            assert isinstance(answer, MachineRevokedError)
        elif not before:
            assert isinstance(answer, NotFoundError)
        else:
            assert isinstance(answer, Outcome)
            assert self._generations(machine_id) == {each: generation + 1 for each, generation in before.items()}

    def _generations(self, machine_id: UUID) -> dict[UUID, int]:
        with MemoryAllocator(self.recorder) as fresh:
            found = {each: fresh.find(Network, each) for each in self.members if machine_id in self.members[each]}
        return {
            each: network.members[machine_id].key_generation
            for each, network in found.items()
            if isinstance(network, Network)
        }

    @rule(target=accounts, which=WHICH, name=st.sampled_from(["a", "A", "b", "c"]), role=st.sampled_from(ROLES))
    def create_account(self, which: int, name: str, role: str) -> Any:
        account_id = uuid4()
        answer = self.do(which, CreateAccount, account_id=account_id, name=name, role=role)
        if name.lower() in {known.lower() for known in self.account_names.values()}:
            assert isinstance(answer, NameTakenError)
            return multiple()
        assert isinstance(answer, Outcome)
        self.roles[account_id], self.account_names[account_id] = role, name
        return account_id

    @rule(which=WHICH, account_id=accounts, role=st.sampled_from(ROLES))
    def set_account_role(self, which: int, account_id: UUID, role: str) -> None:
        answer = self.do(which, SetAccountRole, account_id=account_id, role=role)
        if account_id not in self.roles:
            assert isinstance(answer, NotFoundError)
        elif role != "admin" and self._is_last_admin(account_id):
            assert isinstance(answer, LastAdminError)
        else:
            assert isinstance(answer, Outcome)
            assert answer.changed == (self.roles[account_id] != role)
            self.roles[account_id] = role

    @rule(which=WHICH, account_id=accounts)
    def delete_account(self, which: int, account_id: UUID) -> None:
        answer = self.do(which, DeleteAccount, account_id=account_id)
        if account_id not in self.roles:
            assert isinstance(answer, NotFoundError)
        elif self._is_last_admin(account_id):
            assert isinstance(answer, LastAdminError)
        else:
            assert isinstance(answer, Outcome)
            del self.roles[account_id], self.account_names[account_id]
            self.owners = {token: owner for token, owner in self.owners.items() if owner != account_id}

    def _is_last_admin(self, account_id: UUID) -> bool:
        return [each for each, role in self.roles.items() if role == "admin"] == [account_id]

    @rule(target=api_tokens, which=WHICH, account_id=accounts, role=st.sampled_from(ROLES))
    def issue_api_token(self, which: int, account_id: UUID, role: str) -> Any:
        token_id = uuid4()
        fields = {"token_id": token_id, "name": f"t{token_id.hex[:8]}", "secret_hash": uuid4().hex * 2}
        answer = self.do(which, IssueApiToken, account_id=account_id, role=role, **fields)
        if account_id not in self.roles:
            assert isinstance(answer, NotFoundError)
        elif ROLES.index(role) > ROLES.index(self.roles[account_id]):
            assert isinstance(answer, ForbiddenError)
        else:
            assert isinstance(answer, Outcome)
            self.owners[token_id] = account_id
            return token_id
        return multiple()

    @rule(which=WHICH, token_id=api_tokens)
    def revoke_api_token(self, which: int, token_id: UUID) -> None:
        answer = self.do(which, RevokeApiToken, token_id=token_id)
        assert isinstance(answer, Outcome)
        assert answer.changed == (self.owners.pop(token_id, None) is not None)

    @invariant()
    def the_access_list_from_the_log_is_the_model(self) -> None:
        with MemoryAllocator(self.recorder) as fresh:
            access = fresh.find(Access, ACCESS_ID)
        assert isinstance(access, Access)
        assert {each: token.used for each, token in access.bootstrap_tokens.items()} == {
            each: token.used for each, token in self.tokens.items()
        }
        assert {machine: each.identity_key for machine, each in access.identities.items()} == self.keys
        assert {machine for machine in self.keys if access.is_revoked(machine)} == self.revoked
        assert {each: account.role for each, account in access.accounts.items()} == self.roles
        assert {each: token.account_id for each, token in access.api_tokens.items()} == self.owners

    @invariant()
    def what_must_always_hold_holds(self) -> None:
        assert all(token.uses is None or token.used <= token.uses for token in self.tokens.values())
        assert len(set(self.keys.values())) == len(self.keys)
        admins = [role for role in self.roles.values() if role == "admin"]
        self.was_admin = self.was_admin or bool(admins)
        assert admins or not self.was_admin
        assert not any(self.revoked & members.keys() for members in self.members.values())
        let_in = codec.topic_of(MachineEnrolled)
        spent = sum(stored.topic == let_in for stored in self.recorder.stored_events)
        assert spent == sum(token.used for token in self.tokens.values())


TestAccess = AccessMachine.TestCase
TestAccess.settings = settings(max_examples=100, stateful_step_count=40)
