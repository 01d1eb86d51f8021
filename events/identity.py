"""The control plane's identity on disk, as its parts read it. A shell.

One folder, readable by its owner alone, that `wireloom up` makes at its first start. A service that runs apart needs
only some of it: each method says which file it reads.

| file | what | who needs it |
|---|---|---|
| `identity.json` | the public halves, and the operator's and system account's tokens | all |
| `ring.json` | the record keys that count, signed by the root key | gateway |
| `creds/<role>.creds` | a service's token and seed for the bus | that service |
| `tls/ca.pem` | the certificate that signed the bus's, and the gateway's if that is self-made | all |
| `tls/https.pem`, `tls/https.key` | the gateway's certificate and its key | gateway |
| `keys/records.seed` | the key that signs records | topology |
| `keys/signing.seed` | the operator's signing key, which signs the account's token (revocations) | gateway |
| `keys/machine.seed`, `keys/program.seed` | the scoped keys that sign machines' and programs' tokens | gateway |
| `keys/mint` | what the tokens of people, programs and machines are made from | gateway |
| `keys/root.seed`, `keys/operator.seed`, `tls/ca.key` | for rotating keys and new certificates only | no service |
"""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from events.bus import Credentials
from events.errors import InvalidInputError
from events.fields import Moment, Tolerant
from events.trust.certificates import trusting
from events.trust.keys import Key
from events.trust.permissions import Role, inbox
from events.trust.signing import Ring, Signer, read_ring

KeyName = Literal["root", "operator", "signing", "account", "system", "machine", "program", "records"]

_TOKEN = re.compile(r"-----BEGIN NATS USER JWT-----\s+(\S+)\s+-+END")
_SEED = re.compile(r"-----BEGIN USER NKEY SEED-----\s+(\S+)\s+-+END")


class IdentityError(InvalidInputError):
    """Raised when the identity folder lacks a file or has a damaged one."""

    code = "identity"
    title = "The control plane's identity cannot be used"


class Public(Tolerant):
    """What everybody may know of a control plane's identity."""

    created_at: Moment
    root: str
    """The public root key, which machines pin."""
    operator: str
    """The operator's token."""
    system_account: str
    """The system account's public key."""
    system_token: str
    """The system account's token."""
    account: str
    """The public key of the account that everything happens in."""
    account_token: str
    """That account's token as it was made; the bus keeps the newest, with its revocations."""
    scopes: dict[Role, str]
    """The scoped signing keys of both accounts, by role."""


class Identity:
    """The identity in a folder. Every method raises `IdentityError` where its file is missing or damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def public(self) -> Public:
        """`identity.json`."""
        try:
            return Public.model_validate_json(self._read("identity.json"))
        except ValidationError as error:
            raise self._damaged("identity.json") from error

    def ring(self) -> Ring:
        """`ring.json`, checked; read anew every time."""
        return read_ring(self._read("ring.json")).checked(self.public.root)

    def key(self, name: KeyName) -> Key:
        """`keys/<name>.seed`."""
        try:
            return Key(self._read(f"keys/{name}.seed").strip())
        except ValueError:
            raise self._damaged(f"keys/{name}.seed") from None

    def signer(self) -> Signer:
        """What signs records, from `keys/records.seed`."""
        return Signer(self.key("records"))

    def mint(self) -> bytes:
        """`keys/mint`: 32 bytes."""
        try:
            return base64.b64decode(self._read("keys/mint").strip(), validate=True)
        except (binascii.Error, ValueError):
            raise self._damaged("keys/mint") from None

    def ca(self) -> str:
        """`tls/ca.pem`."""
        return self._read("tls/ca.pem")

    def tls(self) -> ssl.SSLContext:
        """Trusts what `tls/ca.pem` signed, and nothing else."""
        return trusting(self.ca())

    def credentials(self, role: Role) -> Credentials:
        """`creds/<role>.creds`, with `tls/ca.pem`."""
        name = f"creds/{role}.creds"
        text = self._read(name)
        token, seed = _TOKEN.search(text), _SEED.search(text)
        if token is None or seed is None:
            raise self._damaged(name)
        try:
            key = Key(seed[1])
        except ValueError:
            raise self._damaged(name) from None
        said = token[1]
        return Credentials(lambda: said, key.sign, inbox(role), self.tls())

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is not text"
            raise IdentityError(
                f"The identity file {self.folder / name} cannot be read: {why}.",
                hint="Give the folder that `wireloom up` or `wireloom identity create` made in WIRELOOM_IDENTITY.",
            ) from error

    def _damaged(self, name: str) -> IdentityError:
        return IdentityError(
            f"The identity file {self.folder / name} is damaged.", hint="Restore the identity folder from a backup."
        )
