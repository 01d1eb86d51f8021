"""`wireloom network status`: how far a network's machines have applied what was decided."""

from __future__ import annotations

from collections.abc import Iterable

import typer
from rich.table import Table
from rich.text import Text

from services.cli.api import Json
from services.cli.lookup import NETWORKS, network_named
from services.cli.networks import Name, machines_text
from services.cli.session import AsJson, Url, opened
from services.cli.tables import local_time, plain_table, settings_table

_SHOWN_CHANGES = 10
_SHOWN_LAGGARDS = 50


def network_status(context: typer.Context, network: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show how far a network's machines have applied what was decided: who lags, since when, and how soon the last
    changes were applied."""
    with opened(context, url, as_json) as session:
        found = network_named(session.api, network)
        status = session.api.get(f"{NETWORKS}/{found['uuid']}/status")
        if as_json:
            session.json(status)
            return
        session.table(status_table(found["name"], status))
        if status["changes"]:
            session.say("")
            session.table(changes_table(status["changes"][:_SHOWN_CHANGES]))
        if status["lagging"]:
            session.say("")
            session.table(laggards_table(status["lagging"][:_SHOWN_LAGGARDS], status["revision"]))
            if (more := status["lagging_count"] - _SHOWN_LAGGARDS) > 0:
                session.say(f"and {machines_text(more)} more")


def status_table(name: str, status: Json) -> Table:
    """How the network stands, one thing a line."""
    rows: list[tuple[str, str | Text]] = [
        ("Network", name),
        ("Revision", f"{status['revision']:,}" + _since(status["changed_at"], ", since ")),
        ("Machines", f"{status['machine_count']:,}, {status['online_count']:,} online"),
        ("Up to date", _up_to_date(status)),
        ("Convergence", _convergence(status)),
    ]
    behind = [each for each in status["revisions"] if each["revision"] < status["revision"]]
    if behind:
        told = [f"{machines_text(each['machine_count'])} at {each['revision']:,}" for each in behind[:5]]
        rows.append(("Behind", ", ".join(told) + (", …" if len(behind) > len(told) else "")))
    return settings_table(*rows)


def changes_table(changes: Iterable[Json]) -> Table:
    """The last changes, and how soon they were applied."""
    table = plain_table("Last changes", "Decided", right=("Machines", "Half after", "99 % after"))
    for change in changes:
        table.add_row(
            f"revision {change['revision']:,}",
            local_time(change["decided_at"]),
            f"{change['machine_count']:,}",
            seconds_text(change["p50_seconds"]),
            seconds_text(change["p99_seconds"]),
        )
    return table


def laggards_table(laggards: Iterable[Json], revision: int) -> Table:
    """The machines that have not applied everything."""
    table = plain_table("Not up to date", "Status", "Lags since", right=("Behind",))
    for each in laggards:
        known = each["revision"] is not None
        table.add_row(
            each["hostname"],
            Text("online", style="green") if each["is_online"] else _last_seen(each),
            _since(each["since"]) or "not known",
            f"{revision - each['revision']:,}" if known else "not known",
        )
    return table


def seconds_text(seconds: float | None) -> str:
    """A time from a decision until it was applied."""
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _up_to_date(status: Json) -> Text:
    count, total = status["up_to_date_count"], status["machine_count"]
    text = f"{count:,} of {total:,}"
    lagging = sum(each["is_online"] for each in status["lagging"])
    if lagging:
        return Text(f"{text}; {lagging:,} online {'lags' if lagging == 1 else 'lag'}", style="yellow")
    return Text(text, style="green" if count == total else "")


def _convergence(status: Json) -> str:
    if status["p50_seconds"] is None:
        return "not known: no machine has acknowledged a change since the gateway started"
    changes = len(status["changes"])
    told = "the last change" if changes == 1 else f"the last {changes} changes"
    return f"p50 {seconds_text(status['p50_seconds'])}, p99 {seconds_text(status['p99_seconds'])}, over {told}"


def _last_seen(each: Json) -> Text:
    return Text("offline" + _since(each["last_seen_at"], ", seen "), style="dim")


def _since(moment: str | None, before: str = "") -> str:
    return before + local_time(moment) if moment else ""
