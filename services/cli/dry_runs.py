"""What `--dry-run` shows: the events that a command would cause, and what they would do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import typer
from rich.console import Console
from rich.table import Table

from services.cli.api import Json
from services.cli.diff_tables import change_tables
from services.cli.harmless import json_text, one_line

_NOTHING: Json = {
    "position": None,
    "commands": [],
    "events": [],
    "effects": {"items": [], "total": 0, "tallies": []},
    "later": [],
}
"""A dry run of a command that found nothing to ask for."""

Show = Callable[[Table], None]


def show_dry_run(tried: Sequence[Json], out: Console, show: Show, *, as_json: bool) -> None:
    """Show what the requests of one command would do, in their order, and that nothing was done."""
    if as_json:
        typer.echo(json_text(tried[0] if len(tried) == 1 else {"items": tried} if tried else _NOTHING, indent=True))
        return
    found = False
    for told in tried:
        for heading, table in _parts(told):
            out.print(heading, style="bold", soft_wrap=True)
            show(table)
            out.print()
            found = True
    out.print("Nothing was changed." if found else "Nothing would change.")


def _parts(told: Json) -> Iterator[tuple[str, Table]]:
    if told["events"]:
        yield "The log would say", _sentences(f"{event['actor']} {event['text']}" for event in told["events"])
    yield from change_tables(told["effects"]["items"])
    more = told["effects"]["total"] - len(told["effects"]["items"])
    if more > 0:
        yield f"And {more:,} more line{'' if more == 1 else 's'} of what would change", _sentences(())
    if told["later"]:
        yield "Later", _sentences(told["later"])


def _sentences(texts: Iterable[str]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0))
    table.add_column(min_width=3)
    table.add_column(overflow="fold")
    for text in texts:
        table.add_row("", one_line(text))
    return table
