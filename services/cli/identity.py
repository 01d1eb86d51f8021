"""Making a control plane's identity: its keys, the tokens of its services, its certificates. A shell.

`create` is for the first start; the layout of the folder is told in `events.identity`. What is made here never leaves
the folder but through `services.cli.export`.
"""

from __future__ import annotations

import base64
import shutil
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
from nacl.utils import random

from events.errors import InvalidInputError
from events.identity import Identity, KeyName, Public
from events.trust import jwt
from events.trust.keys import Key, generate
from events.trust.permissions import ACCOUNT_ROLES, SYSTEM_ROLES, Permissions, Role
from events.trust.signing import Ring
from services.cli.certificates import Authority, is_due, server_certificate
from services.cli.private import write_private

ACCOUNT_NAME = "wireloom"
SYSTEM_NAME = "system"
SERVERS = ("bus", "https")
"""Those that have a certificate in the identity's folder."""

_SERVICES: tuple[Role, ...] = ("allocator", "topology", "gateway", "console", "keeper")
_OPERATOR_KEYS: tuple[KeyName, ...] = ("root", "operator", "signing", "records")
_ACCOUNT_KEYS: tuple[KeyName, ...] = ("account", "system", "machine", "program")


def exists(folder: Path) -> bool:
    """Whether there is an identity in the folder."""
    return (folder / "identity.json").exists()


def create(folder: Path, hosts: Sequence[str]) -> Identity:
    """A new identity in `folder`, whose certificates are for `hosts` (names and addresses).

    It is there whole or not at all, also after a crash. Raises `InvalidInputError` if there is one already, or the
    folder cannot be written.
    """
    if exists(folder):
        raise InvalidInputError(f"There is an identity in {folder} already.", hint="Give another folder.")
    draft = folder.with_name(folder.name + ".new")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700, parents=True)
        _fill(draft, hosts)
        draft.rename(folder)
    except OSError as error:
        raise InvalidInputError(
            f"The identity folder {folder} cannot be made: {error.strerror}.", hint="Give another data directory."
        ) from error
    return Identity(folder)


def _fill(folder: Path, hosts: Sequence[str]) -> None:
    now = int(time.time())
    keys = {name: generate("operator") for name in _OPERATOR_KEYS} | {
        name: generate("account") for name in _ACCOUNT_KEYS
    }
    scoped: dict[Role, Key] = {
        permissions.role: keys[permissions.role] if permissions.role in ("machine", "program") else generate("account")
        for permissions in (*ACCOUNT_ROLES, *SYSTEM_ROLES)
    }
    scopes: dict[Role, str] = {role: key.public for role, key in scoped.items()}
    public = Public(
        created_at=datetime.now(UTC),
        root=keys["root"].public,
        operator=jwt.operator(
            keys["operator"],
            ACCOUNT_NAME,
            signing=keys["signing"].public,
            system_account=keys["system"].public,
            issued_at=now,
        ),
        system_account=keys["system"].public,
        system_token=jwt.account(
            keys["signing"],
            keys["system"].public,
            SYSTEM_NAME,
            scopes=_scopes(scopes, SYSTEM_ROLES),
            issued_at=now,
            jetstream=False,
        ),
        account=keys["account"].public,
        account_token=jwt.account(
            keys["signing"],
            keys["account"].public,
            ACCOUNT_NAME,
            scopes=_scopes(scopes, ACCOUNT_ROLES),
            issued_at=now,
            jetstream=True,
        ),
        scopes=scopes,
    )
    for name, key in keys.items():
        write_private(folder / "keys" / f"{name}.seed", key.seed)
    write_private(folder / "keys" / "mint", base64.b64encode(random(32)).decode())
    for role in _SERVICES:
        account = public.system_account if role == "keeper" else public.account
        key = generate("user")
        token = jwt.user(scoped[role], account, key.public, role, issued_at=now)
        write_private(folder / "creds" / f"{role}.creds", jwt.credentials(token, key))
    ring = Ring(version=1, keys=(keys["records"].public,)).signed_by(keys["root"])
    write_private(folder / "ring.json", ring.model_dump_json())
    authority = Authority.made()
    write_private(folder / "tls" / "ca.pem", authority.certificate)
    write_private(folder / "tls" / "ca.key", authority.key)
    for server in SERVERS:
        certificate, key_pem = server_certificate(authority, hosts)
        write_private(folder / "tls" / f"{server}.pem", certificate)
        write_private(folder / "tls" / f"{server}.key", key_pem)
    write_private(folder / "identity.json", orjson.dumps(public.model_dump(mode="json")).decode())


def _scopes(scopes: dict[Role, str], permissions: tuple[Permissions, ...]) -> dict[str, Permissions]:
    return {scopes[each.role]: each for each in permissions}


def due_certificates(identity: Identity, hosts: Sequence[str]) -> list[str]:
    """Which of the folder's server certificates (`bus`, `https`) should be made anew: their time comes, or they are
    not for all `hosts`."""
    now = datetime.now(UTC)
    found = {path.stem: path for path in (identity.folder / "tls" / f"{name}.pem" for name in SERVERS)}
    return [name for name, path in found.items() if path.exists() and is_due(path.read_text(), hosts, now)]


def renew_certificates(identity: Identity, names: Sequence[str], hosts: Sequence[str]) -> bool:
    """Make server certificates anew; False where the authority's key is kept elsewhere, so that nobody here can."""
    tls = identity.folder / "tls"
    if not (tls / "ca.key").exists():
        return False
    authority = Authority(identity.ca(), (tls / "ca.key").read_text())
    for name in names:
        certificate, key = server_certificate(authority, hosts)
        # The certificate last: after a crash between the two the old one is there, and still due.
        write_private(tls / f"{name}.key", key)
        write_private(tls / f"{name}.pem", certificate)
    return True


def server_security(identity: Identity, accounts: str, certificate: str, key: str) -> str:
    """What a nats-server's configuration says about whom it lets in. `accounts` is the folder where it keeps the
    accounts' tokens as they change: the revocations are there. All three are values as the configuration has them."""
    public = identity.public
    return f"""\
# A machine's token names its networks.
max_control_line: 256KB
operator: {public.operator}
system_account: {public.system_account}
resolver {{
  type: full
  dir: {accounts}
  allow_delete: false
  interval: "2m"
}}
resolver_preload {{
  {public.system_account}: {public.system_token}
  {public.account}: {public.account_token}
}}
tls {{
  cert_file: {certificate}
  key_file: {key}
  min_version: "1.2"
  timeout: 5
}}
"""
