"""NATS's tokens: what they say, who signed it, and that a user's token says nothing of what he may do."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client, RawCredentials

from events.trust import jwt
from events.trust.keys import generate, verify
from events.trust.permissions import ACCOUNT_ROLES, MACHINE

OPERATOR, SIGNING, ACCOUNT, SCOPED, USER = (
    generate("operator"),
    generate("operator"),
    generate("account"),
    generate("account"),
    generate("user"),
)
TOKENS = {
    "operator": jwt.operator(OPERATOR, "w", signing=SIGNING.public, system_account=ACCOUNT.public, issued_at=7),
    "account": jwt.account(SIGNING, ACCOUNT.public, "w", scopes={SCOPED.public: MACHINE}, issued_at=7, jetstream=True),
    "user": jwt.user(SCOPED, ACCOUNT.public, USER.public, "m", issued_at=7, expires_at=9, tags=["network:a"]),
}
SIGNERS = {"operator": OPERATOR, "account": SIGNING, "user": SCOPED}


def is_signed(token: str, kind: str) -> bool:
    head, body, signature = token.split(".")
    key = SIGNERS[kind]
    return verify(key.public, key.kind, f"{head}.{body}".encode(), decoded(signature))


def decoded(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


@pytest.mark.parametrize("kind", TOKENS)
def test_each_is_signed_by_the_key_that_it_names(kind: str) -> None:
    said = jwt.claims(TOKENS[kind])
    assert orjson.loads(decoded(TOKENS[kind].split(".")[0])) == {"typ": "JWT", "alg": "ed25519-nkey"}
    assert said["iss"] == SIGNERS[kind].public
    assert (said["iat"], said["nats"]["type"], said["nats"]["version"]) == (7, kind, 2)
    assert is_signed(TOKENS[kind], kind)


@given(st.sampled_from(sorted(TOKENS)), st.data())
@settings(max_examples=200)
def test_one_flipped_bit_is_refused(kind: str, data: st.DataObject) -> None:
    parts = TOKENS[kind].split(".")
    which = data.draw(st.integers(0, 2))
    raw = decoded(parts[which])
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    spoilt = (int.from_bytes(raw) ^ 1 << bit).to_bytes(len(raw))
    parts[which] = base64.urlsafe_b64encode(spoilt).decode().rstrip("=")
    assert not is_signed(".".join(parts), kind)


def test_a_user_s_token_names_who_and_never_what_he_may() -> None:
    said = jwt.claims(TOKENS["user"])
    assert (said["sub"], said["name"], said["exp"]) == (USER.public, "m", 9)
    assert said["nats"] == {
        "type": "user",
        "version": 2,
        "issuer_account": ACCOUNT.public,
        "tags": ["network:a"],
    }


def test_an_account_s_token_denies_what_no_scope_allows() -> None:
    said = jwt.claims(TOKENS["account"])["nats"]
    assert said["default_permissions"] == {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}}
    assert [scope["key"] for scope in said["signing_keys"]] == [SCOPED.public]
    assert said["signing_keys"][0]["template"]["pub"] == {"allow": list(MACHINE.publish)}
    assert said["limits"]["exports"] == said["limits"]["imports"] == said["limits"]["leaf"] == 0
    assert not said["limits"]["wildcards"]


def test_without_jetstream_an_account_has_none() -> None:
    def limits(*, jetstream: bool) -> dict[str, Any]:
        token = jwt.account(SIGNING, ACCOUNT.public, "w", scopes={}, issued_at=7, jetstream=jetstream)
        found: dict[str, Any] = jwt.claims(token)["nats"]["limits"]
        return found

    assert limits(jetstream=True)["disk_storage"] == -1
    assert "disk_storage" not in limits(jetstream=False)


def test_equal_content_is_an_equal_token_whatever_its_order() -> None:
    scopes = {generate("account").public: permissions for permissions in ACCOUNT_ROLES}
    revoked = {generate("user").public: second for second in (3, 1, 2)}

    def token(**more: Any) -> str:
        return jwt.account(SIGNING, ACCOUNT.public, "w", issued_at=7, jetstream=True, **more)

    same = token(
        scopes=dict(reversed(list(scopes.items()))),
        revocations=dict(reversed(list(revoked.items()))),
    )
    assert token(scopes=scopes, revocations=revoked) == same
    assert jwt.claims(same)["nats"]["revocations"] == revoked
    assert "revocations" not in jwt.claims(token(scopes=scopes))["nats"]
    identifiers = {jwt.claims(token(scopes=scopes))["jti"], jwt.claims(same)["jti"]}
    assert len(identifiers) == 2


@pytest.mark.parametrize("text", ["", "a", "a.b", "a.b.c", "a.e30=.c.d", "..", "a.\u00e9.c", "a.!.c"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a token of the message bus"):
        jwt.claims(text)


def test_a_credentials_file_is_one_that_nats_s_clients_read() -> None:
    text = RawCredentials(jwt.credentials(TOKENS["user"], USER))
    client = Client()
    assert bytes(client._read_creds_user_jwt(text)).decode() == TOKENS["user"]
    assert bytes(client._read_creds_user_nkey(text)).decode() == USER.seed
