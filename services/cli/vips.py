"""`wireloom vip …`: virtual IPs."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from services.cli.api import Api, Json
from services.cli.lookup import item_named, machine_named
from services.cli.route_tables import vip_table, vips_table
from services.cli.routes import (
    Disabled,
    Enable,
    Machines,
    NewName,
    NoMachines,
    OfMachine,
    changes,
    chosen_machines,
    machine_names,
    require_change,
    uuids_of,
)
from services.cli.session import AsJson, DryRun, Url, Yes, opened

VIPS = "/api/v1/vips"

app = typer.Typer(
    no_args_is_help=True, help="Virtual IPs: addresses that the first healthy one of several machines answers for."
)


class Check(StrEnum):
    """How a machine finds out whether it can answer."""

    NONE = "none"
    TCP = "tcp"
    HTTP = "http"
    HTTPS = "https"
    GRPC = "grpc"
    GRPCS = "grpcs"
    EXEC = "exec"


Name = Annotated[str, typer.Argument(metavar="NAME|UUID", help="The virtual IP.")]
CheckKind = Annotated[Check | None, typer.Option("--check", help="The kind of health check.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        metavar="TARGET",
        help="What is checked: a port (tcp), a path or URL (http, https), :port (grpc, grpcs), a program in the "
        "agent's folder of checks (exec).",
    ),
]
Interval = Annotated[int | None, typer.Option("--interval", metavar="SECONDS", help="Between two checks.")]
Timeout = Annotated[int | None, typer.Option("--timeout", metavar="SECONDS", help="For one check.")]
Healthy = Annotated[int | None, typer.Option("--healthy", metavar="N", help="Healthy after so many successes.")]
Unhealthy = Annotated[int | None, typer.Option("--unhealthy", metavar="N", help="Unhealthy after so many failures.")]
Holdoff = Annotated[int | None, typer.Option("--holdoff", metavar="SECONDS", help="Before the first check.")]


@app.command()
def create(
    context: typer.Context,
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name that no other virtual IP has.")],
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="Its address, outside of all mesh networks.")],
    machines: Machines = None,
    check: CheckKind = None,
    target: Target = None,
    interval: Interval = None,
    timeout: Timeout = None,
    healthy: Healthy = None,
    unhealthy: Unhealthy = None,
    holdoff: Holdoff = None,
    disabled: Disabled = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Create a virtual IP. The machines stand in order of preference: the first that is healthy answers for it."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        chosen = chosen_machines(session.api, machines)
        body = {"name": name, "address": address, "enabled": not disabled, "machine_uuids": uuids_of(chosen)}
        body |= _check(
            type=check,
            target=target,
            interval_seconds=interval,
            timeout_seconds=timeout,
            healthy_threshold=healthy,
            unhealthy_threshold=unhealthy,
            holdoff_seconds=holdoff,
        )
        made = session.api.change("POST", VIPS, body)
        on = ", then ".join(machine["hostname"] for machine in chosen) or "no machine yet"
        session.say(f"Created virtual IP {name}: {address} on {on}.")
        if as_json:
            session.json(made)


@app.command("list")
def list_vips(context: typer.Context, *, machine: OfMachine = None, url: Url = None, as_json: AsJson = False) -> None:
    """List the virtual IPs, each with its machines in order of preference."""
    with opened(context, url, as_json, looks_back=True) as session:
        uuid = machine_named(session.api, machine)["uuid"] if machine else None
        vips = session.api.all(VIPS, machine_uuid=uuid)
        if as_json:
            session.json({"items": vips, "total": len(vips)})
        elif vips:
            session.table(vips_table(vips, machine_names(session.api, vips), session.wide))
        else:
            session.none("There are no such virtual IPs. Create one: wireloom vip create web 203.0.113.10 -m db-1,db-2")


@app.command()
def show(context: typer.Context, vip: Name, url: Url = None, as_json: AsJson = False) -> None:
    """Show a virtual IP and its health check."""
    with opened(context, url, as_json, looks_back=True) as session:
        found = _vip_named(session.api, vip)
        if as_json:
            session.json(found)
        else:
            session.table(vip_table(found, machine_names(session.api, [found])))


@app.command()
def update(
    context: typer.Context,
    *,
    vip: Name,
    name: NewName = None,
    address: Annotated[str | None, typer.Option("--address", metavar="ADDRESS", help="Its address.")] = None,
    machines: Machines = None,
    no_machines: NoMachines = False,
    check: CheckKind = None,
    target: Target = None,
    interval: Interval = None,
    timeout: Timeout = None,
    healthy: Healthy = None,
    unhealthy: Unhealthy = None,
    holdoff: Holdoff = None,
    enable: Enable = None,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Change a virtual IP. What is not named stays as it is; machines take the place of those that it has."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        body: Json = {} if name is None else {"name": name}
        body |= {} if address is None else {"address": address}
        body |= changes(session.api, machines, no_machines, enable)
        body |= _check(
            type=check,
            target=target,
            interval_seconds=interval,
            timeout_seconds=timeout,
            healthy_threshold=healthy,
            unhealthy_threshold=unhealthy,
            holdoff_seconds=holdoff,
        )
        require_change(body)
        found = _vip_named(session.api, vip)
        changed = session.api.change("PATCH", f"{VIPS}/{found['uuid']}", body)
        session.say(f"Changed virtual IP {name or found['name']}.")
        if as_json:
            session.json(changed)


@app.command()
def delete(
    context: typer.Context,
    *,
    vip: Name,
    yes: Yes = False,
    dry_run: DryRun = False,
    url: Url = None,
    as_json: AsJson = False,
) -> None:
    """Delete a virtual IP."""
    with opened(context, url, as_json, dry_run=dry_run) as session:
        found = _vip_named(session.api, vip)
        if found["enabled"] and found["machine_uuids"]:
            session.agree(f"Nobody will answer at {found['address']} any more.", yes)
        session.api.change("DELETE", f"{VIPS}/{found['uuid']}")
        session.say(f"Deleted virtual IP {found['name']}.")
        if as_json:
            session.json(found)


def _check(**given: str | int | None) -> Json:
    """The fields of the health check that were given, as the API takes them."""
    return {f"health_check_{name}": value for name, value in given.items() if value is not None}


def _vip_named(api: Api, text: str) -> Json:
    return item_named(api, VIPS, text, "virtual IP", "wireloom vip list")
