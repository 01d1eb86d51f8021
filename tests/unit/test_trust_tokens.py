"""Tokens of people, programs and machines: secret, told apart, and the same again for the same command."""

from __future__ import annotations

import hashlib
from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from events.fields import SecretHash
from events.trust.tokens import PREFIXES, Purpose, hashed, looks_like, make

MINT = bytes(range(32))
PURPOSES: tuple[Purpose, ...] = ("bootstrap", "api")


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_repeated_command_makes_the_same_token(purpose: Purpose) -> None:
    command = uuid4()
    token = make(MINT, purpose, command)
    assert token == make(MINT, purpose, command)
    assert token.startswith(PREFIXES[purpose])
    assert looks_like(token, purpose)
    assert len(token) == 4 + 52


def test_every_mint_purpose_and_command_makes_another() -> None:
    commands = [UUID(int=number) for number in range(200)]
    made = [make(mint, purpose, each) for mint in (MINT, bytes(32)) for purpose in PURPOSES for each in commands]
    assert len({token[4:] for token in made}) == len(made)
    assert len({hashed(token) for token in made}) == len(made)


def test_a_token_in_the_wrong_place_is_recognised() -> None:
    bootstrap, api = (make(MINT, purpose, UUID(int=1)) for purpose in PURPOSES)
    assert not looks_like(bootstrap, "api")
    assert not looks_like(api, "bootstrap")


@given(st.text(max_size=70))
def test_what_only_looks_a_little_like_a_token_is_none(text: str) -> None:
    assert not looks_like(text, "api")
    assert not looks_like("wla_" + text, "api") or set(text) <= set("abcdefghijklmnopqrstuvwxyz234567")


@pytest.mark.parametrize("spoil", [str.upper, lambda token: token + "a", lambda token: token + "\n", lambda t: t[:-1]])
def test_a_token_has_one_spelling_only(spoil) -> None:  # type: ignore[no-untyped-def]
    token = make(MINT, "api", UUID(int=1))
    assert not looks_like(spoil(token), "api")
    assert hashed(spoil(token)) != hashed(token)


def test_what_is_kept_tells_nothing_of_the_token() -> None:
    token = make(MINT, "api", UUID(int=1))
    kept = hashed(token)
    assert kept == hashlib.sha256(token.encode()).hexdigest() == TypeAdapter(SecretHash).validate_python(kept)
    assert token[4:] not in kept
