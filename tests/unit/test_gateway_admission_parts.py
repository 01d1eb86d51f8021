"""The pure parts of letting somebody in: the access list, challenges, and the bus's tokens and when they count."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from itertools import count, pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest

from events.enrolment import ACCESS_SECONDS
from events.errors import MachineDeletedError, MachineRevokedError, NotFoundError, UnauthenticatedError
from events.records import (
    AccountRecord,
    ApiTokenRecord,
    BootstrapTokenRecord,
    FormerTokenRecord,
    IdentityRecord,
    MachineRecord,
    Record,
)
from events.state import encode_record
from events.subjects import access, machine_info, machine_membership
from events.trust import jwt
from events.trust.keys import generate
from services.gateway.access import AccessView
from services.gateway.cutoffs import MARGIN_SECONDS, Cutoffs, merged
from services.gateway.minting import CHALLENGE_SECONDS, Challenges, Minter
from services.gateway.mirror import Mirror

NOW = datetime(2026, 5, 3, 14, 2, tzinfo=UTC)
SECOND = int(NOW.timestamp())
HASH = "ab" * 32
ALICE, TOKEN, MACHINE = uuid4(), uuid4(), uuid4()
KEY = generate("user")
_numbers = count(1)


def record(body: Any, time: datetime = NOW, cause: int | None = None) -> Record:
    number = next(_numbers)
    return Record(revision=number, previous=number - 1, cause=number if cause is None else cause, time=time, body=body)


def account(role: Any = "admin") -> AccountRecord:
    return AccountRecord(account_id=ALICE, name="alice", role=role, created_at=NOW)


def api_token(role: Any = "operator", expires_at: datetime | None = None) -> ApiTokenRecord:
    return ApiTokenRecord(
        token_id=TOKEN,
        account_id=ALICE,
        name="laptop",
        role=role,
        use="api",
        secret_hash=HASH,
        created_at=NOW,
        expires_at=expires_at,
    )


def identity(revoked_at: datetime | None = None) -> IdentityRecord:
    return IdentityRecord(
        machine_id=MACHINE, identity_key=KEY.public, enrolled_at=NOW, token_id=uuid4(), revoked_at=revoked_at
    )


@pytest.fixture
def view() -> AccessView:
    view = AccessView()
    view.apply(access("account", ALICE), record(account()))
    view.apply(access("token", TOKEN), record(api_token()))
    return view


@pytest.mark.parametrize(
    ("of_token", "of_account", "effective"),
    [("admin", "viewer", "viewer"), ("viewer", "admin", "viewer"), ("operator", "operator", "operator")],
)
def test_a_speaker_has_the_lower_role(view: AccessView, of_token: str, of_account: str, effective: str) -> None:
    view.apply(access("account", ALICE), record(account(of_account)))
    view.apply(access("token", TOKEN), record(api_token(of_token)))
    speaker = view.speaker(HASH, NOW)
    assert speaker is not None
    assert (speaker.role, speaker.actor) == (effective, "account:alice/laptop")
    assert view.principal(TOKEN, NOW) == speaker


def test_who_does_not_speak(view: AccessView) -> None:
    assert view.speaker("cd" * 32, NOW) is None
    assert view.principal(uuid4(), NOW) is None
    view.apply(access("token", TOKEN), record(api_token(expires_at=NOW + timedelta(seconds=1))))
    assert view.speaker(HASH, NOW) is not None
    assert view.speaker(HASH, NOW + timedelta(seconds=1)) is None


def test_an_expired_token_is_not_listed(view: AccessView) -> None:
    view.apply(access("token", TOKEN), record(api_token(expires_at=NOW + timedelta(seconds=1))))
    assert [token.token_id for token in view.api_tokens(NOW)] == [TOKEN]
    assert view.api_tokens(NOW + timedelta(seconds=1)) == []


@pytest.mark.parametrize("gone", [None, FormerTokenRecord(token_id=TOKEN, expires_at=None)])
def test_a_revoked_token_speaks_for_nobody(view: AccessView, gone: Any) -> None:
    view.apply(access("token", TOKEN), record(gone))
    assert view.speaker(HASH, NOW) is None
    assert view.principal(TOKEN, NOW) is None
    assert view.api_tokens(NOW) == []
    assert view.name_of(TOKEN) == "laptop"


def test_a_deleted_account_takes_its_tokens_with_it(view: AccessView) -> None:
    view.apply(access("account", ALICE), record(None))
    assert view.speaker(HASH, NOW) is None
    assert (view.accounts(), view.api_tokens(NOW)) == ([], [])
    with pytest.raises(NotFoundError, match="no account"):
        view.account(ALICE)


def test_the_access_list_is_in_the_order_of_time() -> None:
    view = AccessView()
    for age in (1, 3, 2):
        body = BootstrapTokenRecord(
            token_id=uuid4(),
            secret_hash=HASH,
            created_at=NOW - timedelta(hours=age),
            created_by="account:alice/laptop",
            expires_at=NOW,
            uses=1,
            used=0,
            network_id=None,
        )
        view.apply(access("bootstrap", body.token_id), record(body))
    listed = [NOW - token.created_at for token in view.bootstraps()]
    assert listed == [timedelta(hours=3), timedelta(hours=2), timedelta(hours=1)]
    assert view.bootstrap(view.bootstraps()[0].token_id) == view.bootstraps()[0]


def test_a_machine_stands_until_it_is_revoked_or_deleted() -> None:
    mirror = Mirror()

    def put(subject: str, body: Any) -> None:
        mirror.apply(subject, encode_record(record(body)))

    with pytest.raises(UnauthenticatedError):
        mirror.standing(MACHINE)
    put(machine_info(MACHINE), MachineRecord(machine_id=MACHINE, hostname="m", agent_version="", created_at=NOW))
    with pytest.raises(UnauthenticatedError):
        mirror.standing(MACHINE)
    put(access("identity", MACHINE), identity())
    assert mirror.standing(MACHINE).identity_key == KEY.public
    assert mirror.cutoffs.of(identity()) == 0
    put(access("identity", MACHINE), identity(revoked_at=NOW))
    with pytest.raises(MachineRevokedError):
        mirror.standing(MACHINE)
    assert mirror.cutoffs.of(identity()) == SECOND + MARGIN_SECONDS
    put(machine_info(MACHINE), None)
    with pytest.raises(MachineDeletedError):
        mirror.standing(MACHINE)


def test_a_tombstone_of_a_membership_makes_a_cutoff() -> None:
    mirror, network = Mirror(), uuid4()
    mirror.apply(machine_membership(MACHINE, network), encode_record(record(None)))
    assert mirror.cutoffs.of(identity()) == SECOND + MARGIN_SECONDS


def test_each_cutoff_is_later_than_the_one_before() -> None:
    """A token that was made after a cutoff is dated after it, so the next cutoff must be later still."""
    cutoffs = Cutoffs()
    made = []
    for cause in range(1, 6):
        cutoffs.note(MACHINE, NOW, cause)
        made.append(max(SECOND, cutoffs.of(identity()) + 1))
        cutoffs.note(MACHINE, NOW, cause)
    assert made == [SECOND + MARGIN_SECONDS + number for number in range(1, 6)]
    for earlier, later in pairwise(made):
        assert earlier <= later - 1
    cutoffs.note(MACHINE, NOW + timedelta(hours=1), 9)
    assert cutoffs.of(identity()) == SECOND + 3600 + MARGIN_SECONDS


def test_what_the_bus_holds_counts_too() -> None:
    cutoffs = Cutoffs()
    cutoffs.learn({KEY.public: SECOND + 40})
    assert cutoffs.of(identity()) == SECOND + 40
    assert cutoffs.wanted([identity()], SECOND) == {}
    cutoffs.note(MACHINE, NOW, 1)
    assert cutoffs.of(identity()) == SECOND + 40
    assert cutoffs.wanted([identity()], SECOND) == {KEY.public: SECOND + MARGIN_SECONDS}


def test_merging_keeps_the_later_and_lets_go_of_what_is_over() -> None:
    held, wanted = {"a": 10, "b": 50, "c": 10}, {"a": 20, "b": 40, "d": 30}
    assert merged(held, wanted, 60) == {"a": 20, "b": 50, "c": 10, "d": 30}
    assert merged(held, wanted, ACCESS_SECONDS + 20) == {"a": 20, "b": 50, "d": 30}
    assert merged(held, wanted, ACCESS_SECONDS + 21) == {"b": 50, "d": 30}
    cutoffs = Cutoffs()
    cutoffs.note(MACHINE, NOW, 1)
    assert cutoffs.wanted([identity()], SECOND + ACCESS_SECONDS + MARGIN_SECONDS + 1) == {}


def test_a_challenge_counts_once_and_for_a_minute() -> None:
    mint = bytes(32)
    challenges, other_gateway = Challenges(mint), Challenges(mint)
    made = challenges.make(SECOND, bytes(16))
    assert other_gateway.use(made, SECOND + CHALLENGE_SECONDS)
    assert challenges.use(made, SECOND)
    assert not challenges.use(made, SECOND)
    late = challenges.make(SECOND, b"x" * 16)
    assert not challenges.use(late, SECOND + CHALLENGE_SECONDS + 1)
    assert not challenges.use(late, SECOND - 60)
    assert challenges.use(late, SECOND)


def test_used_challenges_are_forgotten_when_they_count_no_more() -> None:
    challenges = Challenges(bytes(32))
    for number in range(100):
        assert challenges.use(challenges.make(SECOND + number, number.to_bytes(16)), SECOND + number)
    assert len(challenges._used) <= CHALLENGE_SECONDS + 1


def test_challenges_that_no_gateway_made() -> None:
    challenges = Challenges(bytes(32))
    genuine = challenges.make(SECOND, bytes(16))
    raw = bytearray(base64.urlsafe_b64decode(genuine))
    raw[7] ^= 1
    forged = base64.urlsafe_b64encode(raw).decode()
    foreign = Challenges(b"y" * 32).make(SECOND, bytes(16))
    for text in ("", "x", "ä", "A" * 10_000, genuine[:-4], genuine + "AAAA", genuine + "\n", forged, foreign):
        assert not challenges.use(text, SECOND), text
    assert challenges.use(genuine, SECOND)


def test_tokens_for_the_bus_name_who_and_never_what() -> None:
    machine_key, program_key = generate("account"), generate("account")
    minter = Minter("ACCOUNT", machine_key, program_key)
    networks = (UUID(int=2), UUID(int=1))
    token = minter.machine(MACHINE, KEY.public, networks, issued_at=SECOND, expires_at=SECOND + 10)
    said = jwt.claims(token)
    assert (said["sub"], said["name"], said["iss"]) == (KEY.public, str(MACHINE), machine_key.public)
    assert (said["iat"], said["exp"]) == (SECOND, SECOND + 10)
    assert said["nats"]["tags"] == [f"network:{UUID(int=1)}", f"network:{UUID(int=2)}"]
    assert not said["nats"].keys() & {"pub", "sub", "permissions"}
    said = jwt.claims(minter.program(TOKEN, KEY.public, issued_at=SECOND, expires_at=SECOND + 10))
    assert (said["name"], said["iss"], said["nats"].get("tags")) == (str(TOKEN), program_key.public, None)
