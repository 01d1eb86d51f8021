"""`wireloom bgp …`: how machines speak BGP, and what they know by it."""

from __future__ import annotations

from enum import StrEnum
from itertools import islice
from typing import Annotated

import typer

from services.cli.api import Api, Json
from services.cli.bgp_tables import network_bgp_table, reflectors_table, rib_table, sessions_table, speaker_text
from services.cli.lookup import MACHINES, NETWORKS, machine_named, network_named
from services.cli.session import AsJson, Url, opened

app = typer.Typer(no_args_is_help=True, help="BGP between the machines: reflectors, sessions, routes.")

Network = Annotated[str, typer.Argument(metavar="NETWORK", help="A network's name or uuid.")]


class State(StrEnum):
    """A session's state (RFC 4271, section 8.2.2)."""

    IDLE = "idle"
    CONNECT = "connect"
    ACTIVE = "active"
    OPENSENT = "opensent"
    OPENCONFIRM = "openconfirm"
    ESTABLISHED = "established"


@app.command()
def status(context: typer.Context, network: Network, url: Url = None, as_json: AsJson = False) -> None:
    """Show how a network's machines speak BGP: their reflectors, and how many sessions there are and would be."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = session.api.get(f"{NETWORKS}/{network_named(session.api, network)['uuid']}/bgp")
        if as_json:
            session.json(found)
            return
        session.table(network_bgp_table(found))
        if found["reflectors"]:
            session.say("")
            session.table(reflectors_table(found["reflectors"]))
        if found["stage"] == "switching" and not session.is_past:
            session.say("")
            session.say(f"Which sessions are not established yet: wireloom bgp sessions {found['mesh_network_name']}")
        if found["recommendation"]:
            session.say("")
            session.say(found["recommendation"])


@app.command()
def sessions(
    context: typer.Context,
    *,
    network: Network,
    machine: Annotated[
        str | None,
        typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="Only this machine's, as it finds them."),
    ] = None,
    state: Annotated[State | None, typer.Option("--state", help="Only those in this state.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, metavar="N", help="At most so many.")] = 500,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List a network's BGP sessions."""
    with opened(context, url, as_json, looks_back=True) as session:
        where = f"{NETWORKS}/{network_named(session.api, network)['uuid']}/bgp/sessions"
        of = machine_named(session.api, machine)["uuid"] if machine is not None else None
        pages = session.api.pages(where, machine=of, state=state.value if state else None)
        found = list(islice((item for page in pages for item in page["items"]), limit + 1))
        shown, is_cut = found[:limit], len(found) > limit
        if as_json:
            session.json({"items": shown, "is_complete": not is_cut})
        elif shown:
            session.table(sessions_table(shown, session.wide))
            if is_cut:
                session.say(
                    f"There are more. Look at one machine's with --machine, or at more than {limit:,} with --limit."
                )
        else:
            session.none("There are no such sessions. Whose speaker is off, and why: wireloom bgp speaker MACHINE")


@app.command()
def speaker(
    context: typer.Context,
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A hostname or uuid.")],
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Show a machine's BGP speaker: whether it runs, what it announces, and its virtual IPs' health."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = session.api.get(f"{MACHINES}/{machine_named(session.api, machine)['uuid']}/bgp")
        if as_json:
            session.json(found)
            return
        for each in found["items"]:
            session.out.print(speaker_text(each), soft_wrap=True)
            for prefix in each["announced"]:
                session.say(f"  announces {prefix}")
            for vip in each["vips"]:
                health = (
                    "healthy" if vip["healthy"] else f"not healthy: {vip['reason'] or 'no check has succeeded yet'}"
                )
                session.say(f"  virtual IP {vip['name'] or vip['uuid']} is {health}")
        if not found["items"]:
            session.none("It is in no network. Assign it to one with `wireloom machine assign`.", "It was in none.")


@app.command()
def rib(
    context: typer.Context,
    *,
    machine: Annotated[str, typer.Argument(metavar="MACHINE", help="A hostname or uuid.")],
    network: Annotated[
        str | None,
        typer.Option("--network", "-n", metavar="NAME|UUID", help="In this network.", show_default="all it is in"),
    ] = None,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """List the routes that a machine's BGP speaker knows. A star marks those in use."""
    with opened(context, url, as_json, looks_back=True) as session:
        ribs = _ribs(session.api, machine, network)
        if as_json:
            session.json({"items": ribs, "total": len(ribs)})
            return
        for number, found in enumerate(ribs):
            if number:
                session.say("")
            session.say(f"{found['mesh_network_name']}: {_count(found)}")
            if found["routes"]:
                session.table(rib_table(found["routes"], session.wide))


def _ribs(api: Api, machine: str, network: str | None) -> list[Json]:
    """The routes of a machine, for each network that is meant."""
    found = machine_named(api, machine)
    networks = {place["mesh_network_uuid"]: place["mesh_network_name"] for place in found["memberships"]}
    if network is not None:
        only = network_named(api, network)
        networks = {only["uuid"]: only["name"]}
    ribs = []
    for uuid, name in networks.items():
        pages = list(api.pages(f"{MACHINES}/{found['uuid']}/mesh-networks/{uuid}/rib"))
        routes = [route for page in pages for route in page["items"]]
        ribs.append(
            {"mesh_network_uuid": uuid, "mesh_network_name": name, "routes": routes, "total": pages[0]["total"]}
        )
    return ribs


def _count(found: Json) -> str:
    shown, total = len(found["routes"]), found["total"]
    if not total:
        return "no routes"
    routes = "1 route" if total == 1 else f"{total:,} routes"
    return routes if shown == total else f"{routes}, of which the machine reports {shown:,}"
