"""What `wireloom diff` says beside the changes."""

from __future__ import annotations

from typing import Any

from services.cli.diff_tables import remarks, summary, title

SIDE = {"position": 7, "time": "2026-05-03T14:02:00Z", "reports_since": None}


def found(**fields: Any) -> dict[str, Any]:
    return {"from": SIDE, "to": SIDE, "items": [], "total": 0, "tallies": [], "left_out": []} | fields


def test_the_beginning_has_no_time() -> None:
    assert title(found(**{"from": SIDE | {"position": 0, "time": None}})).startswith(
        "From the beginning (log position 0) to 2026-05-0"
    )


def test_what_stands_for_several_counts_as_so_many() -> None:
    tallies = [
        {"what": "path", "added": 1999, "removed": 0, "changed": 1},
        {"what": "machine", "added": 1, "removed": 0, "changed": 0},
    ]
    assert summary(found(tallies=tallies)) == "2,001 changes: 2,000 added, 1 changed."
    assert summary(found(tallies=tallies[1:])) == "1 change: 1 added."
    assert summary(found()) == "Nothing changed."


def test_what_is_not_shown_is_said() -> None:
    networks = [{"uuid": str(number), "name": f"net-{number}"} for number in range(6)]
    told = found(items=[{"count": 11}], total=3, left_out=networks, to=SIDE | {"reports_since": "2026-05-03T15:00:00Z"})
    since, more, together, left_out = remarks(told)
    assert since.startswith("What machines reported is known since 2026-05-0")
    assert more == "2 more lines are not listed: give a higher --limit, or --network."
    assert together == "What many do alike is told in one line: --whole tells each."
    assert "net-0, net-1, net-2, net-3 and 2 more were not compared" in left_out
    assert list(remarks(found())) == []
