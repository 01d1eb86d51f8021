"""`wireloom diff`: what changed between two moments."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from events.errors import InvalidInputError
from services.cli.diff_tables import change_tables, remarks, summary, title
from services.cli.moments import sent
from services.cli.session import AsJson, Url, opened

DIFF = "/api/v1/diff"

_NOW = "now"


def diff(
    context: typer.Context,
    *,
    before: Annotated[
        str,
        typer.Argument(
            metavar="A", help='From here: a log position, a time (of your time zone, if it names none), "2 hours ago".'
        ),
    ],
    after: Annotated[str, typer.Argument(metavar="B", help="To there.")] = _NOW,
    network: Annotated[
        str | None, typer.Option("--network", "-n", metavar="NAME|UUID", help="Only what has to do with this network.")
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Tell each path and session, also where many come, go or change alike.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="List at most so many; all are counted.")] = 1000,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show what changed from one moment to another: networks, machines, addresses, peers, paths, sessions, routing.

    What was changed and changed back meanwhile is not shown. Since yesterday: wireloom diff "1 day ago"
    """
    now = datetime.now(UTC)
    moments = {"from": _moment("A", before, now), "to": _moment("B", after, now)}
    with opened(context, url, as_json) as session:
        with session.working("Comparing the two moments"):
            found = session.api.get(DIFF, **moments, network=network, limit=limit, whole=str(whole).lower())
        if as_json:
            session.json(found)
            return
        session.out.print(title(found), soft_wrap=not session.out.is_terminal)
        for heading, table in change_tables(found["items"]):
            session.out.print(f"\n{heading}", style="bold")
            session.table(table)
        session.say(f"\n{summary(found)}")
        for remark in remarks(found):
            session.err.print(remark, style="dim", soft_wrap=True)


def _moment(argument: str, said: str, now: datetime) -> str:
    """A moment as the gateway is asked for it: the present by the gateway's clock."""
    if said.strip().lower() == _NOW:
        return _NOW
    try:
        return sent(said, now)
    except InvalidInputError as error:
        error.field = argument
        raise
