"""The house rules that a machine can hold: imports run one way, and the text stays free of what does not belong."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("agent", "benchmarks", "deploy", "docs", "events", "services", "tests")

UNWANTED = {
    "unfinished work": re.compile(r"\b(?:TODO|FIXME)\b"),
    "a package registry's address": re.compile(
        r"pypi\.(?:org|python)|pythonhosted\.|npmjs\.|crates\.io|deb\.debian\.|ubuntu\.com/ubuntu|maven\.org"
    ),
    "an issue's number": re.compile(r"\b[Ii]ssues? #?\d"),
    "a path of somebody's own machine": re.compile(r"(?<![\w.])/(?:work|root|home/\w+)/[\w.]"),
    "a secret": re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"),
}


def texts() -> Iterator[tuple[Path, str]]:
    files = [path for path in ROOT.iterdir() if path.is_file() and path.name != ".git"]
    for room in ROOMS:
        files += [path for path in (ROOT / room).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in set(files) - {Path(__file__).resolve()}:
        try:
            yield path.relative_to(ROOT), path.read_text()
        except UnicodeDecodeError:
            continue


def test_imports_run_one_way() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    finished = subprocess.run([linter, "--no-cache"], check=False, cwd=ROOT, capture_output=True, text=True)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.parametrize("what", UNWANTED)
def test_no_file_holds(what: str) -> None:
    found = [
        f"{path}:{text.count(chr(10), 0, match.start()) + 1}: {match[0]}"
        for path, text in texts()
        for match in UNWANTED[what].finditer(text)
    ]
    assert not found, f"{what} stands in:\n" + "\n".join(found)


def test_every_module_says_what_it_is_for() -> None:
    silent = [
        str(path)
        for path, text in texts()
        if path.suffix == ".py" and text.strip() and not text.lstrip().startswith(('"""', "#!", "# "))
    ]
    assert not silent, f"no docstring begins {silent}"


def test_every_command_of_make_is_explained() -> None:
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony
    explained = set(re.findall(r"^([a-z-]+):.*## ", text, re.MULTILINE))
    assert set(phony[1].split()) - {"system"} == explained
