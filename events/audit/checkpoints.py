"""Checkpoints: what the whole log came to at a position, signed, so that a log that was cut or rewritten shows. Pure.

A checkpoint stands in the stream CHECKPOINTS on `checkpoint.<position>`, its signature in the header beside it, made
with the key that signs records (`events.trust.signing`). Each carries the digest of the one before it: so the newest
one that a key of the ring signed vouches for all before it, also for those whose keys have been retired since.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field, StringConstraints, ValidationError

from events.audit.findings import Finding
from events.fields import Frozen, Moment
from events.subjects import CHECKPOINTS_PREFIX
from events.trust.signing import Ring, Signer, UntrustedRingError, Verifier, signed_with

GENESIS = ""
"""The `previous` of the first checkpoint."""

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class Checkpoint(Frozen):
    """What the log was."""

    position: int = Field(ge=1)
    count: int = Field(ge=1)
    """How many events there were; the same as `position`, for none is ever missing."""
    digest: Sha256
    """The running digest (`events.audit.running`) up to `position`."""
    time: Moment
    """When the checkpoint was made."""
    previous: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64})?$")] = GENESIS
    """The digest of the checkpoint before this one."""


class SignedCheckpoint(Frozen):
    """A checkpoint as it stands in CHECKPOINTS, or in a file that somebody keeps."""

    checkpoint: str
    """Its bytes, as they were signed."""
    signature: str = ""
    """Empty where the control plane has no keys."""

    def read(self) -> Checkpoint:
        """What it says, untrusted. Raises ValueError."""
        try:
            return Checkpoint.model_validate_json(self.checkpoint)
        except ValidationError as error:
            raise ValueError("this is not a checkpoint") from error

    def position_or_zero(self) -> int:
        """The position that it is of; 0 where it cannot be read."""
        try:
            return self.read().position
        except ValueError:
            return 0

    @property
    def name(self) -> str:
        """Its digest, which the next one carries."""
        return hashlib.sha256(self.checkpoint.encode()).hexdigest()

    def is_signed_by(self, verifier: Verifier) -> bool:
        """Whether a key of the ring signed it, for this position."""
        try:
            subject = checkpoint_subject(self.read().position)
        except ValueError:
            return False
        return verifier.is_genuine(subject, self.checkpoint.encode(), self.signature)


class KeptCheckpoint(SignedCheckpoint):
    """A checkpoint as `wireloom log checkpoint` writes it to a file: with the keys that it was signed under."""

    root: str = ""
    """The control plane's public root key."""
    ring: Ring | None = None
    """The ring then, which the root key signed."""

    def fault(self, root: str) -> str:
        """Why this is no checkpoint of the control plane with the public root key `root` (empty where it has none);
        empty where it is one."""
        try:
            self.read()
            if not root or not self.signature:
                return "" if not root and not self.signature else "it is signed, or it is not, unlike the control plane"
            if self.ring is None or self.root != root:
                return "another control plane, with another root key, made it"
            return "" if self.is_signed_by(Verifier(root, self.ring)) else "its signature does not fit"
        except (ValueError, UntrustedRingError) as error:
            return str(error)


@dataclass(frozen=True, slots=True)
class Trusted:
    """The checkpoints that count, oldest first, and what is wrong with the others."""

    checkpoints: list[Checkpoint]
    findings: list[Finding]
    unsigned: int
    """How many of those that count nobody signed."""


def checkpoint_subject(position: int) -> str:
    """Where a checkpoint stands."""
    return f"{CHECKPOINTS_PREFIX}.{position}"


def make(checkpoint: Checkpoint, signer: Signer | None) -> SignedCheckpoint:
    """The checkpoint, signed where there is a key."""
    text = checkpoint.model_dump_json()
    signature = signer.sign(checkpoint_subject(checkpoint.position), text.encode()) if signer else ""
    return SignedCheckpoint(checkpoint=text, signature=signature)


def sift(stored: Sequence[tuple[str, SignedCheckpoint]], verifier: Verifier | None) -> Trusted:
    """Which of the checkpoints in CHECKPOINTS count: subjects and what stands there, oldest first.

    With a `verifier` one counts that a key of its ring signed, or that one that counts names as the one before it;
    without, all that can be read, for nobody signs them.
    """
    counting: list[Checkpoint] = []
    findings: list[Finding] = []
    unsigned, named, younger = 0, "", 0
    for subject, one in reversed(stored):
        try:
            checkpoint = one.read()
        except ValueError:
            findings.append(_faulty(subject, "it cannot be read"))
            continue
        is_named = one.name == named
        if subject != checkpoint_subject(checkpoint.position):
            findings.append(_faulty(subject, f"it is one of position {checkpoint.position}"))
            continue
        if verifier is not None and not is_named and not one.is_signed_by(verifier):
            findings.append(_faulty(subject, _unsigned(one, verifier)))
            continue
        if named and not is_named:
            findings.append(_faulty(subject, f"the one after it, of position {younger}, was made after another one"))
        counting.append(checkpoint)
        unsigned += not one.signature
        named, younger = checkpoint.previous, checkpoint.position
    if named:
        findings.append(
            _faulty(checkpoint_subject(younger), "the one that was made before it is missing", position=younger)
        )
    return Trusted(counting[::-1], findings[::-1], unsigned)


def _unsigned(one: SignedCheckpoint, verifier: Verifier) -> str:
    if not one.signature:
        return "nobody signed it"
    if not verifier.knows(one.signature):
        return f"a key that does not count signed it ({signed_with(one.signature)})"
    return "its signature does not fit"


def _faulty(subject: str, why: str, position: int | None = None) -> Finding:
    number = subject.rpartition(".")[2]
    place = int(number) if number.isascii() and number.isdigit() else 0
    return Finding(
        code="checkpoint",
        position=place if position is None else position,
        problem=f"the checkpoint {subject} does not count: {why}" if position is None else f"{subject}: {why}",
        subject=subject,
    )
