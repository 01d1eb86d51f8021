"""What pages are made of: templates that put nothing in unescaped and hold neither script nor style, and the words for
times and sizes."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import services.gateway.pages
from services.gateway.pages.rendering import ago, environment, moment, number, quantity, traffic

FOLDER = Path(services.gateway.pages.__file__).parent
TEMPLATES = sorted((FOLDER / "templates").glob("*.html"))
OURS = sorted((FOLDER / "static").glob("*.js"))
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)

UNSAFE = {
    "style in an attribute": r"\sstyle\s*=",
    "a style sheet of its own": r"<style\b",
    "script in an attribute": r"\son[a-z]+\s*=",
    "script in place": r"<script(?![^>]*\ssrc=\"\{\{ asset\()",
    "script in htmx's attributes": r"hx-on|hx-vars|hx-(?:vals|headers)\s*=\s*[\"']\s*js:|hx-trigger=[\"'][^\"']*\[",
    "a script as an address": r"javascript:",
    "something unescaped": r"\|\s*safe\b|autoescape|Markup",
    "something from elsewhere": r"(?:src|href|action)\s*=\s*[\"'](?:https?:)?//",
    "a frame or plug-in": r"<(?:iframe|frame|object|embed|base|meta\s+http-equiv)\b",
}
"""What no template has; patterns."""


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_templates_hold_nothing_unsafe(template: Path) -> None:
    text = re.sub(r"{#.*?#}", "", template.read_text(), flags=re.DOTALL)
    for what, pattern in UNSAFE.items():
        found = re.search(pattern, text, re.IGNORECASE)
        assert not found, f"{template.name} has {what}: {found and found[0]}"
    unquoted = re.search(r"<[^>]*\s[a-z-]+=\{\{", text)
    assert not unquoted, f"{template.name} puts something into an attribute without quotes: {unquoted and unquoted[0]}"
    environment().get_template(template.name)


@pytest.mark.parametrize("script", OURS, ids=lambda path: path.name)
def test_scripts_make_nothing_of_text(script: Path) -> None:
    text = script.read_text()
    for pattern in (
        r"\beval\b",
        r"new Function",
        r"innerHTML\s*=",
        r"outerHTML\s*=",
        r"document\.write",
        r"insertAdjacentHTML",
    ):
        assert not re.search(pattern, text), f"{script.name} has {pattern}"


def test_everything_is_escaped() -> None:
    shown = environment().from_string('<p title="{{ it }}">{{ it }}</p>').render(it="\"'><script>{{ 7*7 }}</script>")
    text = "&#34;&#39;&gt;&lt;script&gt;{{ 7*7 }}&lt;/script&gt;"
    assert shown == f'<p title="{text}">{text}</p>'
    assert moment(None, "<never>") == "<span>&lt;never&gt;</span>"
    assert ago(None, NOW, "<never>") == "<span>&lt;never&gt;</span>"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "just now"),
        (0.4, "just now"),
        (1, "1 second ago"),
        (119, "1 minute ago"),
        (7200, "2 hours ago"),
        (86_400 * 3, "3 days ago"),
        (86_400 * 31, "2026-10-23"),
    ],
)
def test_how_long_ago(seconds: float, text: str) -> None:
    assert f">{text}</time>" in ago(NOW - timedelta(seconds=seconds), NOW)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_000, "1.2 MB"),
        (123_456_789, "123 MB"),
        (5 * 10**18, "5000 PB"),
    ],
)
def test_traffic(size: int | None, text: str) -> None:
    assert traffic(size) == text


def test_numbers() -> None:
    assert [number(1_234_567), quantity(1, "machine"), quantity(10_000, "machine")] == [
        "1,234,567",
        "1 machine",
        "10,000 machines",
    ]
    assert ">2026-11-23 12:00:00 UTC</time>" in moment(NOW)
