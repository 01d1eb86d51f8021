"""Text of strangers, made harmless."""

from __future__ import annotations

import json

import pytest

from services.cli.harmless import harmless, json_text, one_line


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("db-1", "db-1"),
        ("Zoë ★ 数", "Zoë ★ 数"),
        ("two\nlines", "two\nlines"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x9b2Jgone\x7f\x08\r\x00", "2Jgone"),
        ("exe\u202egpj.\u2066\u200b\ufeff", "exegpj."),
        ("line\u2028separator", "lineseparator"),
    ],
)
def test_what_steers_a_terminal_is_taken_out(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_one_line_stays_one() -> None:
    assert one_line("a\nb\r\nc\u2028d\x85e") == "a b c d e"


def test_json_means_the_same_and_steers_nothing() -> None:
    document = {"name": "\x1b[2J\x7f\x9b31m\u202e\u200b\U000e0041 Zoë"}
    for indent in (False, True):
        text = json_text(document, indent)
        assert json.loads(text) == document
        assert text.replace("\n", "").isprintable()
    assert "Zoë" in text
