"""A machine's proof that it has its key counts for one purpose, one machine and one challenge."""

from __future__ import annotations

import base64
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.trust.keys import generate
from events.trust.proof import ENROL, RENEW, is_proven, prove

KEY = generate("user")
MACHINE = UUID(int=7)
CHALLENGE = "c" * 43
PROOF = prove(KEY, ENROL, MACHINE, CHALLENGE)


def test_a_proof_is_one_for_what_it_was_made_for_only() -> None:
    assert is_proven(KEY.public, ENROL, MACHINE, CHALLENGE, PROOF)
    assert not is_proven(KEY.public, RENEW, MACHINE, CHALLENGE, PROOF)
    assert not is_proven(KEY.public, ENROL, uuid4(), CHALLENGE, PROOF)
    assert not is_proven(KEY.public, ENROL, MACHINE, CHALLENGE + "c", PROOF)
    assert not is_proven(KEY.public, ENROL, MACHINE, "", PROOF)
    assert not is_proven(generate("user").public, ENROL, MACHINE, CHALLENGE, PROOF)


@given(st.data())
def test_one_flipped_bit_is_refused(data: st.DataObject) -> None:
    raw = base64.b64decode(PROOF)
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    spoilt = base64.b64encode((int.from_bytes(raw) ^ 1 << bit).to_bytes(len(raw))).decode()
    assert not is_proven(KEY.public, ENROL, MACHINE, CHALLENGE, spoilt)


@given(st.text(max_size=100), st.text(max_size=60))
def test_nothing_else_proves_anything(proof: str, key: str) -> None:
    assert not is_proven(KEY.public, ENROL, MACHINE, CHALLENGE, proof)
    assert not is_proven(key, ENROL, MACHINE, CHALLENGE, PROOF)


@pytest.mark.parametrize("kind", ["operator", "account"])
def test_a_key_of_another_kind_proves_nothing(kind) -> None:  # type: ignore[no-untyped-def]
    other = generate(kind)
    assert not is_proven(other.public, ENROL, MACHINE, CHALLENGE, prove(other, ENROL, MACHINE, CHALLENGE))


def test_what_the_bus_has_a_machine_sign_is_no_proof() -> None:
    """nats-server chooses what is signed when one connects: a text of its own, short and of one line."""
    nonce = base64.b64encode(KEY.sign(CHALLENGE.encode())).decode()
    assert not is_proven(KEY.public, ENROL, MACHINE, CHALLENGE, nonce)
    assert not is_proven(KEY.public, RENEW, MACHINE, CHALLENGE, nonce)
