"""Signatures of records and the ring of keys: whatever is altered, misdirected, forged or old is refused."""

from __future__ import annotations

from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from events import subjects
from events.trust.keys import Key, generate
from events.trust.signing import Ring, Signer, UntrustedRingError, Verifier, read_ring, signed_with

ROOT = generate("operator")
FIRST, SECOND = generate("operator"), generate("operator")
NETWORK, MACHINE = UUID(int=1), UUID(int=2)
SUBJECT = subjects.network_peer(NETWORK, MACHINE)


def ring(version: int, *keys: Key, root: Key = ROOT) -> Ring:
    return Ring(version=version, keys=tuple(key.public for key in keys)).signed_by(root)


VERIFIER = Verifier(ROOT.public, ring(1, FIRST))
SIGNER = Signer(FIRST)


def flipped(raw: bytes, data: st.DataObject) -> bytes:
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    return (int.from_bytes(raw) ^ 1 << bit).to_bytes(len(raw))


class TestRecords:
    @given(st.binary(max_size=300))
    def test_what_was_signed_is_genuine_and_signing_is_deterministic(self, payload: bytes) -> None:
        signature = SIGNER.sign(SUBJECT, payload)
        assert signature == SIGNER.sign(SUBJECT, payload)
        assert signed_with(signature) == SIGNER.fingerprint
        assert VERIFIER.knows(signature)
        assert VERIFIER.is_genuine(SUBJECT, payload, signature)

    @given(st.binary(min_size=1, max_size=300), st.data())
    def test_one_flipped_bit_of_the_payload_is_refused(self, payload: bytes, data: st.DataObject) -> None:
        signature = SIGNER.sign(SUBJECT, payload)
        assert not VERIFIER.is_genuine(SUBJECT, flipped(payload, data), signature)

    @given(st.data())
    def test_one_flipped_bit_of_the_subject_is_refused(self, data: st.DataObject) -> None:
        signature = SIGNER.sign(SUBJECT, b"{}")
        place = data.draw(st.integers(0, len(SUBJECT) - 1))
        letter = chr(ord(SUBJECT[place]) ^ 1 << data.draw(st.integers(0, 6)))
        assert not VERIFIER.is_genuine(SUBJECT[:place] + letter + SUBJECT[place + 1 :], b"{}", signature)

    @given(st.data())
    def test_one_other_character_of_the_signature_is_refused(self, data: st.DataObject) -> None:
        signature = SIGNER.sign(SUBJECT, b"{}")
        place = data.draw(st.integers(0, len(signature) - 1))
        letter = data.draw(st.characters(codec="ascii").filter(lambda letter: letter != signature[place]))
        assert not VERIFIER.is_genuine(SUBJECT, b"{}", signature[:place] + letter + signature[place + 1 :])

    @given(st.text(max_size=120))
    def test_whatever_else_stands_there_is_refused(self, signature: str) -> None:
        assert not VERIFIER.is_genuine(SUBJECT, b"{}", signature)

    @pytest.mark.parametrize(
        "subject",
        [
            subjects.network_peer(UUID(int=3), MACHINE),
            subjects.network_peer(NETWORK, UUID(int=3)),
            subjects.network_info(NETWORK),
            subjects.machine_membership(MACHINE, NETWORK),
            subjects.live_of(SUBJECT),
            "",
        ],
    )
    def test_a_record_shown_under_another_subject_is_refused(self, subject: str) -> None:
        assert not VERIFIER.is_genuine(subject, b"{}", SIGNER.sign(SUBJECT, b"{}"))

    @given(st.integers(-len(SUBJECT), 40).filter(bool))
    def test_where_the_subject_ends_is_signed_too(self, shift: int) -> None:
        payload = b'{"revision":1,"previous":0,"cause":1,"body":null}'
        subject = (SUBJECT + payload.decode())[: len(SUBJECT) + shift]
        rest = (SUBJECT.encode() + payload)[len(subject) :]
        assert not VERIFIER.is_genuine(subject, rest, SIGNER.sign(SUBJECT, payload))

    def test_another_s_signature_in_the_control_plane_s_name_is_refused(self) -> None:
        forged = Signer(SECOND).sign(SUBJECT, b"{}")
        assert not VERIFIER.knows(forged)
        assert not VERIFIER.is_genuine(SUBJECT, b"{}", forged)
        _, _, text = forged.partition(" ")
        assert not VERIFIER.is_genuine(SUBJECT, b"{}", f"{SIGNER.fingerprint} {text}")

    def test_neither_the_root_key_nor_a_ring_s_signature_says_a_record(self) -> None:
        assert not VERIFIER.is_genuine(SUBJECT, b"{}", Signer(ROOT).sign(SUBJECT, b"{}"))
        assert not VERIFIER.is_genuine(SUBJECT, b"{}", f"{SIGNER.fingerprint} {VERIFIER.ring.signature}")


class TestRing:
    def test_keys_old_and_new_overlap(self) -> None:
        verifier = Verifier(ROOT.public, ring(1, FIRST))
        old, new = Signer(FIRST).sign(SUBJECT, b"{}"), Signer(SECOND).sign(SUBJECT, b"{}")
        assert verifier.adopt(ring(2, SECOND, FIRST))
        assert verifier.is_genuine(SUBJECT, b"{}", old)
        assert verifier.is_genuine(SUBJECT, b"{}", new)
        assert verifier.adopt(ring(3, SECOND))
        assert not verifier.is_genuine(SUBJECT, b"{}", old)
        assert verifier.is_genuine(SUBJECT, b"{}", new)

    def test_the_same_ring_again_is_no_news(self) -> None:
        assert not Verifier(ROOT.public, ring(1, FIRST)).adopt(ring(1, FIRST))

    def test_an_older_ring_is_refused_and_changes_nothing(self) -> None:
        verifier = Verifier(ROOT.public, ring(3, SECOND))
        with pytest.raises(UntrustedRingError, match="version 1; version 3 was seen"):
            verifier.adopt(ring(1, FIRST))
        assert verifier.ring == ring(3, SECOND)
        assert not verifier.is_genuine(SUBJECT, b"{}", Signer(FIRST).sign(SUBJECT, b"{}"))

    @pytest.mark.parametrize(
        "other",
        [
            ring(2, SECOND, root=SECOND),
            ring(2, SECOND, root=FIRST),
            Ring(version=2, keys=(SECOND.public,)),
            Ring(version=2, keys=(SECOND.public,), signature=ring(1, FIRST).signature),
            ring(1, FIRST).model_copy(update={"version": 2}),
            ring(2, FIRST).model_copy(update={"keys": (SECOND.public,)}),
            ring(2, FIRST).model_copy(update={"keys": (FIRST.public, SECOND.public)}),
            ring(2, FIRST, SECOND).model_copy(update={"keys": (SECOND.public, FIRST.public)}),
            ring(2, FIRST).model_copy(update={"signature": "!"}),
        ],
    )
    def test_one_that_the_root_key_did_not_sign_is_refused_and_changes_nothing(self, other: Ring) -> None:
        verifier = Verifier(ROOT.public, ring(1, FIRST))
        with pytest.raises(UntrustedRingError, match="not signed by the root key"):
            verifier.adopt(other)
        assert verifier.ring == ring(1, FIRST)
        assert not verifier.is_genuine(SUBJECT, b"{}", Signer(SECOND).sign(SUBJECT, b"{}"))
        with pytest.raises(UntrustedRingError):
            Verifier(ROOT.public, other)

    @given(st.data())
    def test_one_flipped_bit_of_its_json_is_refused_or_says_the_same(self, data: st.DataObject) -> None:
        genuine = ring(5, FIRST, SECOND)
        text = flipped(genuine.model_dump_json().encode(), data)
        try:
            read = read_ring(text).checked(ROOT.public)
        except UntrustedRingError:
            return
        assert (read.version, read.keys) == (genuine.version, genuine.keys)

    @pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version":1}', '{"version":1,"keys":[],"more":1}'])
    def test_what_is_no_ring_is_refused(self, text: str) -> None:
        with pytest.raises(UntrustedRingError, match="cannot be read"):
            read_ring(text)
