"""The signatures of derived records, and the ring of keys that may make them. Pure.

The control plane has one *root key*, whose public half machines pin when they enrol. It signs nothing but the *ring*:
the list of record keys that count, with a version that only rises. The topology service signs each record with the
ring's first key. To rotate, a ring is made that has the new key first and the old one after it; once every record is
signed anew, another without the old one. A machine that meets a key it does not know asks for the ring.

A signature covers the subject that a record stands under and its bytes, which hold its revision: so a record can
neither be altered, nor shown to another machine or network, nor pass for a newer one.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence

import orjson
from pydantic import ValidationError

from events.errors import InternalError
from events.fields import Frozen
from events.trust.keys import Key, fingerprint, verify

SIGNATURE_HEADER = "Wl-Signature"
"""Header of a record in STATE, and live: the key's fingerprint, a space, and the signature in base64."""

_RECORD = b"wireloom record 1\n"
_RING = b"wireloom ring 1\n"


class UntrustedRingError(InternalError):
    """Raised when a ring is not signed by the root key that is pinned, or is older than the one at hand."""

    code = "untrusted-ring"
    title = "The control plane's keys are not trusted"


class Ring(Frozen):
    """The record keys that count, the one that signs first, and the root key's signature of it all."""

    version: int
    keys: tuple[str, ...]
    signature: str = ""

    def signed_by(self, root: Key) -> Ring:
        """This ring with the root key's signature."""
        return self.model_copy(update={"signature": _text(root.sign(self._message()))})

    def checked(self, root: str, at_least: int = 0) -> Ring:
        """This ring if the root key signed it and its version is `at_least`. Raises `UntrustedRingError`."""
        if not verify(root, "operator", self._message(), _raw(self.signature)):
            raise UntrustedRingError(
                "The control plane's keys are not signed by the root key that this machine pinned.",
                hint="If the control plane was made anew, enrol this machine again.",
            )
        if self.version < at_least:
            raise UntrustedRingError(
                f"The control plane's keys are of version {self.version}; version {at_least} was seen before.",
                hint="Somebody shows old keys, or the control plane was restored from an old backup.",
            )
        return self

    def _message(self) -> bytes:
        return _RING + orjson.dumps([self.version, list(self.keys)])


class Signer:
    """Signs records, with one key."""

    def __init__(self, key: Key) -> None:
        self.fingerprint = fingerprint(key.public)
        self._key = key

    def sign(self, subject: str, payload: bytes) -> str:
        """The value of the signature header of the record that stands under a STATE subject. Deterministic."""
        return f"{self.fingerprint} {_text(self._key.sign(_message(subject, payload)))}"


class Verifier:
    """Tells whether records are the control plane's."""

    def __init__(self, root: str, ring: Ring) -> None:
        """`root` is pinned. Raises `UntrustedRingError`."""
        self.root = root
        self.ring = ring.checked(root)
        self._keys = _by_fingerprint(ring.keys)

    def adopt(self, ring: Ring) -> bool:
        """Take on another ring; whether it is newer. Raises `UntrustedRingError`."""
        ring.checked(self.root, self.ring.version)
        is_newer = ring.version > self.ring.version
        self.ring, self._keys = ring, _by_fingerprint(ring.keys)
        return is_newer

    def knows(self, signature: str) -> bool:
        """Whether the ring at hand has the key that a signature names. If not, a newer ring may."""
        return signature.partition(" ")[0] in self._keys

    def is_genuine(self, subject: str, payload: bytes, signature: str) -> bool:
        """Whether the control plane said `payload` under this STATE subject."""
        name, _, text = signature.partition(" ")
        key = self._keys.get(name)
        return key is not None and verify(key, "operator", _message(subject, payload), _raw(text))


def read_ring(text: str | bytes) -> Ring:
    """A ring from its JSON, unchecked. Raises `UntrustedRingError` where it is none."""
    try:
        return Ring.model_validate_json(text)
    except ValidationError as error:
        raise UntrustedRingError(
            "The control plane's keys cannot be read.", hint="Enrol this machine again."
        ) from error


def sign_as_root(root: Key, message: bytes) -> str:
    """The root key's signature of a message that begins with what it is for, as text."""
    return _text(root.sign(message))


def is_signed_as_root(root: str, message: bytes, signature: str) -> bool:
    """Whether `sign_as_root` made the signature, with the key whose public half is `root`."""
    return verify(root, "operator", message, _raw(signature))


def signed_with(signature: str) -> str:
    """The fingerprint of the key that a signature names; empty for none."""
    return signature.partition(" ")[0]


def _by_fingerprint(keys: Sequence[str]) -> dict[str, str]:
    return {fingerprint(key): key for key in keys}


def _message(subject: str, payload: bytes) -> bytes:
    return b"%s%s\n%s" % (_RECORD, subject.encode(), payload)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _raw(text: str) -> bytes:
    """What base64 says, where it is spelt as it should be: it has bits to spare that count for nothing."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return raw if _text(raw) == text else b""
