"""Why things are so, as trees for people. Pure: the API's objects in, Rich trees out."""

from __future__ import annotations

import re

from rich.text import Text
from rich.tree import Tree

from services.cli.api import Json
from services.cli.harmless import one_line
from services.cli.tables import SHORT, local_time

WIDE = 150
"""From so many columns on, records are named by their whole subjects."""

_UUID = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_STREAMS = {"LOG": "log", "REACH": "report", "BGP": "BGP report"}


def why_tree(step: Json, width: int) -> Tree:
    """A step, and below it what it follows from, for so many columns. What was told above is not told again."""
    tree = Tree(_told(step, width, is_root=True), guide_style="dim")
    _grow(tree, step, width, set())
    return tree


def _grow(tree: Tree, step: Json, width: int, told: set[str]) -> None:
    for cause in step["follows_from"]:
        if cause["what"] == "command":
            continue  # which stands with its event
        name = f"{cause['stream']} {cause['subject'] or cause['position']}"
        if cause["stream"] is not None and name in told:
            text = Text(one_line(cause["text"]))
            tree.add(text.append(f"\n{_where(cause)}as above", style="dim"))
            continue
        told.add(name)
        _grow(tree.add(_told(cause, width)), cause, width, told)


def _where(step: Json) -> str:
    return f"log {step['position']}, " if step["what"] == "event" else ""


def _told(step: Json, width: int, *, is_root: bool = False) -> Text:
    text = Text(one_line(step["text"]), style="bold" if is_root else "")
    if is_root and step["time"]:
        text.append(f", since {local_time(step['time'])}", style="not bold")
    for line in [] if is_root else _places(step, width):
        text.append("\n").append(line)
    return text


def _places(step: Json, width: int) -> list[Text]:
    """Where a step stands, and who is behind it, each a line."""
    when = local_time(step["time"]) if step["time"] else ""
    stands = f"{_STREAMS.get(step['stream'], '')} {step['position']}, {when}"
    match step["what"]:
        case "event":
            command = next((each for each in step["follows_from"] if each["what"] == "command"), None)
            return [_dim(stands), *_given(command)] if command is not None else [_dim(stands)]
        case "report":
            return [_dim(stands)]
        case "record":
            whole = f"record {step['subject']}"
            named = whole if width >= WIDE else _UUID.sub(lambda found: f"{found[1][:SHORT]}…", whole)
            return [_dim(named), *_caused(step, when)]
        case _:
            return [_dim(when)] if when else []


def _caused(record: Json, when: str) -> list[Text]:
    if record["revision"] is None:
        return [_dim("derived from the reports of then")]
    cause = "log" if record["stream"] == "STATE" else "report"
    return [_dim(f"revision {record['revision']}, from {cause} {record['position']}, {when}")]


def _given(command: Json) -> list[Text]:
    """The command, and who gave it."""
    actors = " and ".join(one_line(actor["text"]) for actor in command["follows_from"])
    return [_dim("by ").append(actors, style="not dim cyan"), _dim(f"command {command['uuids'][0]}")]


def _dim(text: str) -> Text:
    return Text(text, style="dim")
