"""Who this machine is to the control plane, on disk: its identity key, and what it was told when it enrolled."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from pydantic import Field, ValidationError, field_serializer, field_validator

from agent.gateway import Address, Gateway, in_thread
from agent.store import StateError
from events.enrolment import Access, RenewRequest
from events.errors import InternalError
from events.fields import Tolerant
from events.trust.keys import Key, generate
from events.trust.proof import RENEW, prove
from events.trust.signing import Ring

FILE_NAME = "identity.json"


class OtherControlPlaneError(InternalError):
    """Raised when what answers shows another root key than the one that this machine pinned."""

    code = "other-control-plane"
    title = "This is another control plane"


class WrongAccessError(InternalError):
    """Raised when the control plane gives access for another machine."""

    code = "wrong-access"
    title = "The control plane gives access that is not this machine's"


class Identity(Tolerant, arbitrary_types_allowed=True, hide_input_in_errors=True):
    """What `identity.json` holds. Neither its text nor an error about it shows the key or a token."""

    machine_id: UUID
    key: Key
    """The identity key. Its private half never leaves this machine."""
    url: str
    """The gateway's address."""
    ca: str = ""
    """The certificate authority (PEM) that certifies the gateway; empty where the system knows it."""
    root: str = ""
    """The control plane's root key, pinned when the machine enrolled; empty while it has not."""
    access: Access | None = Field(default=None, repr=False)
    """The newest, with the newest ring of record keys."""
    hostname: str = ""
    """What `join` was told to register the machine as; empty for its own name."""
    endpoints: tuple[str, ...] = ()
    """Where `join` was told that the machine can be reached."""
    service: bool = False
    """Whether `join` installed the systemd unit."""

    @field_validator("key", mode="before")
    @classmethod
    def _read_key(cls, key: object) -> object:
        return Key(key) if isinstance(key, str) else key

    @field_serializer("key")
    def _write_key(self, key: Key) -> str:
        return key.seed

    @property
    def is_enrolled(self) -> bool:
        """Whether the control plane has let the machine in."""
        return self.access is not None

    def admitted(self, access: Access) -> Identity:
        """This identity with other access, checked against what is pinned; the first access is what pins. The ring
        never goes back: where the access has an older one, the one at hand stays.

        Raises `OtherControlPlaneError`, `WrongAccessError`, and `UntrustedRingError` for a ring that the root key did
        not sign.
        """
        if access.machine_id != self.machine_id:
            raise WrongAccessError(
                f"The control plane at {self.url} gives access for machine {access.machine_id}; this one is "
                f"{self.machine_id}.",
                hint="Try again; if it stays so, the control plane is at fault.",
            )
        if self.root and access.root != self.root:
            raise OtherControlPlaneError(
                f"What answers at {self.url} has another root key than the control plane that this machine joined.",
                hint="If the control plane was made anew, run `wireloom-agent leave` and join again. If not, somebody "
                "pretends to be it.",
            )
        ring = access.ring.checked(access.root)
        if self.access is not None and ring.version < self.access.ring.version:
            access = access.model_copy(update={"ring": self.access.ring})
        return self.model_copy(update={"access": access, "root": access.root})


def load(folder: Path) -> Identity | None:
    """The identity in a state folder; None if there is none. Raises `StateError`."""
    path = folder / FILE_NAME
    try:
        return Identity.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is damaged"
        raise StateError(
            f"The identity in {path} cannot be read: {why}.",
            hint="Restore it from a backup, or run `wireloom-agent leave` and join again.",
        ) from None


def save(folder: Path, identity: Identity) -> None:
    """Keep an identity, in place of what was there: whole, and on the disk before this returns. Raises `StateError`."""
    path, draft = folder / FILE_NAME, folder / f"{FILE_NAME}.new"
    try:
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(identity.model_dump_json(indent=2).encode())
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise StateError(f"The identity cannot be written to {path}: {error.strerror}.") from error


def erase(folder: Path) -> None:
    """Forget the identity in a state folder, if there is one. Raises `StateError`."""
    try:
        for name in (FILE_NAME, f"{FILE_NAME}.new"):
            (folder / name).unlink(missing_ok=True)
    except OSError as error:
        raise StateError(f"The identity in {folder} cannot be removed: {error.strerror}.") from error


def made(folder: Path, machine_id: UUID, url: str) -> Identity:
    """The identity in a folder, or a new one, which is kept at once: however often joining fails, the machine stays
    the same."""
    identity = load(folder)
    if identity is None:
        identity = Identity(machine_id=machine_id, key=generate("user"), url=url)
        save(folder, identity)
    return identity


class EnrolledDoor:
    """An enrolled machine's way to its access: see `agent.access.Door`."""

    def __init__(self, folder: Path, identity: Identity) -> None:
        """`identity` is the one in `folder`."""
        assert identity.access is not None
        self.key = identity.key
        self._folder = folder
        self._identity = identity
        self._access = identity.access
        self._gateway = Gateway(Address.parse(identity.url), identity.ca)

    @property
    def access(self) -> Access:
        """See `Door.access`."""
        return self._access

    async def renew(self, networks: tuple[UUID, ...]) -> Access:
        """See `Door.renew`. What was got is checked before any of it counts. It counts also where it cannot be kept on
        disk, which raises `StateError`."""
        access = await in_thread(lambda: self._ask(networks))
        self._take(self._identity.admitted(access))
        return self._access

    def keep(self, ring: Ring) -> None:
        """See `Door.keep`."""
        self._take(self._identity.admitted(self._access.model_copy(update={"ring": ring})))

    def _ask(self, networks: tuple[UUID, ...]) -> Access:
        machine_id, challenge = self._identity.machine_id, self._gateway.challenge()
        proof = prove(self.key, RENEW, machine_id, challenge)
        request = RenewRequest(machine_id=machine_id, challenge=challenge, proof=proof, networks=networks)
        return self._gateway.renew(request)

    def _take(self, identity: Identity) -> None:
        assert identity.access is not None
        self._identity, self._access = identity, identity.access
        save(self._folder, identity)


def described(identity: Identity, now: datetime) -> dict[str, Any]:
    """What `wireloom-agent status` shows of an identity, as JSON takes it: nothing secret. `expires_in` in seconds."""
    access = identity.access
    return {
        "url": identity.url,
        "is_enrolled": identity.is_enrolled,
        "identity_key": identity.key.public,
        "root": identity.root or None,
        "ring_version": access.ring.version if access else None,
        "access_expires_at": access.expires_at.isoformat() if access else None,
        "expires_in": round((access.expires_at - now).total_seconds()) if access else None,
    }


def rendered(control_plane: dict[str, Any]) -> str:
    """The same as text for people."""
    if not control_plane["is_enrolled"]:
        return f"control plane {control_plane['url']}  not joined yet"
    left = control_plane["expires_in"]
    when = f"access for {left // 60} min" if left > 0 else "access has expired; the agent renews it when it can"
    return f"control plane {control_plane['url']}  {when}"
