"""What changed between two moments, for people. Pure: the API's object in, text and Rich tables out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.harmless import one_line
from services.cli.tables import local_time

_HEADINGS = {
    "network": "Networks",
    "machine": "Machines",
    "address": "Addresses",
    "peer": "Peers",
    "path": "Paths",
    "session": "BGP sessions",
    "route": "Routes",
    "vip": "Virtual IPs",
    "policy": "Route policies",
    "gateway": "Gateways",
    "announcement": "Announcements",
}
_SIGNS = {"added": ("+", "green"), "removed": ("-", "red"), "changed": ("~", "yellow")}


def title(found: Json) -> str:
    """From when to when."""
    return f"From {_side(found['from'])} to {_side(found['to'])}"


def change_tables(items: Iterable[Json]) -> Iterator[tuple[str, Table]]:
    """The changes by what they are about: a heading, and a table of one change a line."""
    for what, changes in groupby(items, lambda change: change["what"]):
        yield _HEADINGS.get(what, what), changes_table(changes)


def changes_table(changes: Iterable[Json]) -> Table:
    """Changes, one a line: `+` for what is new, `-` for what is gone, `~` for what is otherwise."""
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(no_wrap=True, min_width=3, justify="right")
    table.add_column(overflow="fold")
    for change in changes:
        sign, style = _SIGNS.get(change["kind"], ("~", "yellow"))
        text = Text(one_line(change["text"]), style="dim" if change["is_lesser"] else "")
        table.add_row(Text(sign, style="dim" if change["is_lesser"] else style), text)
    return table


def summary(found: Json) -> str:
    """How much changed, in a sentence."""
    counts = {kind: sum(tally[kind] for tally in found["tallies"]) for kind in _SIGNS}
    total = sum(counts.values())
    if not total:
        return "Nothing changed."
    told = ", ".join(f"{number:,} {kind}" for kind, number in counts.items() if number)
    return f"{total:,} change{'' if total == 1 else 's'}: {told}."


def remarks(found: Json) -> Iterator[str]:
    """What is not shown, and how to see it."""
    for since in filter(None, dict.fromkeys(found[side]["reports_since"] for side in ("from", "to"))):
        yield f"What machines reported is known since {local_time(since)} only: of before, paths may seem to differ."
    more = found["total"] - len(found["items"])
    if more > 0:
        yield f"{more:,} more line{' is' if more == 1 else 's are'} not listed: give a higher --limit, or --network."
    if any(change["count"] > 1 for change in found["items"]):
        yield "What many do alike is told in one line: --whole tells each."
    if names := [network["name"] for network in found["left_out"]]:
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4:,} more" if len(names) > 4 else "")
        yield f"The paths and BGP sessions of {shown} were not compared: name one with --network."


def _side(side: Json) -> str:
    when = local_time(side["time"]) if side["time"] else "the beginning"
    return f"{when} (log position {side['position']})"
