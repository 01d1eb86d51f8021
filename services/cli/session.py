"""What every client command works with: the API, and where its answers go."""

from __future__ import annotations

import getpass
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any

import httpx2
import typer
from rich.console import Console, ConsoleOptions, RenderableType
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.segment import Segment
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from events.errors import NotFoundError
from services.cli import credentials
from services.cli.api import Api
from services.cli.dry_runs import show_dry_run
from services.cli.harmless import harmless, json_text
from services.cli.moments import AT_HEADER, SINCE_HEADER, as_of, incomplete, moment_of, no_past, of_then

DEFAULT_URL = credentials.DEFAULT_URL
WIDE = 100
ROOMY = 140
"""From this many columns on, tables show the uuids too."""

_UNBOUNDED = 4096

Url = Annotated[
    str | None,
    typer.Option(
        "--url",
        envvar="WIRELOOM_URL",
        help="Where the gateway is.",
        metavar="URL",
        show_default=f"where you are signed in, else {credentials.DEFAULT_URL}",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print the API's JSON, for programs.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Change nothing: show the events that there would be, and what they would do.")
]


@dataclass(frozen=True)
class Surroundings:
    """What the commands reach outside with. Tests hand in others, as the context's object."""

    transport: httpx2.BaseTransport | None = None
    pause: Callable[[float], None] = time.sleep
    interactive: Callable[[], bool] = lambda: sys.stdin.isatty() and sys.stderr.isatty()
    ask_secret: Callable[[str], str] = getpass.getpass


class Session:
    """One command's conversation: with the gateway through `api`, with the person through `out` and `err`."""

    def __init__(self, api: Api, as_json: bool, surroundings: Surroundings, is_past: bool = False) -> None:
        self.api = api
        self.as_json = as_json
        self.is_past = is_past
        self.out = console()
        self.err = console(stderr=True)
        self.pause = surroundings.pause
        self.interactive = surroundings.interactive

    @property
    def wide(self) -> bool:
        """Whether a table has room for more than the essential columns."""
        return self.out.width >= WIDE

    @property
    def roomy(self) -> bool:
        """Whether a table has room for ids, or for who did it, in columns of their own."""
        return self.out.width >= ROOMY

    @property
    def is_tried(self) -> bool:
        """Whether a change was tried: then nothing was done that one could tell of, or wait for."""
        return bool(self.api.tried)

    def json(self, document: Any) -> None:
        """Print one JSON document; in a dry run it has the last word (`services.cli.dry_runs`)."""
        if not self.api.is_dry:
            typer.echo(json_text(document, indent=True))

    def say(self, text: str) -> None:
        """Print a sentence about what was done; nothing where the answer is JSON, or where a change was only tried."""
        if not self.as_json and not self.is_tried:
            self.out.print(text, soft_wrap=True)

    def none(self, text: str, then: str = "There were none then.") -> None:
        """Say that there is nothing, and what to do; of the past, only that there was nothing."""
        self.say(then if self.is_past else text)

    def table(self, table: Table | Tree) -> None:
        """Print a table or tree: within the terminal's width, or piped as wide as it is, without padding at the line
        ends."""
        if self.out.is_terminal:
            self.out.print(table)
            return
        with self.out.capture() as captured:
            self.out.print(table)
        typer.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))

    def agree(self, consequence: str, yes: bool) -> None:
        """Before a dangerous change: ask, if somebody is there to answer and did not say `--yes`.

        Ends the program with exit code 1 if the answer is no.
        """
        if yes or self.as_json or self.api.is_dry or not self.interactive():
            return
        self.err.print(consequence, soft_wrap=True)
        if not typer.confirm("Go on?", err=True):
            self.err.print("Nothing was changed.")
            raise typer.Exit(1)

    @contextmanager
    def working(self, what: str) -> Iterator[Callable[[str], None]]:
        """Shows on a terminal that long work goes on; the value changes what is said about it."""
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=self.err, transient=True, disable=not self.err.is_terminal) as progress:
            task = progress.add_task(what)
            yield lambda text: progress.update(task, description=text)


@contextmanager
def opened(
    context: typer.Context, url: str | None, as_json: bool, *, looks_back: bool = False, dry_run: bool = False
) -> Iterator[Session]:
    """The session of one command, with the gateway and the token that are meant (`credentials.chosen`).

    One that `looks_back` shows the moment that `--at` names. Any other refuses it with `InvalidInputError`. In a
    `dry_run` the changes that the command asks for are only tried, and what they would do is shown at its end.
    """
    if moment_of(context) is not None and not looks_back:
        raise no_past(context.command_path)
    with opened_as(credentials.chosen(url), context, as_json) as session:
        session.api.is_dry = dry_run
        with _then(session):
            yield session
        if dry_run:
            show_dry_run(session.api.tried, session.out, session.table, as_json=as_json)


@contextmanager
def _then(session: Session) -> Iterator[None]:
    try:
        yield
    except NotFoundError as error:
        if session.is_past:
            of_then(error)
        raise


@contextmanager
def opened_as(login: credentials.Login, context: typer.Context, as_json: bool) -> Iterator[Session]:
    """A session with this gateway and token."""
    around, at = surroundings(context), moment_of(context)
    reached = around.transport, around.pause
    told = _teller(as_json)
    with Api(login.url, actor(_user()), *reached, token=login.token, ca=login.ca, at=at, answered=told) as api:
        yield Session(api, as_json, around, is_past=at is not None)


def _teller(as_json: bool) -> Callable[[httpx2.Headers], None]:
    """Says once, before all else, of which moment the answers are; and where not all is known, that too."""
    unsaid = {} if as_json else {AT_HEADER: as_of, SINCE_HEADER: incomplete}

    def tell(headers: httpx2.Headers) -> None:
        for name in [name for name in unsaid if name in headers]:
            console().print(Text(unsaid.pop(name)(headers[name]), style="dim"), soft_wrap=True)

    return tell


def surroundings(context: typer.Context) -> Surroundings:
    """What a command reaches outside with."""
    around: Surroundings = context.obj or Surroundings()
    return around


def actor(user: str) -> str:
    """Who gives the commands, as events name it: printable ASCII without spaces."""
    return "cli:" + "".join(c if "!" <= c <= "~" else "_" for c in user)[:190]


def own_actor() -> str:
    """Who gives the commands where there is no authorisation."""
    return actor(_user())


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user has no name
        return f"uid-{os.getuid()}"


class _Console(Console):
    """Prints what it is told, less what a terminal would obey (`services.cli.harmless`)."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for text, style, control in super().render(renderable, options):
            yield Segment(text if control else harmless(text), style, control)


def console(stderr: bool = False) -> Console:
    """A console that prints what it is told and nothing else; piped, it does not wrap at a width that nobody has."""
    stream = sys.stderr if stderr else sys.stdout
    bounded = stream.isatty() or "COLUMNS" in os.environ
    return _Console(stderr=stderr, highlight=False, markup=False, emoji=False, width=None if bounded else _UNBOUNDED)
