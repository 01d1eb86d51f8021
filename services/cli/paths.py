"""`wireloom path`: how one machine reaches another, and why so."""

from __future__ import annotations

from typing import Annotated

import typer

from events.errors import NotFoundError
from services.cli.api import Api, Json
from services.cli.lookup import NETWORKS, machine_named, network_named
from services.cli.path_tables import how, path_events_table, reports_table, title
from services.cli.session import AsJson, Session, Url, opened


def path(
    context: typer.Context,
    *,
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="From here: a hostname or uuid.")],
    peer: Annotated[str, typer.Argument(metavar="PEER", help="To there: a hostname or uuid.")],
    network: Annotated[
        str | None,
        typer.Option("--network", "-n", metavar="NAME|UUID", help="In this network.", show_default="all they share"),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Explain how a machine reaches another: directly or through whom, what was tried, and what led to it."""
    with opened(context, url, as_json, looks_back=True) as session:
        paths = _paths(session.api, machine, peer, network)
        if as_json:
            session.json({"items": paths, "total": len(paths)})
            return
        for number, found in enumerate(paths):
            if number:
                session.say("")
            _show(session, found)


def _paths(api: Api, machine: str, peer: str, network: str | None) -> list[Json]:
    """The paths from one machine to the other, in each network that is meant. Raises `NotFoundError`."""
    one, other = machine_named(api, machine), machine_named(api, peer)
    if network is not None:
        shared = [network_named(api, network)["uuid"]]
    else:
        there = {place["mesh_network_uuid"] for place in other["memberships"]}
        places = [place["mesh_network_uuid"] for place in one["memberships"]]
        shared = [uuid for uuid in places if uuid in there]
    if not shared:
        raise NotFoundError(
            f"{one['hostname']} and {other['hostname']} have no network in common.",
            hint="Machines reach each other in networks: assign both to one with `wireloom machine assign`.",
        )
    return [api.get(f"{NETWORKS}/{uuid}/paths/{one['uuid']}/{other['uuid']}") for uuid in shared]


def _show(session: Session, found: Json) -> None:
    for text in (title(found), how(found)):
        session.out.print(text, soft_wrap=not session.out.is_terminal)
    if found["reports"]:
        session.say("")
        session.table(reports_table(found, session.wide))
    if found["events"]:
        session.say("")
        session.table(path_events_table(found["events"]))
