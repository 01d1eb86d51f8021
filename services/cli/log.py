"""`wireloom log`: what happened, by whom, when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import chain
from typing import Annotated

import typer
from rich.table import Table

from events.errors import InvalidInputError, UnavailableError
from services.cli.api import Api, Json
from services.cli.harmless import json_text
from services.cli.lookup import machine_named, network_named
from services.cli.moments import sent_time
from services.cli.resolve import as_uuid
from services.cli.session import Session, Url, opened
from services.cli.tables import command_cells, event_row, events_table, stacked_cells

EVENTS = "/api/v1/events"

app = typer.Typer(invoke_without_command=True)

_PAGE = 1000
_WHO_WIDTH = 20
_POSITION_WIDTH = 8
_STACKED_WIDTH = 40
_RECONNECT_AFTER = 1.0


@app.callback()
def log(
    context: typer.Context,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens from now on.")] = False,
    network: Annotated[
        str | None, typer.Option("--network", "-n", metavar="NAME|UUID", help="Only about this network.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="Only about this machine.")
    ] = None,
    actor: Annotated[
        str | None, typer.Option("--actor", "-a", metavar="NAME", help="Only by this account, machine or program.")
    ] = None,
    kind: Annotated[
        list[str] | None, typer.Option("--kind", "-k", help="Only of this kind; may be given several times.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help='Only from then on: 2026-05-04T08:30, "2 hours ago".')
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="Only from before then.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many: the newest, or with --after the next.")] = 50,
    after: Annotated[int | None, typer.Option(min=0, help="Only those after this position in the log.")] = None,
    commands: Annotated[
        bool, typer.Option("--commands", "-c", help="Show the positions in the log and the commands' ids too.")
    ] = False,
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line, for programs.")] = False,
) -> None:
    """Show the events, oldest first: when, who, what. They are kept for ever."""
    if context.invoked_subcommand is not None:
        _require_none(context)
        return
    with opened(context, url, as_json) as session:
        given = {"actor": actor, "kind": kind or None, "since": _time(since), "until": _time(until)}
        filters = _filters(session.api, network, machine)
        filters |= {name: value for name, value in given.items() if value is not None}
        end = session.api.get(EVENTS, limit=1)["last_sequence"] if follow else 0
        events = past_events(session.api, limit, after, filters)
        if follow:
            for event in chain(events, _coming(session, events[-1]["sequence"] if events else end, filters)):
                _print_one(session, event, commands)
        elif as_json:
            for event in events:
                _print_one(session, event)
        elif events:
            session.table(events_table(events, commands, session.roomy))
        else:
            session.say("Nothing like that has happened yet.")


def _require_none(context: typer.Context) -> None:
    """That no option of this command stands before another's name, where it would mean nothing. Raises
    `InvalidInputError`."""
    for name in context.params:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            raise InvalidInputError(
                f"An option stands before `{context.invoked_subcommand}`, where it means nothing.",
                hint=f"Write it behind: wireloom log {context.invoked_subcommand} …",
                field=name,
            )


def _filters(api: Api, network: str | None, machine: str | None) -> Json:
    """The query's filters. A uuid is taken as it is: what was deleted has events all the same."""
    filters: Json = {}
    if network is not None:
        filters["network"] = as_uuid(network) or network_named(api, network)["uuid"]
    if machine is not None:
        filters["machine"] = as_uuid(machine) or machine_named(api, machine)["uuid"]
    return filters


def _time(text: str | None) -> str | None:
    """A time as the gateway takes it, also one to come. Raises `InvalidInputError`."""
    if text is None:
        return None
    try:
        return sent_time(text, datetime.now(UTC))
    except InvalidInputError as error:
        error.hint = "Give one such as 2026-05-03T14:02, or how long ago, such as '2 hours ago'."
        raise


def past_events(api: Api, limit: int, after: int | None, filters: Json) -> list[Json]:
    """Up to `limit` events in the order of the log: those after a position, or the newest."""
    events: list[Json] = []
    place: Json = {} if after is None else {"after": after}
    while len(events) < limit:
        page = api.get(EVENTS, limit=min(limit - len(events), _PAGE), **place, **filters)
        events += page["items"]
        if page["next"] is None:
            break
        place = {"before" if after is None else "after": page["next"]}
    return events if after is not None else events[::-1]


def _coming(session: Session, position: int, filters: Json) -> Iterator[Json]:
    """What happens after a position, for ever: a lost connection, told once, is taken up where it broke."""
    told = False
    while True:
        try:
            for event in session.api.follow(f"{EVENTS}/stream", after=position, **filters):
                position, told = event["sequence"], False
                yield event
        except UnavailableError as error:
            if not told:
                session.err.print(f"{error.detail} Trying until it is back.", style="dim", soft_wrap=True)
            told = True
        session.pause(_RECONNECT_AFTER)


def _print_one(session: Session, event: Json, commands: bool = False) -> None:
    if session.as_json:
        typer.echo(json_text(event))
        return
    stacked = commands and not session.roomy
    row = Table.grid(padding=(0, 2, 0, 0))
    if commands:
        row.add_column(no_wrap=True, justify="right", min_width=_POSITION_WIDTH)
        row.add_column(no_wrap=True, min_width=_STACKED_WIDTH if stacked else None)
    if not stacked:
        row.add_column(no_wrap=True)
        row.add_column(no_wrap=True, min_width=_WHO_WIDTH)
    row.add_column(overflow="fold")
    if stacked:
        row.add_row(*stacked_cells(event))
    else:
        row.add_row(*(command_cells(event) if commands else ()), *event_row(event))
    session.table(row)
