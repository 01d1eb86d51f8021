"""`wireloom ledger`: who held an address, from when to when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from services.cli.api import Api, Json
from services.cli.former import machine_ever, network_ever
from services.cli.moments import look_at
from services.cli.session import AsJson, Url, opened
from services.cli.tables import local_time, plain_table, short_actor

LEDGER = "/api/v1/ledger"

_PAGE = 1000


def ledger(
    context: typer.Context,
    *,
    address: Annotated[
        str | None, typer.Option("--address", "-a", metavar="ADDRESS", help="Only who held this address.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", "-n", metavar="NAME|UUID", help="Only in this network.")
    ] = None,
    machine: Annotated[
        str | None, typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="Only this machine's.")
    ] = None,
    at: Annotated[
        str | None,
        typer.Option("--at", metavar="MOMENT", help='Only who held it then: a time, a log position, "2 hours ago".'),
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 100,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show who held which address, from when to when, also in networks and of machines that are no more.

    Who was 172.16.0.9 on 3 May at 14:02: wireloom ledger --address 172.16.0.9 --at 2026-05-03T14:02
    """
    look_at(context, at)
    with opened(context, url, as_json, looks_back=True) as session:
        asked: Json = {
            "address": address,
            "network": network_ever(session, network) if network is not None else None,
            "machine": machine_ever(session, machine) if machine is not None else None,
        }
        entries, more, last = _entries(session.api, limit, asked)
        if as_json:
            session.json({"items": entries, "more": more, "last_sequence": last})
        elif entries:
            session.table(ledger_table(entries, wide=session.wide, roomy=session.roomy))
            if more:
                session.say(f"There are more: give --limit above {limit:,}, or say which you mean.")
        else:
            what = "that" if any(asked.values()) else "an address"
            session.none(f"Nobody ever held {what}.", f"Nobody held {what} then.")


def ledger_table(entries: Iterable[Json], *, wide: bool, roomy: bool) -> Table:
    """Who held what, from when to when; wide, also who gave it and who took it, below the times or beside them."""
    more = ("Given by", "Ended by") if roomy else ()
    table = plain_table("Address", "Machine", "Network", "From", "Until", *more)
    for column in (table.columns[0], *table.columns[3:5]):
        column.no_wrap = True
    for entry in entries:
        ended = entry["ended"]
        since = Text(local_time(entry["held_from"]))
        until = Text(local_time(entry["held_until"])) if ended else Text("still", style="green")
        actors = (short_actor(entry["began"]["actor"]), short_actor(ended["actor"]) if ended else "")
        if wide and not roomy:
            for time, actor in zip((since, until), actors, strict=True):
                time.append(f"\nby {actor}" if actor else "", style="dim")
        table.add_row(
            entry["wg_ip_address"],
            _then(entry["hostname"], entry["hostname_now"]),
            _then(entry["mesh_network_name"], entry["mesh_network_name_now"]),
            since,
            until,
            *(actors if roomy else ()),
        )
    return table


def _entries(api: Api, limit: int, asked: Json) -> tuple[list[Json], bool, int]:
    """Up to `limit` entries, whether there are more, and up to which log position that is true."""
    entries: list[Json] = []
    following: str | None = None
    while True:
        page = api.get(LEDGER, limit=min(_PAGE, limit - len(entries)), after=following, **asked)
        entries += page["items"]
        following = page["next"]
        if following is None or len(entries) == limit:
            return entries, following is not None, page["last_sequence"]


def _then(name: str, now: str | None) -> Text:
    """A name as it was, and what became of it."""
    if now == name:
        return Text(name)
    return Text(name).append(" (deleted)" if now is None else f" (now {now})", style="dim")
