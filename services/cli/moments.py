"""`wireloom --at`: which moment a command shows. Pure but for the local time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo
from itertools import takewhile
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from events.errors import InvalidInputError, NotFoundError
from events.instants import parse_instant
from services.cli.tables import local_time

AT_HEADER = "X-Wireloom-At"
"""What the gateway says an answer is of: the log's position, and the time."""

SINCE_HEADER = "X-Wireloom-Reports-Since"
"""On answers about a moment of which not all is known that machines had reported: since when it is."""

LOOKING_BACK = ("network", "machine", "path", "bgp", "route", "vip", "policy", "ledger", "why")
"""The commands that show a past, or have commands that do; those that do not refuse for themselves."""

_KEY = "services.cli.moments"
_WHO = "What looks back: list and show of network, machine, route, vip and policy; path, bgp, ledger, why, network "
_HINT = f"Leave --at out. {_WHO}reflectors and machine gateway."
_HINTS = {
    "wireloom log": "Give --since and --until instead.",
    "wireloom diff": "Give the two moments behind it: wireloom diff A B",
}

At = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="MOMENT",
        help="Show what was then: at a position of the log, a time (of your time zone, if it names none), or so long "
        'ago. For list, show, path, bgp and why: wireloom --at "2 hours ago" network show office',
    ),
]


class Command(TyperCommand):
    """A command that knows where `--at` stands: before it, unless it has one of its own."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """As every command does. Raises `InvalidInputError` for `--at` behind a command that has none."""
        own = any("--at" in option.opts for option in self.params)
        given = (each for each in takewhile(lambda each: each != "--", args) if each.partition("=")[0] == "--at")
        if not own and any(given):
            program, _, command = ctx.command_path.partition(" ")
            raise InvalidInputError(
                "--at stands before the command.", hint=f"Write: {program} --at MOMENT {command} …", field="at"
            )
        return super().parse_args(ctx, args)


class LocalZone(tzinfo):
    """The time zone of this computer, which may have summer time."""

    def utcoffset(self, when: datetime | None) -> timedelta | None:
        """How far it is ahead of UTC at a time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().utcoffset()

    def dst(self, when: datetime | None) -> timedelta | None:
        """Not told apart."""
        return None

    def tzname(self, when: datetime | None) -> str | None:
        """Its name at a time."""
        return None if when is None else when.replace(tzinfo=None).astimezone().tzname()


def look_back(context: typer.Context, at: str | None) -> None:
    """Note for all commands which moment is meant. Raises `InvalidInputError`."""
    if at is None:
        return
    if context.invoked_subcommand not in LOOKING_BACK:
        raise no_past(f"{context.command_path} {context.invoked_subcommand}")
    context.meta[_KEY] = sent(at, datetime.now(UTC))


def look_at(context: typer.Context, at: str | None) -> None:
    """As `look_back`, for a command that has the option itself."""
    if at is not None:
        context.meta[_KEY] = sent(at, datetime.now(UTC))


def sent(at: str, now: datetime) -> str:
    """A moment as the gateway is asked for it: all requests of a command mean the same. Raises `InvalidInputError`."""
    instant = parse_instant(at, now, LocalZone())
    if instant.time is None:
        return str(instant.position)
    return instant.time.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def sent_time(text: str, now: datetime) -> str:
    """A time as the gateway is asked for it, which may be to come. Raises `InvalidInputError`."""
    if text.strip().isdigit():
        raise InvalidInputError(f"{text} is no time.", field="time")
    try:
        return sent(text, now)
    except InvalidInputError:
        return _to_come(text)


def _to_come(text: str) -> str:
    try:
        time = datetime.fromisoformat(text.strip())
        time = time.replace(tzinfo=LocalZone()) if time.tzinfo is None else time
        return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        raise InvalidInputError(f"{text!r} is no time.", field="time") from None


def moment_of(context: typer.Context) -> str | None:
    """The moment that a command is to show, as the gateway is asked for it; None for the present."""
    moment: str | None = context.meta.get(_KEY)
    return moment


def no_past(command: str) -> InvalidInputError:
    """The refusal of `--at` by a command without a past."""
    return InvalidInputError(f"`{command}` does not look back: it takes no --at.", hint=_HINTS.get(command, _HINT))


def of_then(error: NotFoundError) -> None:
    """Have an error say that what was not found may be there at another moment, or under another name."""
    if error.detail.startswith("The log ends at"):  # it is the moment that was not found
        return
    error.hint = f"{error.hint} With --at, names are those of that moment.".strip()


def as_of(header: str) -> str:
    """The moment that an answer is of, in words."""
    position, _, time = header.partition(" ")
    return f"As of {local_time(time) if time else 'the beginning'} (log position {position})"


def incomplete(header: str) -> str:
    """That not all is known that machines had reported, in words."""
    return f"What machines reported is known since {local_time(header)} only: of before, some paths are not known."
