"""The program's commands, each imported when it is wanted: to import them all takes longer than most of them do."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

import typer
from typer.core import TyperGroup
from typer.main import get_group

from services.cli import moments


class Part(NamedTuple):
    """A command, or a group of commands."""

    name: str
    panel: str
    """The part of the help that it stands in."""
    place: str
    """Where it is: a module beside this one, and the function or `Typer` in it."""
    further: tuple[tuple[str, str], ...] = ()
    """The group's commands that are elsewhere: name and place."""


def group_of(parts: Sequence[Part]) -> type[TyperGroup]:
    """A group of these, as a class for a `Typer`."""

    class Parts(TyperGroup):
        """Commands that are imported when they are looked up."""

        def __init__(self, **attributes: Any) -> None:
            super().__init__(**attributes)
            self.commands: Any = _Commands(parts)

    return Parts


class _Commands(Mapping[str, Any]):
    """Commands by name."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = {part.name: part for part in parts}

    def __getitem__(self, name: str) -> Any:
        return _command(self._parts[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)


@cache
def _command(part: Part) -> Any:
    holder, found = typer.Typer(pretty_exceptions_enable=False), _found(part.place)
    if isinstance(found, typer.Typer):
        for name, place in part.further:
            found.command(name)(_found(place))
        holder.add_typer(found, name=part.name, rich_help_panel=part.panel)
    else:
        holder.command(part.name, rich_help_panel=part.panel)(found)
    _prepare(holder)
    return get_group(holder).commands[part.name]


def _found(place: str) -> Any:
    module, _, name = place.partition(":")
    return getattr(import_module(f"services.cli.{module}"), name)


def _prepare(group: typer.Typer) -> None:
    """What all commands have: they know where `--at` stands, and each paragraph of their help wraps at the terminal's
    width, not where the docstring's lines end."""
    for command in group.registered_commands:
        text = inspect.cleandoc(command.help or (command.callback and command.callback.__doc__) or "")
        command.cls = moments.Command
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    for part in group.registered_groups:
        if part.typer_instance is not None:
            _prepare(part.typer_instance)
