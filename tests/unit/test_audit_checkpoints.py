"""Which checkpoints count: signed ones, and those that such a one vouches for."""

from __future__ import annotations

import pytest

from events.audit.checkpoints import (
    Checkpoint,
    KeptCheckpoint,
    SignedCheckpoint,
    checkpoint_subject,
    make,
    sift,
)
from events.trust.keys import Key, generate
from events.trust.signing import Ring, Signer, Verifier
from tests.support.logbook import WHEN

ROOT = generate("operator")
OLD, NEW, STRANGER = generate("operator"), generate("operator"), generate("operator")


def verifier(*keys: Key) -> Verifier:
    return Verifier(ROOT.public, ring(*keys))


def ring(*keys: Key) -> Ring:
    return Ring(version=1, keys=tuple(key.public for key in keys)).signed_by(ROOT)


def chain(*links: tuple[int, Key | None]) -> list[tuple[str, SignedCheckpoint]]:
    """Checkpoints at positions, each signed with a key or not, each after the one before."""
    found: list[tuple[str, SignedCheckpoint]] = []
    for position, key in links:
        previous = found[-1][1].name if found else ""
        digest = f"{position:064x}"
        said = Checkpoint(position=position, count=position, digest=digest, time=WHEN, previous=previous)
        found.append((checkpoint_subject(position), make(said, Signer(key) if key else None)))
    return found


def positions(checkpoints: list[Checkpoint]) -> list[int]:
    return [checkpoint.position for checkpoint in checkpoints]


def test_signed_checkpoints_count() -> None:
    trusted = sift(chain((10, OLD), (20, OLD)), verifier(OLD))
    assert positions(trusted.checkpoints) == [10, 20]
    assert (trusted.findings, trusted.unsigned) == ([], 0)
    assert sift([], verifier(OLD)).checkpoints == []


def test_after_a_key_was_retired_the_new_one_vouches_for_what_it_signed() -> None:
    stored = chain((10, OLD), (20, OLD), (30, NEW))
    assert positions(sift(stored, verifier(NEW)).checkpoints) == [10, 20, 30]
    trusted = sift(stored[:2], verifier(NEW))
    assert trusted.checkpoints == []
    assert all("a key that does not count" in finding.problem for finding in trusted.findings)


def test_unsigned_checkpoints_count_where_there_are_no_keys_or_one_vouches_for_them() -> None:
    stored = chain((10, None), (20, None))
    assert (positions(sift(stored, None).checkpoints), sift(stored, None).unsigned) == ([10, 20], 2)
    assert sift(stored, verifier(OLD)).checkpoints == []
    assert positions(sift(chain((10, None), (20, OLD)), verifier(OLD)).checkpoints) == [10, 20]


@pytest.mark.parametrize("key", [STRANGER, None])
def test_a_forged_one_does_not_count_and_is_named(key: Key | None) -> None:
    stored = chain((10, OLD), (20, OLD))
    forged = make(stored[1][1].read().model_copy(update={"position": 15}), Signer(key) if key else None)
    trusted = sift([stored[0], (checkpoint_subject(15), forged), stored[1]], verifier(OLD))
    assert positions(trusted.checkpoints) == [10, 20]
    (found,) = trusted.findings
    assert (found.code, found.position, found.subject) == ("checkpoint", 15, "checkpoint.15")


def test_one_that_was_altered_moved_or_removed_is_named() -> None:
    stored = chain((10, OLD), (20, OLD), (30, OLD))
    altered = stored[1][1].model_copy(update={"checkpoint": stored[1][1].checkpoint.replace("14", "15")})
    trusted = sift([stored[0], (stored[1][0], altered), stored[2]], verifier(OLD))
    assert positions(trusted.checkpoints) == [10, 30]
    assert "its signature does not fit" in trusted.findings[-1].problem
    trusted = sift([stored[0], stored[2]], verifier(OLD))
    assert positions(trusted.checkpoints) == [10, 30]
    assert "was made after another one" in trusted.findings[0].problem
    trusted = sift(stored[1:], verifier(OLD))
    assert "the one that was made before it is missing" in trusted.findings[0].problem
    trusted = sift([(checkpoint_subject(11), stored[0][1])], verifier(OLD))
    assert (trusted.checkpoints, trusted.findings[0].problem.rpartition(": ")[2]) == ([], "it is one of position 10")
    trusted = sift([(checkpoint_subject(10), SignedCheckpoint(checkpoint="{}"))], verifier(OLD))
    assert "it cannot be read" in trusted.findings[0].problem


def kept(key: Key | None, **changes: object) -> KeptCheckpoint:
    signed = chain((10, key))[0][1]
    known = {"root": ROOT.public, "ring": ring(OLD)} if key else {}
    return KeptCheckpoint.model_validate(signed.model_dump() | known | changes)


def test_a_kept_checkpoint_counts_with_the_keys_of_its_time() -> None:
    assert kept(OLD).fault(ROOT.public) == ""
    assert kept(None).fault("") == ""
    assert "its signature does not fit" in kept(OLD, signature=f"{'0' * 16} AAAA").fault(ROOT.public)
    assert "another control plane" in kept(OLD).fault(STRANGER.public)
    assert "another control plane" in kept(OLD, root=STRANGER.public).fault(ROOT.public)
    assert "root key" in kept(OLD, ring=Ring(version=1, keys=(OLD.public,))).fault(ROOT.public)
    assert "does not fit" in kept(STRANGER).fault(ROOT.public)
    assert "unlike the control plane" in kept(None).fault(ROOT.public)
    assert "unlike the control plane" in kept(OLD).fault("")
    assert "not a checkpoint" in kept(OLD, checkpoint="{}").fault(ROOT.public)
