"""The configurations that are written for BIRD: each is as it was looked at, and BIRD takes it.

`WIRELOOM_GOLDEN=write` writes those in `tests/data/bird` anew.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from agent.bgp.config import fading, render
from agent.bgp.intent import BgpIntent
from tests.support.bird_intents import INTENTS
from tests.support.birds import intent, machine_id, reflected

GOLDEN = Path(__file__).parents[1] / "data" / "bird"


def protocols(text: str, kind: str = "bgp") -> dict[str, str]:
    """All that is said of each protocol of a kind, by name."""
    start = f"protocol {kind} "
    return {
        part.removeprefix(start).split()[0]: part.strip()
        for part in text.replace("\nprotocol", "\n\x00protocol").split("\x00")
        if part.startswith(start)
    }


@pytest.mark.parametrize("name", sorted(INTENTS))
def test_a_configuration_is_as_it_was_looked_at(name: str) -> None:
    path = GOLDEN / f"{name}.conf"
    text = render(INTENTS[name])
    if os.environ.get("WIRELOOM_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


def test_no_golden_configuration_is_of_yesterday() -> None:
    assert {path.stem for path in GOLDEN.glob("*.conf")} == set(INTENTS)


@pytest.mark.parametrize("name", sorted(INTENTS))
def test_bird_takes_it(name: str, tmp_path: Path) -> None:
    for text in (render(INTENTS[name]), fading(render(INTENTS[name]))):
        (tmp_path / "bird.conf").write_text(text)
        done = subprocess.run(
            ["bird", "-p", "-c", "bird.conf"], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")


def test_who_joins_or_leaves_changes_no_other_session() -> None:
    few, many = (protocols(render(BgpIntent((intent(1, size),)))) for size in (4, 5))
    assert len(many) == len(few) + 1
    assert few.items() <= many.items()


def test_who_joins_changes_nothing_for_a_client_or_reflector() -> None:
    for reflectors in ((2, 3), (1, 2)):
        few, many = (intent(1, size, announced=(), owners=()) for size in (4, 5))
        assert render(BgpIntent((replace(few, **reflected(few, "reflectors", *reflectors)),))) == render(
            BgpIntent((replace(many, **reflected(many, "reflectors", *reflectors)),))
        )


def test_what_a_machine_announces_changes_no_session() -> None:
    plain = intent(1, 4)
    assert protocols(render(BgpIntent((plain,)))) == protocols(render(BgpIntent((replace(plain, announced=()),))))


def test_switching_has_the_sessions_of_both_and_they_are_the_same() -> None:
    plain = intent(2, 5)
    mesh, switching, reflectors = (
        protocols(render(BgpIntent((replace(plain, **reflected(plain, stage, *chosen)),))))
        for stage, chosen in (("mesh", ()), ("switching", (1, 2)), ("reflectors", (1, 2)))
    )
    assert not mesh.keys() & reflectors.keys()
    assert switching == mesh | reflectors
    assert len(reflectors) == 2
    assert f"client_00000009_{machine_id(1).hex}" in reflectors
