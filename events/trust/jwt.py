"""NATS's tokens (JWT, algorithm `ed25519-nkey`), as nats-server reads them: operator, account and user. Pure.

Only what Wireloom needs: one account with scoped signing keys, whose users' permissions stand in the account's token
as templates (`events.trust.permissions`) and not in the users' own, so that a user's token can never say more.
See NATS, "JSON Web Tokens" and ADR-14.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from events.trust.keys import Key
from events.trust.permissions import Permissions

_HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}
_UNLIMITED: dict[str, Any] = {"subs": -1, "data": -1, "payload": -1}
_ACCOUNT_LIMITS: dict[str, Any] = _UNLIMITED | {
    "imports": 0,
    "exports": 0,
    "wildcards": False,
    "conn": -1,
    "leaf": 0,
}
_JETSTREAM: dict[str, Any] = {"mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1}

Scopes = Mapping[str, Permissions]
"""For each scoped signing key (its public key) what its users may do."""


def operator(key: Key, name: str, *, signing: str, system_account: str, issued_at: int) -> str:
    """The operator's token, signed by itself; `signing` is the key that signs the accounts' tokens."""
    body = {
        "type": "operator",
        "version": 2,
        "signing_keys": [signing],
        "system_account": system_account,
        "strict_signing_key_usage": True,
    }
    return _encode(key, {"sub": key.public, "name": name, "iat": issued_at, "nats": body})


def account(
    signing: Key,
    public: str,
    name: str,
    *,
    scopes: Scopes,
    issued_at: int,
    jetstream: bool,
    revocations: Mapping[str, int] | None = None,
) -> str:
    """An account's token. `revocations` says of users (their public keys, or `*`) until which second of issue their
    tokens count no more."""
    body: dict[str, Any] = {
        "type": "account",
        "version": 2,
        "limits": _ACCOUNT_LIMITS | (_JETSTREAM if jetstream else {}),
        "signing_keys": [_scope(key, permissions) for key, permissions in sorted(scopes.items())],
        "default_permissions": {"pub": {"deny": [">"]}, "sub": {"deny": [">"]}},
    }
    if revocations:
        body["revocations"] = dict(sorted(revocations.items()))
    return _encode(signing, {"sub": public, "name": name, "iat": issued_at, "nats": body})


def user(
    signing: Key,
    account_public: str,
    public: str,
    name: str,
    *,
    issued_at: int,
    expires_at: int | None = None,
    tags: Iterable[str] = (),
) -> str:
    """A user's token, signed by a scoped signing key of the account: it names who, never what he may do."""
    body: dict[str, Any] = {"type": "user", "version": 2, "issuer_account": account_public}
    if tags := sorted(tags):
        body["tags"] = tags
    expiry = {} if expires_at is None else {"exp": expires_at}
    return _encode(signing, {"sub": public, "name": name, "iat": issued_at, "nats": body} | expiry)


def claims(token: str) -> dict[str, Any]:
    """What a token says, unchecked. Raises ValueError where it is none."""
    try:
        _, body, _ = token.split(".")
        read: dict[str, Any] = orjson.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    except (ValueError, binascii.Error):
        raise ValueError("this is not a token of the message bus") from None
    return read


def credentials(token: str, key: Key) -> str:
    """A user's token and seed as one file, in the form that NATS's clients read."""
    return (
        f"-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{key.seed}\n------END USER NKEY SEED------\n"
    )


def _scope(key: str, permissions: Permissions) -> dict[str, Any]:
    return {
        "kind": "user_scope",
        "key": key,
        "role": permissions.role,
        "template": {
            "pub": {"allow": list(permissions.publish)},
            "sub": {"allow": list(permissions.subscribe)},
            "subs": permissions.subscriptions,
            "data": -1,
            "payload": permissions.payload,
        },
    }


def _encode(signing: Key, said: dict[str, Any]) -> str:
    said = said | {"iss": signing.public}
    said["jti"] = base64.b32encode(hashlib.sha256(orjson.dumps(said)).digest()).decode().rstrip("=")
    text = f"{_segment(orjson.dumps(_HEADER))}.{_segment(orjson.dumps(said))}"
    return f"{text}.{_segment(signing.sign(text.encode()))}"


def _segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")
