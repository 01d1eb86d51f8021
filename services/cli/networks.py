"""`wireloom network …`: mesh networks."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Network
from typing import Annotated

import typer

from events.cidr import capacity
from events.errors import InvalidInputError
from services.cli.api import Json
from services.cli.lookup import NETWORKS, network_named
from services.cli.session import AsJson, DryRun, Session, Url, Yes, opened
from services.cli.tables import STAR, members_table, network_table, networks_table

app = typer.Typer(no_args_is_help=True, help="Mesh networks: create, look at, change and delete them.")

Name = Annotated[str, typer.Argument(metavar="NAME|UUID", help="The network.")]


class Switch(StrEnum):
    """A mode's two states."""

    ON = "on"
    OFF = "off"


@app.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other network has.")],
    cidr: Annotated[
        str, typer.Argument(metavar="CIDR", help="Its private range, such as 172.16.0.0/24; fixed for good.")
    ],
    default: Annotated[bool, typer.Option("--default", help="Make it the default network.")] = False,
    route_reflector: Annotated[
        bool, typer.Option("--route-reflector", help="Turn on route reflector mode, for more than 100 machines.")
    ] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a network."""
    body = {"name": name, "network_cidr": cidr, "is_default": default, "route_reflector_mode": route_reflector}
    with opened(context, url, as_json, dry_run=dry_run) as session:
        network = session.api.change("POST", NETWORKS, body)
        room = machines_text(capacity(IPv4Network(cidr)))
        _show_change(session, network, f"Created network {name} with {cidr}: room for {room}.")


@app.command("list")
def list_networks(context: typer.Context, url: Url = None, as_json: AsJson = False) -> None:
    """List the networks. A star marks the default one, RR route reflector mode; ⇄ that it is being switched."""
    with opened(context, url, as_json, looks_back=True) as session:
        networks = session.api.all(NETWORKS)
        if as_json:
            session.json({"items": networks, "total": len(networks)})
        elif networks:
            session.table(networks_table(networks, session.wide))
            for network in networks:
                if network["recommendation"]:
                    session.say(f"{network['name']}: {network['recommendation']}")
        else:
            session.none("There are no networks yet. Create one: wireloom network create office 172.16.0.0/24")


@app.command()
def show(context: typer.Context, network: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show a network: its settings, and the machines in it."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = network_named(session.api, network)
        machines = session.api.all(f"{NETWORKS}/{found['uuid']}/machines")
        if as_json:
            session.json(found | {"machines": machines})
            return
        session.table(network_table(found))
        if found["recommendation"]:
            session.say("")
            session.say(found["recommendation"])
        if machines:
            session.say("")
            session.table(members_table(found, machines, session.wide))


@app.command()
def rename(
    context: typer.Context,
    *,
    network: Name,
    name: Annotated[str, typer.Argument(metavar="NEW-NAME", help="Its name from now on.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Give a network another name."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = network_named(session.api, network)
        changed = session.api.change("PATCH", f"{NETWORKS}/{found['uuid']}", {"name": name})
        _show_change(session, changed, f"Network {found['name']} is now {name}.")


@app.command("set-default")
def set_default(
    context: typer.Context,
    *,
    network: Annotated[str | None, typer.Argument(metavar="[NAME|UUID]", help="The network.")] = None,
    none: Annotated[bool, typer.Option("--none", help="Have no default network.")] = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Make a network the default one, or with --none have no default."""
    if none == (network is not None):
        raise InvalidInputError("Say which network is the default.", hint="Give one network's name, or --none.")
    with opened(context, url, as_json, dry_run=dry_run) as session:
        if network is not None:
            found = network_named(session.api, network)
            changed = session.api.change("PATCH", f"{NETWORKS}/{found['uuid']}", {"is_default": True})
            _show_change(session, changed, f"{STAR} {found['name']} is the default network.")
            return
        defaults = [found for found in session.api.all(NETWORKS) if found["is_default"]]
        for found in defaults:
            changed = session.api.change("PATCH", f"{NETWORKS}/{found['uuid']}", {"is_default": False})
            _show_change(session, changed, f"There is no default network any more; it was {found['name']}.")
        if not defaults:
            session.say("There was no default network already.")
            if as_json:
                session.json({})


@app.command("set-route-reflector")
def set_route_reflector(
    context: typer.Context,
    *,
    network: Name,
    mode: Annotated[Switch, typer.Argument(help="On for networks of more than 100 machines.")],
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Turn a network's route reflector mode on or off."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = network_named(session.api, network)
        body = {"route_reflector_mode": mode is Switch.ON}
        changed = session.api.change("PATCH", f"{NETWORKS}/{found['uuid']}", body)
        _show_change(session, changed, f"Route reflector mode is {mode.value} in {found['name']}.")


@app.command()
def delete(
    context: typer.Context,
    *,
    network: Name,
    force: Annotated[bool, typer.Option("--force", help="Also if machines are in it: take them out.")] = False,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a network; with --force also one that machines are assigned to."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = network_named(session.api, network)
        count = found["machine_count"]
        if force and count:
            session.agree(
                f"This deletes network {found['name']} ({found['network_cidr']}) and takes {machines_text(count)} "
                "out of it: their tunnels and addresses in it go. `wireloom undo` brings it back, as long as its name "
                "and addresses are free.",
                yes,
            )
        session.api.change("DELETE", f"{NETWORKS}/{found['uuid']}", force="true" if force else None)
        session.say(f"Deleted network {found['name']}" + (f" with {machines_text(count)}." if count else "."))
        if as_json:
            session.json(found)


def machines_text(count: int) -> str:
    """A number of machines in words."""
    return f"{count:,} machine" if count == 1 else f"{count:,} machines"


def _show_change(session: Session, network: Json, text: str) -> None:
    session.say(text)
    if session.as_json:
        session.json(network)
