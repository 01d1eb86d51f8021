"""Text of strangers, made harmless where it is shown: a name must not steer a terminal. Pure."""

from __future__ import annotations

import re

import orjson

_UNSEEN = re.compile(
    "[\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
"""What JSON allows as it is, and a terminal obeys or does not show: DEL, C1, bidirectional and invisible ones."""


def harmless(text: str) -> str:
    """`text` without what would move the cursor, colour, reorder or hide: without all control characters but the line
    break. What is taken out had no width, so columns stay in line."""
    if text.isprintable():
        return text
    return "".join(character for character in text if character.isprintable() or character == "\n")


def one_line(text: str) -> str:
    """`text` without line breaks, so that it cannot pass for several."""
    return " ".join(text.splitlines())


def json_text(document: object, indent: bool = False) -> str:
    """JSON that means what `document` does, with what a terminal would obey written as escapes."""
    text = orjson.dumps(document, option=orjson.OPT_INDENT_2 if indent else None).decode()
    return _UNSEEN.sub(_escape, text)


def _escape(found: re.Match[str]) -> str:
    units = found[0].encode("utf-16-be")
    return "".join(f"\\u{units[at] << 8 | units[at + 1]:04x}" for at in range(0, len(units), 2))
