"""`wireloom route …`: what lies behind machines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from events.errors import InvalidInputError
from services.cli.api import Api, Json
from services.cli.lookup import hostnames, item_named, machine_named, machines_named
from services.cli.route_tables import route_table, routes_table
from services.cli.session import AsJson, DryRun, Url, Yes, opened

ROUTES = "/api/v1/routes"

app = typer.Typer(no_args_is_help=True, help="Routes: prefixes that lie behind machines, announced with BGP.")

Name = Annotated[str, typer.Argument(metavar="NAME|UUID", help="The route.")]
Machines = Annotated[
    list[str] | None,
    typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="A machine; several times, or with commas between."),
]
NoMachines = Annotated[bool, typer.Option("--no-machines", help="Tie it to no machine.")]
OfMachine = Annotated[
    str | None, typer.Option("--machine", "-m", metavar="HOSTNAME|UUID", help="Only those of this machine.")
]
Disabled = Annotated[bool, typer.Option("--disabled", help="Do not announce it yet.")]
Enable = Annotated[bool | None, typer.Option("--enable/--disable", help="Announce it, or no more.")]
NewName = Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name from now on.")]


@app.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other route has.")],
    prefixes: Annotated[list[str], typer.Argument(metavar="PREFIX...", help="What lies there: 10.20.0.0/16.")],
    machines: Machines = None,
    disabled: Disabled = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a route: its machines announce its prefixes in every network that they are in."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        chosen = chosen_machines(session.api, machines)
        body = {"name": name, "enabled": not disabled, "prefixes": prefixes, "machine_uuids": uuids_of(chosen)}
        made = session.api.change("POST", ROUTES, body)
        behind = ", ".join(machine["hostname"] for machine in chosen) or "no machine yet"
        session.say(f"Created route {name}: {', '.join(prefixes)} behind {behind}.")
        if as_json:
            session.json(made)


@app.command("list")
def list_routes(context: typer.Context, *, machine: OfMachine = None, url: Url = None, as_json: AsJson = False) -> None:
    """List the routes."""
    with opened(context, url, as_json, looks_back=True) as session:
        uuid = machine_named(session.api, machine)["uuid"] if machine else None
        routes = session.api.all(ROUTES, machine_uuid=uuid)
        if as_json:
            session.json({"items": routes, "total": len(routes)})
        elif routes:
            session.table(routes_table(routes, machine_names(session.api, routes), session.wide))
        else:
            session.none(
                "There are no such routes. Create one: wireloom route create office 10.20.0.0/16 --machine gate-1"
            )


@app.command()
def show(context: typer.Context, route: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show a route."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = _route_named(session.api, route)
        if as_json:
            session.json(found)
        else:
            session.table(route_table(found, machine_names(session.api, [found])))


@app.command()
def update(
    context: typer.Context,
    *,
    route: Name,
    name: NewName = None,
    prefixes: Annotated[
        list[str] | None,
        typer.Option("--prefix", metavar="PREFIX", help="A prefix; several times. In place of those that it has."),
    ] = None,
    machines: Machines = None,
    no_machines: NoMachines = False,
    enable: Enable = None,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change a route. What is not named stays as it is; machines and prefixes take the place of those that it has."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        body: Json = {} if name is None else {"name": name}
        body |= {"prefixes": separated(prefixes)} if prefixes else {}
        body |= changes(session.api, machines, no_machines, enable)
        require_change(body)
        found = _route_named(session.api, route)
        changed = session.api.change("PATCH", f"{ROUTES}/{found['uuid']}", body)
        session.say(f"Changed route {name or found['name']}.")
        if as_json:
            session.json(changed)


@app.command()
def delete(
    context: typer.Context,
    *,
    route: Name,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a route."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = _route_named(session.api, route)
        if found["enabled"] and found["machine_uuids"]:
            session.agree(f"Nobody will reach {', '.join(found['prefixes'])} through the mesh any more.", yes)
        session.api.change("DELETE", f"{ROUTES}/{found['uuid']}")
        session.say(f"Deleted route {found['name']}.")
        if as_json:
            session.json(found)


def separated(texts: Sequence[str] | None) -> list[str]:
    """What was given several times or with commas between, one by one."""
    return [part for text in texts or () for part in text.split(",") if part]


def chosen_machines(api: Api, texts: Sequence[str] | None) -> list[Json]:
    """The machines that were named, in their order. Raises `NotFoundError`, `InvalidInputError`."""
    parts = separated(texts)
    return machines_named(api, parts) if parts else []


def uuids_of(items: Sequence[Json]) -> list[str]:
    """Their uuids."""
    return [item["uuid"] for item in items]


def changes(api: Api, machines: Sequence[str] | None, no_machines: bool, enable: bool | None) -> Json:
    """What a route's and a virtual IP's `update` have in common, as the API takes it. Raises `InvalidInputError`."""
    if machines and no_machines:
        raise InvalidInputError("Both --machine and --no-machines were given.", hint="Give one of them.")
    body: Json = {} if enable is None else {"enabled": enable}
    if machines or no_machines:
        body["machine_uuids"] = uuids_of(chosen_machines(api, machines))
    return body


def require_change(body: Json) -> None:
    """That something is to change. Raises `InvalidInputError`."""
    if not body:
        raise InvalidInputError("Nothing was named that is to change.", hint="See --help for what can be.")


def machine_names(api: Api, items: Sequence[Json]) -> dict[str, str]:
    """The hostnames of all machines that the items name, by uuid."""
    return hostnames(api, (uuid for item in items for uuid in item["machine_uuids"]))


def _route_named(api: Api, text: str) -> Json:
    return item_named(api, ROUTES, text, "route", "wireloom route list")
