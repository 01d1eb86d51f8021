"""`wireloom undo`: take back what a command did."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table

from events.errors import CannotUndoError, ConflictError, InvalidInputError, NotFoundError
from services.cli.api import Json
from services.cli.harmless import one_line
from services.cli.log import EVENTS, past_events
from services.cli.resolve import as_uuid
from services.cli.session import AsJson, DryRun, Session, Url, Yes, opened, own_actor
from services.cli.tables import local_time

_COMMANDS = "/api/v1/commands"


def undo(
    context: typer.Context,
    *,
    command: Annotated[
        str | None,
        typer.Argument(metavar="COMMAND-ID|POSITION", help="The command, or the log position of one of its events."),
    ] = None,
    last: Annotated[bool, typer.Option("--last", help="The newest command of yours that changed something.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Take back what a command did, all of it, or say what is in the way. `wireloom log --commands` shows the ids.

    What happened since to other things stays as it is. An undo is a command like any other, and can be undone.
    """
    if last == (command is not None):
        raise InvalidInputError(
            "That names two commands." if last else "Say which command to undo.",
            hint="Give its id or the position of one of its events, or --last.",
        )
    with opened(context, url, as_json, dry_run=dry_run) as session:
        command_id, position = _newest(session) if command is None else _meant(session, command)
        path = f"{_COMMANDS}/{command_id}"
        found = session.api.get(path, position=position)
        if not found["undo"]["possible"]:
            raise CannotUndoError(found["undo"]["detail"], hint=found["undo"]["hint"])
        _show_plan(session, found)
        session.agree("", yes)
        undone = session.api.change("POST", f"{path}/undo", position=found["events"][-1]["sequence"])
        if not undone and not dry_run:
            session.say("It is undone, but the gateway does not show it yet: look with wireloom log")
        elif undone:
            session.say(_done(session, undone))
        if as_json:
            session.json(undone)


def _meant(session: Session, text: str) -> tuple[str, int | None]:
    """The id of the command that is meant, and the position of one of its events where that was said."""
    if text.isdecimal():
        position = int(text)
        for event in session.api.get(EVENTS, after=max(0, position - 1), limit=1)["items"]:
            if event["sequence"] == position:
                return event["command_id"], position
        raise NotFoundError(
            f"There is no event at the position {position} of the log.", hint="Look with: wireloom log --commands"
        )
    if command_id := as_uuid(text):
        return command_id, None
    raise InvalidInputError(
        f"{text!r} is neither the id of a command nor a position of the log.",
        hint="Look with: wireloom log --commands",
        field="command",
    )


def _newest(session: Session) -> tuple[str, int]:
    for event in past_events(session.api, 1, None, {"actor": _me(session)}):
        return event["command_id"], event["sequence"]
    raise NotFoundError("You have not changed anything yet.", hint="Give a command's id: wireloom log --commands")


def _me(session: Session) -> str:
    try:
        return f"account:{session.api.get('/api/v1/session')['account']['name']}"
    except ConflictError:  # without authorisation there are no accounts
        return own_actor()


def _show_plan(session: Session, found: Json) -> None:
    if session.as_json:
        return
    session.say(f"What {found['actor']} did at {local_time(found['time'])} (command {found['command_id']}):")
    session.table(_sentences((str(event["sequence"]), event["text"]) for event in found["events"]))
    if session.api.is_dry:
        session.say("")  # what it is taken back by follows, with what that would do
    elif found["undo"]["events"]:
        session.say("is taken back by:")
        session.table(_sentences(("", event["text"]) for event in found["undo"]["events"]))


def _done(session: Session, undone: Json) -> str:
    text = f"Undone, by command {undone['command_id']}."
    if not undone["changed"]:
        return "There was nothing to take back."
    back = session.api.get(f"{_COMMANDS}/{undone['command_id']}", position=undone["log_sequence"])["undo"]
    return f"{text} To take that back: wireloom undo {undone['log_sequence']}" if back["possible"] else text


def _sentences(rows: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(justify="right", min_width=5, no_wrap=True)
    table.add_column(overflow="fold")
    for position, text in rows:
        table.add_row(position, one_line(text))
    return table
