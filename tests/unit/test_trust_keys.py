"""Keys in NATS's form: what is read and refused, what signs what, and that the private half never shows."""

from __future__ import annotations

import traceback

import nkeys
import pytest
from hypothesis import given
from hypothesis import strategies as st

from events.trust import keys
from events.trust.keys import Key, Kind, check_public, encode_public, fingerprint, generate, verify

KINDS: tuple[Kind, ...] = ("operator", "account", "user")
LETTERS = {"operator": "O", "account": "A", "user": "U"}

# RFC 8032, section 7.1, test 2.
RFC_SEED = bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
RFC_PUBLIC = bytes.fromhex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c")
RFC_SIGNATURE = bytes.fromhex(
    "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
    "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
)


@pytest.mark.parametrize("kind", KINDS)
def test_a_key_is_one_of_its_kind(kind: Kind) -> None:
    key = generate(kind)
    assert key.kind == kind
    assert key.public.startswith(LETTERS[kind])
    assert key.seed.startswith("S" + LETTERS[kind])
    assert Key(key.seed).public == key.public == check_public(key.public, kind)
    for other in set(KINDS) - {kind}:
        with pytest.raises(ValueError, match=f"not the public key of a {other}"):
            check_public(key.public, other)
        assert not verify(key.public, other, b"x", key.sign(b"x"))


@pytest.mark.parametrize("kind", KINDS)
def test_nats_s_own_library_reads_them_and_agrees(kind: Kind) -> None:
    key = generate(kind)
    theirs = nkeys.from_seed(bytearray(key.seed.encode()))
    assert theirs.public_key.decode() == key.public
    assert theirs.sign(b"said") == key.sign(b"said")


def test_signatures_are_those_of_rfc_8032() -> None:
    key = Key(nkeys.encode_seed(RFC_SEED, nkeys.PREFIX_BYTE_USER).decode())
    assert key.public == encode_public("user", RFC_PUBLIC)
    assert key.sign(b"\x72") == RFC_SIGNATURE
    assert verify(key.public, "user", b"\x72", RFC_SIGNATURE)


@given(st.binary(max_size=200), st.data())
def test_one_flipped_bit_is_refused(said: bytes, data: st.DataObject) -> None:
    key = generate("user")
    signature = key.sign(said)
    assert verify(key.public, "user", said, signature)
    assert not verify(key.public, "user", said, flipped(signature, data))
    assert not verify(key.public, "user", said + b"\0", signature)
    if said:
        assert not verify(key.public, "user", flipped(said, data), signature)
    assert not verify(generate("user").public, "user", said, signature)


def flipped(raw: bytes, data: st.DataObject) -> bytes:
    bit = data.draw(st.integers(0, len(raw) * 8 - 1))
    return (int.from_bytes(raw) ^ 1 << bit).to_bytes(len(raw))


@given(st.integers(0, 55), st.sampled_from("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"))
def test_one_mistyped_letter_is_no_key(place: int, letter: str) -> None:
    public = generate("user").public
    mistyped = public[:place] + letter + public[place + 1 :]
    if mistyped != public:
        with pytest.raises(ValueError, match="not the public key"):
            check_public(mistyped, "user")


@pytest.mark.parametrize("spoil", [str.lower, lambda key: key + "A", lambda key: key[:-1], lambda key: key + "\n"])
def test_a_key_has_one_spelling_only(spoil) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="not the public key"):
        check_public(spoil(generate("user").public), "user")


@given(st.text(max_size=80))
def test_what_is_no_key_is_refused_and_signs_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="not the public key"):
        check_public(text, "user")
    assert not verify(text, "user", b"x", bytes(64))


@pytest.mark.parametrize("size", [0, 1, 63, 65, 4096])
def test_a_signature_of_another_size_is_none(size: int) -> None:
    assert not verify(generate("user").public, "user", b"x", bytes(size))


def test_the_private_half_never_shows() -> None:
    key = generate("operator")
    assert key.seed not in f"{key!r} {key} {[key]}"
    assert key.public in repr(key)
    damaged = key.seed[:-1] + ("A" if key.seed[-1] != "A" else "B")
    for text in (damaged, key.seed.lower(), key.seed + "A", key.public, "", "S"):
        with pytest.raises(ValueError, match="not the seed of a key") as refusal:
            Key(text)
        told = "".join(traceback.format_exception(refusal.value))
        assert text not in told or text in ("", "S", key.public)
        assert refusal.value.__suppress_context__


def test_a_fingerprint_tells_keys_apart() -> None:
    first, second = generate("operator").public, generate("operator").public
    assert fingerprint(first) == fingerprint(first) != fingerprint(second)
    assert len(fingerprint(first)) == 16


def test_a_curve_or_server_key_is_none_of_ours() -> None:
    seed = nkeys.encode_seed(bytes(32), nkeys.PREFIX_BYTE_SERVER).decode()
    with pytest.raises(ValueError, match="not the seed of a key"):
        keys.Key(seed)
